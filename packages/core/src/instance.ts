// The record of an instance: what its user asked for (desired), and what was last seen of it.

import type { DiskSource } from './clone.ts'
import type { Isolation } from './ha/instance-wish.ts'
import type { Priority } from './ha/recovery.ts'
import type { DiskPoolId, FlavorId, HostId, ImageId, InstanceId, SnapshotId } from './ids.ts'

/** `paused` is powered on, with its CPUs stopped. */
export type Power = 'on' | 'off' | 'paused'

/** Soft asks the guest to shut down first; hard pulls the plug. */
export type RebootKind = 'soft' | 'hard'

export const INSTANCE_STATUSES = ['active', 'shutoff', 'paused', 'error'] as const
export type InstanceStatus = (typeof INSTANCE_STATUSES)[number]

export const INSTANCE_TASKS = [
  'creating',
  'starting',
  'stopping',
  'rebooting',
  'pausing',
  'resuming',
  'rebuilding',
  'reverting',
  'resizing',
  'migrating',
  'updating',
  'recovering',
  'deleting',
] as const
export type InstanceTask = (typeof INSTANCE_TASKS)[number]

/** The one word for where an instance stands: its task while there is one, else its status. */
export type InstancePhase = InstanceTask | InstanceStatus

export interface InstanceRecord {
  readonly uuid: InstanceId
  readonly name: string
  readonly generatedName: string
  readonly namespace: string
  readonly flavorUuid: FlavorId
  readonly imageUuid: ImageId
  readonly diskPoolUuid: DiskPoolId
  /** Where it belongs: the host that makes what is wanted of it so. */
  readonly hostId: HostId
  /** The host that it moves away from, until that has confirmed that nothing of it runs there any more. */
  readonly leavingHostId: HostId | null
  /** The latest move, under way or over; null where there was none. */
  readonly migration: Migration | null
  /** Hosts with files of its disks that are not its disks any more, or never became them; they are to go. */
  readonly staleCopies: readonly HostId[]
  /** Hosts that may run it; empty for any. */
  readonly hostIds: readonly HostId[]
  readonly shareStorage: boolean
  readonly tags: readonly string[]
  /** Sizes are the flavor's at creation or at the last resize: a flavor may be deleted, an instance keeps its size. */
  readonly vcpus: number
  readonly memoryMib: number
  /** 0 takes the image's own size. */
  readonly diskBytes: number
  readonly ha: boolean
  /** Which of many that were lost at once is started first. */
  readonly haPriority: Priority
  /** What becomes of it when its host, and its guests with it, are only cut off. */
  readonly haIsolation: Isolation
  /** What its guest is told it is called; empty when it is told nothing at all. Stays when the instance is renamed. */
  readonly hostname: string
  readonly sshKeys: readonly string[]
  /** Of the user data, which lie in a table of their own; empty for none. */
  readonly userDataSha256: string
  readonly power: Power
  /** Refuses what would destroy its data: deletion and rebuild. */
  readonly locked: boolean
  /** Rises with each change of desired state that the host must carry out. */
  readonly generation: number
  /** The generation in which a reboot was last asked for; 0 for never. */
  readonly rebootGeneration: number
  readonly rebootKind: RebootKind
  /** The generation in which the system disk's content was last wanted anew; 0 for never. */
  readonly diskGeneration: number
  /** The snapshot that this content is of; null where it is its image's. */
  readonly diskSnapshotUuid: SnapshotId | null
  /** What its system disk begins as a copy of; null where that is made from its image. */
  readonly diskSource: DiskSource | null
  /** Of its guest, as its host knew them last. */
  readonly addresses: readonly string[]
  /** The highest generation that the host has reported to have reached. */
  readonly settledGeneration: number
  readonly status: InstanceStatus
  readonly task: InstanceTask | null
  /** Why it is in error, for people; empty otherwise. */
  readonly fault: string
  /** Those that its host has reported; see InstanceReport. */
  readonly restarts: number
  /** The slot that its latest data disk was given; see nextDiskSlot. */
  readonly lastDiskSlot: number
  readonly createdAtMs: number
}

/** Live: the guest runs on all the while. Cold: it is off from the one host to the other. */
export type MigrationMode = 'live' | 'cold'

/** A move from one host to another. */
export interface Migration {
  readonly mode: MigrationMode
  /** Of the wish for it. */
  readonly generation: number
  readonly fromHostId: HostId
  readonly toHostId: HostId
  readonly startedAtMs: number
  /** Where a live one is refused before it begins, it goes there off in between. */
  readonly orCold: boolean
  /** What the copying of its memory may take of the network, in MiB/s; 0 for all. */
  readonly bandwidthMibS: number
  /** How long its guest may stand still at the end; 0 leaves it to the hypervisor. */
  readonly downtimeMaxMs: number
  /** Its disks in pools that are local to a host come along: each host has a copy until the move is over. */
  readonly copyDisks: boolean
  /** After a first pass over its memory its guest goes on there, and fetches from here what is not there yet. */
  readonly postCopy: boolean
  /** The hosts that are allowed again where the move fails: those from before, or what a user has allowed since. */
  readonly hostIdsBefore: readonly HostId[]
  /** How it ends, as far as that is known: of a live one, `failed` and `cancelled` are what shall be, until its host agrees. */
  readonly end: 'moved' | 'failed' | 'cancelled' | null
  readonly fault: string
  /** How long its guest stood still; null where that is not known. */
  readonly downtimeMs: number | null
}

/** Its guest is being taken to another host as it runs, or was to be until just now. */
export function isLeavingLive({
  leavingHostId,
  migration,
}: Pick<InstanceRecord, 'leavingHostId' | 'migration'>): boolean {
  return leavingHostId !== null && migration?.mode === 'live'
}

/** Where an instance stands. */
export function phaseOf(instance: Pick<InstanceRecord, 'status' | 'task'>): InstancePhase {
  return instance.task ?? instance.status
}

/** The host that its guest is on, if it runs anywhere: until the one that it leaves has let go, that one. */
export function hostOfGuest({ hostId, leavingHostId }: InstanceRecord): HostId {
  return leavingHostId ?? hostId
}

/** Hosts that have, or shall have, something of it. */
export function hostsOf({ hostId, leavingHostId }: InstanceRecord): readonly HostId[] {
  return leavingHostId === null ? [hostId] : [hostId, leavingHostId]
}

/** What an agent sees of one instance. */
export interface InstanceReport {
  readonly uuid: InstanceId
  /** Generation that the domain was last made to match. */
  readonly generation: number
  readonly power: Power
  /** Why the domain is off, when it is: vpe stopped it, the guest did, it crashed, or not known. */
  readonly stopCause: StopCause | null
  /** Why the agent has given up on it; empty otherwise. */
  readonly fault: string
  /** The agent is at work on it: what is seen may be half way. */
  readonly converging: boolean
  /** How often its host has brought it back by itself since it was defined there. */
  readonly restarts: number
  readonly holdUp: HoldUp | null
}

/**
 * Why a guest that is wanted on stands still, until its host lets it go on: after an I/O error its guard checks its claim, or a pool
 * of its disks is full.
 */
export type HoldUp = 'claim-check' | 'full-pool'

export type StopCause = 'requested' | 'guest' | 'crash'
