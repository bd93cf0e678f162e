// A libvirtd of a test's own that can be killed and started again, touching nothing of the machine's: in a mount
// namespace, folders of its own lie over /etc/libvirt, /var/lib/libvirt, /var/log/libvirt and /run/libvirt. It has
// a host name of its own too, so that two of them can migrate guests to each other.
// It serves QEMU (software emulation will do) and libvirt's test driver. Needs root and the Debian packages
// libvirt-daemon-system, libvirt-daemon-driver-qemu, qemu-system-x86 and qemu-utils.

import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, existsSync, openSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { eventually } from './eventually.ts'

const overlays = {
  etc: '/etc/libvirt',
  lib: '/var/lib/libvirt',
  log: '/var/log/libvirt',
  run: '/run/libvirt',
} as const

// Without systemd, D-Bus and cgroup delegation QEMU starts with these settings only. For tests, never for production.
const qemuConf = `
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
`

export class PrivateLibvirtd implements AsyncDisposable {
  /** A folder for the test's own files, gone at the end. */
  readonly folder: string
  // virtlogd keeps the console logs and, by living in it, the mount namespace.
  #virtlogd: ChildProcess | undefined
  #libvirtd: ChildProcess | undefined

  private constructor(folder: string) {
    this.folder = folder
  }

  static async start(): Promise<PrivateLibvirtd> {
    const daemon = new PrivateLibvirtd(await mkdtemp(join(tmpdir(), 'libvirtd-')))
    try {
      await daemon.#prepare()
      await daemon.startDaemon()
      return daemon
    } catch (error) {
      await daemon[Symbol.asyncDispose]()
      throw error
    }
  }

  get qemuUri(): string {
    return `qemu+unix:///system?socket=${this.#socket}`
  }

  /** The test driver behind a daemon: a remote connection without QEMU. */
  get testUri(): string {
    return `test+unix:///default?socket=${this.#socket}`
  }

  get #socket(): string {
    return join(this.folder, 'sock', 'libvirt-sock')
  }

  /** Starts libvirtd again after killDaemon. */
  async startDaemon(): Promise<void> {
    const target = String(this.#virtlogd?.pid)
    const pidFile = join(this.folder, 'libvirtd.pid')
    await rm(this.#socket, { force: true })
    const enter = ['--target', target, '--mount', '--uts', '--root']
    this.#libvirtd = this.#spawn('nsenter', [...enter, 'libvirtd', '--pid-file', pidFile])
    await eventually(() => existsSync(this.#socket), 'libvirtd listens')
  }

  /** Kills libvirtd as a crash would. Running guests are not touched. */
  async killDaemon(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    await stop(this.#libvirtd, signal)
    this.#libvirtd = undefined
  }

  /** Halts libvirtd without closing its connections: to its clients it has fallen silent. */
  pauseDaemon(): void {
    this.#libvirtd?.kill('SIGSTOP')
  }

  resumeDaemon(): void {
    this.#libvirtd?.kill('SIGCONT')
  }

  /** The process of a running QEMU guest. */
  async guestPid(name: string): Promise<number> {
    return Number(await readFile(join(this.folder, 'run', 'qemu', `${name}.pid`), 'utf8'))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.resumeDaemon()
    await stop(this.#libvirtd, 'SIGTERM')
    await this.#killGuests()
    await stop(this.#virtlogd, 'SIGTERM')
    await rm(this.folder, { recursive: true, force: true })
  }

  async #prepare(): Promise<void> {
    for (const name of [...Object.keys(overlays), 'sock']) await mkdir(join(this.folder, name))
    const libvirtdConf = `
unix_sock_dir = "${join(this.folder, 'sock')}"
auth_unix_rw = "none"
host_uuid = "${randomUUID()}"
`
    await writeFile(join(this.folder, 'etc', 'libvirtd.conf'), libvirtdConf)
    await writeFile(join(this.folder, 'etc', 'qemu.conf'), qemuConf)
    const mounts = Object.entries(overlays).map(
      ([name, target]) => `mkdir -p ${target} && mount --bind ${join(this.folder, name)} ${target}`,
    )
    const socket = join(this.folder, 'run', 'virtlogd-sock')
    const hostname = `echo ${basename(this.folder)} > /proc/sys/kernel/hostname`
    const enter = [...mounts, hostname, `exec virtlogd --pid-file ${join(this.folder, 'virtlogd.pid')}`].join(
      ' && ',
    )
    this.#virtlogd = this.#spawn('unshare', ['--mount', '--uts', 'sh', '-c', enter])
    await eventually(() => existsSync(socket), 'virtlogd listens')
  }

  #spawn(command: string, args: readonly string[]): ChildProcess {
    const log = openSync(join(this.folder, 'daemons.log'), 'a')
    const child = spawn(command, args, { stdio: ['ignore', log, log] })
    closeSync(log)
    return child
  }

  async #killGuests(): Promise<void> {
    const pidFolder = join(this.folder, 'run', 'qemu')
    const files = existsSync(pidFolder) ? await readdir(pidFolder) : []
    for (const file of files.filter((name) => name.endsWith('.pid'))) {
      const pid = Number(await readFile(join(pidFolder, file), 'utf8'))
      // The pid file of a guest that ended may name a process that is not ours.
      const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
      if (command.startsWith('/usr/bin/qemu-system')) process.kill(pid, 'SIGKILL')
    }
  }
}

async function stop(child: ChildProcess | undefined, signal: NodeJS.Signals): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill(signal)
  await exited
}
