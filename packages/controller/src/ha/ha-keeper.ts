// The shell of the HA machine (core's ha-controller): gives it what is heard and seen, once a second and on news, writes down what it
// decides together with the records that it is about, and does what follows once that is durable. A controller that has been
// replaced cannot write, so it does nothing.

import {
  type DiskPoolRecord,
  type HostId,
  type HostRecord,
  type HostTable,
  hostsOf,
  type InstanceDecision,
  type InstanceId,
  type InstanceRecord,
  type PlannedAction,
  phaseOf,
  VpeError,
} from '@vpe/core'
import {
  type Disarms,
  followRecord,
  HA_RULES,
  type HaContext,
  type HaControllerAction,
  type HaControllerEvent,
  type HaControllerState,
  type HaInstance,
  type HaTimings,
  type HostPool,
  isGuardedLess,
  isHostNews,
  isInDoubt,
  judgeOwnership,
  type OwnedRecord,
  type Ownership,
  onOtherClock,
  recoveryWishOf,
  startHaController,
  stepHaController,
  type WatchedHost,
  whyNoVerdicts,
  withNames,
} from '@vpe/core/ha'
import type { HaOwnership } from '@vpe/proto'
import type { Logger } from 'pino'
import type { Agents } from '../agents.ts'
import { disksOf } from '../instance-disks.ts'
import type { Store } from '../store/store.ts'
import { type Change, change } from '../store/tables.ts'
import { disarmKey, disarmsOf } from './disarms.ts'
import { HaActions } from './ha-actions.ts'
import { phaseEvent, proofEvent } from './ha-events.ts'
import { ownershipToWire } from './ha-wire.ts'
import { HostReports } from './host-reports.ts'
import type { Ownerships } from './ownerships.ts'
import type { Disarm, DisarmScope, Failover, HaPools, HaView } from './ports.ts'
import { RecordKeeper } from './record-keeper.ts'
import { StorePlacer } from './store-placer.ts'

const TICK_MS = 1_000
/** While something is in doubt: four or five looks follow each other until a guest runs elsewhere. */
const DOUBT_TICK_MS = 200
/** A loop that was held up for longer has not heard what was said meanwhile. */
const LAG_MS = 1_000
/** So many running guests are taken into guard at a time, of so many that are looked at. */
const GUARDED_AT_ONCE = 8
const LOOKED_AT_ONCE = 500

export interface HaKeeperDeps {
  readonly store: Store
  readonly agents: Agents
  readonly pools: HaPools
  readonly table: HostTable
  readonly timings: HaTimings
  /** Time of day, for what is written down. */
  readonly now: () => number
  readonly log: Logger
  readonly onFatal: (error: unknown) => void
  /** Told when an instance may be touched again, or shall be looked at. */
  readonly onInstance: (uuid: InstanceId) => void
  /** Monotonic, in milliseconds. */
  readonly clock?: () => number
}

export class HaKeeper implements HaView, Ownerships {
  readonly #deps: HaKeeperDeps
  readonly #store: Store
  readonly #log: Logger
  readonly #clock: () => number
  readonly #context: HaContext
  readonly #reports: HostReports
  readonly #actions: HaActions
  readonly #records: RecordKeeper
  #state: HaControllerState
  #timer: NodeJS.Timeout | null = null
  #tickedMs: number
  #syncedMs = Number.NEGATIVE_INFINITY
  #inTurn: Iterator<string>

  constructor(deps: HaKeeperDeps) {
    const { store, agents, pools, log, clock = () => performance.now() } = deps
    this.#deps = deps
    this.#store = store
    this.#log = log
    this.#clock = clock
    this.#context = { timings: deps.timings, rules: HA_RULES }
    this.#reports = new HostReports(store, agents, clock, log)
    this.#actions = new HaActions({
      ...{ store, agents, pools, log, reports: this.#reports },
      onEvent: (event) => this.#take([event]),
      onStart: (uuid) => deps.onInstance(uuid),
    })
    const poolsOf = (uuid: InstanceId) => this.#ownedOf(uuid)?.pools ?? null
    this.#records = new RecordKeeper(store, poolsOf, deps.now, log, (text) => this.#named(text))
    const nowMs = clock()
    const record = {
      hosts: [...store.haHosts.values()],
      instances: [...store.haInstances.values()].map((row) => onOtherClock(row, -this.#dayOffsetMs())),
      disarms: this.#disarmsNow(),
    }
    this.#state = startHaController(store.epoch, record, nowMs, this.#context)
    this.#tickedMs = nowMs
    this.#inTurn = store.instances.keys()
    for (const hostId of this.#state.watch.hosts.keys()) this.#showPhaseOf(hostId)
    store.listen({
      onInstance: (before, after) => {
        if (after && after.addresses !== before?.addresses && after.addresses.length > 0)
          this.#records.noteAnswer(this.#state.recovery.instances.get(after.uuid))
        this.#follow(after?.uuid ?? before?.uuid ?? '')
      },
    })
  }

  /** Looks at everything from now on: each second, and more often while something is in doubt. */
  start(): void {
    this.#syncHosts()
    for (const uuid of this.#state.recovery.instances.keys()) this.#follow(uuid)
    this.#tickedMs = this.#clock()
    this.#timer = setInterval(() => {
      const nowMs = this.#clock()
      if (!isDue(this.#tickedMs, nowMs) && !isInDoubt(this.#state.watch, nowMs)) return
      try {
        this.tick()
      } catch (error) {
        this.#deps.onFatal(error)
      }
    }, DOUBT_TICK_MS)
  }

  close(): void {
    if (this.#timer) clearInterval(this.#timer)
    this.#timer = null
    this.#actions.close()
  }

  /** A heartbeat of a host. */
  heard(hostId: HostId, bootId: string, haDigest: string | undefined): void {
    if (this.#state.watch.hosts.has(hostId)) this.#reports.note(hostId, bootId, haDigest)
  }

  /** The bus was lost, or is back: what was not heard meanwhile says nothing. */
  noteBus(): void {
    this.#take([{ kind: 'deaf' }])
  }

  /** One look. */
  tick(): void {
    const nowMs = this.#clock()
    const isLate = nowMs - this.#tickedMs > TICK_MS + LAG_MS
    this.#tickedMs = nowMs
    if (isDue(this.#syncedMs, nowMs)) this.#syncHosts()
    const placer = new StorePlacer(this.#store, this.#deps.table)
    const tick: HaControllerEvent = { kind: 'tick', placer, jitter: Math.random() }
    const news: HaControllerEvent = { kind: 'reports', ...this.#reports.take() }
    const before = this.#state
    const deaf: HaControllerEvent[] = isLate ? [{ kind: 'deaf' }] : []
    let step: { readonly actions: readonly HaControllerAction[] }
    try {
      step = this.#step([...deaf, news, tick])
    } finally {
      placer.end()
    }
    this.#settle(before, step.actions)
    this.#guardMore()
    this.#records.rehome(this.#state)
  }

  // --- Ownerships

  whyHeld(instance: InstanceRecord, action: PlannedAction['kind']): string | null {
    const ha = this.#state.recovery.instances.get(instance.uuid)
    if (!ha && !instance.ha) return null
    if (action === 'release' || action === 'end-migration' || action === 'sweep')
      return ha?.state === 'lost' ? this.#named(`it is lost (${ha.why})`) : null
    const ownership = this.#ownershipOf(instance)
    return ownership.kind === 'wait' ? this.#named(ownership.why) : null
  }

  own(instance: InstanceRecord): HaOwnership | undefined {
    if (this.#store.instances.get(instance.uuid)?.generation !== instance.generation)
      throw new VpeError('SUPERSEDED', `something else is wanted of instance ${instance.uuid} by now`)
    const ownership = this.#ownershipOf(instance)
    switch (ownership.kind) {
      case 'none':
        return undefined
      case 'wait':
        throw new VpeError('UNAVAILABLE', this.#named(ownership.why))
      case 'owned':
        return ownershipToWire(ownership.generation, ownership.bootId, ownership.pools)
      case 'give': {
        const { generation, bootId, pools } = ownership.instance
        this.#take([{ kind: 'add', instance: ownership.instance }])
        return ownershipToWire(generation, bootId, pools)
      }
      default:
        throw new Error(`no such ownership: ${ownership satisfies never}`)
    }
  }

  isBelieved(instance: InstanceRecord, { next }: InstanceDecision): boolean {
    const ha = this.#state.recovery.instances.get(instance.uuid)
    if (!ha || ha.state === 'off') return true
    if (next === null || next.leavingHostId !== instance.leavingHostId) return true
    if (ha.state === 'lost' || ha.state === 'releasing') return false
    return phaseOf(next) !== 'error' || !this.#isTriedElsewhere(instance, ha)
  }

  noteStartFailed(instance: InstanceRecord, why: string): boolean {
    const { uuid } = instance
    const ha = this.#state.recovery.instances.get(uuid)
    if (!ha || !this.#isTriedElsewhere(instance, ha)) return false
    this.#take([{ kind: 'start-failed', uuid, generation: ha.generation, why }])
    return true
  }

  /** What has never come to rest has nothing to lose, and is given up on as all others. */
  #isTriedElsewhere(instance: InstanceRecord, ha: HaInstance): boolean {
    return ha.isWanted && instance.settledGeneration > 0 && ha.state !== 'error'
  }

  // --- HaView

  host(hostId: HostId): WatchedHost | null {
    return this.#state.watch.hosts.get(hostId) ?? null
  }

  instance(uuid: InstanceId): HaInstance | null {
    return this.#state.recovery.instances.get(uuid) ?? null
  }

  hosts(): Iterable<WatchedHost> {
    return this.#state.watch.hosts.values()
  }

  instances(): Iterable<HaInstance> {
    return this.#state.recovery.instances.values()
  }

  whyNoVerdicts(): string | null {
    return whyNoVerdicts(this.#state.watch, this.#clock(), this.#context)
  }

  failovers(): readonly Failover[] {
    return [...this.#store.haFailovers.values()].reverse()
  }

  disarms(): readonly Disarm[] {
    const now = this.#deps.now()
    return [...this.#store.haDisarms.values()].filter(({ untilMs }) => untilMs > now)
  }

  async confirmFenced(hostId: HostId, who: string): Promise<void> {
    const record = this.#store.hosts.get(hostId)
    const host = this.#state.watch.hosts.get(hostId)
    if (!record || !host) throw new VpeError('NOT_FOUND', `nothing highly available is on host ${hostId}`)
    if (host.phase === 'up' || host.phase === 'quarantined')
      throw new VpeError(
        'CONFLICT',
        `host ${record.name} is ${host.phase}: it answers; shut it down in order, or drain it`,
      )
    this.#log.warn({ host: hostId, who }, 'a person says that it is powered off')
    this.#take([{ kind: 'confirm-fenced', hostId, who }])
    await this.#store.durable()
  }

  async disarm(disarm: Disarm): Promise<void> {
    this.#log.warn({ disarm }, 'disarmed')
    const written = this.#store.commit([change.haDisarm({ ...disarm, key: disarmKey(disarm.scope) })])
    this.#take([{ kind: 'disarm', disarms: this.#disarmsNow() }])
    await written
  }

  async arm(scope: DisarmScope): Promise<void> {
    this.#log.warn({ scope }, 'armed')
    const written = this.#store.commit([change.remove('haDisarms', disarmKey(scope))])
    this.#take([{ kind: 'disarm', disarms: this.#disarmsNow() }])
    await written
  }

  // --- What it gives the machine

  /** Those that use guarded pools, have something that is highly available, or may get such a thing from another. */
  #syncHosts(): void {
    this.#syncedMs = this.#clock()
    const { pools } = this.#deps
    const owners = new Set<HostId>()
    const used = new Set<string>()
    for (const { hostId, migration, state, ...ha } of this.#state.recovery.instances.values()) {
      for (const { pool } of ha.pools) used.add(pool)
      if (state !== 'off') owners.add(hostId)
      if (migration) owners.add(migration.hostId)
    }
    const hosts: Extract<HaControllerEvent, { kind: 'hosts' }>['hosts'][number][] = []
    for (const { uuid: hostId, facts } of this.#store.hosts.values()) {
      const poolsOfHost = pools.poolsOfHost(hostId)
      const isGuarding = poolsOfHost.some(({ pool, poolClass }) => poolClass !== 'N' || used.has(pool))
      const hasSome =
        owners.has(hostId) || (poolsOfHost.length > 0 && this.#store.usage.ofHost(hostId).ha > 0)
      if (!isGuarding && !hasSome) continue
      const canPowerOff = pools.canPowerOff(hostId)
      hosts.push({ hostId, bootId: facts.bootId, pools: poolsOfHost, canPowerOff })
    }
    const before = this.#state
    const { actions } = this.#step([{ kind: 'hosts', hosts }])
    this.#settle(before, actions)
  }

  /** A record has changed, or who has the instance. */
  #follow(uuid: InstanceId): void {
    const ha = this.#state.recovery.instances.get(uuid)
    if (!ha) return
    const events = followRecord(ha, this.#ownedOf(uuid), this.#state.watch)
    if (events.length > 0) this.#take(events)
  }

  #take(events: readonly HaControllerEvent[]): void {
    const before = this.#state
    const { actions } = this.#step(events)
    this.#settle(before, actions)
  }

  #step(events: readonly HaControllerEvent[]): { readonly actions: readonly HaControllerAction[] } {
    const nowMs = this.#clock()
    const actions: HaControllerAction[] = []
    for (const event of events) {
      const step = stepHaController(this.#state, event, nowMs, this.#context)
      this.#state = step.state
      actions.push(...step.actions)
    }
    return { actions }
  }

  // --- What it does about it

  /** Writes down what has changed, then does what follows from it. */
  #settle(before: HaControllerState, actions: readonly HaControllerAction[]): void {
    const after = this.#state
    const changed = changedInstances(before, after)
    const isNews = actions.some(({ kind }) => kind === 'commit')
    const changes: Change[] = isNews ? this.#rowsOf(before, after, changed) : []
    const events = actions.flatMap((action) => {
      if (action.kind === 'host-changed') {
        const host = this.#store.hosts.get(action.hostId)
        this.#showPhaseOf(action.hostId)
        this.#log.warn({ ...action }, 'host moved, as far as HA goes')
        return host ? [phaseEvent(host, action.from, action.to, this.#named(action.why))] : []
      }
      if (action.kind !== 'host-proven') return []
      const host = this.#store.hosts.get(action.proof.hostId)
      return host ? [proofEvent(host, action.proof)] : []
    })
    // Rows of this machine first: who follows the records finds them shown.
    if (changes.length + events.length > 0) void this.#store.commit(changes, events)
    for (const action of actions)
      if (action.kind === 'instance-changed')
        this.#records.carryOut(action, before, after, this.#dayOffsetMs())
    for (const [uuid, ha] of changed) {
      if (ha) this.#records.explain(ha, after)
      this.#follow(uuid)
      this.#deps.onInstance(uuid)
    }
    for (const action of actions)
      if (action.kind === 'host-changed' && action.to === 'up') this.#lookAtHost(action.hostId)
    const doings = actions.filter(({ kind }) => kind !== 'commit')
    if (doings.length > 0) void this.#perform(doings)
  }

  async #perform(actions: readonly HaControllerAction[]): Promise<void> {
    try {
      await this.#store.durable()
    } catch (error) {
      // The store has said so itself: this process is at its end.
      this.#log.warn({ err: error }, 'nothing is done about what could not be written')
      return
    }
    for (const action of actions) this.#actions.perform(action)
  }

  #rowsOf(
    before: HaControllerState,
    after: HaControllerState,
    changed: ReadonlyMap<InstanceId, HaInstance | null>,
  ): Change[] {
    const offsetMs = this.#dayOffsetMs()
    const changes: Change[] = []
    for (const [hostId, host] of after.watch.hosts) {
      if (!isHostNews(before.watch.hosts.get(hostId), host)) continue
      const { pools, canPowerOff, phase, why, bootId, verdict } = host
      const proofs = host.proofs.map((proof) => ({ ...proof, atMs: Math.round(proof.atMs + offsetMs) }))
      changes.push(change.haHost({ hostId, pools, canPowerOff, phase, why, bootId, verdict, proofs }))
    }
    for (const hostId of before.watch.hosts.keys()) {
      if (after.watch.hosts.has(hostId)) continue
      this.#reports.forget(hostId)
      this.#deps.table.setUnreliable(hostId, null)
      changes.push(change.remove('haHosts', hostId))
    }
    for (const [uuid, ha] of changed)
      changes.push(ha ? change.haInstance(onOtherClock(ha, offsetMs)) : change.remove('haInstances', uuid))
    return changes
  }

  /** Guests that run and could be guarded better than they are: some are looked at each time, and all in turn. */
  #guardMore(): void {
    let told = 0
    for (let looked = 0; looked < LOOKED_AT_ONCE && told < GUARDED_AT_ONCE; looked++) {
      const { value: uuid, done } = this.#inTurn.next()
      if (done) {
        this.#inTurn = this.#store.instances.keys()
        return
      }
      const owned = this.#ownedOf(uuid)
      if (!owned?.pools || owned.record.power !== 'on') continue
      const ha = this.#state.recovery.instances.get(uuid)
      const host = this.#state.watch.hosts.get(owned.record.hostId)
      const isAtRest = !ha || (ha.state === 'running' && !ha.migration && !ha.isEnding)
      if (host?.phase !== 'up' || !host.report || !isAtRest) continue
      if (isGuardedLess(ha?.pools ?? [], owned.pools) && this.#records.guard(owned.record)) told++
    }
  }

  #lookAtHost(hostId: HostId): void {
    for (const uuid of this.#store.usage.instancesOfHost(hostId)) this.#deps.onInstance(uuid)
  }

  #ownershipOf(record: InstanceRecord): Ownership {
    const { recovery, watch } = this.#state
    const ha = recovery.instances.get(record.uuid)
    const owned = { record, pools: this.#poolsOf(record) }
    return judgeOwnership(owned, recoveryWishOf(record), ha, watch.hosts.get(record.hostId))
  }

  #ownedOf(uuid: InstanceId): OwnedRecord | null {
    const record = this.#store.instances.get(uuid)
    return record ? { record, pools: this.#poolsOf(record) } : null
  }

  /** Null where it is not highly available, or has a disk that is on one host only. */
  #poolsOf(record: InstanceRecord): readonly HostPool[] | null {
    if (!record.ha) return null
    const disks = disksOf(this.#store, record.uuid)
    const uuids = new Set([record.diskPoolUuid, ...disks.map(({ diskPoolUuid }) => diskPoolUuid)])
    const pools = [...uuids].map((uuid) => this.#store.diskPools.get(uuid))
    if (!pools.every((pool): pool is DiskPoolRecord => pool?.shared === true)) return null
    const known = hostsOf(record).flatMap((hostId) => this.#deps.pools.poolsOfHost(hostId))
    return pools.map(({ uuid }) => {
      const pool = known.find((each) => each.pool === uuid)
      if (pool) return pool
      const { poolClass } = this.#deps.pools.classOf(uuid)
      return { pool: uuid, poolClass, canUnmount: false, canRevoke: false }
    })
  }

  #showPhaseOf(hostId: HostId): void {
    const host = this.#state.watch.hosts.get(hostId)
    if (!host) return
    const { phase, why } = host
    const text = why === '' ? phase : `${phase}: ${why}`
    this.#deps.table.setUnreliable(hostId, phase === 'up' ? null : this.#named(text))
  }

  #disarmsNow(): Disarms {
    return disarmsOf(this.#store.haDisarms.values(), this.#dayOffsetMs())
  }

  /** From the monotonic clock to the time of day. */
  #dayOffsetMs(): number {
    return this.#deps.now() - this.#clock()
  }

  #named(text: string): string {
    const nameOf = (id: string): string | undefined => {
      const named: HostRecord | DiskPoolRecord | undefined =
        this.#store.hosts.get(id) ?? this.#store.diskPools.get(id)
      return named?.name
    }
    return withNames(text, nameOf)
  }
}

/** What is done each second, by a timer that is never quite in time. */
function isDue(lastMs: number, nowMs: number): boolean {
  return nowMs - lastMs >= TICK_MS - DOUBT_TICK_MS / 2
}

function changedInstances(
  { recovery: before }: HaControllerState,
  { recovery: after }: HaControllerState,
): Map<InstanceId, HaInstance | null> {
  const changed = new Map<InstanceId, HaInstance | null>()
  if (before.instances === after.instances) return changed
  for (const [uuid, ha] of after.instances) if (before.instances.get(uuid) !== ha) changed.set(uuid, ha)
  for (const uuid of before.instances.keys()) if (!after.instances.has(uuid)) changed.set(uuid, null)
  return changed
}
