// What would become of the highly available instances of a host that is lost now: where each would be started, when, or
// why not. It asks the placement that a real recovery asks, one instance after another in order of priority, each with the
// room that those before it have left.

import type { HostId, InstanceId } from '../ids.ts'
import { type HostTable, type PlacementRequest, place, type Reservation } from '../placement/index.ts'
import type { HostPool } from './host-watch.ts'
import { leastClass, type PoolClass } from './pool-class.ts'
import { PRIORITIES, type Priority, RECOVERY_LIMITS } from './recovery.ts'
import { type HaTimings, worstDetectionMs } from './timings.ts'

/** An instance of the host in question. */
export interface WhatIfInstance {
  readonly uuid: InstanceId
  readonly name: string
  readonly priority: Priority
  /** What it asks of another host. */
  readonly request: PlacementRequest
  /** What it takes of the host that it is on, and would take of another. */
  readonly reservation: Reservation
  /** The shared pools that it uses. */
  readonly pools: readonly HostPool[]
  /** Why it would stay down wherever there is room; null where nothing keeps it. */
  readonly stays: string | null
  /** It is on its way to that host, which keeps a place for it; null where it is not. */
  readonly reservedOn: HostId | null
}

export interface WhatIfQuestion {
  readonly hostId: HostId
  /** All hosts; as it was afterwards. */
  readonly table: HostTable
  /** Highly available instances that are to run, and are on the host. */
  readonly instances: readonly WhatIfInstance[]
  readonly canPowerOff: boolean
  readonly timings: HaTimings
}

export const WHAT_IF_OUTCOMES = [
  'starts',
  /** It has a place, but a person has to confirm that its host is off. */
  'by-hand',
  'no-room',
  /** Something else than room keeps it where it was. */
  'stays',
] as const
export type WhatIfOutcome = (typeof WHAT_IF_OUTCOMES)[number]

export interface WhatIfFate {
  readonly uuid: InstanceId
  readonly name: string
  readonly priority: Priority
  /** Null where it has no shared pool. */
  readonly poolClass: PoolClass | null
  /** Null where it would not be started. */
  readonly hostId: HostId | null
  /** From the loss of the host until its guest is started; null where it is not, or a person has to confirm first. */
  readonly expectedMs: number | null
  readonly outcome: WhatIfOutcome
  /** Why it would not be started, or not by itself; empty otherwise. */
  readonly why: string
}

/** From the suspicion until others have said what they see of its leases, and the storage has shut it out. */
const FENCE_MS = 4_000
/** What a BMC takes to switch off, and to say so. */
const POWER_OFF_MS = 10_000
/** After so long an NFS server gives locks to another host; 90 s where its administrator has left the default. */
export const SERVER_LEASE_MS = 20_000
/** A claim is tried again every few seconds until it is granted. */
const GATE_EVERY_MS = 5_000

const BY_HAND =
  'its pool is of class N, and its host cannot be switched off: a person must confirm that it is off'

/** What would become of each instance, in the order in which they would be started. */
export function whatIfLost({ hostId, table, instances, canPowerOff, timings }: WhatIfQuestion): WhatIfFate[] {
  const host = table.host(hostId)
  const ordered = [...instances].sort(
    (a, b) => PRIORITIES.indexOf(a.priority) - PRIORITIES.indexOf(b.priority) || (a.uuid < b.uuid ? -1 : 1),
  )
  const taken: { readonly hostId: HostId; readonly reservation: Reservation }[] = []
  const startsOn = new Map<HostId, number>()
  // What it has in shared pools stays there, whoever runs it.
  const lost = ordered.map(({ reservation }) => ({ ...reservation, diskBytes: 0 }))
  for (const reservation of lost) table.release(hostId, reservation)
  if (host) table.setHost({ ...host, state: 'down' })
  try {
    return ordered.map((instance, index) => {
      const { uuid, name, priority, pools } = instance
      const fate = { uuid, name, priority, poolClass: leastClass(pools) }
      const none = (outcome: WhatIfOutcome, why: string) => ({
        ...fate,
        hostId: null,
        expectedMs: null,
        outcome,
        why,
      })
      if (instance.stays !== null) return none('stays', instance.stays)
      let target = instance.reservedOn
      if (target === null) {
        const result = place(instance.request, table)
        if (result.hostId === null) return none('no-room', result.refusal)
        target = result.hostId
        const reservation = lost[index] as Reservation
        table.reserve(target, reservation)
        taken.push({ hostId: target, reservation })
      }
      const before = startsOn.get(target) ?? 0
      startsOn.set(target, before + 1)
      const fencedMs = fencingMs(pools, canPowerOff, timings)
      if (fencedMs === null)
        return { ...fate, hostId: target, expectedMs: null, outcome: 'by-hand', why: BY_HAND }
      const { startsAtOnce, staggerMs } = RECOVERY_LIMITS
      const expectedMs = fencedMs + 2 * Math.max(0, before + 1 - startsAtOnce) * staggerMs
      return { ...fate, hostId: target, expectedMs, outcome: 'starts', why: '' }
    })
  } finally {
    for (const { hostId: target, reservation } of taken) table.release(target, reservation)
    if (host) table.setHost(host)
    for (const reservation of lost) table.reserve(hostId, reservation)
  }
}

/**
 * From the loss of a host until an instance in these pools may be started elsewhere: for each pool the quickest proof that is
 * to be had, and the slowest of the pools. Null where only a person can say.
 */
export function fencingMs(
  pools: readonly HostPool[],
  canPowerOff: boolean,
  timings: HaTimings,
): number | null {
  const seenMs = Math.max(timings.suspectMs, timings.tryMs)
  let slowestMs = seenMs
  for (const { poolClass, canRevoke } of pools) {
    const flightMs = poolClass === 'E' ? 0 : timings.flightMs
    const ways = [
      ...(canRevoke && poolClass !== 'N' ? [seenMs + FENCE_MS] : []),
      ...(canPowerOff ? [seenMs + POWER_OFF_MS + flightMs] : []),
      ...(poolClass === 'E' ? [Math.max(seenMs, SERVER_LEASE_MS) + GATE_EVERY_MS] : []),
      ...(poolClass === 'T' ? [worstDetectionMs(timings)] : []),
    ]
    if (ways.length === 0) return null
    slowestMs = Math.max(slowestMs, Math.min(...ways))
  }
  return slowestMs
}

/** A host whose loss the cluster would not survive. */
export interface HostAtRisk {
  readonly hostId: HostId
  /** Those of it that would find no room. */
  readonly left: readonly WhatIfFate[]
}

export interface NPlusOneVerdict {
  readonly survives: boolean
  /** The one whose loss would leave most without a place, of equal ones the lower id; null where it survives. */
  readonly worst: HostAtRisk | null
  readonly hostsAtRisk: number
}

/** Whether the cluster survives the loss of any one host, from what would become of each. */
export function judgeNPlusOne(hosts: readonly HostAtRisk[]): NPlusOneVerdict {
  const atRisk = hosts.filter(({ left }) => left.length > 0)
  const worst = atRisk.reduce<HostAtRisk | null>((most, host) => {
    if (most === null || host.left.length > most.left.length) return host
    return host.left.length === most.left.length && host.hostId < most.hostId ? host : most
  }, null)
  return { survives: worst === null, worst, hostsAtRisk: atRisk.length }
}
