// Records of instances and their recovery (ADR 0030): what users ask for raises a record's generation; who has the instance is
// one of those generations, until another host is given a higher one. Here is what a record means for recovery, and whether
// anything may be done for it by way of its host.

import type { HostId } from '../ids.ts'
import { type InstanceRecord, isLeavingLive } from '../instance.ts'
import type { HostPool, HostWatchState, WatchedHost } from './host-watch.ts'
import { recoveryWishOf } from './instance-wish.ts'
import { type HaInstance, newHaInstance, type RecoveryEvent } from './recovery.ts'

/** Recovery's view of a record. */
export interface OwnedRecord {
  readonly record: InstanceRecord
  /** All pools that its disks lie in; null where it is not recovered elsewhere, whatever becomes of its host. */
  readonly pools: readonly HostPool[] | null
}

/** What follows for recovery from how a record is now; `owned` is null when it is gone. */
export function followRecord(
  ha: HaInstance,
  owned: OwnedRecord | null,
  watch: HostWatchState,
): Exclude<RecoveryEvent, { kind: 'tick' }>[] {
  const { uuid, state, migration } = ha
  if (!owned) return [{ kind: 'gone', uuid }]
  const { record, pools } = owned
  const isToldOff = record.generation > ha.generation && isSettled(record)
  if (pools === null && (state === 'off' || isToldOff)) return [{ kind: 'gone', uuid }]
  const events: Exclude<RecoveryEvent, { kind: 'tick' }>[] = []
  const { leavingHostId, hostId, generation } = record
  if (migration) {
    if (leavingHostId === null && hostId === migration.hostId) events.push({ kind: 'moved', uuid })
    else if (leavingHostId === null && !migration.isCancelled) events.push({ kind: 'cancel-migration', uuid })
  } else if (isHandedOver(record) && leavingHostId === ha.hostId && pools !== null)
    events.push({ kind: 'migrate', uuid, hostId, generation: record.migration?.generation ?? generation })
  const isThere = state === 'starting' || state === 'running' || state === 'releasing'
  // Its host may have let go of it by now, or not: wanted on again, it is given anew where it belongs (`judgeOwnership`).
  const isEnding = isThere && (ha.isEnding || pools === null || isEnded(record))
  const isWanted = pools !== null && isWantedOn(record) && !isEnding
  const wish = recoveryWishOf(record)
  const isOtherWish = wish.priority !== ha.priority || wish.isolation !== ha.isolation
  if (ha.lastGeneration < generation || isWanted !== ha.isWanted || isEnding !== ha.isEnding || isOtherWish)
    events.push({ kind: 'want', uuid, isWanted, isEnding, generation, ...(isOtherWish && { wish }) })
  const host = watch.hosts.get(hostId)
  const isLost = host?.phase === 'stale' || host?.phase === 'fenced'
  if (state === 'off' && isWanted && isLost && leavingHostId === null)
    events.push({ kind: 'strand', uuid, why: `its host: ${host.why}` })
  return events
}

export type Ownership =
  /** It needs none for what is wanted of it. */
  | { readonly kind: 'none' }
  | {
      readonly kind: 'owned'
      readonly generation: number
      readonly bootId: string
      readonly pools: readonly HostPool[]
    }
  /** Its host is to be given it, by this; then it is owned. */
  | { readonly kind: 'give'; readonly instance: HaInstance }
  /** Nothing may be done by way of its host now. */
  | { readonly kind: 'wait'; readonly why: string }

/** What recovery wants to know of an instance beside its pools. */
export type RecoveryWish = Pick<HaInstance, 'priority' | 'isolation'>

/**
 * By what an instance may run on the host that it belongs to, and whether it may be touched there at all.
 * @param host the one that the record names; undefined where that takes no part
 */
export function judgeOwnership(
  { record, pools }: OwnedRecord,
  wish: RecoveryWish,
  ha: HaInstance | undefined,
  host: WatchedHost | undefined,
): Ownership {
  const owner = ha && ha.state !== 'off' ? ha : null
  if (owner?.state === 'lost') return wait(`it is lost (${owner.why})`)
  if (owner?.state === 'releasing') return wait(`its host has to let go of it (${owner.why})`)
  if (record.leavingHostId !== null) {
    if (!owner || !isHandedOver(record)) return { kind: 'none' }
    const { migration } = owner
    if (!migration || migration.isCancelled) return wait('a host of its move is not to be relied on')
    return { kind: 'owned', ...migration, pools: owner.pools }
  }
  if (owner && owner.hostId !== record.hostId)
    return wait(`host ${owner.hostId} has not reported that it has let go of it`)
  if (pools === null || record.task === 'deleting') return { kind: 'none' }
  if (owner && host && host.bootId !== owner.bootId) return wait('its host has booted anew')
  if (record.power === 'off') return owner ? { kind: 'owned', ...owner } : { kind: 'none' }
  const isGivenAnew =
    owner === null ||
    (record.generation > owner.generation && (owner.isEnding || isGuardedLess(owner.pools, pools)))
  if (!isGivenAnew) return { kind: 'owned', ...owner }
  if (!host) return wait('its host is not watched yet')
  if (host.phase !== 'up') return wait(`its host is ${host.phase}: ${host.why}`)
  const { uuid, memoryMib, generation, hostId } = record
  return {
    kind: 'give',
    instance: newHaInstance({ uuid, memoryMib, pools, ...wish }, hostId, host.bootId, generation),
  }
}

/** Whether a guest that runs would be guarded better, if it were armed anew. */
export function isGuardedLess(armed: readonly HostPool[], now: readonly HostPool[]): boolean {
  return now.some(({ pool, poolClass }) => {
    const was = armed.find((other) => other.pool === pool)
    return !was || RANK[poolClass] > RANK[was.poolClass]
  })
}

const RANK = { N: 0, T: 1, E: 2 } as const

/** Times of an instance on another clock: a store keeps times of day, since a monotonic clock is its process's own. */
export function onOtherClock(instance: HaInstance, shiftMs: number): HaInstance {
  const { clock, proofs, startedBy } = instance
  const shifted = (atMs: number | null) => (atMs === null ? null : Math.round(atMs + shiftMs))
  return {
    ...instance,
    proofs: proofs.map((proof) => ({ ...proof, atMs: Math.round(proof.atMs + shiftMs) })),
    startedBy: startedBy.map((proof) => ({ ...proof, atMs: Math.round(proof.atMs + shiftMs) })),
    clock: {
      lastHeardMs: shifted(clock.lastHeardMs),
      suspectedMs: shifted(clock.suspectedMs),
      provenMs: shifted(clock.provenMs),
      provenBy: clock.provenBy,
      placedMs: shifted(clock.placedMs),
      runningMs: shifted(clock.runningMs),
    },
  }
}

/** Why an instance stays where it is, though its host is silent. */
export type StaysBecause =
  | { readonly kind: 'not-ha' }
  | { readonly kind: 'local-pool'; readonly poolName: string }
  | { readonly kind: 'unguarded-pool'; readonly poolName: string; readonly why: string }

/**
 * What its user is told of an instance whose host does not answer, and that is not started elsewhere. That a host is silent does
 * not make it dead.
 * @param host what is believed of it; undefined where nobody watches its leases
 */
export function describeStay(hostName: string, host: WatchedHost | undefined, because: StaysBecause): string {
  const isDown = host?.phase === 'stale' || host?.phase === 'fenced'
  const what = `host ${hostName} ${isDown ? 'is down' : 'does not answer'}`
  switch (because.kind) {
    case 'not-ha':
      return `${what}; it is not highly available`
    case 'local-pool':
      return `${what}; its disk is in local pool ${because.poolName}`
    case 'unguarded-pool':
      return `${what}; nothing keeps two hosts from writing to pool ${because.poolName} (${because.why}): it is started elsewhere once a person confirms that the host is off`
    default:
      throw new Error(`no such reason: ${because satisfies never}`)
  }
}

function wait(why: string): Ownership {
  return { kind: 'wait', why }
}

function isSettled({ task, settledGeneration, generation }: InstanceRecord): boolean {
  return task === null && settledGeneration === generation
}

/** Its guest is to go on on another host. */
function isHandedOver(record: InstanceRecord): boolean {
  return isLeavingLive(record) && record.task === 'migrating' && record.migration?.end === null
}

/** Its host is told to let go of it. */
function isEnded(record: InstanceRecord): boolean {
  const isMovingOff = record.leavingHostId !== null && !(isLeavingLive(record) && record.task === 'migrating')
  return record.power === 'off' || record.task === 'deleting' || isMovingOff
}

/** A guest of it is to be brought back if it is lost: not while it moves off in between, nor where what it was paused with is lost. */
function isWantedOn(record: InstanceRecord): boolean {
  return record.power === 'on' && !isEnded(record)
}

/** Ids of hosts in texts of the protocol, which knows no names. */
export function withNames(text: string, nameOf: (id: HostId) => string | undefined): string {
  return text.replace(UUID, (id) => nameOf(id) ?? id)
}

const UUID = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g
