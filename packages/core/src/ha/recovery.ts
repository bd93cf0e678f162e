// Starts lost instances again, each as the next generation, somewhere else. It commits to a start only with a proof for each
// pool, in order of priority, not too many at a time; what does not fit now is tried again when something has changed.
// Commands go out again and again until a report shows what was asked for: nothing here counts on an answer.

import type { HostId, InstanceId } from '../ids.ts'
import type { AgentCommand, LocalPhase } from './agent-ha.ts'
import type { Pill } from './blocks.ts'
import { isInstanceDisarmed } from './disarm.ts'
import type { ArmedPool } from './guard.ts'
import {
  freshOf,
  type HostPool,
  type HostReport,
  type HostWatchState,
  type WatchedHost,
} from './host-watch.ts'
import type { Placer } from './placer.ts'
import { judgeProofs, type Proof, type ProofKind } from './proofs.ts'
import type { HaContext, Step } from './rules.ts'

export const PRIORITIES = ['system', 'high', 'medium', 'low'] as const
export type Priority = (typeof PRIORITIES)[number]

export const RECOVERY_LIMITS = Object.freeze({
  startsPerHost: 4,
  starts: 20,
  /** After that the next class of priority begins, though the former has not all started. */
  classPatienceMs: 60_000,
  /** A start that has not come about by then is tried elsewhere. */
  startPatienceMs: 60_000,
  /** Moves to other hosts because a guest kept going off. Faults of hosts are free. */
  relocations: 2,
  /** Starts that did not come about, on one host after another, before a person is asked: its disk may be locked for good. */
  failedStarts: 5,
  /** And for so long, since locks that stand in the way run out after a while. */
  failedPatienceMs: 300_000,
  /** The pause after the first of them; twice as long after each other. */
  failedPauseMs: 500,
  failedPauseMostMs: 30_000,
  /** Time without guest network after which an isolated host's guests may be moved, where they want that. */
  networkPatienceMs: 30_000,
  gatePatienceMs: 10_000,
  /** For so long the host that was given the locks is waited for; it lets go of them when it is not asked any more. */
  gateHoldMs: 60_000,
  commandEveryMs: 2_000,
  /** So many guests of a host may begin together; most hosts lose no more to each of the others. */
  startsAtOnce: 2,
  /** Pause between those that follow on one host: this, and up to as much again by chance. */
  staggerMs: 500,
  /** After that it is looked anew for a host for what fitted none. */
  placeAgainMs: 3_000,
})

/** When what happened in one failover, on the controller's clock (T0 to T4). */
export interface FailoverClock {
  readonly lastHeardMs: number | null
  readonly suspectedMs: number | null
  readonly provenMs: number | null
  readonly provenBy: readonly ProofKind[]
  readonly placedMs: number | null
  readonly runningMs: number | null
}

/** `off`: nobody has it. */
export const HA_INSTANCE_STATES = ['starting', 'running', 'releasing', 'lost', 'error', 'off'] as const

export interface HaInstance {
  readonly uuid: InstanceId
  /** Of the owner. */
  readonly generation: number
  /** The highest that was ever given away. */
  readonly lastGeneration: number
  readonly hostId: HostId
  readonly bootId: string
  readonly pools: readonly HostPool[]
  readonly priority: Priority
  readonly memoryMib: number
  /** What becomes of it when its host is only cut off, and its guests with it. */
  readonly isolation: 'leave' | 'restart'
  /** Its user wants it on. One that is not is never started again: once it is proven gone, nobody has it. */
  readonly isWanted: boolean
  /** Its host was told to let go of it in order: by this generation it is not started again there. */
  readonly isEnding: boolean
  /** When it is off, `generation` is the last owner's, or that by which it was taken from it. */
  readonly state: (typeof HA_INSTANCE_STATES)[number]
  readonly why: string
  /** For its present owner: why it may be started elsewhere. */
  readonly proofs: readonly Proof[]
  /** Those on which the present generation rests. */
  readonly startedBy: readonly Proof[]
  readonly relocations: number
  readonly failedStarts: number
  readonly avoid: readonly HostId[]
  /** Its guest is being handed over, as that generation. */
  readonly migration: {
    readonly hostId: HostId
    readonly bootId: string
    readonly generation: number
    readonly isCancelled: boolean
  } | null
  readonly clock: FailoverClock
}

interface Work {
  readonly commandedMs: number
  readonly sinceMs: number
  readonly absentSinceMs: number | null
  readonly failingSinceMs: number | null
  readonly gate: { readonly hostId: HostId; readonly sinceMs: number } | null
  readonly pill: { readonly nonce: number; readonly sentMs: number; readonly epoch: number } | null
  /** When it fitted no host. */
  readonly unplacedMs: number | null
  /** Since when its starts have not come about. */
  readonly failedFromMs: number | null
  /** It is not given to a host before. */
  readonly pausedUntilMs: number
}

/** Hosts of which nothing has to be looked at again before they say something else. It holds for these very instances. */
interface Calm {
  readonly instances: ReadonlyMap<InstanceId, HaInstance>
  readonly reports: ReadonlyMap<HostId, HostReport>
}

export interface RecoveryState {
  readonly epoch: number
  readonly instances: ReadonlyMap<InstanceId, HaInstance>
  readonly work: ReadonlyMap<InstanceId, Work>
  readonly nonce: number
  readonly nextStartMs: ReadonlyMap<HostId, number>
  readonly calm: Calm
}

export type RecoveryEvent =
  | {
      readonly kind: 'tick'
      readonly placer: Placer
      /** From 0 to 1, by chance. */
      readonly jitter: number
    }
  /** It is given to a host: for the first time, or after nobody had it. */
  | { readonly kind: 'add'; readonly instance: HaInstance }
  /** What its user wants of it; `generation` is the record's. */
  | {
      readonly kind: 'want'
      readonly uuid: InstanceId
      readonly isWanted: boolean
      readonly isEnding: boolean
      readonly generation: number
      /** As before where it is left out. */
      readonly wish?: Pick<HaInstance, 'priority' | 'isolation'>
    }
  /** Nobody has it, it is wanted on, and the host that it belongs to is lost. */
  | { readonly kind: 'strand'; readonly uuid: InstanceId; readonly why: string }
  /** Its host answers, and cannot do what a start takes. */
  | {
      readonly kind: 'start-failed'
      readonly uuid: InstanceId
      readonly generation: number
      readonly why: string
    }
  /** It is to be handed over as it runs; without a generation, the next one. */
  | {
      readonly kind: 'migrate'
      readonly uuid: InstanceId
      readonly hostId: HostId
      readonly generation?: number
    }
  | { readonly kind: 'cancel-migration'; readonly uuid: InstanceId }
  /** Its old host says that it was handed over. */
  | { readonly kind: 'moved'; readonly uuid: InstanceId }
  /** It is no affair of recovery any more. */
  | { readonly kind: 'gone'; readonly uuid: InstanceId }

export type RecoveryAction =
  | { readonly kind: 'command'; readonly hostId: HostId; readonly command: AgentCommand }
  | {
      readonly kind: 'write-pill'
      readonly via: HostId
      readonly hostId: HostId
      readonly pool: string
      readonly pill: Pill
    }
  /** Has the host's libvirt hand the guest over to the other, where it waits for it. */
  | {
      readonly kind: 'hand-over'
      readonly hostId: HostId
      readonly uuid: InstanceId
      readonly generation: number
      readonly toHostId: HostId
    }
  | {
      readonly kind: 'instance-changed'
      readonly instance: HaInstance
      readonly from: HaInstance['state']
    }
  | { readonly kind: 'admit-host'; readonly hostId: HostId }

type RecoveryStep = Step<RecoveryState, RecoveryAction>

export function startRecovery(epoch: number, records: readonly HaInstance[], nowMs: number): RecoveryState {
  const instances = new Map(
    records.map((instance) => [
      instance.uuid,
      { ...instance, proofs: instance.proofs.map((proof) => ({ ...proof, atMs: nowMs })) },
    ]),
  )
  return {
    epoch,
    instances,
    calm: { instances, reports: new Map() },
    work: new Map(),
    nonce: 0,
    nextStartMs: new Map(),
  }
}

/** An instance that is given to a host. */
export function newHaInstance(
  wanted: Pick<HaInstance, 'uuid' | 'pools' | 'priority' | 'memoryMib' | 'isolation'>,
  hostId: HostId,
  bootId: string,
  generation = 1,
): HaInstance {
  return {
    ...wanted,
    generation,
    lastGeneration: generation,
    hostId,
    bootId,
    isWanted: true,
    isEnding: false,
    state: 'starting',
    why: 'it is new',
    proofs: [],
    startedBy: [],
    relocations: 0,
    failedStarts: 0,
    avoid: [],
    migration: null,
    clock: NO_CLOCK,
  }
}

const NO_CLOCK: FailoverClock = {
  lastHeardMs: null,
  suspectedMs: null,
  provenMs: null,
  provenBy: [],
  placedMs: null,
  runningMs: null,
}

const NO_WORK = {
  commandedMs: Number.NEGATIVE_INFINITY,
  absentSinceMs: null,
  failingSinceMs: null,
  gate: null,
  pill: null,
  unplacedMs: null,
  failedFromMs: null,
  pausedUntilMs: Number.NEGATIVE_INFINITY,
}

/** One step, in the light of what is believed of the hosts; `nowMs` is the controller's monotonic clock. */
export function stepRecovery(
  before: RecoveryState,
  watch: HostWatchState,
  event: RecoveryEvent,
  nowMs: number,
  context: HaContext,
): RecoveryStep {
  switch (event.kind) {
    case 'add':
      return { state: put(before, event.instance), actions: [] }
    case 'gone': {
      if (!before.instances.has(event.uuid)) return { state: before, actions: [] }
      const [instances, work] = [new Map(before.instances), new Map(before.work)]
      instances.delete(event.uuid)
      work.delete(event.uuid)
      return { state: { ...before, instances, work }, actions: [] }
    }
    case 'want':
      return want(before, event)
    case 'migrate':
      return migrate(before, watch, event.uuid, event.hostId, event.generation ?? null)
    case 'cancel-migration': {
      const instance = before.instances.get(event.uuid)
      if (!instance?.migration || instance.migration.isCancelled) return { state: before, actions: [] }
      const migration = { ...instance.migration, isCancelled: true }
      return { state: put(before, { ...instance, migration }), actions: [] }
    }
    case 'moved': {
      const instance = before.instances.get(event.uuid)
      if (!instance?.migration) return { state: before, actions: [] }
      const { hostId, bootId, generation } = instance.migration
      const why = 'its guest was handed over'
      const moved = { ...instance, hostId, bootId, generation, migration: null, proofs: [], why }
      return { state: put(before, { ...moved, state: 'starting' }), actions: [] }
    }
    case 'strand': {
      const run = new Run(before, watch, nowMs, context)
      run.strand(event.uuid, event.why)
      return run.end()
    }
    case 'start-failed': {
      const run = new Run(before, watch, nowMs, context)
      run.failStart(event.uuid, event.generation, event.why)
      return run.end()
    }
    case 'tick': {
      const run = new Run(before, watch, nowMs, context)
      run.lookAtAll()
      run.place(event.placer, event.jitter)
      run.order()
      run.settle()
      return run.end()
    }
  }
}

function put(state: RecoveryState, instance: HaInstance): RecoveryState {
  return { ...state, instances: new Map(state.instances).set(instance.uuid, instance) }
}

function want(
  state: RecoveryState,
  { uuid, isWanted, isEnding, generation, wish }: Extract<RecoveryEvent, { kind: 'want' }>,
): RecoveryStep {
  const before = state.instances.get(uuid)
  if (!before) return { state, actions: [] }
  const isNews = generation > before.lastGeneration
  const { priority, isolation } = wish ?? before
  const isSame =
    before.isWanted === isWanted &&
    before.isEnding === isEnding &&
    before.priority === priority &&
    before.isolation === isolation
  if (isSame && !isNews) return { state, actions: [] }
  const lastGeneration = Math.max(before.lastGeneration, generation)
  // A person who starts what was given up on has done something about it.
  const isTriedAgain = before.state === 'error' && isWanted && isNews
  const anew = { state: 'starting', why: 'its user starts it', relocations: 0, failedStarts: 0 } as const
  const next: HaInstance = {
    ...before,
    priority,
    isolation,
    isWanted,
    isEnding,
    lastGeneration,
    ...(isTriedAgain && { ...anew, avoid: [] }),
  }
  return { state: put(state, next), actions: [] }
}

function migrate(
  state: RecoveryState,
  watch: HostWatchState,
  uuid: InstanceId,
  hostId: HostId,
  wanted: number | null,
): RecoveryStep {
  const instance = state.instances.get(uuid)
  const target = watch.hosts.get(hostId)
  const isPossible =
    instance?.state === 'running' &&
    !instance.migration &&
    target?.phase === 'up' &&
    hostId !== instance.hostId &&
    watch.hosts.get(instance.hostId)?.phase === 'up'
  if (!isPossible || !target || !instance) return { state, actions: [] }
  const generation = wanted ?? instance.lastGeneration + 1
  const migration = { hostId, bootId: target.bootId, generation, isCancelled: false }
  const lastGeneration = Math.max(instance.lastGeneration, generation)
  return { state: put(state, { ...instance, lastGeneration, migration }), actions: [] }
}

/** One look at everything: the steps of it, each on what the former has left. */
class Run {
  readonly #before: RecoveryState
  readonly #actions: RecoveryAction[] = []
  readonly #watch: HostWatchState
  readonly #nowMs: number
  readonly #context: HaContext
  /** Those of the state before until the first change. */
  #instances: ReadonlyMap<InstanceId, HaInstance>
  #work: ReadonlyMap<InstanceId, Work>
  #nonce: number
  readonly #nextStartMs: Map<HostId, number>
  readonly #calm: ReadonlyMap<HostId, HostReport>
  #nextCalm: ReadonlyMap<HostId, HostReport>

  constructor(state: RecoveryState, watch: HostWatchState, nowMs: number, context: HaContext) {
    this.#before = state
    this.#instances = state.instances
    this.#work = state.work
    this.#nonce = state.nonce
    this.#nextStartMs = new Map(state.nextStartMs)
    this.#calm = state.calm.instances === state.instances ? state.calm.reports : new Map()
    this.#nextCalm = this.#calm
    this.#watch = watch
    this.#nowMs = nowMs
    this.#context = context
  }

  end(): RecoveryStep {
    const state: RecoveryState = {
      epoch: this.#before.epoch,
      instances: this.#instances,
      work: this.#work,
      nonce: this.#nonce,
      nextStartMs: this.#nextStartMs,
      // What has changed since is looked at once more.
      calm: { instances: this.#before.instances, reports: this.#nextCalm },
    }
    return { state, actions: this.#actions }
  }

  /** All but those that run on a host that has said nothing else since they were looked at. */
  lookAtAll(): void {
    const { busy, ofHost } = rosterOf(this.#before.instances)
    const due = new Set(busy.map(({ uuid }) => uuid))
    for (const [hostId, own] of ofHost) {
      const host = this.#watch.hosts.get(hostId)
      if (host && !this.#isCalm(host)) for (const { uuid } of own) due.add(uuid)
    }
    for (const uuid of due) this.look(uuid)
  }

  #isCalm({ hostId, phase, report, bootId }: WatchedHost): boolean {
    return phase === 'up' && report?.bootId === bootId && this.#calm.get(hostId) === report
  }

  /** Those with which something is being done, maybe since a moment ago. */
  #busy(): readonly HaInstance[] {
    const { instances } = this.#before
    if (this.#instances === instances) return rosterOf(instances).busy
    return [...this.#instances.values()].filter(isBusy)
  }

  /** What nobody has is started on another host than its own. */
  strand(uuid: InstanceId, why: string): void {
    const instance = this.#instances.get(uuid)
    if (instance?.state !== 'off' || !instance.isWanted) return
    const { hostId, bootId, generation } = instance
    const proof: Proof = {
      ...{ kind: 'released', hostId, bootId, pool: null, uuid, generation, atMs: this.#nowMs },
      why: 'nobody has it',
    }
    this.#update({ ...instance, proofs: [proof], clock: NO_CLOCK }, 'lost', why)
  }

  failStart(uuid: InstanceId, generation: number, why: string): void {
    const instance = this.#instances.get(uuid)
    if (instance?.generation !== generation || !instance.isWanted) return
    if (instance.state === 'starting' || instance.state === 'running') this.#relocate(instance, why)
  }

  /** What the hosts' reports and states mean for one instance. */
  look(uuid: InstanceId): void {
    const instance = this.#instances.get(uuid)
    if (!instance || instance.state === 'off') return
    if (instance.state === 'error') {
      if (!instance.isWanted) this.#update(instance, 'releasing', 'its user does not want it on')
      return
    }
    if (instance.migration && this.#lookAtMigration(instance, instance.migration)) return
    const host = this.#watch.hosts.get(instance.hostId)
    if (!host) return
    if (host.bootId !== instance.bootId) {
      if (instance.state !== 'lost') this.#lose(instance, host, 'its host has booted anew')
      return
    }
    const local = localOf(host, uuid, instance.generation)
    if (local?.phase === 'closed') {
      const { generation, hostId, bootId } = instance
      const why = `its host has let go of it: ${local.why}`
      if (!instance.isWanted) {
        this.#update({ ...instance, isEnding: false, proofs: [] }, 'off', why)
        return
      }
      if (!instance.proofs.some(({ kind }) => kind === 'released')) {
        const proof: Proof = {
          kind: 'released',
          hostId,
          bootId,
          pool: null,
          uuid,
          generation,
          atMs: this.#nowMs,
          why,
        }
        this.#lose({ ...instance, proofs: [...instance.proofs, proof] }, host, why)
      }
      return
    }
    const isJudged = (host.phase === 'stale' || host.phase === 'fenced') && host.verdict !== null
    if (isJudged && instance.pools.some(({ pool }) => host.verdict?.pools.includes(pool))) {
      if (instance.state !== 'lost' && !isInstanceDisarmed(this.#watch.disarms, instance, this.#nowMs))
        this.#lose(instance, host, `its host: ${host.why}`)
      return
    }
    if (instance.state === 'lost') {
      if (host.phase === 'isolated') this.#seekPill(instance, host)
      else if (host.phase === 'up') {
        // It was not lost after all, unless something of it is on its way elsewhere.
        this.#update({ ...instance, proofs: [] }, local ? 'starting' : 'releasing', 'its host is back')
      }
      return
    }
    if (host.phase === 'isolated' && instance.isolation === 'restart') this.#seekPill(instance, host)
    if (host.phase === 'up') this.#lookAtReport(instance, local?.phase ?? null, local?.why ?? '')
  }

  #lookAtReport(instance: HaInstance, phase: LocalPhase | null, why: string): void {
    const work = this.#workOf(instance.uuid)
    if (phase === 'running') {
      if (work.absentSinceMs !== null || work.failingSinceMs !== null)
        this.#setWork(instance.uuid, { absentSinceMs: null, failingSinceMs: null })
      if (instance.state !== 'starting') return
      this.#setWork(instance.uuid, { failedFromMs: null })
      const clock = { ...instance.clock, runningMs: this.#nowMs }
      this.#update({ ...instance, clock, avoid: [], failedStarts: 0 }, 'running', 'its host reports it')
      return
    }
    if (instance.state === 'releasing') return
    if (!instance.isWanted) {
      // What stops in order shows its guest until it has let go of it.
      const isOver = phase === null || phase === 'failed' || phase === 'given-up'
      if (isOver && this.#isAbsentTooLong(instance, work))
        this.#update(instance, 'releasing', 'its user does not want it on')
      return
    }
    if (phase === 'given-up') {
      if (instance.relocations >= RECOVERY_LIMITS.relocations)
        this.#update(instance, 'error', `it went off too often, also on other hosts: ${why}`)
      else
        this.#update(
          { ...instance, relocations: instance.relocations + 1, avoid: [instance.hostId] },
          'releasing',
          why,
        )
      return
    }
    if (phase === 'failed') {
      const sinceMs = work.failingSinceMs ?? this.#nowMs
      this.#setWork(instance.uuid, { failingSinceMs: sinceMs })
      if (this.#nowMs - sinceMs > RECOVERY_LIMITS.startPatienceMs) {
        this.#setWork(instance.uuid, { failingSinceMs: null })
        this.#relocate(instance, why)
      }
      return
    }
    if (phase === null && instance.state === 'running' && this.#isAbsentTooLong(instance, work))
      this.#update(instance, 'releasing', 'its host does not know it any more')
  }

  #isAbsentTooLong({ uuid }: HaInstance, work: Work): boolean {
    const sinceMs = work.absentSinceMs ?? this.#nowMs
    const isTooLong = this.#nowMs - sinceMs > this.#context.timings.suspectMs
    this.#setWork(uuid, { absentSinceMs: isTooLong ? null : sinceMs })
    return isTooLong
  }

  /** A start that does not come about is tried on another host, a few times. */
  #relocate(instance: HaInstance, why: string): void {
    const failedStarts = instance.failedStarts + 1
    const failedFromMs = this.#workOf(instance.uuid).failedFromMs ?? this.#nowMs
    const { failedPatienceMs, failedPauseMs, failedPauseMostMs } = RECOVERY_LIMITS
    const pauseMs = Math.min(failedPauseMostMs, failedPauseMs * 2 ** (failedStarts - 1))
    this.#setWork(instance.uuid, { failedFromMs, pausedUntilMs: this.#nowMs + pauseMs })
    const next = { ...instance, failedStarts, avoid: [instance.hostId] }
    const isPatient = this.#nowMs - failedFromMs < failedPatienceMs
    if (failedStarts < RECOVERY_LIMITS.failedStarts || isPatient)
      this.#update(next, 'releasing', `it does not start there: ${why}`)
    else this.#update(next, 'error', `it does not start on ${failedStarts} hosts in turn: ${why}`)
  }

  /** True when there is nothing else to be looked at. */
  #lookAtMigration(instance: HaInstance, migration: NonNullable<HaInstance['migration']>): boolean {
    const source = this.#watch.hosts.get(instance.hostId)
    const target = this.#watch.hosts.get(migration.hostId)
    const there = target ? localOf(target, instance.uuid, migration.generation) : null
    const here = source ? localOf(source, instance.uuid, instance.generation) : null
    const isTargetSame = target?.bootId === migration.bootId
    const isHandedOver = isTargetSame && there?.phase === 'running'
    // The source has let go of it, which it does only once the other has it.
    const isLetGo = source?.bootId === instance.bootId && here?.phase === 'closed'
    if (isHandedOver || (isLetGo && !migration.isCancelled)) {
      const { hostId, bootId, generation } = migration
      this.#update(
        { ...instance, hostId, bootId, generation, migration: null, proofs: [] },
        isHandedOver ? 'running' : 'starting',
        'its guest was handed over',
      )
      return true
    }
    if (migration.isCancelled) {
      // What waits there is gone, or can never be handed anything any more.
      const isOver = !isTargetSame || there?.phase === 'closed' || target?.phase === 'fenced'
      if (isOver) this.#replace({ ...instance, migration: null })
      return !isOver
    }
    const isBroken =
      source?.phase !== 'up' || target?.phase !== 'up' || !isTargetSame || there?.phase === 'failed'
    if (isBroken) this.#replace({ ...instance, migration: { ...migration, isCancelled: true } })
    return isBroken
  }

  /** Tells an isolated host through the storage to end what shall run elsewhere, and looks for its answer. */
  #seekPill(instance: HaInstance, host: WatchedHost): void {
    const { guestNetworkLostMs } = host
    const { uuid, generation, hostId, bootId } = instance
    const work = this.#workOf(uuid)
    if (work.pill) {
      for (const { pool } of instance.pools) {
        const seen = freshOf(host, pool, this.#nowMs).find(({ sighting }) => {
          const ack = sighting.kind === 'unknown' ? null : sighting.lease.pillAck
          return ack !== null && ack.epoch === work.pill?.epoch && ack.nonce === work.pill.nonce
        })
        const isKnown = instance.proofs.some((proof) => proof.kind === 'pill-obeyed' && proof.pool === pool)
        if (!seen || isKnown) continue
        const why = `it has answered pill ${work.pill.epoch}/${work.pill.nonce}`
        const proof: Proof = {
          kind: 'pill-obeyed',
          hostId,
          bootId,
          pool,
          uuid,
          generation,
          atMs: this.#nowMs,
          why,
        }
        this.#replace({ ...instance, proofs: [...instance.proofs, proof] })
        return
      }
    }
    const isDue =
      guestNetworkLostMs !== null && this.#nowMs - guestNetworkLostMs >= RECOVERY_LIMITS.networkPatienceMs
    if (isInstanceDisarmed(this.#watch.disarms, instance, this.#nowMs)) return
    if (!isDue || instance.pools.some(({ poolClass }) => poolClass === 'N')) return
    if (work.pill && this.#nowMs - work.pill.sentMs < 5_000) return
    if (this.#nowMs < this.#watch.settleUntilMs) return
    const onHost = [...this.#instances.values()].filter(
      (other) => other.hostId === hostId && other.bootId === bootId,
    )
    // In class T all guests of a pool go together.
    const isWhole = instance.pools.some(({ poolClass }) => poolClass === 'T')
    if (isWhole && onHost.some(({ isolation }) => isolation === 'leave')) return
    // One pill for all of the host that are to go: there is one mailbox.
    const shared = onHost.map(({ uuid }) => this.#workOf(uuid).pill).find((pill) => pill !== null)
    const nonce = shared?.nonce ?? this.#nonce + 1
    const { epoch } = this.#before
    const scope = isWhole
      ? 'all'
      : onHost
          .filter(({ isolation }) => isolation === 'restart')
          .map(({ uuid, generation }) => ({ uuid, generation }))
    let isSent = false
    for (const { pool } of instance.pools) {
      const seen = freshOf(host, pool, this.#nowMs).find(({ sighting }) => sighting.kind === 'alive')
      if (seen?.sighting.kind !== 'alive') continue
      const targetIncarnation = seen.sighting.lease.incarnation
      this.#actions.push({
        kind: 'write-pill',
        via: seen.observer,
        hostId,
        pool,
        pill: { kind: 'mailbox', epoch, nonce, targetIncarnation, scope },
      })
      isSent = true
    }
    if (!isSent) return
    this.#nonce = Math.max(this.#nonce, nonce)
    this.#setWork(uuid, { pill: { nonce, epoch, sentMs: this.#nowMs } })
    if (instance.state !== 'lost') this.#lose(instance, host, 'its host is cut off, and its guests with it')
  }

  /** Gives proven instances a new owner. */
  place(placer: Placer, jitter: number): void {
    const { timings, rules } = this.#context
    const lost = this.#busy().filter(({ state, migration }) => state === 'lost' && !migration)
    if (lost.length === 0) return
    const starting = new Starting(this.#instances.values())
    lost.sort((a, b) => PRIORITIES.indexOf(a.priority) - PRIORITIES.indexOf(b.priority))
    for (const instance of lost) {
      const verdicts = instance.pools.map((pool) => ({
        pool,
        verdict: judgeProofs(
          [...instance.proofs, ...(this.#watch.hosts.get(instance.hostId)?.proofs ?? [])],
          instance,
          pool,
          this.#nowMs,
          timings,
          rules,
        ),
      }))
      const open = verdicts.filter(({ verdict }) => verdict.kind !== 'proven')
      if (isInstanceDisarmed(this.#watch.disarms, instance, this.#nowMs)) {
        this.#explain(instance, 'a person has disarmed it')
        continue
      }
      if (open.length > 0 && (rules.needsProofPerPool || open.length === verdicts.length)) {
        const canGate = open.every(
          ({ pool, verdict }) => pool.poolClass === 'E' && verdict.kind === 'unproven',
        )
        if (canGate)
          this.#gate(
            instance,
            open.map(({ pool }) => pool),
            placer,
          )
        continue
      }
      const proofs = verdicts.flatMap(({ verdict }) => (verdict.kind === 'proven' ? [verdict.proof] : []))
      if (!instance.isWanted) {
        // The next number says to its old host that it has it no more.
        const generation = instance.lastGeneration + 1
        this.#forgetWork(instance.uuid)
        this.#update(
          {
            ...instance,
            ...{ generation, lastGeneration: generation, isEnding: false, proofs: [], startedBy: [] },
          },
          'off',
          `it is gone, and is not wanted on: ${listProofs(proofs)}`,
        )
        continue
      }
      this.#start(instance, proofs, starting, placer, jitter)
    }
  }

  #start(
    instance: HaInstance,
    proofs: readonly Proof[],
    starting: Starting,
    placer: Placer,
    jitter: number,
  ): void {
    const { uuid } = instance
    if (this.#context.rules.limitsStarts && !starting.mayStart(instance, this.#nowMs)) return
    const { gate, failedFromMs, pausedUntilMs } = this.#workOf(uuid)
    if (this.#nowMs < pausedUntilMs) return
    const isHeld = gate !== null && this.#nowMs - gate.sinceMs < RECOVERY_LIMITS.gateHoldMs
    const target = this.#choose(instance, placer, isHeld ? gate.hostId : null, starting)
    if (!target) return
    placer.take(instance, target.hostId)
    this.#nextStartMs.set(target.hostId, this.#nowMs + RECOVERY_LIMITS.staggerMs * (1 + jitter))
    const generation = instance.lastGeneration + 1
    const clock: FailoverClock = {
      ...instance.clock,
      provenMs: Math.max(...proofs.map(({ atMs }) => atMs), 0),
      provenBy: [...new Set(proofs.map(({ kind }) => kind))],
      placedMs: this.#nowMs,
      runningMs: null,
    }
    this.#forgetWork(uuid)
    if (failedFromMs !== null) this.#setWork(uuid, { failedFromMs })
    const next: HaInstance = {
      ...instance,
      generation,
      lastGeneration: generation,
      hostId: target.hostId,
      bootId: target.bootId,
      isEnding: false,
      proofs: [],
      startedBy: proofs,
      clock,
    }
    starting.add(next)
    this.#update(next, 'starting', `generation ${generation} on another host: ${listProofs(proofs)}`)
  }

  /** Has a host try for the locks: that it gets them is the proof, and that it does not does no harm. */
  #gate(instance: HaInstance, pools: readonly HostPool[], placer: Placer): void {
    const host = this.#watch.hosts.get(instance.hostId)
    if (host?.bootId === instance.bootId && host.phase !== 'stale' && host.phase !== 'fenced') return
    const { gate } = this.#workOf(instance.uuid)
    const isPatient = gate && this.#nowMs - gate.sinceMs < RECOVERY_LIMITS.gatePatienceMs
    const target = this.#choose(instance, placer, isPatient && gate ? gate.hostId : null, null)
    if (!target) return
    // Else all would be tried where only some of them fit.
    placer.take(instance, target.hostId)
    if (gate?.hostId !== target.hostId)
      this.#setWork(instance.uuid, { gate: { hostId: target.hostId, sinceMs: this.#nowMs } })
    const { uuid, generation, hostId, bootId } = instance
    const local = target.report && instanceIn(target.report, uuid)
    if (target.report?.bootId === target.bootId && local?.phase === 'gated' && local.why === '') {
      const proofs = pools.map(
        ({ pool }): Proof => ({
          kind: 'lock-gate',
          hostId,
          bootId,
          pool,
          uuid,
          generation,
          atMs: this.#nowMs,
          why: `host ${target.hostId} was given its locks`,
        }),
      )
      this.#replace({ ...instance, proofs: [...instance.proofs, ...proofs] })
      return
    }
    this.#command(target, uuid, {
      kind: 'gate',
      epoch: this.#before.epoch,
      bootId: target.bootId,
      instance: { uuid, generation },
      pools: armedPools(pools),
    })
  }

  /** @param starting null where it is only tried for its locks */
  #choose(
    instance: HaInstance,
    placer: Placer,
    preferred: HostId | null,
    starting: Starting | null,
  ): WatchedHost | null {
    const { rules } = this.#context
    const { unplacedMs } = this.#workOf(instance.uuid)
    if (unplacedMs !== null && this.#nowMs - unplacedMs < RECOVERY_LIMITS.placeAgainMs) return null
    const able = [...this.#watch.hosts.values()].filter(
      (host) =>
        host.phase === 'up' &&
        this.#nowMs - host.heardMs <= this.#context.timings.suspectMs &&
        (host.report?.guardFault ?? '') === '' &&
        instance.pools.every(({ pool }) => host.pools.some((other) => other.pool === pool)) &&
        !host.report?.lostPools.some((pool) => instance.pools.some((other) => other.pool === pool)),
    )
    const fits = able.filter(
      ({ hostId }) =>
        !starting ||
        !rules.limitsStarts ||
        starting.on(hostId) < RECOVERY_LIMITS.startsAtOnce ||
        (starting.on(hostId) < RECOVERY_LIMITS.startsPerHost &&
          this.#nowMs >= (this.#nextStartMs.get(hostId) ?? 0)),
    )
    const pick = (hosts: readonly WatchedHost[]) => {
      if (hosts.length === 0) return null
      const hostIds = hosts.map(({ hostId }) => hostId)
      return placer.choose(instance, hostIds)
    }
    if (preferred !== null) {
      const pinned = pick(fits.filter(({ hostId }) => hostId === preferred))
      if (pinned?.hostId) return this.#watch.hosts.get(pinned.hostId) ?? null
      // Another would have to wait for the locks that this one holds; it lets go of them in time.
      if (starting) return null
    }
    const others = pick(fits.filter(({ hostId }) => !instance.avoid.includes(hostId)))
    // Where there is no other, the one to be avoided is better than none.
    const choice = others?.hostId ? others : pick(fits)
    if (choice?.hostId) return this.#watch.hosts.get(choice.hostId) ?? null
    // Those that are only busy with other starts are free again soon.
    if (fits.length < able.length) return null
    const why = choice?.hostId === null ? choice.why : 'no host fits: none that reaches its pools is up'
    this.#explain(instance, why)
    this.#setWork(instance.uuid, { unplacedMs: this.#nowMs })
    return null
  }

  /** Says what is wanted to those who are to do it. */
  order(): void {
    const { epoch } = this.#before
    for (const instance of this.#busy()) {
      const { uuid, generation, bootId } = instance
      const host = this.#watch.hosts.get(instance.hostId)
      if (instance.migration) this.#orderMigration(instance, instance.migration)
      if (!host || host.bootId !== bootId) continue
      const pools = armedPools(instance.pools)
      if (instance.state === 'starting' && host.phase === 'up')
        this.#command(host, uuid, {
          kind: 'start',
          epoch,
          uuid,
          generation,
          bootId,
          pools,
          isIncoming: false,
        })
      // One whose host can still be reached is let go of there: that is the quickest proof.
      const isReachable = this.#nowMs - host.heardMs <= this.#context.timings.suspectMs
      if (
        instance.state === 'releasing' ||
        (instance.state === 'lost' && isReachable && host.phase === 'stale')
      )
        this.#command(host, uuid, { kind: 'release', epoch, instance: { uuid, generation }, pools })
    }
  }

  #orderMigration(
    instance: HaInstance,
    { hostId, bootId, generation, isCancelled }: NonNullable<HaInstance['migration']>,
  ): void {
    const target = this.#watch.hosts.get(hostId)
    if (!target || target.bootId !== bootId) return
    const { uuid } = instance
    const { epoch } = this.#before
    const pools = armedPools(instance.pools)
    if (isCancelled)
      this.#command(target, uuid, { kind: 'release', epoch, instance: { uuid, generation }, pools })
    else if (localOf(target, uuid, generation)?.phase === 'incoming')
      this.#actions.push({
        kind: 'hand-over',
        hostId: instance.hostId,
        uuid,
        generation: instance.generation,
        toHostId: hostId,
      })
    else
      this.#command(target, uuid, { kind: 'start', epoch, uuid, generation, bootId, pools, isIncoming: true })
  }

  /** Tells hosts what they have that is another's by now, and lets those in again that have nothing of it. */
  settle(): void {
    const calmed = new Map<HostId, HostReport>()
    for (const host of this.#watch.hosts.values()) {
      if (this.#isCalm(host)) continue
      const { report } = host
      if (!report || report.bootId !== host.bootId || host.heardMs < host.sinceMs) continue
      const older = report.instances.filter(({ uuid, generation, phase }) => {
        const record = this.#instances.get(uuid)
        const isIncoming = record?.migration?.hostId === host.hostId
        return (
          record && !isIncoming && record.generation > generation && phase !== 'closed' && phase !== 'gated'
        )
      })
      // What waits for a guest that nobody will hand over any more is let go of.
      for (const { uuid, generation, phase } of report.instances) {
        const record = this.#instances.get(uuid)
        if (phase !== 'incoming' || !record || record.generation === generation) continue
        if (record.migration?.hostId === host.hostId && record.migration.generation === generation) continue
        const pools = armedPools(record.pools)
        this.#command(host, uuid, {
          kind: 'release',
          epoch: this.#before.epoch,
          instance: { uuid, generation },
          pools,
        })
      }
      // Definitions that it has kept of what went elsewhere while it was off.
      const leftBehind = (report.others ?? []).filter((uuid) => {
        const record = this.#instances.get(uuid)
        return record && record.hostId !== host.hostId && record.migration?.hostId !== host.hostId
      })
      const isQuarantined = host.phase === 'quarantined'
      const isAdmitted = isQuarantined && older.length === 0 && this.#nowMs - host.sinceMs > 1_000
      if (isAdmitted) this.#actions.push({ kind: 'admit-host', hostId: host.hostId })
      if (older.length > 0 || leftBehind.length > 0 || (isQuarantined && !isAdmitted)) {
        const shown = [...report.instances.map(({ uuid }) => uuid), ...leftBehind]
        const records = shown.flatMap((uuid) => {
          const record = this.#instances.get(uuid)
          return record ? [{ uuid, generation: record.generation, hostId: record.hostId }] : []
        })
        this.#actions.push({
          kind: 'command',
          hostId: host.hostId,
          command: { kind: 'settle', epoch: this.#before.epoch, records },
        })
      } else if (this.#hasComeToRest(host)) calmed.set(host.hostId, report)
    }
    if (calmed.size > 0) this.#nextCalm = new Map([...this.#calm, ...calmed])
  }

  /** It is up, and all of its own runs, or nobody has it. */
  #hasComeToRest(host: WatchedHost): boolean {
    if (host.phase !== 'up') return false
    const own = rosterOf(this.#before.instances).ofHost.get(host.hostId) ?? []
    return own.every((instance) => {
      const { uuid, generation, state } = instance
      if (isBusy(instance)) return false
      return state === 'off' || localOf(host, uuid, generation)?.phase === 'running'
    })
  }

  #lose(instance: HaInstance, host: WatchedHost, why: string): void {
    const clock: FailoverClock = {
      ...NO_CLOCK,
      lastHeardMs: host.heardMs,
      suspectedMs: host.suspectedMs,
    }
    this.#update({ ...instance, clock }, 'lost', why)
  }

  #update(instance: HaInstance, state: HaInstance['state'], why: string): void {
    const from = this.#instances.get(instance.uuid)?.state ?? state
    const next = { ...instance, state, why }
    this.#replace(next)
    if (from !== state) {
      this.#setWork(instance.uuid, {
        sinceMs: this.#nowMs,
        commandedMs: Number.NEGATIVE_INFINITY,
      })
      this.#actions.push({ kind: 'instance-changed', instance: next, from })
    }
  }

  #explain(instance: HaInstance, why: string): void {
    if (instance.why !== why) this.#replace({ ...instance, why })
  }

  #replace(instance: HaInstance): void {
    // One copy for all changes of a run: there may be a hundred thousand.
    const instances =
      this.#instances === this.#before.instances
        ? new Map(this.#instances)
        : (this.#instances as Map<InstanceId, HaInstance>)
    this.#instances = instances.set(instance.uuid, instance)
  }

  #command(host: WatchedHost, uuid: InstanceId, command: AgentCommand): void {
    const { commandedMs } = this.#workOf(uuid)
    if (this.#nowMs - commandedMs < RECOVERY_LIMITS.commandEveryMs) return
    this.#setWork(uuid, { commandedMs: this.#nowMs })
    this.#actions.push({ kind: 'command', hostId: host.hostId, command })
  }

  #workOf(uuid: InstanceId): Work {
    return this.#work.get(uuid) ?? { ...NO_WORK, sinceMs: this.#nowMs }
  }

  #setWork(uuid: InstanceId, change: Partial<Work>): void {
    this.#work = this.#ownWork().set(uuid, { ...this.#workOf(uuid), ...change })
  }

  #forgetWork(uuid: InstanceId): void {
    const work = this.#ownWork()
    work.delete(uuid)
    this.#work = work
  }

  #ownWork(): Map<InstanceId, Work> {
    return this.#work === this.#before.work ? new Map(this.#work) : (this.#work as Map<InstanceId, Work>)
  }
}

/** The instances by what a look needs of them. */
interface Roster {
  readonly busy: readonly HaInstance[]
  /** Hosts that have something, or are about to get it. */
  readonly owners: ReadonlySet<HostId>
  readonly ofHost: ReadonlyMap<HostId, readonly HaInstance[]>
}

/** Sets of instances never change: each is gone through once, however often it is looked at. */
const rosters = new WeakMap<ReadonlyMap<InstanceId, HaInstance>, Roster>()

function rosterOf(instances: ReadonlyMap<InstanceId, HaInstance>): Roster {
  const known = rosters.get(instances)
  if (known) return known
  const ofHost = new Map<HostId, HaInstance[]>()
  const owners = new Set<HostId>()
  for (const instance of instances.values()) {
    const { hostId, state, migration } = instance
    const own = ofHost.get(hostId)
    if (own) own.push(instance)
    else ofHost.set(hostId, [instance])
    if (state !== 'error' && state !== 'off') owners.add(hostId)
    if (migration) owners.add(migration.hostId)
  }
  const roster = { busy: [...instances.values()].filter(isBusy), owners, ofHost }
  rosters.set(instances, roster)
  return roster
}

/** Anything but running, or off, and staying so. */
function isBusy({ state, migration }: HaInstance): boolean {
  return migration !== null || (state !== 'running' && state !== 'off')
}

/** Hosts that have something, or are about to get it. */
export function ownersOf({ instances }: RecoveryState): ReadonlySet<HostId> {
  return rosterOf(instances).owners
}

/** Restarts that are under way. */
class Starting {
  readonly #instances: HaInstance[] = []
  readonly #onHost = new Map<HostId, number>()

  constructor(instances: Iterable<HaInstance>) {
    for (const instance of instances)
      if (instance.state === 'starting' && instance.startedBy.length > 0) this.add(instance)
  }

  add(instance: HaInstance): void {
    this.#instances.push(instance)
    this.#onHost.set(instance.hostId, this.on(instance.hostId) + 1)
  }

  on(hostId: HostId): number {
    return this.#onHost.get(hostId) ?? 0
  }

  mayStart(instance: HaInstance, nowMs: number): boolean {
    if (this.#instances.length >= RECOVERY_LIMITS.starts) return false
    const rank = PRIORITIES.indexOf(instance.priority)
    // Those before it come first, but not for ever.
    return !this.#instances.some(
      (other) =>
        PRIORITIES.indexOf(other.priority) < rank &&
        nowMs - (other.clock.placedMs ?? Number.NEGATIVE_INFINITY) < RECOVERY_LIMITS.classPatienceMs,
    )
  }
}

function listProofs(proofs: readonly Proof[]): string {
  return proofs.map(({ kind, why }) => `${kind} (${why})`).join(', ')
}

function localOf(
  host: WatchedHost,
  uuid: InstanceId,
  generation: number,
): { readonly phase: LocalPhase; readonly why: string } | null {
  const { report } = host
  if (!report || report.bootId !== host.bootId) return null
  const local = instanceIn(report, uuid)
  return local?.generation === generation ? local : null
}

/** Reports never change: each is gone through once. */
const indexes = new WeakMap<HostReport, ReadonlyMap<InstanceId, HostReport['instances'][number]>>()

function instanceIn(report: HostReport, uuid: InstanceId): HostReport['instances'][number] | null {
  let index = indexes.get(report)
  if (!index) {
    index = new Map(report.instances.map((local) => [local.uuid, local]))
    indexes.set(report, index)
  }
  return index.get(uuid) ?? null
}

function armedPools(pools: readonly HostPool[]): ArmedPool[] {
  return pools.flatMap(({ pool, poolClass, canUnmount }) =>
    poolClass === 'N' ? [] : [{ pool, poolClass, canUnmount }],
  )
}
