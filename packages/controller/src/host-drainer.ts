// Empties hosts that are drained: has what can leave begin to move, a few at a time, and ends the drain when nothing
// more can leave. All of it is seen from the records, at each change of them, so a restart at any line goes on.

import {
  countMoveFailure,
  type DrainPlan,
  type DrainRecord,
  endOperation,
  type HostRecord,
  hostsOf,
  type InstanceRecord,
  type MoveFailures,
  type OperationStatus,
  patienceUntil,
  planDrain,
  type StuckInstance,
  tellDrain,
  tellStuck,
  VpeError,
} from '@vpe/core'
import type { Logger } from 'pino'
import { hostEvent } from './host-event.ts'
import type { StartMove } from './service/migrations.ts'
import type { Store } from './store/store.ts'
import { type Change, change } from './store/tables.ts'

/** What frees or fills other hosts is seen this much later at most. */
const TICK_MS = 5_000

export interface HostDrainerDeps {
  readonly store: Store
  readonly startMove: StartMove
  /** What is being done for an instance, for people. */
  readonly stepOf: (instanceUuid: string) => string
  readonly now: () => number
  readonly log: Logger
  /** Told of a defect: the process must end. */
  readonly onFatal: (error: unknown) => void
}

/** What is remembered of a drain that goes on. */
interface Progress {
  readonly operationUuid: string
  readonly failures: Map<string, MoveFailures>
  /** Until when refusals that have been met at each look since may pass by themselves. */
  readonly patience: Map<string, number>
  plan: DrainPlan | null
}

export class HostDrainer {
  readonly #deps: HostDrainerDeps
  /** Of hosts that are being drained. */
  readonly #progress = new Map<string, Progress>()
  #isDue = false
  #isClosed = false
  #timer: NodeJS.Timeout | null = null

  constructor(deps: HostDrainerDeps) {
    this.#deps = deps
    const { store } = deps
    for (const host of store.hosts.values()) this.#note(host)
    store.listen({
      onHost: (_before, after) => {
        if (after) this.#note(after)
        this.look()
      },
      onInstance: (before, after) => {
        const hosts = [...(before ? hostsOf(before) : []), ...(after ? hostsOf(after) : [])]
        if (hosts.some((each) => this.#progress.has(each))) this.look()
      },
      onDiskPool: () => this.look(),
      onImage: () => this.look(),
    })
  }

  /** Looks at all drains again: soon, once however often this is called meanwhile. */
  look(): void {
    if (this.#isDue || this.#isClosed || this.#progress.size === 0) return
    this.#isDue = true
    setImmediate(() => this.#lookNow())
  }

  /** How far the drain of a host is, for people; empty where none goes on. */
  stepOf(hostId: string): string {
    const { store, stepOf } = this.#deps
    const host = store.hosts.get(hostId)
    const plan = this.#progress.get(hostId)?.plan
    if (!host?.drain || !plan) return ''
    const tell = (uuid: string, what: string) => ({ name: this.#nameOf(uuid), what })
    return tellDrain(host.drain.total, {
      moving: plan.moving.map((uuid) => tell(uuid, stepOf(uuid))),
      waiting: plan.waiting.map(({ uuid, why }) => tell(uuid, why)),
      stuck: plan.stuck.map(({ uuid, why }) => tell(uuid, why)),
    })
  }

  close(): void {
    this.#isClosed = true
    if (this.#timer) clearTimeout(this.#timer)
  }

  #note({ uuid, drain }: HostRecord): void {
    if (!isRunning(drain)) return
    const { operationUuid } = drain
    if (this.#progress.get(uuid)?.operationUuid === operationUuid) return
    this.#progress.set(uuid, {
      ...{ operationUuid, failures: new Map(), patience: new Map(), plan: null },
    })
  }

  #lookNow(): void {
    this.#isDue = false
    if (this.#isClosed) return
    if (this.#timer) clearTimeout(this.#timer)
    this.#timer = null
    try {
      const now = this.#deps.now()
      let wakeAtMs = now + TICK_MS
      for (const [hostId, progress] of this.#progress) {
        wakeAtMs = Math.min(wakeAtMs, this.#goOn(hostId, progress) ?? wakeAtMs)
      }
      if (this.#progress.size > 0) this.#timer = setTimeout(() => this.look(), Math.max(0, wakeAtMs - now))
    } catch (error) {
      this.#deps.onFatal(error)
    }
  }

  /** Does for one host what can be done now. Returns when it is to be looked at again at the latest. */
  #goOn(hostId: string, progress: Progress): number | null {
    const { store, now } = this.#deps
    const host = store.hosts.get(hostId)
    if (!host || !isRunning(host.drain) || host.drain.operationUuid !== progress.operationUuid) {
      this.#progress.delete(hostId)
      return null
    }
    const refusals = new Map<string, string>()
    let plan = this.#plan(host, host.drain, progress, refusals)
    while (plan.start.length > 0) {
      for (const uuid of plan.start) this.#start(uuid, host.drain, progress, refusals)
      plan = this.#plan(host, host.drain, progress, refusals)
    }
    for (const uuid of progress.patience.keys()) if (!refusals.has(uuid)) progress.patience.delete(uuid)
    progress.plan = plan
    if (plan.isOver) this.#end(host, host.drain, plan.stuck)
    else if (JSON.stringify(plan.stuck) !== JSON.stringify(host.drain.stuck)) {
      void store.commit([change.host({ ...host, drain: { ...host.drain, stuck: plan.stuck } })])
    }
    return plan.wakeAtMs === null ? null : Math.max(plan.wakeAtMs, now())
  }

  #plan(
    host: HostRecord,
    drain: DrainRecord,
    { failures, patience }: Progress,
    refusals: ReadonlyMap<string, string>,
  ): DrainPlan {
    const { store, now } = this.#deps
    const uuids = store.usage.instancesOfHost(host.uuid)
    const instances = [...uuids].flatMap((uuid) => store.instances.get(uuid) ?? [])
    for (const instance of instances) {
      const failed = countMoveFailure(failures.get(instance.uuid) ?? null, instance, host.uuid, drain, now())
      if (failed) failures.set(instance.uuid, failed)
    }
    return planDrain({
      hostId: host.uuid,
      isUp: host.state === 'up',
      parallel: drain.parallel,
      instances,
      refusals,
      patience,
      uses: usesOf(store),
      failures,
      nowMs: now(),
    })
  }

  #start(uuid: string, { copyDisks }: DrainRecord, progress: Progress, refusals: Map<string, string>): void {
    const { store, startMove, log, now } = this.#deps
    const { failures, patience } = progress
    const instance = store.instances.get(uuid)
    if (!instance) return
    try {
      const avoid = failures.get(uuid)?.hostIds ?? []
      const { changes, events } = startMove(instance, { avoid, copyDisks })
      void store.commit(changes, events)
    } catch (error) {
      if (!(error instanceof VpeError)) throw error
      const untilMs = patience.get(uuid) ?? patienceUntil(error.code, now())
      if (untilMs !== null) patience.set(uuid, untilMs)
      log.debug({ instance: uuid, code: error.code }, error.message)
      refusals.set(uuid, error.message)
    }
  }

  #end(host: HostRecord, drain: DrainRecord, stuck: readonly StuckInstance[]): void {
    const { store, now, log } = this.#deps
    this.#progress.delete(host.uuid)
    const named = stuck.map(({ uuid, why }) => ({ uuid, name: this.#nameOf(uuid), why }))
    const isDrained = stuck.length === 0
    const fault = isDrained ? '' : tellStuck(named.map(({ name, why }) => ({ name, what: why })))
    const next = { ...host, drain: { ...drain, endedAtMs: now(), stuck } }
    const ended = endDrainOperation(store, host, isDrained ? 'succeeded' : 'failed', now(), fault)
    const data = { operation_uuid: drain.operationUuid, total: drain.total }
    const event = isDrained
      ? hostEvent(next, 'drained', data)
      : hostEvent(next, 'drain_failed', { ...data, stuck: named })
    void store.commit([change.host(next), ...ended], [event])
    log.info({ host: host.uuid, isDrained, fault }, 'drain over')
  }

  #nameOf(uuid: string): string {
    return this.#deps.store.instances.get(uuid)?.name ?? uuid
  }
}

/** What ends the operation of a host's drain, where one goes on. */
export function endDrainOperation(
  store: Store,
  { drain }: HostRecord,
  status: Exclude<OperationStatus, 'running'>,
  nowMs: number,
  fault = '',
): Change[] {
  const operation = store.operations.get(drain?.operationUuid ?? '')
  return operation ? [change.operation(endOperation(operation, status, nowMs, fault))] : []
}

export function isRunning(drain: DrainRecord | null): drain is DrainRecord {
  return drain !== null && drain.endedAtMs === null
}

/** Instances whose disks are being read: a move would end that, or wait for it. */
function usesOf(store: Store): ReadonlyMap<string, string> {
  const uses = new Map<string, string>()
  for (const { status, instanceUuid, name } of store.images.values()) {
    if (status === 'importing' && instanceUuid)
      uses.set(instanceUuid, `it is being captured as image ${name}`)
  }
  for (const { kind, resourceUuid } of store.operations.values()) {
    const clone: InstanceRecord | undefined =
      kind === 'instance.create' ? store.instances.get(resourceUuid) : undefined
    if (!clone?.diskSource || clone.settledGeneration > 0) continue
    uses.set(clone.diskSource.instanceUuid, `it is being cloned as ${clone.name}`)
  }
  return uses
}
