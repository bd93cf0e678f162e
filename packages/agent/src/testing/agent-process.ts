// An agent as operators run it: a process of its own, known by its log and its gRPC server.

import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import {
  type AgentServiceClient,
  AgentServiceDefinition,
  createRpcChannel,
  createRpcClientFactory,
  type InstanceReport,
  type InstanceSpec,
} from '@vpe/proto'
import { until } from './lab.ts'

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url))

export type LogLine = Readonly<Record<string, unknown>>

export class AgentProcess {
  readonly log: LogLine[] = []
  stderr = ''
  readonly #process: ChildProcess
  readonly #ended: Promise<number | null>
  #client: { readonly calls: AgentServiceClient; readonly close: () => void } | null = null

  /** Starts one; `environment` as in the README, VPE_AGENT_LISTEN is a free port. */
  constructor(environment: Readonly<Record<string, string>>) {
    const env = { ...process.env, VPE_AGENT_LISTEN: '127.0.0.1:0', VPE_LOG_LEVEL: 'debug', ...environment }
    const args = ['--disable-warning=ExperimentalWarning', MAIN]
    this.#process = spawn(process.execPath, args, { env, stdio: ['ignore', 'pipe', 'pipe'] })
    const { stdout, stderr } = this.#process
    if (!stdout || !stderr) throw new Error('the pipes were just asked for')
    createInterface({ input: stdout }).on('line', (line) => this.log.push(JSON.parse(line)))
    stderr.on('data', (chunk) => {
      this.stderr += chunk
    })
    this.#ended = new Promise((resolve) => this.#process.once('exit', (code) => resolve(code)))
  }

  /** Waits until it takes calls. */
  async ready(): Promise<this> {
    const isReady = () => this.said('ready') || this.#process.exitCode !== null
    await until('the agent is ready', isReady).catch((error: unknown) => {
      this.#process.kill('SIGKILL')
      throw error
    })
    const channel = createRpcChannel(this.address)
    const calls = createRpcClientFactory().create(AgentServiceDefinition, channel)
    this.#client = { calls, close: () => channel.close() }
    return this
  }

  /** Where it listens. */
  get address(): string {
    const port = this.log.find(({ msg }) => msg === 'ready')?.port
    if (!port) throw new Error(`the agent ended: ${JSON.stringify(this.log)} ${this.stderr}`)
    return `127.0.0.1:${port}`
  }

  get client(): AgentServiceClient {
    if (!this.#client) throw new Error('wait for ready() first')
    return this.#client.calls
  }

  said(message: string): boolean {
    return this.log.some(({ msg }) => msg === message)
  }

  /** Applies a spec; returns the report and what was said on the way. */
  async apply(spec: InstanceSpec, epoch = 1): Promise<{ report: InstanceReport; steps: string[] }> {
    const steps: string[] = []
    for await (const { update } of this.client.applyInstance({ epoch, spec })) {
      if (update?.$case === 'step') steps.push(update.value)
      if (update?.$case === 'report') return { report: update.value, steps }
    }
    throw new Error(`no report after ${steps.join(', ')}`)
  }

  async report(uuid: string): Promise<InstanceReport | undefined> {
    const { instances } = await this.client.getInventory({})
    return instances.find((report) => report.uuid === uuid)
  }

  /** The exit code, once it has ended by itself. */
  get ended(): Promise<number | null> {
    return this.#ended
  }

  /** Ends it and says with which code. */
  async end(signal: NodeJS.Signals): Promise<number | null> {
    this.#client?.close()
    this.#process.kill(signal)
    return this.#ended
  }
}
