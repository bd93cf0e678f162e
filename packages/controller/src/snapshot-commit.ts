// From a decision about a snapshot to what is written: the row, the operations that it ends, and one event.
// And what follows for the snapshots of an instance that is gone, in the transaction that says so.

import type { VpeEvent } from '@vpe/bus'
import {
  type OperationRecord,
  SNAPSHOT_GONE_WITH_INSTANCE,
  type SnapshotDecision,
  type SnapshotRecord,
  type SnapshotStatus,
  settleSnapshotOperations,
} from '@vpe/core'
import type { Logger } from 'pino'
import type { InstanceCommit } from './instance-commit.ts'
import type { Store } from './store/store.ts'
import { change } from './store/tables.ts'

/**
 * @param before null for a new snapshot
 * @param operations those that run for it, with the new one if a user's request is what changes it
 */
export function commitOfSnapshotDecision(
  before: SnapshotRecord | null,
  decision: SnapshotDecision,
  operations: readonly OperationRecord[],
  nowMs: number,
): InstanceCommit {
  const { next } = decision
  const snapshot = next ?? before
  if (!snapshot) throw new Error('a decision about no snapshot')
  const ended = new Map(
    settleSnapshotOperations(operations, decision, nowMs).map((each) => [each.uuid, each]),
  )
  return {
    changes: [
      next ? change.snapshot(next) : change.remove('snapshots', snapshot.uuid),
      ...operations.map((operation) => change.operation(ended.get(operation.uuid) ?? operation)),
    ],
    events: [snapshotEvent(before, snapshot, decision)],
  }
}

/** Writes a decision about a snapshot that has a record, and says so in the log. */
export function commitSnapshotDecision(
  store: Store,
  before: SnapshotRecord,
  decision: SnapshotDecision,
  nowMs: number,
  log: Logger,
): void {
  const operations = store.runningOperationsOn(before.uuid)
  const { changes, events } = commitOfSnapshotDecision(before, decision, operations, nowMs)
  void store.commit(changes, events)
  const status = decision.next?.status ?? 'gone'
  log.info(
    { snapshot: before.uuid, instance: before.instanceUuid, status, why: decision.why },
    'snapshot moved',
  )
}

/** They go with their instance. */
export function commitOfGoneSnapshots(store: Store, instanceUuid: string, nowMs: number): InstanceCommit {
  const commits = store.snapshotIndex.ofInstance(instanceUuid).map((snapshot) => {
    const operations = store.runningOperationsOn(snapshot.uuid)
    return commitOfSnapshotDecision(snapshot, SNAPSHOT_GONE_WITH_INSTANCE, operations, nowMs)
  })
  return {
    changes: commits.flatMap(({ changes }) => changes),
    events: commits.flatMap(({ events }) => events),
  }
}

function snapshotEvent(
  before: SnapshotRecord | null,
  snapshot: SnapshotRecord,
  { next, why }: SnapshotDecision,
): VpeEvent {
  return {
    kind: 'snapshot',
    id: snapshot.uuid,
    what: whatHappened(before, next),
    data: {
      uuid: snapshot.uuid,
      name: snapshot.name,
      instance_uuid: snapshot.instanceUuid,
      status: snapshot.status,
      previous: before?.status ?? null,
      size_bytes: snapshot.sizeBytes,
      fault: snapshot.fault || null,
      why,
    },
  }
}

const WHAT_OF_STATUS: Record<SnapshotStatus, string> = {
  creating: 'creating',
  available: 'created',
  deleting: 'deleting',
  error: 'failed',
}

/** A deletion that cannot be carried out for now has failed, though it is tried on. */
function whatHappened(before: SnapshotRecord | null, next: SnapshotRecord | null): string {
  if (!next) return 'deleted'
  return before?.status === next.status && next.fault ? 'failed' : WHAT_OF_STATUS[next.status]
}
