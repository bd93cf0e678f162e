// What a placement rule sees and says. A filter refuses a host with a reason that has numbers in it; a
// scorer gives a host that passed a value between 0 and 1.

import type { DiskPoolId, HostId } from '../ids.ts'

export interface PlacementRequest {
  readonly vcpus: number
  readonly memoryMib: number
  readonly diskBytes: number
  /** Hosts that may run it; empty for any. */
  readonly hostIds: readonly HostId[]
  /** The pool that must hold its system disk; null lets placement choose. */
  readonly diskPoolUuid: DiskPoolId | null
  /** Only a shared pool will do. */
  readonly sharedPoolOnly: boolean
  /** Data disks that it shall have from the start. */
  readonly dataDisks: readonly DataDiskWish[]
}

export interface DataDiskWish {
  readonly name: string
  /** Hosts on which it can be had. */
  readonly hostIds: readonly HostId[]
  /** Where that is, for people: "host h2", "disk pool nfs". */
  readonly home: string
}

export interface PoolCandidate {
  readonly uuid: DiskPoolId
  readonly name: string
  readonly shared: boolean
  readonly state: 'pending' | 'ready' | 'error'
  readonly fault: string
  /** 0 while not known. */
  readonly capacityBytes: number
  /** Sum of what instances may grow to. */
  readonly reservedBytes: number
}

export interface HostCandidate {
  readonly id: HostId
  readonly name: string
  readonly state: 'up' | 'down'
  readonly cpus: number
  readonly memoryMib: number
  readonly vcpusUsed: number
  readonly memoryMibUsed: number
  /** Instances on it that have a task. */
  readonly runningTasks: number
  readonly pools: readonly PoolCandidate[]
}

/** How much more than the hardware may be promised. */
export interface OvercommitPolicy {
  readonly vcpuRatio: number
  readonly memoryRatio: number
  readonly diskRatio: number
  /** Memory of each host that is not for guests. */
  readonly hostReservedMib: number
}

export interface PlacementFilter {
  readonly name: string
  /** Completes "<n> of <m> …" in a refusal: "are down". */
  readonly summary: string
  /** Null when the host passes, else why not. */
  refuse(request: PlacementRequest, host: HostCandidate, policy: OvercommitPolicy): string | null
}

export interface PlacementScorer {
  readonly name: string
  readonly weight: number
  /** 0 worst, 1 best. */
  score(request: PlacementRequest, host: HostCandidate, policy: OvercommitPolicy): number
}
