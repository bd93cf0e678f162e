// What the parts of the controller's HA are to each other: the keeper (ha-keeper.ts) believes and decides, the pools
// (ha-pools.ts) know what storage and power can do, and services show both and pass on what people want.

import type { HostId, InstanceId } from '@vpe/core'
import type {
  FailoverClock,
  HaInstance,
  HostPool,
  PoolClassVerdict,
  ProofKind,
  WatchedHost,
} from '@vpe/core/ha'

/** What is known of pools and of power, and what can be done there. */
export interface HaPools {
  /** The shared pools that a host uses, with their classes. */
  poolsOfHost(hostId: HostId): readonly HostPool[]
  /** Of a shared pool; N with a reason while it has not been found out. */
  classOf(poolUuid: string): PoolClassVerdict
  /** The block of a host in a pool's files; null where it has none yet. */
  slotOf(poolUuid: string, hostId: HostId): number | null
  canPowerOff(hostId: HostId): boolean
  /** Has the storage shut a host out; true when it confirmed that. Never throws: what went wrong is logged. */
  revoke(hostId: HostId, poolUuid: string, signal: AbortSignal): Promise<boolean>
  /** Has a host switched off; true when its power was read back as off. Never throws. */
  powerOff(hostId: HostId, signal: AbortSignal): Promise<boolean>
}

/** What a disarm is for: while it lasts, nothing is judged lost, and nothing restarted elsewhere. */
export type DisarmScope =
  | { readonly kind: 'cluster' }
  | { readonly kind: 'host'; readonly hostId: HostId }
  | { readonly kind: 'instance'; readonly uuid: InstanceId }

export interface Disarm {
  readonly scope: DisarmScope
  /** Time of day, in milliseconds: it has to outlive the controller. */
  readonly untilMs: number
  readonly who: string
  readonly why: string
}

/** One failover of one instance, as it is kept; times of day in milliseconds. */
export interface Failover {
  readonly uuid: InstanceId
  readonly instanceName: string
  readonly generation: number
  readonly fromHostId: HostId
  readonly toHostId: HostId | null
  readonly why: string
  /** T0 to T4, as `FailoverClock` has them. */
  readonly clock: FailoverClock
  readonly proofs: readonly { readonly kind: ProofKind; readonly why: string }[]
  /** T5: when its guest was first heard; null where that is not known. */
  readonly answeredMs: number | null
}

/** What the keeper shows, and what people may tell it. */
export interface HaView {
  host(hostId: HostId): WatchedHost | null
  instance(uuid: InstanceId): HaInstance | null
  hosts(): Iterable<WatchedHost>
  instances(): Iterable<HaInstance>
  /** Why nothing is judged lost at the moment; null when it is. */
  whyNoVerdicts(): string | null
  /** Latest first. */
  failovers(): readonly Failover[]
  disarms(): readonly Disarm[]
  /** @throws VpeError NOT_FOUND, or CONFLICT for a host that is up */
  confirmFenced(hostId: HostId, who: string): Promise<void>
  disarm(disarm: Disarm): Promise<void>
  arm(scope: DisarmScope): Promise<void>
}
