// The record of a data disk, and how it moves between its statuses: one total table, as for instances.
//
// Events from users: attach, detach, resize, delete. Events from hosts:
//   settled   the host has done what the status asks of it
//   failed    it cannot be done: retrying would not help
//   freed     the instance that had the disk is gone, domain and all
//   removed   the host has confirmed that the file is gone

import type { DiskId, DiskPoolId, HostId, InstanceId } from './ids.ts'

export const DISK_STATUSES = [
  'creating',
  'available',
  'attaching',
  'in-use',
  'detaching',
  'resizing',
  'deleting',
  'error',
] as const
export type DiskStatus = (typeof DISK_STATUSES)[number]

export interface DiskRecord {
  readonly uuid: DiskId
  readonly name: string
  readonly diskPoolUuid: DiskPoolId
  /** The host that it lies on; null in a shared pool. */
  readonly hostId: HostId | null
  /** Wanted size. */
  readonly sizeBytes: number
  /** The size that its host has reported to have reached; 0 before it was made. */
  readonly settledBytes: number
  readonly status: DiskStatus
  /** Why it is in error, for people; empty otherwise. */
  readonly fault: string
  /** The instance that has it; kept until that instance's domain is known to have let go of it. */
  readonly instanceUuid: InstanceId | null
  /** Its place in that instance, from 1; names the device that the host gives it. 0 while in none. */
  readonly slot: number
  readonly createdAtMs: number
}

export const DISK_EVENTS = [
  'attach',
  'detach',
  'resize',
  'delete',
  'settled',
  'failed',
  'freed',
  'removed',
] as const
export type DiskEvent = (typeof DISK_EVENTS)[number]

/** As for instances; `resting` is in-use or available, by whether an instance has it. */
export type DiskTransition = DiskStatus | 'resting' | 'same' | 'ignored' | 'refused' | 'gone'

// biome-ignore format: a table reads best as a table
export const DISK_TRANSITIONS: Record<DiskStatus, Record<DiskEvent, DiskTransition>> = {
  creating:  { attach: 'refused',   detach: 'refused',   resize: 'refused',  delete: 'deleting', settled: 'available', failed: 'error',     freed: 'ignored',   removed: 'ignored' },
  available: { attach: 'attaching', detach: 'refused',   resize: 'resizing', delete: 'deleting', settled: 'ignored',   failed: 'ignored',   freed: 'ignored',   removed: 'ignored' },
  attaching: { attach: 'refused',   detach: 'detaching', resize: 'refused',  delete: 'refused',  settled: 'in-use',    failed: 'detaching', freed: 'available', removed: 'ignored' },
  'in-use':  { attach: 'refused',   detach: 'detaching', resize: 'resizing', delete: 'refused',  settled: 'ignored',   failed: 'ignored',   freed: 'available', removed: 'ignored' },
  detaching: { attach: 'refused',   detach: 'same',      resize: 'refused',  delete: 'refused',  settled: 'available', failed: 'in-use',    freed: 'available', removed: 'ignored' },
  resizing:  { attach: 'refused',   detach: 'refused',   resize: 'refused',  delete: 'refused',  settled: 'resting',   failed: 'resting',   freed: 'same',      removed: 'ignored' },
  deleting:  { attach: 'refused',   detach: 'refused',   resize: 'refused',  delete: 'same',     settled: 'ignored',   failed: 'same',      freed: 'ignored',   removed: 'gone' },
  error:     { attach: 'refused',   detach: 'refused',   resize: 'refused',  delete: 'deleting', settled: 'ignored',   failed: 'ignored',   freed: 'ignored',   removed: 'ignored' },
}

/** The status that an event leads to, or what else becomes of it. */
export function nextDiskStatus(
  disk: Pick<DiskRecord, 'status' | 'instanceUuid'>,
  event: DiskEvent,
): DiskStatus | 'same' | 'ignored' | 'refused' | 'gone' {
  const transition = DISK_TRANSITIONS[disk.status][event]
  if (transition !== 'resting') return transition
  return disk.instanceUuid === null ? 'available' : 'in-use'
}

/** What a guest is told of the disk, to find it by: as much of the uuid as virtio has room for. */
export function diskSerial(uuid: DiskId): string {
  return uuid.slice(0, 20)
}

/** More than this do not fit into one instance: each takes a hot-plug port of its machine. */
export const DISKS_PER_INSTANCE_MAX = 16

const SLOTS = 25

/** The device of a slot: the system disk is vda. */
export function diskTarget(slot: number): string {
  if (slot < 1 || slot > SLOTS) throw new Error(`no such slot: ${slot}`)
  return `vd${String.fromCharCode('a'.charCodeAt(0) + slot)}`
}

/**
 * The slot for one more disk: the next free one after the last that was given out, so that the device
 * of a disk that has just left is not at once another disk.
 */
export function nextDiskSlot(last: number, taken: ReadonlySet<number>): number {
  for (let step = 0; step < SLOTS; step++) {
    const slot = ((last + step) % SLOTS) + 1
    if (!taken.has(slot)) return slot
  }
  throw new Error('no slot is left')
}
