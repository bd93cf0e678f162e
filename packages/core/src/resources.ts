// Records of what instances are made from and run on.

import type { HostCondition } from './host-conditions.ts'
import type { DiskPoolId, FlavorId, HostId, ImageId, InstanceId } from './ids.ts'

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
  readonly state: 'pending' | 'ready' | 'error'
  readonly fault: string
  readonly capacityBytes: number
  readonly availableBytes: number
}

export interface DiskPoolRecord {
  readonly uuid: DiskPoolId
  readonly name: string
  readonly kind: 'dir'
  readonly path: string
  readonly shared: boolean
  readonly systemDisks: SystemDiskKind
  /** Belongs to every host, also to those that are registered later. */
  readonly everyHost: boolean
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
  readonly facts: HostFacts
  readonly conditions: readonly HostCondition[]
  readonly createdAtMs: number
}
