// What storage and power can do for HA: gives each host of a shared pool a block in its lease files, tells agents which leases to
// keep, has the locks of pools tried, and knows by what a host can be shut out or switched off. Level-triggered: each host is told the same
// again and again, and believed by its report alone.

import type { VpeEvent } from '@vpe/bus'
import type { DiskPoolRecord, HostId, HostRecord } from '@vpe/core'
import {
  DEFAULT_PROTECTION,
  type FencingHost,
  HA_READY_FINDING,
  type HaProfile,
  type HostPool,
  judgePool,
  judgeReadiness,
  LEASE_SLOTS,
  type PoolClassVerdict,
} from '@vpe/core/ha'
import { type AttachPoolRequest, fromClientError, type GetHaReportResponse, PoolClass } from '@vpe/proto'
import type { Logger } from 'pino'
import type { Agents } from '../agents.ts'
import type { HostDescriptions } from '../host-descriptions.ts'
import { Slots } from '../slots.ts'
import { changedHosts } from '../store/pool-host-index.ts'
import type { Store } from '../store/store.ts'
import { type Change, change } from '../store/tables.ts'
import { FenceAgents } from './fence-agents.ts'
import { CLASS_TO_WIRE } from './ha-wire.ts'
import {
  areOthers,
  changesOfFreed,
  changesOfMembers,
  changesOfRemoved,
  givenUpBy,
  leasesWith,
} from './lease-blocks.ts'
import { PoolTrials, usersOf } from './pool-trials.ts'
import type { HaPools } from './ports.ts'
import type { HostFencingRecord } from './records.ts'
import { RevokeHooks } from './revoke-hooks.ts'

const TICK_MS = 1_000
const CALL_MS = 10_000
/** How often a host with shared pools is told of its leases, and asked how they are; of many hosts, so many a second. */
const LOOK_MS = 10_000
const LOOKS_A_SECOND = 100
/** As many times longer for one that has no guard, or does not answer. */
const SILENT_FACTOR = 3
const LOOKS_AT_ONCE = 64

export interface HaPoolSettings {
  readonly profile: HaProfile
  /** The program that has the storage shut a host out, or a folder of them; null for none. */
  readonly revokeCommand: string | null
  /** Where the fence agents are. */
  readonly fenceAgentDir: string
}

export const DEFAULT_HA_POOL_SETTINGS: HaPoolSettings = {
  profile: 'default',
  revokeCommand: null,
  fenceAgentDir: '/usr/sbin',
}

export interface HaPoolDeps {
  readonly store: Store
  readonly agents: Agents
  readonly descriptions: HostDescriptions
  readonly settings: HaPoolSettings
  readonly now: () => number
  readonly log: Logger
  /** Told of a defect: the process must end. */
  readonly onFatal: (error: unknown) => void
}

/** What a host says of itself, or why it says nothing. */
interface Look {
  readonly report: GetHaReportResponse | null
  readonly fault: string
}

interface Turn {
  dueMs: number
  isRunning: boolean
  /** Looks in a row that came to nothing. */
  failures: number
  look: Look
}

export class HaPoolKeeper implements HaPools {
  readonly #store: Store
  readonly #agents: Agents
  readonly #descriptions: HostDescriptions
  readonly #settings: HaPoolSettings
  readonly #now: () => number
  readonly #log: Logger
  readonly #onFatal: (error: unknown) => void
  readonly #turns = new Map<string, Turn>()
  /** Pools whose class may be another by now. */
  readonly #unjudged = new Set<string>()
  readonly #slots = new Slots(LOOKS_AT_ONCE)
  readonly #trials: PoolTrials
  readonly #hooks: RevokeHooks
  readonly fenceAgents: FenceAgents
  #timer: NodeJS.Timeout | null = null

  constructor({ store, agents, descriptions, settings, now, log, onFatal }: HaPoolDeps) {
    this.#store = store
    this.#agents = agents
    this.#descriptions = descriptions
    this.#settings = settings
    this.#now = now
    this.#log = log
    this.#onFatal = onFatal
    this.#trials = new PoolTrials({
      ...{ store, agents, now, log, onFatal, placeOf: (pool) => this.#place(pool) },
      onTried: (poolUuid) => void this.#unjudged.add(poolUuid),
    })
    this.#hooks = new RevokeHooks(settings.revokeCommand, log)
    this.fenceAgents = new FenceAgents(settings.fenceAgentDir, log)
    store.listen({
      onDiskPool: (pool, before) => this.#afterPool(pool, before),
      onHost: (before, after) => this.#afterHost(before, after),
      onPoolLeases: (poolUuid) => void this.#unjudged.add(poolUuid),
    })
  }

  get profile(): HaProfile {
    return this.#settings.profile
  }

  start(): void {
    // Pools that were there before there was any of this.
    for (const pool of this.#store.diskPools.values()) {
      this.#commit(changesOfMembers(this.#store, pool))
      this.#unjudged.add(pool.uuid)
      this.#trials.noteChange(pool.uuid)
    }
    this.#timer = setInterval(() => this.#tick(), TICK_MS)
  }

  close(): void {
    if (this.#timer) clearInterval(this.#timer)
  }

  poolsOfHost(hostId: HostId): readonly HostPool[] {
    return this.#sharedPoolsOf(hostId).map((pool) => ({
      pool: pool.uuid,
      poolClass: this.classOf(pool.uuid).poolClass,
      canUnmount: canUnmount(pool),
      canRevoke: this.canRevoke(pool.uuid),
    }))
  }

  classOf(poolUuid: string): PoolClassVerdict {
    const leases = this.#store.poolLeases.get(poolUuid)
    if (leases) return { poolClass: leases.poolClass, why: leases.why }
    const pool = this.#store.diskPools.get(poolUuid)
    return pool ? this.#judgeWithoutLeases(pool) : { poolClass: 'N', why: 'there is no such disk pool' }
  }

  slotOf(poolUuid: string, hostId: HostId): number | null {
    const slot = this.#store.poolLeases.get(poolUuid)?.taken.find((each) => each.hostId === hostId)
    return slot?.state === 'kept' ? slot.slot : null
  }

  canRevoke(poolUuid: string): boolean {
    return this.#hooks.canRevoke(poolUuid, this.classOf(poolUuid).poolClass)
  }

  canPowerOff(hostId: HostId): boolean {
    return this.#store.hostFencing.get(hostId)?.power != null
  }

  async revoke(hostId: HostId, poolUuid: string, signal: AbortSignal): Promise<boolean> {
    const [host, pool] = [this.#store.hosts.get(hostId), this.#store.diskPools.get(poolUuid)]
    if (!host || !pool) return false
    return this.#hooks.revoke(host, pool, this.classOf(poolUuid).poolClass, signal)
  }

  async powerOff(hostId: HostId, signal: AbortSignal): Promise<boolean> {
    const power = this.#store.hostFencing.get(hostId)?.power
    return power ? this.fenceAgents.off(hostId, power, signal) : false
  }

  /** Why a host must not be relied on for HA now; null where it may. */
  whyNotReady(host: HostRecord): string | null {
    if (host.state !== 'up') return 'it is down'
    const condition = this.#descriptions.conditionsOf(host).find(({ type }) => type === HA_READY_FINDING)
    return condition?.status === 'failed' ? condition.message : null
  }

  /** Tells a host its leases and asks for its report, soon: it has become reachable, or something of it has changed. */
  lookAtHost(hostId: string): void {
    if (!this.#store.hosts.has(hostId)) return
    const turn = this.#turnOf(hostId)
    turn.dueMs = 0
    turn.failures = 0
  }

  /**
   * Does it now. Never throws: who does not answer says nothing.
   * @param isAsked somebody waits for it
   */
  async look(host: HostRecord, isAsked: boolean): Promise<Look> {
    const givenUp = givenUpBy(this.#store, host.uuid)
    const look = await this.#ask(host)
    const turn = this.#turnOf(host.uuid)
    // Its guard is there now: what could not be tried without it can be.
    if (look.report && !turn.look.report) this.#trials.tryAgain(host.uuid)
    turn.look = look
    if (look.report) {
      turn.failures = 0
      this.#takeReport(host.uuid, look.report, givenUp)
    } else {
      turn.failures++
      // A host that has just come back may not be ready yet, and has no lease before it was told so.
      turn.dueMs = Math.min(turn.dueMs, this.#now() + TICK_MS * 2 ** turn.failures)
    }
    this.#noteReadiness(host.uuid, look, isAsked)
    return look
  }

  #tick(): void {
    this.#hooks.look()
    for (const uuid of this.#unjudged) this.#judge(uuid)
    this.#unjudged.clear()
    this.#trials.tick()
    const now = this.#now()
    const everyMs = Math.max(LOOK_MS, (this.#store.hosts.size / LOOKS_A_SECOND) * 1_000)
    for (const host of this.#store.hosts.values()) {
      const turn = this.#turnOf(host.uuid)
      if (host.state !== 'up' || turn.isRunning || turn.dueMs > now) continue
      turn.dueMs = now + everyMs * (turn.failures === 0 ? 1 : SILENT_FACTOR)
      if (this.#sharedPoolsOf(host.uuid).length === 0 && leasesWith(this.#store, host.uuid).length === 0) {
        this.#descriptions.dropFinding(host.uuid, HA_READY_FINDING)
        continue
      }
      turn.isRunning = true
      this.#slots
        .run(() => this.look(host, false))
        .catch(this.#onFatal)
        .finally(() => {
          turn.isRunning = false
        })
    }
  }

  /** Its leases are told first: a report that is read after that says what has come of it. */
  async #ask(host: HostRecord): Promise<Look> {
    await this.#store.durable()
    try {
      const client = this.#agents.client(host)
      const signal = AbortSignal.timeout(CALL_MS)
      await client.setLeases({ epoch: this.#store.epoch, pools: this.#leasesOf(host.uuid) }, { signal })
      const report = await client.getHaReport({}, { signal })
      if (report.hostId !== host.uuid) return { report: null, fault: `it is host ${report.hostId}` }
      return { report, fault: '' }
    } catch (cause) {
      return { report: null, fault: fromClientError(cause).message }
    }
  }

  #noteReadiness(hostId: string, look: Look, isAsked: boolean): void {
    const host = this.#store.hosts.get(hostId)
    if (!host) return
    const pools = this.#sharedPoolsOf(host.uuid)
    if (pools.length === 0) {
      this.#descriptions.dropFinding(hostId, HA_READY_FINDING)
      return
    }
    const drill = this.#store.hostFencing.get(hostId)?.drill
    const finding = judgeReadiness({
      pools: pools.map((pool) => ({
        name: pool.name,
        ...this.classOf(pool.uuid),
        isWithoutSlot: pool.kind !== 'rbd' && this.slotOf(pool.uuid, host.uuid) === null,
        lease: leaseOf(look.report, pool.uuid),
      })),
      isAlone: pools.every(({ hosts }) => hosts.length < 2),
      report: look.report,
      reportFault: look.fault,
      profile: this.#settings.profile,
      drillFault: drill?.isOk === false ? (drill.steps.find(({ isOk }) => !isOk)?.message ?? '') : null,
    })
    this.#descriptions.noteFinding(hostId, finding, isAsked)
  }

  #takeReport(hostId: HostId, report: GetHaReportResponse, givenUp: ReadonlySet<string>): void {
    // It may have been removed while it was asked.
    if (!this.#store.hosts.has(hostId)) return
    const held = new Set(report.leases.map(({ poolUuid }) => poolUuid))
    const changes = changesOfFreed(this.#store, hostId, givenUp, held)
    const fencing = this.#store.hostFencing.get(hostId) ?? noFencing(hostId)
    const { hasWatchdog, pausable } = report
    if (fencing.hasWatchdog !== hasWatchdog || fencing.pausable !== pausable) {
      changes.push(change.hostFencing({ ...fencing, hasWatchdog, pausable }))
      for (const uuid of this.#store.poolHosts.poolsOf(hostId)) this.#unjudged.add(uuid)
    }
    this.#commit(changes)
  }

  /** All leases that a host is to have. */
  #leasesOf(hostId: HostId): AttachPoolRequest[] {
    return this.#sharedPoolsOf(hostId).flatMap((pool) => {
      const slot = this.slotOf(pool.uuid, hostId)
      const { poolClass } = this.classOf(pool.uuid)
      if (slot === null || poolClass === 'N') return []
      return [{ ...this.#place(pool), slot, poolClass: CLASS_TO_WIRE[poolClass] }]
    })
  }

  #place(pool: DiskPoolRecord): AttachPoolRequest {
    return {
      poolUuid: pool.uuid,
      path: pool.path,
      clusterUuid: this.#store.storeId,
      slot: 0,
      slots: this.#store.poolLeases.get(pool.uuid)?.slots ?? LEASE_SLOTS,
      poolClass: PoolClass.UNSPECIFIED,
      canUnmount: canUnmount(pool),
    }
  }

  #sharedPoolsOf(hostId: string): DiskPoolRecord[] {
    return [...this.#store.poolHosts.poolsOf(hostId)].flatMap((uuid) => {
      const pool = this.#store.diskPools.get(uuid)
      const isHere = this.#store.poolHosts.find(uuid, hostId)?.state !== 'leaving'
      return pool?.shared && isHere ? [pool] : []
    })
  }

  /** In the turn of the change, and in one transaction with it: nobody sees a host that has left and its block as free. */
  #afterPool(pool: DiskPoolRecord | null, before: DiskPoolRecord | null): void {
    const uuid = (pool ?? before)?.uuid ?? ''
    this.#unjudged.add(uuid)
    if (!pool) {
      this.#trials.forget(uuid)
      if (this.#store.poolLeases.has(uuid)) this.#commit([change.remove('poolLeases', uuid)])
      return
    }
    this.#trials.noteChange(uuid)
    const [come, gone] = [changedHosts(pool, before), changedHosts(before, pool)]
    if (!areOthers(come, gone)) return
    this.#commit(changesOfMembers(this.#store, pool))
    for (const { hostId } of [...come, ...gone]) this.lookAtHost(hostId)
  }

  #afterHost(before: HostRecord | null, after: HostRecord | null): void {
    if (after) {
      const isBack = after.state === 'up' && before?.state !== 'up'
      const isOther =
        after.facts.kernel !== before?.facts.kernel || after.facts.bootId !== before.facts.bootId
      if (isBack || isOther) this.lookAtHost(after.uuid)
      if (isBack || isOther) this.#trials.tryAgain(after.uuid)
      return
    }
    if (!before) return
    this.#turns.delete(before.uuid)
    const isKnown = this.#store.hostFencing.has(before.uuid)
    this.#commit([
      ...(isKnown ? [change.remove('hostFencing', before.uuid)] : []),
      ...changesOfRemoved(this.#store, before.uuid),
    ])
  }

  #judge(poolUuid: string): void {
    const [pool, leases] = [this.#store.diskPools.get(poolUuid), this.#store.poolLeases.get(poolUuid)]
    if (!pool || !leases) return
    const { poolClass, why } = judgePool({
      ...pool,
      settings: leases.settings,
      hosts: usersOf(pool).map(({ hostId }) => this.#fencingHost(hostId)),
      trial: leases.trial,
      trialFault: this.#trials.faultOf(poolUuid),
    })
    if (poolClass === leases.poolClass && why === leases.why) return
    const isOther = poolClass !== leases.poolClass
    const data = { uuid: pool.uuid, name: pool.name, class: poolClass, previous: leases.poolClass, why }
    const event: VpeEvent = { kind: 'disk_pool', id: pool.uuid, what: 'class_changed', data }
    this.#commit([change.poolLeases({ ...leases, poolClass, why })], isOther ? [event] : [])
    if (!isOther) return
    this.#log.warn({ disk_pool: poolUuid, class: poolClass, previous: leases.poolClass, why }, 'pool class')
    for (const { hostId } of pool.hosts) this.lookAtHost(hostId)
  }

  #judgeWithoutLeases(pool: DiskPoolRecord): PoolClassVerdict {
    return judgePool({ ...pool, settings: DEFAULT_PROTECTION, hosts: [], trial: null, trialFault: '' })
  }

  /** A host that has said nothing of itself yet arms nothing, so that it weakens nobody. */
  #fencingHost(hostId: string): FencingHost {
    const name = this.#store.hosts.get(hostId)?.name ?? hostId
    const { hasWatchdog, pausable } = this.#store.hostFencing.get(hostId) ?? noFencing(hostId)
    return { name, hasWatchdog: hasWatchdog ?? true, pausable: pausable ?? '' }
  }

  #commit(changes: readonly Change[], events: readonly VpeEvent[] = []): void {
    // A store that fails says so to the process itself.
    if (changes.length > 0) void this.#store.commit(changes, events)
  }

  #turnOf(hostId: string): Turn {
    const turn = this.#turns.get(hostId) ?? { dueMs: 0, isRunning: false, failures: 0, look: NOT_ASKED }
    this.#turns.set(hostId, turn)
    return turn
  }
}

const NOT_ASKED: Look = { report: null, fault: 'it was not asked yet' }

export function noFencing(hostId: HostId): HostFencingRecord {
  return { hostId, power: null, hasWatchdog: null, pausable: null, drill: null }
}

/** What is queued for a network file system can be dropped with its mount. */
function canUnmount({ kind }: DiskPoolRecord): boolean {
  return kind === 'nfs'
}

function leaseOf(report: GetHaReportResponse | null, poolUuid: string): 'renewed' | 'lost' | null {
  const lease = report?.leases.find((each) => each.poolUuid === poolUuid)
  if (!lease) return null
  return lease.isLost ? 'lost' : 'renewed'
}
