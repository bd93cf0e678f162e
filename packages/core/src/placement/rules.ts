// What is asked of a placement, what it knows of hosts, and what a rule is. A filter refuses hosts, and says
// why, with numbers, only when it is asked; a weigher gives a host that passed a value between 0 and 1.

import type { DiskPoolId, HostId } from '../ids.ts'
import type { Ask } from './ask.ts'
import type { PlacementGroup } from './groups.ts'
import type { HostTable } from './host-table.ts'

export interface PlacementRequest {
  readonly vcpus: number
  readonly memoryMib: number
  readonly diskBytes: number
  /** Hosts that may run it; empty for any. */
  readonly hostIds: readonly HostId[]
  /** Hosts that shall not have it, such as the one that it leaves. */
  readonly excludeHostIds: readonly HostId[]
  /** The pool that must hold its system disk; null lets placement choose. */
  readonly diskPoolUuid: DiskPoolId | null
  /** Only a shared pool will do. */
  readonly sharedPoolOnly: boolean
  /** The only place where its image can be had; null when any pool can get it. */
  readonly imageHome: ImageHome | null
  /** Data disks that it shall have from the start. */
  readonly dataDisks: readonly DataDiskWish[]
  /** Features that its guest has seen on its CPU, and must find again. */
  readonly cpuFeatures: readonly string[]
  /** HA instances are spread. */
  readonly ha: boolean
  /** Those that its tags name; see groupsOf. */
  readonly groups: readonly PlacementGroup[]
}

export interface ImageHome {
  readonly diskPoolUuid: DiskPoolId
  /** Null in a shared pool. */
  readonly hostId: HostId | null
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
  /** Sum of what instances may grow to: on this host, or of the whole pool when it is shared. */
  readonly reservedBytes: number
}

/** What a host is, whatever lies on it. */
export interface HostTraits {
  readonly id: HostId
  readonly name: string
  readonly state: 'up' | 'down'
  /** False while it is cordoned. */
  readonly schedulable: boolean
  readonly cpus: number
  readonly memoryMib: number
  /** Empty while not known. */
  readonly cpuFeatures: readonly string[]
}

/** What the instances on a host add up to. */
export interface HostUse {
  readonly vcpusUsed: number
  readonly memoryMibUsed: number
  /** Instances on it that have a task. */
  readonly runningTasks: number
  readonly haInstances: number
}

/** A host as a plain object: a row of the table. */
export interface HostCandidate extends HostTraits, HostUse {
  readonly pools: readonly PoolCandidate[]
  /** How many members of each placement group are on it, by the group's key. */
  readonly groups: Readonly<Record<string, number>>
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
  /** Why it refuses the host of a row, which it does. */
  explain(table: HostTable, ask: Ask, row: number): string
}

/** A filter that does not look at amounts: it marks, before the scan, the rows that it refuses. */
export interface MarkingFilter extends PlacementFilter {
  readonly bit: number
  /** Absent where the table keeps the mark itself. */
  mark?(table: HostTable, request: PlacementRequest, marks: Uint16Array): void
}
