// Starts lost instances again, each as the next generation, somewhere else. It commits to a start only with a proof for each
// pool, in order of priority, not too many at a time; what does not fit now is tried again when something has changed.
// Commands go out again and again until a report shows what was asked for: nothing here counts on an answer.

import type { HostId, InstanceId } from '../ids.ts'
import type { AgentCommand, LocalPhase } from './agent-ha.ts'
import type { Pill } from './blocks.ts'
import type { ArmedPool } from './guard.ts'
import { freshOf, type HostPool, type HostWatchState, type WatchedHost } from './host-watch.ts'
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
  /** Time without guest network after which an isolated host's guests may be moved, where they want that. */
  networkPatienceMs: 30_000,
  gatePatienceMs: 10_000,
  commandEveryMs: 2_000,
  /** Pause between two starts on one host: this, and up to as much again by chance. */
  staggerMs: 500,
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
  readonly state: 'starting' | 'running' | 'releasing' | 'lost' | 'error'
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
}

export interface RecoveryState {
  readonly epoch: number
  readonly instances: ReadonlyMap<InstanceId, HaInstance>
  readonly work: ReadonlyMap<InstanceId, Work>
  readonly nonce: number
  readonly nextStartMs: ReadonlyMap<HostId, number>
}

export type RecoveryEvent =
  | {
      readonly kind: 'tick'
      /** Room on each host, beyond what the instances of this state take. */
      readonly freeMib: ReadonlyMap<HostId, number>
      /** From 0 to 1, by chance. */
      readonly jitter: number
    }
  | { readonly kind: 'add'; readonly instance: HaInstance }
  | { readonly kind: 'migrate'; readonly uuid: InstanceId; readonly hostId: HostId }

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

export function startRecovery(epoch: number, instances: readonly HaInstance[], nowMs: number): RecoveryState {
  return {
    epoch,
    instances: new Map(
      instances.map((instance) => [
        instance.uuid,
        { ...instance, proofs: instance.proofs.map((proof) => ({ ...proof, atMs: nowMs })) },
      ]),
    ),
    work: new Map(),
    nonce: 0,
    nextStartMs: new Map(),
  }
}

/** A new instance, on its first host. */
export function newHaInstance(
  wanted: Pick<HaInstance, 'uuid' | 'pools' | 'priority' | 'memoryMib' | 'isolation'>,
  hostId: HostId,
  bootId: string,
): HaInstance {
  return {
    ...wanted,
    generation: 1,
    lastGeneration: 1,
    hostId,
    bootId,
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
      return {
        state: {
          ...before,
          instances: new Map(before.instances).set(event.instance.uuid, event.instance),
        },
        actions: [],
      }
    case 'migrate':
      return migrate(before, watch, event.uuid, event.hostId)
    case 'tick': {
      const run = new Run(before, watch, nowMs, context)
      for (const { uuid } of before.instances.values()) run.look(uuid)
      run.place(event.freeMib, event.jitter)
      run.order()
      run.settle()
      return { state: run.state, actions: run.actions }
    }
  }
}

function migrate(
  state: RecoveryState,
  watch: HostWatchState,
  uuid: InstanceId,
  hostId: HostId,
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
  const generation = instance.lastGeneration + 1
  const migration = { hostId, bootId: target.bootId, generation, isCancelled: false }
  const next = { ...instance, lastGeneration: generation, migration }
  return { state: { ...state, instances: new Map(state.instances).set(uuid, next) }, actions: [] }
}

/** One look at everything: the steps of it, each on what the former has left. */
class Run {
  state: RecoveryState
  readonly actions: RecoveryAction[] = []
  readonly #watch: HostWatchState
  readonly #nowMs: number
  readonly #context: HaContext

  constructor(state: RecoveryState, watch: HostWatchState, nowMs: number, context: HaContext) {
    this.state = state
    this.#watch = watch
    this.#nowMs = nowMs
    this.#context = context
  }

  /** What the hosts' reports and states mean for one instance. */
  look(uuid: InstanceId): void {
    const instance = this.state.instances.get(uuid)
    if (!instance || instance.state === 'error') return
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
      if (!instance.proofs.some(({ kind }) => kind === 'released')) {
        const why = `its host has let go of it: ${local.why}`
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
      if (instance.state !== 'lost') this.#lose(instance, host, `its host: ${host.why}`)
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
    const { timings } = this.#context
    const work = this.#work(instance.uuid)
    if (phase === 'running') {
      if (work.absentSinceMs !== null || work.failingSinceMs !== null)
        this.#setWork(instance.uuid, { absentSinceMs: null, failingSinceMs: null })
      if (instance.state !== 'starting') return
      const clock = { ...instance.clock, runningMs: this.#nowMs }
      this.#update({ ...instance, clock, avoid: [], failedStarts: 0 }, 'running', 'its host reports it')
      return
    }
    if (instance.state === 'releasing') return
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
        const failedStarts = instance.failedStarts + 1
        const next = { ...instance, failedStarts, avoid: [instance.hostId] }
        if (failedStarts < RECOVERY_LIMITS.failedStarts)
          this.#update(next, 'releasing', `it does not start there: ${why}`)
        else this.#update(next, 'error', `it does not start on ${failedStarts} hosts in turn: ${why}`)
      }
      return
    }
    if (phase === null && instance.state === 'running') {
      const sinceMs = work.absentSinceMs ?? this.#nowMs
      this.#setWork(instance.uuid, { absentSinceMs: sinceMs })
      if (this.#nowMs - sinceMs > timings.suspectMs) {
        this.#setWork(instance.uuid, { absentSinceMs: null })
        this.#update(instance, 'releasing', 'its host does not know it any more')
      }
    }
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
    const work = this.#work(uuid)
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
    if (!isDue || instance.pools.some(({ poolClass }) => poolClass === 'N')) return
    if (work.pill && this.#nowMs - work.pill.sentMs < 5_000) return
    if (this.#nowMs < this.#watch.settleUntilMs || this.#nowMs < this.#watch.disarmedUntilMs) return
    const onHost = [...this.state.instances.values()].filter(
      (other) => other.hostId === hostId && other.bootId === bootId,
    )
    // In class T all guests of a pool go together.
    const isWhole = instance.pools.some(({ poolClass }) => poolClass === 'T')
    if (isWhole && onHost.some(({ isolation }) => isolation === 'leave')) return
    // One pill for all of the host that are to go: there is one mailbox.
    const shared = onHost.map(({ uuid }) => this.#work(uuid).pill).find((pill) => pill !== null)
    const nonce = shared?.nonce ?? this.state.nonce + 1
    const epoch = this.state.epoch
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
      this.actions.push({
        kind: 'write-pill',
        via: seen.observer,
        hostId,
        pool,
        pill: { kind: 'mailbox', epoch, nonce, targetIncarnation, scope },
      })
      isSent = true
    }
    if (!isSent) return
    this.state = { ...this.state, nonce: Math.max(this.state.nonce, nonce) }
    this.#setWork(uuid, { pill: { nonce, epoch, sentMs: this.#nowMs } })
    if (instance.state !== 'lost') this.#lose(instance, host, 'its host is cut off, and its guests with it')
  }

  /** Gives proven instances a new owner. */
  place(freeMib: ReadonlyMap<HostId, number>, jitter: number): void {
    const { timings, rules } = this.#context
    const room = new Map(freeMib)
    for (const { hostId, memoryMib, state } of this.state.instances.values())
      if (state !== 'lost' && state !== 'error') room.set(hostId, (room.get(hostId) ?? 0) - memoryMib)
    const lost = [...this.state.instances.values()].filter(
      ({ state, migration }) => state === 'lost' && !migration,
    )
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
      if (open.length > 0 && (rules.needsProofPerPool || open.length === verdicts.length)) {
        const canGate = open.every(
          ({ pool, verdict }) => pool.poolClass === 'E' && verdict.kind === 'unproven',
        )
        if (canGate)
          this.#gate(
            instance,
            open.map(({ pool }) => pool),
            room,
          )
        continue
      }
      if (rules.limitsStarts && !this.#mayStart(instance)) continue
      const gated = this.#work(instance.uuid).gate?.hostId ?? null
      const target = this.#choose(instance, room, gated, true)
      if (!target) {
        this.#explain(instance, 'no host has room for it now')
        continue
      }
      room.set(target.hostId, (room.get(target.hostId) ?? 0) - instance.memoryMib)
      this.state = {
        ...this.state,
        nextStartMs: new Map(this.state.nextStartMs).set(
          target.hostId,
          this.#nowMs + RECOVERY_LIMITS.staggerMs * (1 + jitter),
        ),
      }
      const proofs = verdicts.flatMap(({ verdict }) => (verdict.kind === 'proven' ? [verdict.proof] : []))
      const generation = instance.lastGeneration + 1
      const clock: FailoverClock = {
        ...instance.clock,
        provenMs: Math.max(...proofs.map(({ atMs }) => atMs), 0),
        provenBy: [...new Set(proofs.map(({ kind }) => kind))],
        placedMs: this.#nowMs,
        runningMs: null,
      }
      this.#forgetWork(instance.uuid)
      this.#update(
        {
          ...instance,
          generation,
          lastGeneration: generation,
          hostId: target.hostId,
          bootId: target.bootId,
          proofs: [],
          startedBy: proofs,
          clock,
        },
        'starting',
        `generation ${generation} on another host: ${proofs.map(({ kind, why }) => `${kind} (${why})`).join(', ')}`,
      )
    }
  }

  /** Has a host try for the locks: that it gets them is the proof, and that it does not does no harm. */
  #gate(instance: HaInstance, pools: readonly HostPool[], room: ReadonlyMap<HostId, number>): void {
    const host = this.#watch.hosts.get(instance.hostId)
    if (host?.bootId === instance.bootId && host.phase !== 'stale' && host.phase !== 'fenced') return
    const work = this.#work(instance.uuid)
    const isPatient = work.gate && this.#nowMs - work.gate.sinceMs < RECOVERY_LIMITS.gatePatienceMs
    const target = this.#choose(instance, room, isPatient && work.gate ? work.gate.hostId : null, false)
    if (!target) {
      this.#explain(instance, 'no host has room for it now')
      return
    }
    if (work.gate?.hostId !== target.hostId)
      this.#setWork(instance.uuid, { gate: { hostId: target.hostId, sinceMs: this.#nowMs } })
    const { uuid, generation, hostId, bootId } = instance
    const local = target.report?.instances.find((other) => other.uuid === uuid)
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
      epoch: this.state.epoch,
      bootId: target.bootId,
      instance: { uuid, generation },
      pools: armedPools(pools),
    })
  }

  #mayStart(instance: HaInstance): boolean {
    const starting = [...this.state.instances.values()].filter(({ state }) => state === 'starting')
    if (starting.length >= RECOVERY_LIMITS.starts) return false
    const rank = PRIORITIES.indexOf(instance.priority)
    // Those before it come first, but not for ever.
    return !starting.some(
      (other) =>
        PRIORITIES.indexOf(other.priority) < rank &&
        this.#nowMs - (other.clock.placedMs ?? Number.NEGATIVE_INFINITY) < RECOVERY_LIMITS.classPatienceMs,
    )
  }

  #choose(
    instance: HaInstance,
    room: ReadonlyMap<HostId, number>,
    preferred: HostId | null,
    isStart: boolean,
  ): WatchedHost | null {
    const { rules } = this.#context
    const fits = [...this.#watch.hosts.values()].filter(
      (host) =>
        host.phase === 'up' &&
        this.#nowMs - host.heardMs <= this.#context.timings.suspectMs &&
        (room.get(host.hostId) ?? 0) >= instance.memoryMib &&
        instance.pools.every(({ pool }) => host.pools.some((other) => other.pool === pool)) &&
        !host.report?.lostPools.some((pool) => instance.pools.some((other) => other.pool === pool)) &&
        (!isStart ||
          !rules.limitsStarts ||
          (this.#startsOn(host.hostId) < RECOVERY_LIMITS.startsPerHost &&
            this.#nowMs >= (this.state.nextStartMs.get(host.hostId) ?? 0))),
    )
    const pinned = fits.find(({ hostId }) => hostId === preferred)
    if (pinned) return pinned
    if (preferred !== null && isStart) return null
    const wanted = fits.filter(({ hostId }) => !instance.avoid.includes(hostId))
    // Where there is no other, the one to be avoided is better than none.
    const pool = wanted.length > 0 ? wanted : fits
    return pool.reduce<WatchedHost | null>(
      (best, host) =>
        best === null || (room.get(host.hostId) ?? 0) > (room.get(best.hostId) ?? 0) ? host : best,
      null,
    )
  }

  #startsOn(hostId: HostId): number {
    let count = 0
    for (const instance of this.state.instances.values())
      if (instance.state === 'starting' && instance.hostId === hostId) count++
    return count
  }

  /** Says what is wanted to those who are to do it. */
  order(): void {
    const { epoch } = this.state
    for (const instance of this.state.instances.values()) {
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
    const { epoch } = this.state
    const pools = armedPools(instance.pools)
    if (isCancelled)
      this.#command(target, uuid, { kind: 'release', epoch, instance: { uuid, generation }, pools })
    else if (localOf(target, uuid, generation)?.phase === 'incoming')
      this.actions.push({
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
    for (const host of this.#watch.hosts.values()) {
      const { report } = host
      if (!report || report.bootId !== host.bootId || host.heardMs < host.sinceMs) continue
      const older = report.instances.filter(({ uuid, generation, phase }) => {
        const record = this.state.instances.get(uuid)
        const isIncoming = record?.migration?.hostId === host.hostId
        return (
          record && !isIncoming && record.generation > generation && phase !== 'closed' && phase !== 'gated'
        )
      })
      // What waits for a guest that nobody will hand over any more is let go of.
      for (const { uuid, generation, phase } of report.instances) {
        const record = this.state.instances.get(uuid)
        if (phase !== 'incoming' || !record || record.generation === generation) continue
        if (record.migration?.hostId === host.hostId && record.migration.generation === generation) continue
        const pools = armedPools(record.pools)
        this.#command(host, uuid, {
          kind: 'release',
          epoch: this.state.epoch,
          instance: { uuid, generation },
          pools,
        })
      }
      const isQuarantined = host.phase === 'quarantined'
      if (isQuarantined && older.length === 0 && this.#nowMs - host.sinceMs > 1_000)
        this.actions.push({ kind: 'admit-host', hostId: host.hostId })
      else if (older.length > 0 || isQuarantined) {
        const records = report.instances.flatMap(({ uuid }) => {
          const record = this.state.instances.get(uuid)
          return record ? [{ uuid, generation: record.generation, hostId: record.hostId }] : []
        })
        this.actions.push({
          kind: 'command',
          hostId: host.hostId,
          command: { kind: 'settle', epoch: this.state.epoch, records },
        })
      }
    }
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
    const from = this.state.instances.get(instance.uuid)?.state ?? state
    const next = { ...instance, state, why }
    this.#replace(next)
    if (from !== state) {
      this.#setWork(instance.uuid, {
        sinceMs: this.#nowMs,
        commandedMs: Number.NEGATIVE_INFINITY,
      })
      this.actions.push({ kind: 'instance-changed', instance: next, from })
    }
  }

  #explain(instance: HaInstance, why: string): void {
    if (instance.why !== why) this.#replace({ ...instance, why })
  }

  #replace(instance: HaInstance): void {
    this.state = {
      ...this.state,
      instances: new Map(this.state.instances).set(instance.uuid, instance),
    }
  }

  #command(host: WatchedHost, uuid: InstanceId, command: AgentCommand): void {
    const work = this.#work(uuid)
    if (this.#nowMs - work.commandedMs < RECOVERY_LIMITS.commandEveryMs) return
    this.#setWork(uuid, { commandedMs: this.#nowMs })
    this.actions.push({ kind: 'command', hostId: host.hostId, command })
  }

  #work(uuid: InstanceId): Work {
    return this.state.work.get(uuid) ?? { ...NO_WORK, sinceMs: this.#nowMs }
  }

  #setWork(uuid: InstanceId, change: Partial<Work>): void {
    const work = { ...this.#work(uuid), ...change }
    this.state = { ...this.state, work: new Map(this.state.work).set(uuid, work) }
  }

  #forgetWork(uuid: InstanceId): void {
    const work = new Map(this.state.work)
    work.delete(uuid)
    this.state = { ...this.state, work }
  }
}

function localOf(
  host: WatchedHost,
  uuid: InstanceId,
  generation: number,
): { readonly phase: LocalPhase; readonly why: string } | null {
  const { report } = host
  if (!report || report.bootId !== host.bootId) return null
  return report.instances.find((local) => local.uuid === uuid && local.generation === generation) ?? null
}

function armedPools(pools: readonly HostPool[]): ArmedPool[] {
  return pools.flatMap(({ pool, poolClass, canUnmount }) =>
    poolClass === 'N' ? [] : [{ pool, poolClass, canUnmount }],
  )
}
