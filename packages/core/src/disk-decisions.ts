// What becomes of a data disk when a user asks for something, when its host answers, and when the
// instance that has it moves. Each function takes the record and returns the next one with the reason,
// or null when nothing changes.

import { DISKS_PER_INSTANCE_MAX, type DiskRecord, nextDiskStatus } from './disk.ts'
import { gib } from './disk-placement.ts'
import { VpeError } from './errors.ts'
import type { HostId } from './ids.ts'
import { hostOfGuest, type InstanceRecord } from './instance.ts'
import { endOperation, type OperationRecord } from './operation.ts'

export interface DiskDecision {
  /** The next record; null when the disk is gone. */
  readonly next: DiskRecord | null
  readonly why: string
  /** Why the wish that was under way came to nothing; its operations fail with it. */
  readonly fault?: string
}

export interface AttachTarget {
  readonly instance: InstanceRecord
  readonly slot: number
  /** Disks that the instance has already. */
  readonly count: number
  /** Hosts on which the disk can be had, and where that is in words. */
  readonly hostIds: readonly HostId[]
  readonly home: string
  /** For refusals: names of the disk's present holder, and of the instance's host. */
  readonly holder: string
  readonly host: string
}

/** A user wants it attached. Null when that instance has it already. */
export function decideAttach(disk: DiskRecord, target: AttachTarget): DiskDecision | null {
  const { instance, slot, count, hostIds, home, holder, host } = target
  if (disk.instanceUuid === instance.uuid && disk.status !== 'detaching') return null
  if (nextDiskStatus(disk, 'attach') !== 'attaching') throw refusal(disk, 'be attached', holder)
  if (count >= DISKS_PER_INSTANCE_MAX) {
    throw new VpeError(
      'CONFLICT',
      `instance ${instance.name} has ${count} data disks, and no room for more; detach one first`,
    )
  }
  if (!hostIds.includes(instance.hostId)) {
    throw new VpeError(
      'CONFLICT',
      `disk ${disk.name} lies on ${home}, and instance ${instance.name} is on host ${host}, which does not reach it`,
    )
  }
  return {
    next: { ...disk, status: 'attaching', instanceUuid: instance.uuid, slot },
    why: `attaching to instance ${instance.name} was asked for`,
  }
}

/** A user wants it detached from the instance that has it. Null when that is under way. */
export function decideDetach(disk: DiskRecord, holder: string): DiskDecision | null {
  const status = nextDiskStatus(disk, 'detach')
  if (status === 'same') return null
  if (status !== 'detaching') throw refusal(disk, 'be detached', holder)
  return { next: { ...disk, status }, why: `detaching from instance ${holder} was asked for` }
}

/** A user changes name or size. Null when nothing changes. */
export function decideDiskUpdate(
  disk: DiskRecord,
  changes: { readonly name?: string; readonly sizeBytes?: number },
  holder: string,
): DiskDecision | null {
  const { name = disk.name, sizeBytes = disk.sizeBytes } = changes
  if (sizeBytes < disk.sizeBytes) {
    const message = `disk ${disk.name} has ${gib(disk.sizeBytes)} and cannot shrink to ${gib(sizeBytes)}: what lies beyond would be lost`
    throw new VpeError('INVALID_ARGUMENT', message, { fields: [{ field: 'size_gib', message }] })
  }
  const renamed = { ...disk, name }
  if (sizeBytes === disk.sizeBytes) {
    return name === disk.name ? null : { next: renamed, why: `it was named ${disk.name}` }
  }
  if (nextDiskStatus(disk, 'resize') !== 'resizing') throw refusal(disk, 'be resized', holder)
  return {
    next: { ...renamed, status: 'resizing', sizeBytes },
    why: `growing from ${gib(disk.sizeBytes)} to ${gib(sizeBytes)} was asked for`,
  }
}

/** A user wants it gone. Null when it is going already. */
export function decideDiskDelete(disk: DiskRecord, holder: string): DiskDecision | null {
  const status = nextDiskStatus(disk, 'delete')
  if (status === 'same') return null
  if (status !== 'deleting') throw refusal(disk, 'be deleted', holder)
  return { next: { ...disk, status, fault: '' }, why: 'deletion was asked for' }
}

/** Its host has done what it was asked. */
export function decideDiskSettled(disk: DiskRecord): DiskDecision | null {
  const status = nextDiskStatus(disk, disk.status === 'deleting' ? 'removed' : 'settled')
  switch (status) {
    case 'gone':
      return { next: null, why: 'its host has removed it' }
    case 'available':
      return { next: settled({ ...disk, status, instanceUuid: null, slot: 0 }), why: 'it is in no domain' }
    case 'in-use':
      return { next: settled({ ...disk, status }), why: 'its instance has it' }
    default:
      return null
  }
}

/**
 * What was asked of its host cannot be done. A wish that fails is taken back: the disk is where it was,
 * or goes back there.
 */
export function decideDiskFailed(disk: DiskRecord, fault: string): DiskDecision | null {
  const status = nextDiskStatus(disk, 'failed')
  if (status === 'ignored' || status === 'refused' || status === 'gone') return null
  if (status === 'same') return disk.fault === fault ? null : { next: { ...disk, fault }, why: fault }
  const sizeBytes = disk.settledBytes || disk.sizeBytes
  return {
    next: { ...disk, status, sizeBytes, fault: status === 'error' ? fault : '' },
    why: fault,
    fault,
  }
}

/**
 * The instance that has the disk has moved; null when it is gone. Where it rests as it is wanted, its
 * domain has the disks that its wish names, and no others.
 */
export function decideDiskFollows(disk: DiskRecord, instance: InstanceRecord | null): DiskDecision | null {
  if (!instance) {
    const status = nextDiskStatus(disk, 'freed')
    if (status === 'ignored' || status === 'refused' || status === 'gone') return null
    const kept = { ...disk, instanceUuid: null, slot: 0 }
    const isResizing = status === 'same'
    // What the deleted instance's domain had of the new size is not known: the disk's host is asked.
    return {
      next: isResizing ? kept : { ...kept, status },
      why: 'the instance that had it was deleted; the disk is kept',
    }
  }
  const here = hostOfGuest(instance)
  if (disk.hostId !== null && disk.hostId !== here)
    return { next: { ...disk, hostId: here }, why: 'it has moved along with its instance' }
  const isAtRest = instance.task === null && instance.status !== 'error'
  if (!isAtRest || instance.settledGeneration !== instance.generation) return null
  return decideDiskSettled(disk)
}

/** Whether the domain of the instance that has the disk shall have it. */
export function isWantedAttached(disk: DiskRecord): boolean {
  return disk.instanceUuid !== null && disk.status !== 'detaching'
}

/** Which running operations of a disk end, now that it stands where it stands; `next` null when it is gone. */
export function settleDiskOperations(
  operations: readonly OperationRecord[],
  { next, fault }: Pick<DiskDecision, 'next' | 'fault'>,
  nowMs: number,
): OperationRecord[] {
  return operations.flatMap((operation) => {
    if (fault) return endOperation(operation, 'failed', nowMs, fault)
    const outcome = outcomeOf(operation.kind, next)
    return outcome === null ? [] : endOperation(operation, outcome.status, nowMs, outcome.fault)
  })
}

function outcomeOf(
  kind: string,
  next: DiskRecord | null,
): { status: 'succeeded' | 'cancelled'; fault: string } | null {
  const succeeded = { status: 'succeeded', fault: '' } as const
  const cancelled = (fault: string) => ({ status: 'cancelled', fault }) as const
  if (kind === 'disk.delete') return next ? null : succeeded
  if (!next || next.status === 'deleting') return cancelled('the disk was deleted meanwhile')
  const isResting = next.status === 'available' || next.status === 'in-use'
  switch (kind) {
    case 'disk.attach':
      if (next.status === 'in-use') return succeeded
      if (next.instanceUuid === null) return cancelled('the instance was deleted meanwhile')
      return next.status === 'detaching' ? cancelled('the disk is wanted detached meanwhile') : null
    // One that has only been renamed has nothing to wait for, wherever the disk stands.
    case 'disk.update':
      return next.status === 'resizing' ? null : succeeded
    case 'disk.detach':
      return next.instanceUuid === null ? succeeded : null
    default:
      return isResting ? succeeded : null
  }
}

function settled(disk: DiskRecord): DiskRecord {
  return { ...disk, settledBytes: disk.sizeBytes, fault: '' }
}

function refusal(disk: DiskRecord, what: string, holder: string): VpeError {
  const cure: Partial<Record<DiskRecord['status'], string>> = {
    'in-use': 'detach it first',
    error: 'delete it and create another',
    deleting: 'take another',
  }
  const where = disk.instanceUuid === null ? '' : ` with instance ${holder} (${disk.instanceUuid})`
  const help = cure[disk.status] ?? 'wait until its operation has ended'
  return new VpeError('CONFLICT', `disk ${disk.name} cannot ${what}: it is ${disk.status}${where}; ${help}`)
}
