// A machine for tests: a libvirtd of its own with real QEMU, and folders that go away with it. Several can
// be up at once; none sees the machine's own libvirt or another's.

import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { execa } from 'execa'
import { freePorts } from '../../../../deploy/src/ports.ts'
import {
  killLeftGuests,
  libvirtDaemons,
  type PrivateLibvirtd,
  preparePrivateLibvirtd,
  privateLibvirtd,
} from '../../../../deploy/src/private-libvirtd.ts'

const START_TIMEOUT_MS = 120_000

export class TestLab {
  readonly dir = mkdtempSync(join(tmpdir(), 'vpe-agent-'))
  readonly #id = randomUUID()
  readonly #daemon: PrivateLibvirtd
  readonly #processes = new Map<string, ChildProcess>()

  private constructor(tcpPort?: number) {
    const daemon = privateLibvirtd(join(this.dir, 'libvirt'), this.#id)
    this.#daemon = tcpPort === undefined ? daemon : { ...daemon, tcpPort }
  }

  /** @param options isReached: other libvirtds can send it guests */
  static async start({ isReached = false } = {}): Promise<TestLab> {
    const lab = new TestLab(isReached ? (await freePorts(1))[0] : undefined)
    preparePrivateLibvirtd(lab.#daemon, lab.#id)
    await lab.startDaemons()
    return lab
  }

  get libvirtUri(): string {
    return this.#daemon.uri
  }

  /** Where other libvirtds reach this one. */
  get migrationUri(): string {
    return `qemu+tcp://127.0.0.1:${this.#daemon.tcpPort}/system`
  }

  /** A new folder. */
  folder(name: string): string {
    const path = join(this.dir, name)
    mkdirSync(path, { recursive: true })
    return path
  }

  /** Starts what does not run: virtlogd, libvirtd. */
  async startDaemons(): Promise<void> {
    for (const { name, command, args, ready } of libvirtDaemons(this.#daemon)) {
      if (this.#processes.has(name)) continue
      const child = spawn(command, [...args], { stdio: 'ignore' })
      this.#processes.set(name, child)
      await until(`${name} answers`, async () => (await ready()) === undefined, START_TIMEOUT_MS)
    }
  }

  /** Kills libvirtd as a crash would; its guests run on. */
  async killLibvirtd(): Promise<void> {
    await this.#kill('libvirtd')
  }

  async virsh(...args: readonly string[]): Promise<string> {
    const { stdout } = await execa('virsh', ['-q', '-c', this.libvirtUri, ...args], { stdin: 'ignore' })
    return stdout.trim()
  }

  /** The process of a running guest; 0 while there is none. */
  qemuPid(domain: string): number {
    const file = join(this.#daemon.folder, 'run/qemu', `${domain}.pid`)
    return existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const running = await this.virsh('list', '--name').catch(() => '')
    for (const name of running.split('\n').filter(Boolean)) await this.virsh('destroy', name).catch(() => {})
    for (const name of ['libvirtd', 'virtlogd']) await this.#kill(name)
    killLeftGuests(this.#daemon)
    rmSync(this.dir, { recursive: true, force: true })
  }

  async #kill(name: string): Promise<void> {
    const child = this.#processes.get(name)
    this.#processes.delete(name)
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGKILL')
    await ended
  }
}

/** Waits for a condition, with a bound. */
export async function until(
  what: string,
  isSo: () => Promise<boolean> | boolean,
  timeoutMs = 120_000,
): Promise<void> {
  const deadline = performance.now() + timeoutMs
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`)
    await sleep(20)
  }
}
