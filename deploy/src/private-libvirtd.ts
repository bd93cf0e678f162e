/**
 * A libvirtd of our own, where the machine runs none: its configuration, state, logs and run-time files lie
 * in one folder, and the machine's own libvirt is neither read nor written. It takes a mount namespace in
 * which that folder's parts are bound over the paths that libvirt has compiled in. Only the client socket
 * lies outside of these, so that everybody reaches it by a URI.
 *
 * virtlogd keeps the guests' logs open while libvirtd restarts. Locks (virtlockd) are not used.
 * QEMU processes are children of neither: they run on when both are stopped or killed.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { execa } from 'execa'
import { accepts } from './ports.ts'
import { bootId, identify } from './process-control.ts'

export interface PrivateLibvirtd {
  /** Holds etc, lib, log, cache, run; bound over libvirt's own. */
  readonly folder: string
  readonly socketFolder: string
  /** What `virsh -c` takes. */
  readonly uri: string
  /** Where other libvirtds reach it on loopback, to send it guests: for tests, neither encrypted nor authenticated. */
  readonly tcpPort?: number
}

export interface LibvirtDaemon {
  readonly name: 'virtlogd' | 'libvirtd'
  readonly command: string
  readonly args: readonly string[]
  /** Undefined when it answers, else what is missing. */
  readonly ready: () => Promise<string | undefined>
}

/** Where libvirt looks, and which part of the folder it is to see there. */
const bindings = {
  etc: '/etc/libvirt',
  lib: '/var/lib/libvirt',
  log: '/var/log/libvirt',
  cache: '/var/cache/libvirt',
  run: '/run/libvirt',
} as const

/**
 * QEMU processes are orphans from the start, and libvirt waits until a dead one is reaped. Where pid 1 is no
 * real init (a container) that takes seconds, for each. So tini stands above libvirtd and reaps at once; and
 * should it be killed, then so is libvirtd, and no second one is ever started beside it.
 */
const reaping = ['tini', '-s', '--', 'setpriv', '--pdeathsig', 'KILL']

/** The longest path that a unix socket can have (sun_path, less its end), and libvirtd's longest name in it. */
const socketPathMax = 107
const longestSocketName = 'libvirt-admin-sock'

/** A socket folder inside `folder`, or a short one under /run when the path would be too long. */
export function socketFolderFor(folder: string, id: string): string {
  const wanted = join(folder, 'sock')
  return join(wanted, longestSocketName).length <= socketPathMax
    ? wanted
    : join('/run', `vpe-${id.slice(0, 8)}`)
}

export function privateLibvirtd(folder: string, id: string): PrivateLibvirtd {
  const socketFolder = socketFolderFor(folder, id)
  return { folder, socketFolder, uri: `qemu:///system?socket=${join(socketFolder, 'libvirt-sock')}` }
}

/** For qemu.conf, where a libvirtd runs without a service manager. */
export const guestSettings = [
  '# Without systemd, D-Bus and cgroup delegation the defaults hang at the start of a guest.',
  '# These lines are for trying vpe out, never for production.',
  'user = "root"',
  'group = "root"',
  'dynamic_ownership = 0',
  'remember_owner = 0',
  'security_driver = "none"',
  'cgroup_controllers = [ ]',
  'namespaces = [ ]',
] as const

/** Writes the configuration, and clears what a reboot has made untrue. Changes nothing under a running daemon. */
export function preparePrivateLibvirtd({ folder, socketFolder, tcpPort }: PrivateLibvirtd, id: string): void {
  for (const part of Object.keys(bindings)) mkdirSync(join(folder, part), { recursive: true })
  for (const [part, text] of Object.entries(configuration(socketFolder, id, tcpPort)))
    writeFileSync(join(folder, 'etc', part), text)
  mkdirSync(socketFolder, { recursive: true, mode: 0o700 })

  // On a real machine /run is empty after a boot; so must ours be, or libvirtd believes in dead guests.
  const bootFile = join(folder, 'boot-id')
  const booted = existsSync(bootFile) ? readFileSync(bootFile, 'utf8') : undefined
  if (booted !== undefined && booted !== bootId()) {
    for (const name of readdirSync(join(folder, 'run')))
      rmSync(join(folder, 'run', name), { recursive: true })
  }
  writeFileSync(bootFile, bootId())
}

/** The daemons in the order of their start. */
export function libvirtDaemons(daemon: PrivateLibvirtd): readonly LibvirtDaemon[] {
  return [
    {
      name: 'virtlogd',
      ...inNamespace(daemon.folder, ['virtlogd', '--pid-file', '/run/libvirt/virtlogd.pid']),
      ready: async () =>
        (await acceptsAt(join(daemon.folder, 'run/virtlogd-sock'))) ? undefined : 'no socket yet',
    },
    {
      name: 'libvirtd',
      ...inNamespace(daemon.folder, [
        ...[...reaping, 'libvirtd', '--pid-file', '/run/libvirt/libvirtd.pid'],
        ...(daemon.tcpPort === undefined ? [] : ['--listen']),
      ]),
      ready: async () => ((await libvirtAnswers(daemon.uri)) ? undefined : 'no answer yet'),
    },
  ]
}

/** A path too long for a socket address can only be looked at. */
async function acceptsAt(socket: string): Promise<boolean> {
  return socket.length > socketPathMax ? existsSync(socket) : accepts({ path: socket })
}

/** Asks the way any client would. */
export async function libvirtAnswers(uri: string, timeoutMs = 10_000): Promise<boolean> {
  const { failed } = await execa('virsh', ['-c', uri, 'uri'], {
    reject: false,
    timeout: timeoutMs,
    stdin: 'ignore',
  })
  return !failed
}

export async function isRunning(uri: string, domain: string): Promise<boolean> {
  const { stdout } = await execa('virsh', ['-q', '-c', uri, 'domstate', domain], {
    reject: false,
    stdin: 'ignore',
  })
  return stdout.trim() === 'running'
}

/** Ends the QEMU processes that a stopped libvirtd left behind, by the pid files it wrote for them. */
export function killLeftGuests({ folder }: PrivateLibvirtd): void {
  const run = join(folder, 'run/qemu')
  if (!existsSync(run)) return
  for (const file of readdirSync(run)) {
    const guest = file.replace(/\.pid$/, '')
    if (guest !== file && guest !== 'driver') killGuest(guest, join(run, file))
  }
}

function killGuest(guest: string, pidFile: string): void {
  const pid = Number.parseInt(readFileSync(pidFile, 'utf8'), 10)
  // A pid file of before a reboot may name somebody else; QEMU is told its guest's name by libvirt.
  const isGuest = identify(pid) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`guest=${guest},`)
  if (isGuest) process.kill(pid, 'SIGKILL')
  rmSync(pidFile)
}

/** Does it know any domain, so that stopping for good needs it to run? */
export function knowsDomains({ folder }: PrivateLibvirtd): boolean {
  const xmlIn = (path: string) => existsSync(path) && readdirSync(path).some((name) => name.endsWith('.xml'))
  return ['etc/qemu', 'etc/storage', 'run/qemu', 'run/storage'].some((part) => xmlIn(join(folder, part)))
}

/** The sockets' folder, if it lies outside of the state folder. */
export function removeSocketFolder({ folder, socketFolder }: PrivateLibvirtd): void {
  if (socketFolder.startsWith(folder) || !existsSync(socketFolder)) return
  for (const name of readdirSync(socketFolder))
    if (name.startsWith('libvirt-')) rmSync(join(socketFolder, name))
  if (readdirSync(socketFolder).length === 0) rmdirSync(socketFolder)
}

function configuration(
  socketFolder: string,
  id: string,
  tcpPort: number | undefined,
): Record<string, string> {
  const tcp =
    tcpPort === undefined
      ? []
      : [
          ...['listen_tls = 0', 'listen_tcp = 1', 'listen_addr = "127.0.0.1"'],
          ...[`tcp_port = "${tcpPort}"`, 'auth_tcp = "none"'],
        ]
  return {
    'libvirtd.conf': [
      '# Written by deploy/quickstart at each start.',
      `unix_sock_dir = "${socketFolder}"`,
      '# The folder is ours alone: who may enter it may manage guests.',
      'unix_sock_rw_perms = "0700"',
      'auth_unix_ro = "none"',
      'auth_unix_rw = "none"',
      '# Several of these can run on one machine, and must not take each other for themselves.',
      `host_uuid = "${id}"`,
      ...tcp,
      'log_outputs = "3:stderr"',
      '',
    ].join('\n'),
    'virtlogd.conf': ['log_outputs = "3:stderr"', ''].join('\n'),
    'qemu.conf': ['# Written by deploy/quickstart at each start.', ...guestSettings, ''].join('\n'),
  }
}

/** A command that sees `folder` where libvirt's own folders are; the process that starts becomes it (exec). */
function inNamespace(
  folder: string,
  command: readonly string[],
): { command: string; args: readonly string[] } {
  // Mount points must exist. An empty /run/libvirt is all that the machine ever sees of this.
  const mounts = Object.entries(bindings).map(
    ([part, path]) => `mkdir -p ${path} && mount --bind "$0/${part}" ${path}`,
  )
  const script = `${mounts.join(' && ')} && exec "$@"`
  return {
    command: 'unshare',
    args: ['--mount', '--propagation', 'private', 'sh', '-c', script, folder, ...command],
  }
}
