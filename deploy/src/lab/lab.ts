/**
 * A whole cluster on one machine: several hosts, each a machine to the software in it, with a controller, NATS and
 * an API outside of them. What `test/lab` does, and what end-to-end tests use.
 */

import { randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { execa } from 'execa'
import { ApiClient, type Host } from '../api-client.ts'
import { ensureSystemPackages, systemPackages } from '../debian-packages.ts'
import { ensureDemoImage, imageFolder } from '../demo-image.ts'
import { lockFile } from '../kernel-lock.ts'
import { findPorts, usualPorts, wishedPorts } from '../ports.ts'
import { runningProcess, startProcess, stopProcess } from '../process-control.ts'
import { runSteps } from '../progress.ts'
import { addresses, type Layout, nodeProcess, serviceProcess, startService } from '../services.ts'
import {
  cacheFolder,
  findStateFolder,
  inside,
  lockStateFolder,
  logFile,
  openStateFolder,
  pidFile,
  purgeStateFolder,
  type StateFolder,
  writeEnvFile,
} from '../state-folder.ts'
import { Trouble } from '../trouble.ts'
import { waitUntil } from '../wait-until.ts'
import { type AgentCommand, HostMachine, ownFolder, type Program, watchdogSocket } from './host-machine.ts'
import { fillLab } from './lab-catalogue.ts'
import { hostToken, type OuterService, outerServices, watcherCredentials } from './lab-services.ts'
import {
  chooseLab,
  type LabChoices,
  type LabSettings,
  labContents,
  readLabSettings,
  writeLabSettings,
} from './lab-settings.ts'
import { chooseSubnet, ensureBridge, ensureCable, removeNetwork, takenSubnets } from './management-network.ts'
import { cgroupRoot, removeGroups } from './process-group.ts'

export interface UpOptions {
  readonly hosts?: number | undefined
  /** Hosts have a watchdog. Without it VPE_LAB_WATCHDOG says so, else they have none. */
  readonly watchdog?: boolean | undefined
  readonly controllers?: number | undefined
  readonly signal?: AbortSignal | undefined
}

export interface HostStatus {
  readonly name: string
  /** Of vpe; null while it is not registered. */
  readonly hostId: string | null
  readonly address: string
  readonly alive: boolean
  readonly partitioned: boolean
  readonly isolated: boolean
  readonly paused: boolean
  /** How often its watchdog has reset it. */
  readonly resets: number
  /** Uuids of what its own libvirt runs; null when that cannot be asked. */
  readonly domains: readonly string[] | null
}

export interface LabStatus {
  readonly api: string
  readonly nats: string
  /** A file of credentials that read the event stream. */
  readonly natsCredentials: string
  readonly controller: string
  readonly hosts: readonly HostStatus[]
}

export interface IsolateOptions {
  /** Calls fail at once, rather than hang. */
  readonly fail?: boolean
  /** The management network stays. */
  readonly storageOnly?: boolean
}

const hostsMax = 100
/** The hosts' addresses begin here; 1 is the bridge. */
const firstAddress = 11
const guardSocket = '/run/vpe/guard.sock'
const labPackages = [...systemPackages, 'iproute2'] as const

/** Machine-wide, whatever the lab: a subnet or port that one has chosen must be taken before another chooses. */
const choiceLock = '/run/vpe-lab-choice.lock'

export class Lab {
  readonly path: string
  readonly #root: string
  readonly #env: NodeJS.ProcessEnv

  /**
   * @param root the checkout
   * @param path the state folder
   * @param env where VPE_CACHE and the choices of a lab (lab-settings.ts) are looked for
   */
  constructor(root: string, path: string, env = process.env) {
    this.#root = root
    this.path = path
    this.#env = env
  }

  /** From nothing, or whatever is left of a lab, to one whose hosts are all on, connected, and registered. */
  async up({ hosts: wanted, watchdog, controllers = 1, signal }: UpOptions = {}): Promise<void> {
    if (process.getuid?.() !== 0)
      throw new Trouble('namespaces, libvirt and guests need root', 'sudo test/lab up')
    if (controllers !== 1) {
      throw new Trouble(
        `a lab has one controller: a standby needs a lease in PostgreSQL to know when to take over, and vpe does not have that yet`,
        'test/lab up --hosts N',
      )
    }
    checkMachine()
    const folder = openStateFolder(this.path)
    using _lock = await lockStateFolder(folder, 'test/lab')

    let imagePath = ''
    const lab = () => this.#open()
    await runSteps([
      {
        title: 'Debian packages',
        run: async ({ say, conclude }) => {
          const installed = await ensureSystemPackages(say, signal, labPackages)
          conclude(
            `Debian packages: ${installed.length > 0 ? `installed ${installed.join(', ')}` : 'all there'}`,
          )
        },
      },
      {
        title: 'Management network',
        run: async ({ conclude }) => {
          using _choice = await lockFile(choiceLock, { waitSeconds: 120, signal })
          const env = { ...this.#env, ...(watchdog && { VPE_LAB_WATCHDOG: 'on' }) }
          const settings = await settle(folder, wanted, env)
          await ensureBridge(bridgeOf(folder), settings.subnet)
          for (const { place } of lab().hosts) await ensureCable(place.bridge, place.cable)
          conclude(`Management network: ${settings.subnet}.0/24 on ${bridgeOf(folder)}`)
        },
      },
      {
        title: 'Demo image and services',
        sideBySide: [
          {
            title: 'Demo image',
            run: async ({ say }) => {
              imagePath = await ensureDemoImage(cacheFolder(folder, this.#env), {
                say,
                ...(signal && { signal }),
              })
            },
          },
          {
            title: 'NATS, controller, API',
            run: async ({ say }) => {
              await this.startServices(signal, say)
              await this.#writeEnv()
            },
          },
        ],
      },
      {
        title: 'Watchdogs',
        run: async ({ conclude }) => {
          conclude(`Watchdogs: ${(await this.#startWatchdogs()) ? 'they reset hosts' : 'none'}`)
        },
      },
      {
        title: 'Hosts',
        sideBySide: this.#hostSteps(signal, wanted ?? readLabSettings(folder)?.hosts.length ?? 3),
      },
      {
        title: 'Registration, flavor, disk pools, image',
        run: async ({ say }) => {
          const { layout, hosts, sharedFolder, settings: choices } = lab()
          const { apiUrl } = addresses(layout)
          await fillLab(hosts, { folder, apiUrl, sharedFolder, imagePath, choices, say, signal })
        },
      },
    ])
  }

  /** Ends everything and removes it, however much of it there is. Says what it left, being no part of the lab. */
  async down(): Promise<readonly string[]> {
    const folder = findStateFolder(this.path)
    if (!folder) {
      if (existsSync(this.path) && readdirSync(this.path).length > 0)
        throw new Trouble(`${this.path} was not made by vpe: nothing is removed from it`)
      return [`nothing to stop: there is no lab in ${this.path}`]
    }
    using _lock = await lockStateFolder(folder, 'test/lab')
    let foreign: readonly string[] = []
    await runSteps([
      {
        title: 'Hosts, API, controller, NATS',
        run: async () => {
          const hosts = readLabSettings(folder) ? this.#open().hosts : []
          await Promise.all(hosts.map((host) => host.kill()))
          const run = inside(folder, 'run')
          const files = readdirSync(run).filter((name) => name.endsWith('.json'))
          await Promise.all(files.map((file) => stopProcess(join(run, file), 10_000)))
        },
      },
      {
        title: 'Network, files',
        run: async () => {
          await removeNetwork(bridgeOf(folder))
          removeGroups(groupOf(folder))
          // /var/lib/vpe stays, though it is empty: hosts of other labs have their own disks mounted there, and lose them with it (rmdir(2)).
          foreign = purgeStateFolder(folder, labContents)
        },
      },
    ])
    return foreign.length > 0
      ? [`left in ${folder.path}, since vpe did not put it there: ${foreign.join(', ')}`]
      : []
  }

  /** The same machine, booting again. */
  async start(name: string, say?: (line: string) => void, signal?: AbortSignal): Promise<void> {
    await this.host(name).start(await this.#agent(name), say, signal)
  }

  /** What its watchdog does, see HostMachine.reset. */
  async reset(name: string, bootId: string): Promise<boolean> {
    return this.host(name).reset(bootId, await this.#agent(name))
  }

  /** The shared storage shuts a host out: its locks are free for others, and what was open under them answers EIO. */
  async revoke(name: string): Promise<void> {
    await this.host(name).expireStorage()
  }

  /** The server of the shared storage is down, or up again; the network stays as it is. */
  async setPool(state: 'outage' | 'whole'): Promise<void> {
    await Promise.all(this.hosts.map((host) => host.setStorage(state)))
  }

  /** Starts what does not run of NATS, controller and API, and waits until they are ready. */
  async startServices(signal?: AbortSignal, say: (line: string) => void = () => {}): Promise<void> {
    const { folder, layout, settings } = this.#open()
    for (const service of outerServices(layout, settings)) {
      await service.prepare()
      await startService(folder, service, { signal, onProgress: (text) => say(`${service.name}: ${text}`) })
    }
  }

  /** Sends a signal to a program of a host. @throws Trouble when it does not run */
  signal(name: string, program: Program, signal: NodeJS.Signals): void {
    const pids = this.#aliveHost(name).pidsOf(program)
    if (pids.length === 0)
      throw new Trouble(`no ${program} runs on ${name}`, `see ${this.host(name).log(program)}`)
    for (const pid of pids) process.kill(pid, signal)
  }

  /** A power cut. */
  async kill(name: string): Promise<void> {
    await this.host(name).kill()
  }

  /** Cuts it from the management network. Its storage stays, and its guests run on. */
  async partition(name: string): Promise<void> {
    await this.host(name).partition()
  }

  /** Cuts it from the management network and from the shared storage. */
  async isolate(name: string, { fail = false, storageOnly = false }: IsolateOptions = {}): Promise<void> {
    if (!storageOnly) await this.host(name).partition()
    await this.host(name).setStorage(fail ? 'fail' : 'hang')
  }

  /** Whatever was cut is whole again. */
  async heal(name: string): Promise<void> {
    await this.host(name).heal()
  }

  /** Freezes its processes; guests are among them. */
  async pause(name: string): Promise<void> {
    this.#aliveHost(name)
    await this.host(name).pause(true)
  }

  async resume(name: string): Promise<void> {
    await this.host(name).pause(false)
  }

  /** Runs a command in a host, as root; what it prints. */
  async ssh(name: string, ...command: string[]): Promise<string> {
    const [file, ...args] = this.entering(name, command)
    return (await execa(file, args, { stdin: 'ignore' })).stdout
  }

  /** The command that runs a command in a host. */
  entering(name: string, command: readonly string[]): readonly [string, ...string[]] {
    const entering = this.host(name).entering(command)
    if (!entering) throw new Trouble(`host ${name} is off`, `test/lab start ${name}`)
    return entering
  }

  async status(): Promise<LabStatus> {
    const { folder, layout, hosts } = this.#open()
    const { apiUrl, natsUrl, controllerAddress } = addresses(layout)
    const known = await new ApiClient(apiUrl)
      .get<{ hosts: Host[] }>('/hosts')
      .then((answer) => answer.hosts)
      .catch(unlessTrouble)
    const statuses = hosts.map(async (host): Promise<HostStatus> => {
      const [partitioned, domains] = await Promise.all([host.isPartitioned(), host.domains()])
      return {
        name: host.name,
        hostId: readIdentity(host) ?? known?.find(({ name }) => name === host.name)?.uuid ?? null,
        address: host.place.cable.address,
        alive: host.isAlive(),
        partitioned,
        isolated: host.storage() !== 'whole',
        paused: host.isPaused(),
        resets: host.resets(),
        domains,
      }
    })
    return {
      api: apiUrl,
      nats: natsUrl,
      natsCredentials: join(folder.path, 'watcher.creds'),
      controller: controllerAddress,
      hosts: await Promise.all(statuses),
    }
  }

  /** What the cluster makes of its hosts and its highly available instances, and its failovers, as the API says it. */
  async ha(): Promise<object> {
    const api = new ApiClient(addresses(this.#open().layout).apiUrl)
    const [ha, failovers] = await Promise.all([api.get<object>('/ha'), api.get<object>('/ha/failovers')])
    return { ...ha, ...failovers }
  }

  /** The host of that name. */
  host(name: string): HostMachine {
    const { hosts } = this.#open()
    const host = hosts.find((each) => each.name === name)
    if (host) return host
    throw new Trouble(`there is no host ${name} here; there are ${hosts.map((each) => each.name).join(', ')}`)
  }

  get hosts(): readonly HostMachine[] {
    return this.#open().hosts
  }

  /** How it was made. */
  get choices(): LabChoices {
    return this.#open().settings
  }

  /** The folder that is the shared pool, at the same path outside and in each host. */
  get sharedFolder(): string {
    return this.#open().sharedFolder
  }

  /** The process of a service outside of the hosts: nats, controller, api. */
  pidOf(service: OuterService): number {
    const process = serviceProcess(this.#open().folder, service)
    if (!process) throw new Trouble(`${service} does not run`, 'test/lab up')
    return process.pid
  }

  #aliveHost(name: string): HostMachine {
    const host = this.host(name)
    if (!host.isAlive()) throw new Trouble(`host ${name} is off`, `test/lab start ${name}`)
    return host
  }

  #hostSteps(signal: AbortSignal | undefined, count: number) {
    return hostNames(count).map((name) => ({
      title: name,
      run: async ({ say, conclude }: { say: (line: string) => void; conclude: (title: string) => void }) => {
        const host = this.host(name)
        if (host.isPaused()) await host.pause(false)
        await host.heal()
        await this.start(name, say, signal)
        conclude(`${name}: ${host.place.cable.address}`)
      },
    }))
  }

  /** The agent of a host, as its init runs it; with a token while the host is no member yet. */
  async #agent(name: string): Promise<AgentCommand> {
    const { layout, folder, settings } = this.#open()
    const host = this.host(name)
    const { command, args } = nodeProcess(layout, 'agent')
    const isMember = existsSync(host.own('agent', 'agent.env'))
    return {
      command: [command, ...args],
      port: layout.ports.agent,
      env: {
        VPE_AGENT_METRICS_LISTEN: `127.0.0.1:${layout.ports.agentMetrics}`,
        VPE_AGENT_STATE_DIR: `${ownFolder}/agent`,
        VPE_AGENT_IMAGE_DIRS: imageFolder(cacheFolder(folder, this.#env)),
        VPE_AGENT_MIGRATION_URI: `qemu+tcp://${host.place.cable.address}/system`,
        VPE_AGENT_MIGRATION_TLS: this.#env.VPE_LAB_MIGRATION_TLS ?? 'off',
        UV_THREADPOOL_SIZE: '16',
        VPE_AGENT_GUARD_SOCKET: guardSocket,
        // The machine below may well be virtual: what stands still with it is the whole lab, clocks of the storage included.
        VPE_AGENT_NEVER_PAUSED: 'true',
        VPE_GUARD_SOCKET: guardSocket,
        VPE_GUARD_RECORD: '/run/vpe/guard.json',
        VPE_HA_PROFILE: settings.haProfile,
        VPE_WATCHDOG: settings.hasWatchdog ? `socket:${watchdogSocket}` : 'none',
        ...(!isMember && { LAB_JOIN_TOKEN: await hostToken(layout, name) }),
      },
    }
  }

  /** Whether there are any. */
  async #startWatchdogs(): Promise<boolean> {
    const { folder, settings, hosts } = this.#open()
    if (!settings.hasWatchdog) return false
    const pids = pidFile(folder, 'watchdog')
    const isWatched = () => hosts.every((host) => existsSync(host.watchdogSocket()))
    if (runningProcess(pids) && isWatched()) return true
    await stopProcess(pids, 0)
    for (const host of hosts) rmSync(host.watchdogSocket(), { force: true })
    await startProcess({
      command: process.execPath,
      args: [
        '--disable-warning=ExperimentalWarning',
        join(import.meta.dirname, 'watchdog-main.ts'),
        this.#root,
        this.path,
      ],
      env: { VPE_CACHE: cacheFolder(folder, this.#env) },
      logFile: logFile(folder, 'watchdog'),
      pidFile: pids,
    })
    const check = () => (isWatched() ? undefined : `see ${logFile(folder, 'watchdog')}`)
    await waitUntil(check, { what: 'the watchdogs', timeoutMs: 60_000, everyMs: 50 })
    return true
  }

  async #writeEnv(): Promise<void> {
    const { layout, folder } = this.#open()
    const { apiUrl, natsUrl } = addresses(layout)
    const credentials = join(folder.path, 'watcher.creds')
    if (!existsSync(credentials))
      writeFileSync(credentials, `${await watcherCredentials(layout)}\n`, { mode: 0o600 })
    writeEnvFile(folder, {
      VPE_API_URL: apiUrl,
      VPE_NATS_URL: natsUrl,
      VPE_NATS_CREDS: credentials,
      VPE_LAB_HOME: folder.path,
    })
  }

  #open() {
    const folder = findStateFolder(this.path)
    const settings = folder && readLabSettings(folder)
    if (!folder || !settings) throw new Trouble(`there is no lab in ${this.path}`, 'test/lab up')
    const layout: Layout = {
      root: this.#root,
      folder,
      ports: { ...usualPorts, api: settings.apiPort },
      libvirt: 'private',
      managementAddress: `${settings.subnet}.1`,
    }
    const sharedFolder = join(folder.path, 'shared')
    mkdirSync(sharedFolder, { recursive: true })
    const namesFile = join(folder.path, 'names')
    const hosts = settings.hosts.map(({ name, machineUuid }, index) => {
      const bridge = bridgeOf(folder)
      const address = addressOf(settings, index)
      const cable = { namespace: `${bridge}-${name}`, outerEnd: `${bridge}${name}`, address }
      const group = join(groupOf(folder), name)
      const { hasLocks = true } = settings
      const place = { name, machineUuid, bridge, cable, group, folder, sharedFolder, hasLocks, namesFile }
      return new HostMachine(place)
    })
    return { folder, settings, layout, hosts, sharedFolder }
  }
}

/** What was chosen before, or is chosen now: subnet, port, who the hosts are, and how they guard themselves. */
async function settle(
  folder: StateFolder,
  wanted: number | undefined,
  env: NodeJS.ProcessEnv,
): Promise<LabSettings> {
  const before = readLabSettings(folder)
  const choices = chooseLab(env, before)
  const count = wanted ?? before?.hosts.length ?? 3
  if (!Number.isInteger(count) || count < 1 || count > hostsMax)
    throw new Trouble(`a lab has 1 to ${hostsMax} hosts, not ${count}`)
  const known = before?.hosts ?? []
  if (known.length > count) {
    throw new Trouble(
      `this lab has ${known.length} hosts, and does not take any away`,
      `test/lab down, then: test/lab up --hosts ${count}`,
    )
  }
  const fresh = hostNames(count).slice(known.length)
  const hosts = [...known, ...fresh.map((name) => ({ name, machineUuid: randomUUID() }))]
  const held = before !== undefined && serviceProcess(folder, 'api') !== undefined
  const { ports } = await findPorts({ api: { port: before?.apiPort ?? wishedPorts(env).api, held } })
  const subnet = before?.subnet ?? chooseSubnet(await takenSubnets(), Math.random)
  const settings = { subnet, apiPort: ports.api, hosts, ...choices }
  writeLabSettings(folder, settings)
  const names = hosts.map(({ name }, index) => `${addressOf(settings, index)} ${name}`)
  writeFileSync(
    join(folder.path, 'names'),
    ['127.0.0.1 localhost', `${subnet}.1 controller`, ...names, ''].join('\n'),
  )
  return settings
}

function hostNames(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `h${index + 1}`)
}

function addressOf({ subnet }: Pick<LabSettings, 'subnet'>, index: number): string {
  return `${subnet}.${firstAddress + index}`
}

/** The bridge; with it begin the names of all that the lab has in the machine's network. */
function bridgeOf({ id }: StateFolder): string {
  return `vpe-${id.slice(0, 6)}`
}

function groupOf({ id }: StateFolder): string {
  return join(cgroupRoot(), `vpe-lab-${id.slice(0, 6)}`)
}

/** Whatever cannot be installed. */
function checkMachine(): void {
  cgroupRoot()
  if (!existsSync('/dev/fuse')) {
    throw new Trouble('there is no /dev/fuse, by which each host sees the shared storage', 'modprobe fuse')
  }
  for (const kind of ['net', 'pid', 'mnt', 'uts', 'ipc'])
    if (!existsSync(`/proc/self/ns/${kind}`))
      throw new Trouble(`this kernel has no namespaces of kind ${kind}`)
}

function readIdentity(host: HostMachine): string | undefined {
  const file = host.own('agent', 'identity.json')
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).hostId : undefined
}

function unlessTrouble(error: unknown): undefined {
  if (!(error instanceof Trouble)) throw error
}
