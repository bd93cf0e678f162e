// Snapshots of an instance's system disk: what is kept of them, and what becomes of one when a user asks
// for something, when its host has done its part, or when its instance goes. The content itself lies in the
// disk's own file (docs/adr/0015). Each function takes values and returns the next record with the reason,
// null where nothing changes, and throws where a user is told no.

import { VpeError } from './errors.ts'
import type { InstanceId, SnapshotId } from './ids.ts'
import { type InstanceRecord, phaseOf } from './instance.ts'
import { endOperation, type OperationRecord } from './operation.ts'

export const SNAPSHOT_STATUSES = ['creating', 'available', 'deleting', 'error'] as const
export type SnapshotStatus = (typeof SNAPSHOT_STATUSES)[number]

export interface SnapshotRecord {
  readonly uuid: SnapshotId
  /** Unique among the snapshots of its instance. */
  readonly name: string
  readonly instanceUuid: InstanceId
  readonly status: SnapshotStatus
  /** Why it could not be made, or is not gone yet; empty otherwise. */
  readonly fault: string
  /** Size of the disk when it was asked for: what the snapshot may come to hold back. */
  readonly sizeBytes: number
  readonly createdAtMs: number
}

/** Of one instance. Each makes the disk's file larger by what is written after it. */
export const SNAPSHOTS_MAX = 32

export interface SnapshotDecision {
  /** The next record; null when the snapshot is gone. */
  readonly next: SnapshotRecord | null
  /** Why, for the log and the event. */
  readonly why: string
}

/** A user wants the disk's present content kept. @param others the snapshots that it has */
export function decideSnapshotCreate(
  instance: InstanceRecord,
  others: readonly SnapshotRecord[],
  fresh: Pick<SnapshotRecord, 'uuid' | 'name' | 'createdAtMs'>,
): SnapshotDecision {
  assertAtRest(instance, 'have a snapshot made')
  if (isDiskDue(instance)) {
    throw conflict(instance, 'have a snapshot made: its system disk is still to be made anew; start it first')
  }
  const namesake = others.find(({ name }) => name === fresh.name)
  if (namesake) {
    const name = JSON.stringify(fresh.name)
    throw new VpeError('NAME_TAKEN', `it already has a snapshot named ${name} (${namesake.uuid})`)
  }
  if (others.length >= SNAPSHOTS_MAX) {
    throw conflict(instance, `have more than ${SNAPSHOTS_MAX} snapshots; delete one first`)
  }
  return {
    next: {
      ...fresh,
      instanceUuid: instance.uuid,
      status: 'creating',
      fault: '',
      sizeBytes: instance.diskBytes,
    },
    why: 'a snapshot was asked for',
  }
}

/** A user wants it gone; one that is being made is given up. Null when it is going already. */
export function decideSnapshotDelete(
  instance: InstanceRecord,
  snapshot: SnapshotRecord,
): SnapshotDecision | null {
  assertAtRest(instance, 'have a snapshot deleted')
  if (instance.locked) throw locked(instance, 'have a snapshot deleted')
  if (snapshot.status === 'deleting') return null
  if (isDiskDue(instance) && instance.diskSnapshotUuid === snapshot.uuid) {
    const why = `a revert to ${snapshot.name} has not come about yet: start or stop it, or revert to another one first`
    throw new VpeError('CONFLICT', `instance ${instance.name} cannot have a snapshot deleted: ${why}`)
  }
  return { next: { ...snapshot, status: 'deleting', fault: '' }, why: 'deletion was asked for' }
}

/** The host has done what the status asks for. */
export function decideSnapshotSettled(snapshot: SnapshotRecord): SnapshotDecision | null {
  switch (snapshot.status) {
    case 'creating':
      return { next: { ...snapshot, status: 'available' }, why: 'its host has made it' }
    case 'deleting':
      return { next: null, why: 'its host has removed it' }
    case 'available':
    case 'error':
      return null
    default:
      throw new Error(`no such status: ${snapshot.status satisfies never}`)
  }
}

/** Trying again would not help to make it. A deletion is never given up, but its user is told why it takes so long. */
export function decideSnapshotFailed(snapshot: SnapshotRecord, fault: string): SnapshotDecision | null {
  if (snapshot.status === 'creating') return { next: { ...snapshot, status: 'error', fault }, why: fault }
  if (snapshot.status !== 'deleting' || snapshot.fault === fault) return null
  return { next: { ...snapshot, fault }, why: fault }
}

/** The disk has gone, and with it all that was in its file. */
export const SNAPSHOT_GONE_WITH_INSTANCE: SnapshotDecision = { next: null, why: 'its instance is deleted' }

/** Which running operations of a snapshot end with a decision. */
export function settleSnapshotOperations(
  operations: readonly OperationRecord[],
  { next, why }: SnapshotDecision,
  nowMs: number,
): OperationRecord[] {
  return operations.flatMap((operation) => {
    const isDeletion = operation.kind === 'snapshot.delete'
    if (!next && isDeletion) return [endOperation(operation, 'succeeded', nowMs)]
    if (isDeletion) return []
    if (!next || next.status === 'deleting') return [endOperation(operation, 'cancelled', nowMs, why)]
    if (next.status === 'error') return [endOperation(operation, 'failed', nowMs, next.fault)]
    return next.status === 'available' ? [endOperation(operation, 'succeeded', nowMs)] : []
  })
}

/** Its host has not yet said that the system disk holds what was last asked for. */
export function isDiskDue({ diskGeneration, settledGeneration }: InstanceRecord): boolean {
  return settledGeneration < diskGeneration
}

/**
 * What would take its disk away would take its snapshots with it.
 * @throws VpeError CONFLICT when it has any
 */
export function assertNoSnapshots(instance: InstanceRecord, count: number, action: string): void {
  if (count === 0) return
  const which = count === 1 ? 'a snapshot' : `${count} snapshots`
  throw conflict(instance, `${action}: it has ${which}, which would go with its disk; delete them first`)
}

function assertAtRest(instance: InstanceRecord, action: string): void {
  if (instance.task === null) return
  const advice = instance.task === 'deleting' ? '' : '; wait until that has ended, then try again'
  throw conflict(instance, `${action}: it is ${phaseOf(instance)}${advice}`)
}

function conflict({ uuid }: InstanceRecord, words: string): VpeError {
  return new VpeError('CONFLICT', `instance ${uuid} cannot ${words}`)
}

function locked(instance: InstanceRecord, action: string): VpeError {
  const how = `POST /instances/${instance.uuid}/unlock`
  return conflict(instance, `${action}: it is locked; unlock it first with ${how}`)
}
