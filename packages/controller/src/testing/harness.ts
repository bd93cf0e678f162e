// A whole controller for a test: real SQLite file, real gRPC, real NATS when it is asked for. SQLite is on the thread of
// the test: to load it anew for each controller takes longer than most tests.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { NatsConnection } from '@nats-io/nats-core'
import { connectBus } from '@vpe/bus'
import { DEFAULT_WEBHOOK_POLICY, type VpeError, type WebhookPolicy } from '@vpe/core'
import type { FailoverPolicy, HaTimings } from '@vpe/core/ha'
import {
  type ControllerServiceClient,
  ControllerServiceDefinition,
  createRpcChannel,
  createRpcClientFactory,
  fromClientError,
  type Instance,
  InstanceTask,
  type Operation,
  OperationStatus,
} from '@vpe/proto'
import { type Channel, Metadata } from 'nice-grpc'
import { pino } from 'pino'
import { type Controller, createController } from '../controller.ts'
import type { HaPoolSettings } from '../ha/ha-pools.ts'
import type { HaPools, HaView } from '../ha/ports.ts'
import type { RebalancePolicy } from '../rebalancer.ts'
import { SqliteBackend } from '../store/sqlite-backend.ts'
import { Store } from '../store/store.ts'
import type { FakeAgent } from './fake-agent.ts'

/** How long anything may take: far beyond what it does, also on a slow machine. */
const BOUND_MS = 120_000
/** How long one question may wait for its answer. */
const WAIT_MS = 20_000

export class Harness {
  readonly dir = mkdtempSync(join(tmpdir(), 'vpe-controller-'))
  readonly natsUrl: string | null
  fatal: unknown = null
  webhookPolicy: WebhookPolicy = DEFAULT_WEBHOOK_POLICY
  rebalancePolicy: RebalancePolicy | undefined
  haPools: ((store: Store) => HaPools) | undefined
  haTimings: HaTimings | undefined
  haPoolSettings: HaPoolSettings | undefined
  /** In place of the keeper. */
  haView: HaView | undefined
  failoverPolicy: FailoverPolicy | undefined
  #beats: NodeJS.Timeout | undefined
  #running: { controller: Controller; store: Store; channel: Channel; bus: NatsConnection | null } | null =
    null
  #client: ControllerServiceClient | null = null

  constructor(natsUrl: string | null = null) {
    this.natsUrl = natsUrl
  }

  get client(): ControllerServiceClient {
    if (!this.#client) throw new Error('not started')
    return this.#client
  }

  get storeFile(): string {
    return join(this.dir, 'controller.sqlite')
  }

  get store(): Store {
    if (!this.#running) throw new Error('not started')
    return this.#running.store
  }

  get ha(): HaView {
    const ha = this.#running?.controller.ha
    if (!ha) throw new Error('nothing guards anything here')
    return ha
  }

  async start(): Promise<void> {
    const onFatal = (error: unknown) => {
      this.fatal ??= error
    }
    const store = await Store.open(new SqliteBackend(this.storeFile), Date.now, onFatal)
    const controller = createController({
      store,
      now: Date.now,
      log: pino({ level: 'silent' }),
      onFatal,
      webhookPolicy: this.webhookPolicy,
      ...(this.haPools && { haPools: this.haPools(store) }),
      ...(this.haTimings && { haTimings: this.haTimings }),
      ...(this.haPoolSettings && { haPoolSettings: this.haPoolSettings }),
      ...(this.rebalancePolicy && { rebalancePolicy: this.rebalancePolicy }),
      ...(this.haView && { haView: this.haView }),
      ...(this.failoverPolicy && { failoverPolicy: this.failoverPolicy }),
    })
    const port = await controller.listen('127.0.0.1:0')
    const channel = createRpcChannel(`127.0.0.1:${port}`)
    const bus = this.natsUrl === null ? null : await connectBus(this.natsUrl, 'test')
    if (bus) controller.attachBus(bus)
    this.#running = { controller, store, channel, bus }
    this.#client = createRpcClientFactory().create(ControllerServiceDefinition, channel)
  }

  /** Heartbeats of agents that listen, from now on, as NATS would bring them. */
  hear(agents: readonly FakeAgent[]): void {
    this.#beats = setInterval(() => {
      for (const agent of agents)
        if (agent.isListening)
          this.#running?.controller.ha.heard(agent.hostId, agent.bootId, agent.guard?.digest)
    }, 250)
  }

  async stop(): Promise<void> {
    const running = this.#running
    this.#running = null
    if (!running) return
    running.channel.close()
    // A store that has failed refuses to be closed in order, as it must.
    await running.controller.close().catch((error: unknown) => {
      if (this.fatal === null) throw error
    })
    await running.bus?.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#beats)
    await this.stop()
    rmSync(this.dir, { recursive: true, force: true })
  }

  /** Registers a host with a pool, and a flavor and an image to make instances from. */
  async furnish(agent: FakeAgent): Promise<void> {
    await this.client.createHost({ name: 'h1', address: agent.address })
    await this.client.createFlavor({ name: 'tiny', vcpus: 1, memoryMib: 256, diskGib: 1 })
    await this.client.createDiskPool({ name: 'local', kind: 'dir', path: '/pool' })
    await this.client.createImage({ name: 'demo', url: 'file:///demo.qcow2' })
    await until('the image is active', () =>
      [...this.store.images.values()].every(({ status }) => status === 'active'),
    )
  }

  create(name: string, key?: string): Promise<{ instance?: Instance | undefined; operationUuid: string }> {
    const metadata = key === undefined ? Metadata() : Metadata({ 'idempotency-key': key })
    return this.client.createInstance({ name, flavor: 'tiny', image: 'demo' }, { metadata })
  }

  async instance(uuid: string): Promise<Instance> {
    const { instance } = await this.client.getInstance({ uuid })
    if (!instance) throw new Error('an answer without an instance')
    return instance
  }

  /** The instance once it has no task. */
  async atRest(uuid: string): Promise<Instance> {
    let seen = await this.instance(uuid)
    await until(`instance ${uuid} is at rest`, async () => {
      seen = await this.instance(uuid)
      return seen.task === InstanceTask.UNSPECIFIED
    })
    return seen
  }

  async ended(operationUuid: string): Promise<Operation> {
    const deadline = Date.now() + BOUND_MS
    for (;;) {
      const { operation } = await this.client.getOperation({ uuid: operationUuid, waitMs: WAIT_MS })
      if (operation && operation.status !== OperationStatus.RUNNING) return operation
      if (Date.now() > deadline) throw new Error(`operation ${operationUuid} runs on`)
    }
  }
}

/** Waits for a condition, with a bound. */
export async function until(what: string, isTrue: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + BOUND_MS
  while (!(await isTrue())) {
    if (Date.now() > deadline) throw new Error(`not within ${BOUND_MS} ms: ${what}`)
    await sleep(10)
  }
}

/** The error that a call ends with. */
export async function refusal(call: Promise<unknown>): Promise<VpeError> {
  const error = await call.then(
    () => null,
    (cause: unknown) => fromClientError(cause),
  )
  if (!error) throw new Error('it was not refused')
  return error
}
