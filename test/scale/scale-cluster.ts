// A cluster for measuring: one real controller and API node, a real nats-server, and any number of simulated
// hosts in a few processes of their own.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { TestNatsServer } from '@vpe/bus/testing'
import {
  type ControllerServiceClient,
  ControllerServiceDefinition,
  createRpcChannel,
  createRpcClientFactory,
} from '@vpe/proto'
import { until } from '../e2e/cluster.ts'
import { HostsProcess } from './hosts-process.ts'
import { LeanClient } from './lean-client.ts'
import {
  cpuSeconds,
  machineSeconds,
  type ProbeAnswer,
  ProbedProcess,
  residentBytes,
} from './probed-process.ts'
import type { HostSummary } from './simulated-hosts.ts'

const START_MS = 600_000

/** What was used from one reading to the next. */
export interface Usage {
  readonly seconds: number
  /**
   * Shares of one CPU. `controllerMain` is the event loop's part of `controller`; `machine` is what everything on this machine
   * had, and `stolen` what it wanted and its hypervisor gave to others: figures that were taken with much of that say little.
   */
  readonly cpu: Record<
    'controller' | 'controllerMain' | 'api' | 'nats' | 'hosts' | 'client' | 'machine' | 'stolen',
    number
  >
  readonly controller: ProbeAnswer & { readonly residentBytes: number }
  /** Messages a second that came to the NATS server, and that it passed on. */
  readonly nats: { readonly in: number; readonly out: number }
}

interface Reading {
  readonly atMs: number
  readonly cpu: Usage['cpu']
  readonly nats: { readonly in: number; readonly out: number }
}

export class ScaleCluster {
  readonly dir = mkdtempSync(join(tmpdir(), 'vpe-scale-'))
  readonly hosts: HostsProcess[] = []
  readonly nats: TestNatsServer
  readonly apiUrl: string
  readonly client: ControllerServiceClient
  readonly lean: LeanClient
  readonly #channel: ReturnType<typeof createRpcChannel>
  readonly #controllerAddress: string
  #controller: ProbedProcess | null = null
  #api: ProbedProcess | null = null

  private constructor(nats: TestNatsServer, controllerPort: number, apiPort: number) {
    this.nats = nats
    this.apiUrl = `http://127.0.0.1:${apiPort}`
    this.#controllerAddress = `127.0.0.1:${controllerPort}`
    this.#channel = createRpcChannel(this.#controllerAddress)
    this.lean = new LeanClient(`http://${this.#controllerAddress}`)
    this.client = createRpcClientFactory().create(ControllerServiceDefinition, this.#channel)
  }

  static async start(): Promise<ScaleCluster> {
    const cluster = new ScaleCluster(await TestNatsServer.start(), await freePort(), await freePort())
    await cluster.startController()
    cluster.#api = new ProbedProcess(
      'api',
      {
        VPE_API_LISTEN: new URL(cluster.apiUrl).host,
        VPE_CONTROLLER_ADDRESS: cluster.#controllerAddress,
        VPE_NATS_URL: cluster.nats.url,
        VPE_LOG_LEVEL: 'warn',
      },
      join(cluster.dir, 'api.log'),
    )
    await until('the API answers', async () => {
      const response = await fetch(`${cluster.apiUrl}/flavors`).catch(() => null)
      await response?.body?.cancel()
      return response?.ok ?? false
    })
    return cluster
  }

  get controller(): ProbedProcess {
    if (!this.#controller) throw new Error('the controller is not running')
    return this.#controller
  }

  get api(): ProbedProcess {
    if (!this.#api) throw new Error('the API node is not running')
    return this.#api
  }

  /** Starts it, or starts it again. Resolves when it answers a question about its instances. */
  async startController(): Promise<void> {
    const controller = new ProbedProcess(
      'controller',
      {
        VPE_CONTROLLER_LISTEN: this.#controllerAddress,
        VPE_CONTROLLER_STATE_DIR: this.dir,
        VPE_NATS_URL: this.nats.url,
      },
      join(this.dir, 'controller.log'),
    )
    this.#controller = controller
    await until(
      'the controller answers',
      async () => {
        if (!controller.isRunning)
          throw new Error(
            `the controller has ended:\n${readFileSync(join(this.dir, 'controller.log'), 'utf8')}`,
          )
        const signal = AbortSignal.timeout(5_000)
        return this.client.listInstances({ limit: 1 }, { signal }).then(
          () => true,
          () => false,
        )
      },
      START_MS,
    )
  }

  async killController(): Promise<void> {
    await this.controller.end('SIGKILL')
  }

  /** Adds one process of simulated hosts. */
  async addHosts(
    count: number,
    size: { readonly cpus: number; readonly memoryMib: number },
  ): Promise<HostSummary[]> {
    const hosts = new HostsProcess()
    this.hosts.push(hosts)
    // An address for each process: ports are counted by address.
    const ip = `127.0.1.${this.hosts.length}`
    return hosts.start({ natsUrl: this.nats.url, count, size, ip })
  }

  /** Null when nobody could answer, and the call may be made again with its key. */
  async post(path: string, content: unknown, key: string): Promise<unknown> {
    const response = await fetch(this.apiUrl + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'idempotency-key': key },
      body: JSON.stringify(content),
    })
    const body = await response.text()
    if (response.status === 503) return null
    if (!response.ok) throw new Error(`POST ${path}: ${response.status} ${body}`)
    return JSON.parse(body)
  }

  /** What is used from now until the returned function is called. */
  async meter(): Promise<() => Promise<Usage>> {
    await this.controller.ask()
    const from = await this.#read()
    return async () => {
      const [to, answer] = [await this.#read(), await this.controller.ask()]
      const seconds = (to.atMs - from.atMs) / 1_000
      const share = (part: keyof Usage['cpu']) => (to.cpu[part] - from.cpu[part]) / seconds
      return {
        seconds,
        cpu: {
          controller: share('controller'),
          controllerMain: share('controllerMain'),
          api: share('api'),
          nats: share('nats'),
          hosts: share('hosts'),
          client: share('client'),
          machine: share('machine'),
          stolen: share('stolen'),
        },
        controller: { ...answer, residentBytes: residentBytes(this.controller.pid) },
        nats: { in: (to.nats.in - from.nats.in) / seconds, out: (to.nats.out - from.nats.out) / seconds },
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.lean.close()
    this.#channel.close()
    await this.#controller?.end('SIGKILL')
    await this.#api?.end('SIGKILL')
    await Promise.all(this.hosts.map((hosts) => hosts.end()))
    await this.nats[Symbol.asyncDispose]()
    rmSync(this.dir, { recursive: true, force: true })
  }

  async #read(): Promise<Reading> {
    const response = await fetch(`${this.nats.monitoringUrl}/varz`)
    const counters = (await response.json()) as { in_msgs: number; out_msgs: number }
    const { all, main } = cpuSeconds(this.controller.pid)
    const own = process.cpuUsage()
    return {
      atMs: performance.now(),
      cpu: {
        controller: all,
        controllerMain: main,
        api: this.#api ? cpuSeconds(this.#api.pid).all : 0,
        nats: cpuSeconds(this.nats.pid).all,
        hosts: this.hosts.reduce((sum, { pid }) => sum + cpuSeconds(pid).all, 0),
        client: (own.user + own.system) / 1e6,
        ...machineSeconds(),
      },
      nats: { in: counters.in_msgs, out: counters.out_msgs },
    }
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address ? address.port : 0))
    })
  })
}
