/**
 * One host of a lab: a machine to the software in it. It has a network namespace at the end of a cable, and from
 * power on to power off PID, mount, UTS and IPC namespaces with an init that reaps, its own /run, /etc/libvirt,
 * /var/lib/libvirt, /var/lib/vpe, /var/log, machine id and boot id. Its view of the shared storage is a process
 * outside of it (storage-view-main.ts), as a server's cable is. What is on its disk outlives its power.
 *
 * Nothing is remembered about its state: whether it is alive, cut off or frozen is asked of the kernel.
 */
import { randomUUID } from 'node:crypto'
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { execa } from 'execa'
import { lockFile } from '../kernel-lock.ts'
import { isListening } from '../ports.ts'
import { guestSettings } from '../private-libvirtd.ts'
import {
  identify,
  lastLines,
  type ProcessIdentity,
  runningProcess,
  startProcess,
  stopProcess,
} from '../process-control.ts'
import { inside, logFile, pidFile, type StateFolder } from '../state-folder.ts'
import { Trouble } from '../trouble.ts'
import { waitUntil } from '../wait-until.ts'
import { type Cable, ensureCable, isPlugged, plug, unplug } from './management-network.ts'
import { freezeGroup, isFrozen, killGroup, makeGroup, processesOf, signalGroup } from './process-group.ts'
import type { ViewState } from './storage-view.ts'

export interface HostPlace {
  readonly name: string
  /** For ever: libvirt's host uuid, and the machine id. */
  readonly machineUuid: string
  readonly bridge: string
  readonly cable: Cable
  /** Its cgroup. */
  readonly group: string
  readonly folder: StateFolder
  /** The storage that all hosts share, at the same path outside and in each host. */
  readonly sharedFolder: string
  /** Its locks exclude hosts from each other, as those of NFS 4 do; else only programs of one host, as NFS 3 with `nolock`. */
  readonly hasLocks: boolean
  /** /etc/hosts of all hosts. */
  readonly namesFile: string
}

/** What a host runs, besides libvirt. */
export interface AgentCommand {
  readonly command: readonly string[]
  /** Of the agent and of the guard. */
  readonly env: Readonly<Record<string, string>>
  readonly port: number
}

/** What a host runs of vpe: `packages/<name>/src/main.ts`. */
export type Program = 'agent' | 'guard'

/** Where a host keeps what is its own, as the host sees it. */
export const ownFolder = '/var/lib/vpe'

/** From a cut to when the storage gives its locks to others. NFS servers take 90 s; nobody has that long in a lab. */
const leaseMs = 30_000

const codeFolder = import.meta.dirname
const watchdogName = 'watchdog.sock'
/** Where the host pets the lab's watchdog (watchdog-main.ts), as the host sees it. */
export const watchdogSocket = `${ownFolder}/${watchdogName}`

export class HostMachine {
  readonly place: HostPlace
  readonly #disk: string

  constructor(place: HostPlace) {
    this.place = place
    this.#disk = inside(place.folder, 'hosts', place.name)
  }

  get name(): string {
    return this.place.name
  }

  /** A path on its own disk (`/var/lib/vpe/...` in it), as seen from outside. */
  own(...names: string[]): string {
    return join(this.#disk, 'vpe', ...names)
  }

  log(name: string): string {
    return join(this.#disk, 'log', `${name}.log`)
  }

  /** `watchdogSocket` as seen from outside. */
  watchdogSocket(): string {
    return this.own(watchdogName)
  }

  isAlive(): boolean {
    return this.#init() !== undefined
  }

  isPaused(): boolean {
    return isFrozen(this.place.group)
  }

  async isPartitioned(): Promise<boolean> {
    return !(await isPlugged(this.place.cable))
  }

  /** What its view of the shared storage does now, or would do if it were on. */
  storage(): ViewState {
    const file = join(this.#viewFolder(), this.#view() ? 'actual' : 'wanted')
    return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : 'whole'
  }

  /** Every process that it has now, as seen from outside; none of those that serve it from outside. */
  processes(): number[] {
    return processesOf(this.place.group)
  }

  /** Of its last or present boot; undefined before its first. */
  bootId(): string | undefined {
    const file = join(this.#disk, 'boot-id')
    return existsSync(file) ? readFileSync(file, 'utf8').trim() : undefined
  }

  /** How often its watchdog has reset it. */
  resets(): number {
    const file = this.#resetsFile()
    return existsSync(file) ? readFileSync(file, 'utf8').split('\n').length - 1 : 0
  }

  /** The processes of a program, as seen from outside; normally one. */
  pidsOf(program: Program): number[] {
    return this.processes().filter((pid) => {
      const [command = '', ...args] = commandLine(pid)
      return (
        /(^|\/)node$/.test(command) && args.some((arg) => arg.endsWith(`/packages/${program}/src/main.ts`))
      )
    })
  }

  /** The QEMU of a guest, as seen from outside; undefined when the host has none. */
  pidOfGuest(uuid: string): number | undefined {
    return this.processes().find((pid) => {
      const args = commandLine(pid)
      return args.some((arg, index) => arg === '-uuid' && args[index + 1] === uuid)
    })
  }

  /** Power on; nothing when it is on. Returns when its libvirtd answers and its agent listens. */
  async start(
    agent: AgentCommand,
    say: (line: string) => void = () => {},
    signal?: AbortSignal,
  ): Promise<void> {
    using _lock = await this.#lock()
    if (!this.isAlive()) {
      // Of a start that was cut off, or of a machine that ended by itself.
      await this.#powerOff()
      say('power on')
      await this.#boot(agent, signal)
    }
    const { name } = this
    const check = async () => {
      const console = logFile(this.place.folder, name)
      if (!runningProcess(pidFile(this.place.folder, name)))
        throw new Trouble(
          `host ${name} went off while it was starting. Its console:\n${lastLines(console, 15)}`,
        )
      if (!this.isAlive()) return 'it boots'
      if (this.isPaused()) return 'it is paused'
      if ((await this.virsh(['uri'])) === undefined) return 'libvirtd does not answer yet'
      return this.#listens(agent.port) ? undefined : `the agent does not listen yet`
    }
    const options = { what: `the start of host ${name}`, timeoutMs: 120_000, signal, onProgress: say }
    await waitUntil(check, options).catch((error) => {
      if (!(error instanceof Trouble)) throw error
      throw new Trouble(
        `${error.message}. The end of ${this.log('agent')}:\n${lastLines(this.log('agent'), 5)}`,
        error.mend,
        { cause: error },
      )
    })
  }

  /** A power cut: everything in it ends at once, QEMU too. */
  async kill(): Promise<void> {
    using _lock = await this.#lock()
    await this.#powerOff()
  }

  /**
   * What its watchdog does: cuts the power at once, whoever is at work on the host, and turns it on again. Returns before it has booted.
   *
   * @param bootId the boot that is to end; nothing is done when that is over
   * @returns whether it was reset
   */
  async reset(bootId: string, agent: AgentCommand): Promise<boolean> {
    if (!this.isAlive() || this.bootId() !== bootId) return false
    this.#cutPower()
    appendFileSync(this.#resetsFile(), `${new Date().toISOString()} ${bootId}\n`)
    using _lock = await this.#lock()
    // Somebody else has turned it off or on meanwhile, and it is to stay so.
    if (this.bootId() !== bootId || !existsSync(pidFile(this.place.folder, this.name))) return true
    await this.#powerOff()
    await this.#boot(agent)
    return true
  }

  async partition(): Promise<void> {
    await unplug(this.place.cable)
  }

  /** Cuts its view of the shared storage, or makes it whole again; also of files that are open. */
  async setStorage(state: ViewState): Promise<void> {
    using _lock = await this.#lock()
    mkdirSync(this.#viewFolder(), { recursive: true })
    writeFileSync(join(this.#viewFolder(), 'wanted'), JSON.stringify(state))
    const view = this.#view()
    if (!view) return
    process.kill(view.pid, 'SIGHUP')
    const check = () => (this.storage() === state ? undefined : 'the view has not heard of it')
    await waitUntil(check, { what: `the storage of ${this.name}`, timeoutMs: 30_000, everyMs: 10 })
  }

  /**
   * The storage shuts it out (see StorageView.expire), in whatever state its view is. Returns when that is done; for a host that
   * is off that is at once.
   */
  async expireStorage(): Promise<void> {
    const view = this.#view()
    if (!view) return
    const order = join(this.#viewFolder(), `expire-${randomUUID()}`)
    writeFileSync(order, '')
    process.kill(view.pid, 'SIGHUP')
    const check = () => (existsSync(order) && this.#view() ? 'the view has not heard of it' : undefined)
    await waitUntil(check, { what: `the storage of ${this.name}`, timeoutMs: 30_000, everyMs: 10 })
    rmSync(order, { force: true })
  }

  async heal(): Promise<void> {
    await plug(this.place.cable)
    await this.setStorage('whole')
  }

  async pause(isPaused: boolean): Promise<void> {
    await freezeGroup(this.place.group, isPaused)
  }

  /** What to run, to run a command in it as its root; undefined when it is off. */
  entering(command: readonly string[]): readonly [string, ...string[]] | undefined {
    const init = this.#init()
    if (init === undefined) return undefined
    const enter = 'nsenter --target "$init" --mount --net --pid --uts --ipc --cgroup --wd=/'
    const script = `echo $$ >"$0/cgroup.procs"; init=$1; shift; exec ${enter} -- "$@"`
    return ['sh', '-c', script, this.place.group, `${init}`, ...command]
  }

  /** Where its own libvirt answers, whatever its network does; good for this boot. Undefined when it is off. */
  libvirtUri(): string | undefined {
    const init = this.#init()
    return init === undefined
      ? undefined
      : `qemu:///system?socket=${join('/proc', String(init), 'root')}/run/libvirt/libvirt-sock`
  }

  /** Asks its own libvirt. Undefined when that does not answer in time. */
  async virsh(args: readonly string[], timeoutMs = 5000): Promise<string | undefined> {
    const init = this.#init()
    if (init === undefined || this.isPaused()) return undefined
    // Only the namespaces that lead to the socket: so it is our child, and ends with its deadline.
    const enter = ['--target', `${init}`, '--mount', '--net', '--', 'virsh', '-q', '-c', 'qemu:///system']
    const { stdout, failed } = await execa('nsenter', [...enter, ...args], {
      reject: false,
      stdin: 'ignore',
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    })
    return failed ? undefined : stdout.trim()
  }

  /** Uuids of the domains that its libvirt runs; null when it cannot be asked. */
  async domains(): Promise<readonly string[] | null> {
    const text = await this.virsh(['list', '--uuid'])
    return text === undefined ? null : text.split(/\s+/).filter(Boolean).sort()
  }

  async #boot(agent: AgentCommand, signal?: AbortSignal): Promise<void> {
    await ensureCable(this.place.bridge, this.place.cable)
    this.#prepareDisk()
    const view = await this.#startView(signal)
    await this.#powerOn(view, agent)
  }

  #prepareDisk(): void {
    const { name, machineUuid, cable, sharedFolder } = this.place
    for (const part of [
      'libvirt/etc',
      'libvirt/lib',
      'libvirt/cache',
      'vpe/disks',
      'vpe/agent/migration-pki',
      'log',
    ])
      mkdirSync(join(this.#disk, part), { recursive: true })
    mkdirSync(sharedFolder, { recursive: true })
    const write = (path: string, ...lines: string[]) =>
      writeFileSync(join(this.#disk, path), `${lines.join('\n')}\n`)
    write('hostname', name)
    write('machine-id', machineUuid.replaceAll('-', ''))
    write('boot-id', randomUUID())
    write(
      'libvirt/etc/libvirtd.conf',
      'auth_unix_ro = "none"',
      'auth_unix_rw = "none"',
      '# The management network is the lab’s alone.',
      'listen_tls = 0',
      'listen_tcp = 1',
      `listen_addr = "${cable.address}"`,
      'auth_tcp = "none"',
      `host_uuid = "${machineUuid}"`,
      'log_outputs = "3:stderr"',
    )
    write('libvirt/etc/virtlogd.conf', 'log_outputs = "3:stderr"')
    write(
      'libvirt/etc/qemu.conf',
      ...guestSettings,
      `migration_host = "${cable.address}"`,
      `migration_address = "${cable.address}"`,
      '# The agent fills it; libvirtd does not start where it is not there.',
      `migrate_tls_x509_cert_dir = "${ownFolder}/agent/migration-pki"`,
      'migrate_tls_x509_verify = 1',
    )
  }

  async #startView(signal?: AbortSignal): Promise<ProcessIdentity> {
    const { folder, sharedFolder, hasLocks, name } = this.place
    const state = this.#viewFolder()
    mkdirSync(state, { recursive: true })
    if (!existsSync(join(state, 'wanted'))) writeFileSync(join(state, 'wanted'), JSON.stringify('whole'))
    const main = join(codeFolder, 'storage-view-main.ts')
    const view = await startProcess({
      command: 'unshare',
      args: [
        '--mount',
        '--propagation',
        'private',
        process.execPath,
        '--disable-warning=ExperimentalWarning',
        main,
        sharedFolder,
        state,
        `${leaseMs}`,
        hasLocks ? 'locks' : 'no-locks',
      ],
      logFile: logFile(folder, this.#viewName()),
      pidFile: pidFile(folder, this.#viewName()),
    })
    const check = () => {
      if (!this.#view()) {
        const log = logFile(folder, this.#viewName())
        throw new Trouble(
          `the shared storage of ${name} could not be mounted. The end of ${log}:\n${lastLines(log, 15)}`,
        )
      }
      const mounts = readFileSync(`/proc/${view.pid}/mounts`, 'utf8').split('\n')
      return mounts.some(
        (line) => line.startsWith('vpe-lab ') && line.split(' ')[1] === mountPath(sharedFolder),
      )
        ? undefined
        : 'not mounted yet'
    }
    await waitUntil(check, { what: `the shared storage of ${name}`, timeoutMs: 60_000, everyMs: 20, signal })
    return view
  }

  async #powerOn(view: ProcessIdentity, agent: AgentCommand): Promise<void> {
    const { folder, name, group, cable, namesFile } = this.place
    makeGroup(group)
    const script = 'echo $$ >"$0/cgroup.procs" && exec "$@"'
    const enter = ['nsenter', `--net=/run/netns/${cable.namespace}`, `--mount=/proc/${view.pid}/ns/mnt`, '--']
    const separate = [
      'unshare',
      '--pid',
      '--fork',
      '--kill-child',
      '--uts',
      '--ipc',
      '--cgroup',
      '--mount',
      '--propagation',
      'private',
      '--',
    ]
    await startProcess({
      command: 'sh',
      args: [
        '-c',
        script,
        group,
        ...enter,
        ...separate,
        'sh',
        join(codeFolder, 'machine-boot.sh'),
        ...agent.command,
      ],
      env: {
        ...agent.env,
        LAB_AGENT_LISTEN: `${cable.address}:${agent.port}`,
        LAB_GUARD_MAIN: join(codeFolder, '../../../packages/guard/src/main.ts'),
        LAB_HOST_NAME: name,
        LAB_HOST_FOLDER: this.#disk,
        LAB_HOSTS_FOLDER: inside(folder, 'hosts'),
        LAB_ETC_HOSTS: namesFile,
      },
      logFile: logFile(folder, name),
      pidFile: pidFile(folder, name),
    })
  }

  #cutPower(): void {
    // The view goes first: whoever waits for the storage could not be killed, else.
    const view = this.#view()
    if (view) process.kill(view.pid, 'SIGKILL')
    signalGroup(this.place.group)
  }

  async #powerOff(): Promise<void> {
    const { folder, group, name } = this.place
    this.#cutPower()
    await killGroup(group)
    for (const process of [this.#viewName(), name]) await stopProcess(pidFile(folder, process), 0)
  }

  /** The PID 1 of its world, as seen from outside. */
  #init(): number | undefined {
    if (!runningProcess(pidFile(this.place.folder, this.name))) return undefined
    return this.processes().find((pid) => {
      try {
        const status = readFileSync(`/proc/${pid}/status`, 'utf8')
        return identify(pid) !== undefined && /^NSpid:\t\d+\t1$/m.test(status)
      } catch {
        return false
      }
    })
  }

  #listens(port: number): boolean {
    return this.processes().some((pid) => isListening(pid, port))
  }

  #view(): ProcessIdentity | undefined {
    return runningProcess(pidFile(this.place.folder, this.#viewName()))
  }

  #viewName(): string {
    return `${this.name}-storage`
  }

  #viewFolder(): string {
    return join(this.#disk, 'storage')
  }

  #resetsFile(): string {
    return join(this.#disk, 'resets')
  }

  async #lock(): Promise<Disposable> {
    const lock = await lockFile(join(this.#disk, 'lock'), { waitSeconds: 180 })
    if (!lock) throw new Trouble(`something else has been at work on host ${this.name} for three minutes`)
    return lock
  }
}

/** Empty for a process that has ended. */
function commandLine(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return []
    throw error
  }
}

/** As /proc/mounts writes it. */
function mountPath(path: string): string {
  return path.replace(/[\s\\]/g, (character) => `\\${character.charCodeAt(0).toString(8).padStart(3, '0')}`)
}
