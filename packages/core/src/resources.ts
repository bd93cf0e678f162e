// Records of what instances are made from and run on.

import type { DrainRecord } from './drain.ts'
import type { HostCondition } from './host-conditions.ts'
import type { DiskPoolId, FlavorId, HostId, ImageId, InstanceId, OperationId } from './ids.ts'
import type { PoolFileRecord } from './orphans.ts'

export interface FlavorRecord {
  readonly uuid: FlavorId
  readonly name: string
  readonly vcpus: number
  readonly memoryMib: number
  /** Size of the system disk; 0 takes the image's own. */
  readonly diskGib: number
  readonly createdAtMs: number
}

export type DiskFormat = 'qcow2' | 'raw'

export interface ImageRecord {
  readonly uuid: ImageId
  readonly name: string
  /** Empty for one that is uploaded or captured: it can be had from nowhere but its pool. */
  readonly url: string
  /** The instance whose system disk it was; empty for others. */
  readonly instanceUuid: InstanceId | ''
  /** The host that took it in, where it has no URL; empty for others. */
  readonly hostId: HostId | ''
  /** Lower-case hex; empty until known. */
  readonly sha256: string
  readonly format: DiskFormat | null
  /** While it is uploaded: what its user said; 0 when not known. */
  readonly sizeBytes: number
  readonly virtualSizeBytes: number
  readonly status: 'uploading' | 'importing' | 'active' | 'error'
  readonly fault: string
  /** The pool that holds the first copy. */
  readonly diskPoolUuid: DiskPoolId
  readonly createdAtMs: number
}

export type SystemDiskKind = 'overlay' | 'copy'

/** A pool as one host sees it. */
export interface DiskPoolHost {
  readonly hostId: HostId
  /** leaving: it is to let go of it, and has not yet said that it has; `fault` says what keeps it. */
  readonly state: 'pending' | 'ready' | 'error' | 'leaving'
  /** The operation that takes the pool from it; null where it keeps it. */
  readonly leavingBy: OperationId | null
  readonly fault: string
  readonly capacityBytes: number
  readonly availableBytes: number
  /** What the pool's marker says there; empty until it has been made usable once. */
  readonly marker: string
}

/** An export that each host mounts at the pool's path. */
export interface NfsSource {
  readonly server: string
  readonly export: string
  /** As mount -o takes them; empty for the client's own. */
  readonly options: string
}

/** A pool of a Ceph cluster. */
export interface RbdSource {
  readonly monitors: readonly string[]
  readonly pool: string
  readonly user: string
  /** The libvirt secret that holds the user's key. */
  readonly secretUuid: string
}

export type DiskPoolKind = 'dir' | 'nfs' | 'rbd'

/** A file of vpe in a pool that no record owns. */
export interface Orphan extends PoolFileRecord {
  /** Null in a shared pool. */
  readonly hostId: HostId | null
  /** When it was first found without an owner. */
  readonly sinceMs: number
}

export interface DiskPoolRecord {
  readonly uuid: DiskPoolId
  readonly name: string
  readonly kind: DiskPoolKind
  /** The folder on each of its hosts; empty for kinds that have none. */
  readonly path: string
  readonly nfs: NfsSource | null
  readonly rbd: RbdSource | null
  /** What the marker of a shared pool says; empty until a host has made it usable once, and for others. */
  readonly marker: string
  /** As the last look found them. */
  readonly orphans: readonly Orphan[]
  readonly shared: boolean
  readonly systemDisks: SystemDiskKind
  /** Belongs to every host, also to those that are registered later. */
  readonly everyHost: boolean
  /** The operation that deletes it: it goes once no host has it any more. Null where it stays. */
  readonly deletionUuid: OperationId | null
  readonly hosts: readonly DiskPoolHost[]
  readonly createdAtMs: number
}

export interface HostFacts {
  readonly hostname: string
  readonly cpus: number
  readonly memoryMib: number
  /** The closest model that libvirt has a name for, of those that guests can be given. */
  readonly cpuModel: string
  /** All that guests of that model can have here, in libvirt's names, sorted. */
  readonly cpuFeatures: readonly string[]
  readonly arch: string
  readonly domainType: string
  readonly libvirtVersion: string
  readonly hypervisorVersion: string
  readonly agentVersion: string
  readonly kernel: string
  /** Bridges that the host has, sorted. */
  readonly bridges: readonly string[]
  /** Changes with each boot of the machine. */
  readonly bootId: string
}

export interface HostRecord {
  readonly uuid: HostId
  readonly name: string
  /** host:port of the agent's gRPC server. */
  readonly address: string
  readonly state: 'up' | 'down'
  readonly stateSinceMs: number
  /** False while it is cordoned: it keeps what it has and gets nothing more. */
  readonly schedulable: boolean
  /** Null where it was not drained since it was last uncordoned. */
  readonly drain: DrainRecord | null
  readonly facts: HostFacts
  readonly conditions: readonly HostCondition[]
  readonly createdAtMs: number
}
