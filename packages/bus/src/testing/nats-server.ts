// A real nats-server for a test: own port, own folder, JetStream on, gone with the test.

import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const START_TIMEOUT_MS = 100_000

export class TestNatsServer {
  readonly #dir = mkdtempSync(join(tmpdir(), 'vpe-nats-'))
  readonly #more: readonly string[]
  #process: ChildProcess | null = null
  #port = -1
  #monitoringUrl = ''

  private constructor(more: readonly string[]) {
    this.#more = more
  }

  /** @param more arguments beside address, port and JetStream */
  static async start(more: readonly string[] = []): Promise<TestNatsServer> {
    const server = new TestNatsServer(more)
    await server.start()
    return server
  }

  get url(): string {
    return `nats://127.0.0.1:${this.#port}`
  }

  /** Where its counters are, in JSON: `/varz` and others. */
  get monitoringUrl(): string {
    return this.#monitoringUrl
  }

  get pid(): number {
    return this.#process?.pid ?? 0
  }

  /** Starts it, or starts it again on the same port with the same data. */
  async start(): Promise<void> {
    const args = [
      '-a',
      '127.0.0.1',
      '-p',
      String(this.#port),
      '-m',
      '-1',
      '-js',
      '-sd',
      this.#dir,
      '--ports_file_dir',
      this.#dir,
      ...this.#more,
    ]
    const child = spawn('nats-server', args, { stdio: 'ignore' })
    this.#process = child
    const failed = new Promise<never>((_resolve, reject) => {
      child.once('error', (cause) =>
        reject(new Error('nats-server cannot be started: apt-get install nats-server', { cause })),
      )
      child.once('exit', (code) => reject(new Error(`nats-server ended with ${code}`)))
    })
    failed.catch(() => {})
    await Promise.race([this.#waitForPort(child), failed])
  }

  /** Kills it as a crash would. */
  async kill(): Promise<void> {
    const child = this.#process
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGKILL')
    await ended
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill()
    rmSync(this.#dir, { recursive: true, force: true })
  }

  async #waitForPort(child: ChildProcess): Promise<void> {
    const deadline = Date.now() + START_TIMEOUT_MS
    while (Date.now() < deadline) {
      const file = readdirSync(this.#dir).find((name) => name.endsWith(`_${child.pid}.ports`))
      const text = file ? readFileSync(join(this.#dir, file), 'utf8') : ''
      const { nats: [url] = [], monitoring: [monitoring] = [] } =
        text === '' ? {} : (JSON.parse(text) as Record<'nats' | 'monitoring', string[]>)
      if (url && monitoring) {
        this.#port = Number(new URL(url).port)
        this.#monitoringUrl = monitoring
        return
      }
      await sleep(20)
    }
    throw new Error(`nats-server did not listen within ${START_TIMEOUT_MS} ms`)
  }
}
