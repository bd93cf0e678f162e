// From a decision about a data disk to what is written: the row, the operations that it ends, and one
// event. And what follows for disks when the instance that has them moves: in its own transaction, so
// that a disk is free in the same moment in which its instance is known to be without it.

import type { VpeEvent } from '@vpe/bus'
import {
  type DiskDecision,
  type DiskRecord,
  type DiskStatus,
  decideDiskFollows,
  endOperation,
  type InstanceRecord,
  type OperationRecord,
  settleDiskOperations,
} from '@vpe/core'
import type { Logger } from 'pino'
import type { InstanceCommit } from './instance-commit.ts'
import type { Store } from './store/store.ts'
import { change } from './store/tables.ts'

/**
 * @param before null for a new disk
 * @param operations those that run for it, with the new one if a user's request is what changes it
 */
export function commitOfDiskDecision(
  before: DiskRecord | null,
  decision: DiskDecision,
  operations: readonly OperationRecord[],
  nowMs: number,
): InstanceCommit {
  const { next } = decision
  const disk = next ?? before
  if (!disk) throw new Error('a decision about no disk')
  const ended = new Map(settleDiskOperations(operations, decision, nowMs).map((each) => [each.uuid, each]))
  return {
    changes: [
      next ? change.disk(next) : change.remove('disks', disk.uuid),
      ...operations.map((operation) => change.operation(ended.get(operation.uuid) ?? operation)),
    ],
    events: [diskEvent(before, disk, decision)],
  }
}

/** Writes a decision about a disk that has a record, and says so in the log. */
export function commitDiskDecision(
  store: Store,
  before: DiskRecord,
  decision: DiskDecision,
  nowMs: number,
  log: Logger,
): void {
  const operations = store.runningOperationsOn(before.uuid)
  const { changes, events } = commitOfDiskDecision(before, decision, operations, nowMs)
  void store.commit(changes, events)
  log.info({ disk: before.uuid, status: decision.next?.status ?? 'gone', why: decision.why }, 'disk moved')
}

/** What becomes of an instance's disks when it moves; `next` is null when it is gone. */
export function commitOfFollowingDisks(
  store: Store,
  disks: readonly DiskRecord[],
  next: InstanceRecord | null,
  nowMs: number,
): InstanceCommit {
  const commits = disks.map((disk): InstanceCommit => {
    const operations = store.runningOperationsOn(disk.uuid)
    const decision = decideDiskFollows(disk, next)
    if (decision) return commitOfDiskDecision(disk, decision, operations, nowMs)
    if (next?.status !== 'error' || next.task !== null) return { changes: [], events: [] }
    const failed = operations.map((each) => endOperation(each, 'failed', nowMs, next.fault))
    return { changes: failed.map(change.operation), events: [] }
  })
  return joinCommits(commits)
}

export function joinCommits(commits: readonly InstanceCommit[]): InstanceCommit {
  return {
    changes: commits.flatMap(({ changes }) => changes),
    events: commits.flatMap(({ events }) => events),
  }
}

function diskEvent(
  before: DiskRecord | null,
  disk: DiskRecord,
  { next, why, fault }: DiskDecision,
): VpeEvent {
  return {
    kind: 'disk',
    id: disk.uuid,
    what: whatHappened(before, next, fault),
    data: {
      uuid: disk.uuid,
      name: disk.name,
      size_bytes: disk.sizeBytes,
      status: disk.status,
      previous: before?.status ?? null,
      disk_pool_uuid: disk.diskPoolUuid,
      host_uuid: disk.hostId,
      instance_uuid: disk.instanceUuid ?? before?.instanceUuid ?? null,
      fault: fault || disk.fault || null,
      why,
    },
  }
}

/** What an end of these statuses is, where nothing failed. */
const WHAT_ENDED: Partial<Record<DiskStatus, string>> = {
  creating: 'created',
  attaching: 'attached',
  resizing: 'resized',
}

function whatHappened(before: DiskRecord | null, next: DiskRecord | null, fault = ''): string {
  if (!next) return 'deleted'
  if (fault) return 'failed'
  if (before?.instanceUuid && next.instanceUuid === null) return 'detached'
  if (before?.status === next.status) return 'updated'
  const isResting = next.status === 'available' || next.status === 'in-use'
  return isResting && before ? (WHAT_ENDED[before.status] ?? 'updated') : next.status
}
