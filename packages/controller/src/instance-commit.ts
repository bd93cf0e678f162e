// From a decision about an instance to what is written: the row, the operations that it ends, and one
// event, all in one transaction. Every change of an instance goes through here, so every change has
// exactly one event.

import type { VpeEvent } from '@vpe/bus'
import {
  type DiskRecord,
  type InstanceDecision,
  type InstancePhase,
  type InstanceRecord,
  type Migration,
  type OperationRecord,
  phaseOf,
  settleInstanceOperations,
} from '@vpe/core'
import type { Logger } from 'pino'
import { commitOfFollowingDisks, joinCommits } from './disk-commit.ts'
import { disksOf } from './instance-disks.ts'
import { commitOfGoneSnapshots } from './snapshot-commit.ts'
import type { Store } from './store/store.ts'
import { type Change, change } from './store/tables.ts'

export interface InstanceCommit {
  readonly changes: Change[]
  readonly events: VpeEvent[]
}

/**
 * @param before null for a new instance
 * @param operations those that run for it, with the new one if a user's request is what changes it
 * @param disks the data disks that it has; of one that is gone, those that are kept
 */
export function commitOfDecision(
  before: InstanceRecord | null,
  decision: InstanceDecision,
  operations: readonly OperationRecord[],
  nowMs: number,
  disks: readonly DiskRecord[],
): InstanceCommit {
  const { next, why } = decision
  const instance = next ?? before
  if (!instance) throw new Error('a decision about no instance')
  const ended = new Map(
    settleInstanceOperations(operations, next, nowMs).map((operation) => [operation.uuid, operation]),
  )
  return {
    changes: [
      ...(next
        ? [change.instance(next)]
        : [change.remove('instances', instance.uuid), change.remove('userData', instance.uuid)]),
      ...operations.map((operation) => change.operation(ended.get(operation.uuid) ?? operation)),
    ],
    events: [instanceEvent(before, next, instance, why, disks, nowMs)],
  }
}

/** What is told of a decision that comes of more than the record shows, and written with it. */
export interface Telling {
  readonly what: string
  readonly data?: Readonly<Record<string, unknown>>
  readonly changes?: readonly Change[]
}

/** Writes a decision about an instance that has a record, and says so in the log: one line for each change. */
export function commitDecision(
  store: Store,
  before: InstanceRecord,
  decision: InstanceDecision,
  nowMs: number,
  log: Logger,
  telling: Telling | null = null,
): void {
  const operations = store.runningOperationsOf(before.uuid)
  const disks = disksOf(store, before.uuid)
  const { changes, events } = joinCommits([
    commitOfDecision(before, decision, operations, nowMs, disks),
    commitOfFollowingDisks(store, disks, decision.next, nowMs),
    // What lay in the file of its disk has gone with it.
    ...(decision.next ? [] : [commitOfGoneSnapshots(store, before.uuid, nowMs)]),
  ])
  const told = telling
    ? events.map((event) =>
        event.kind === 'instance'
          ? { ...event, what: telling.what, data: { ...event.data, ...telling.data } }
          : event,
      )
    : events
  void store.commit([...(telling?.changes ?? []), ...changes], told)
  const phase = decision.next ? phaseOf(decision.next) : 'gone'
  log.info({ instance: before.uuid, phase, why: decision.why }, 'instance moved')
}

function instanceEvent(
  before: InstanceRecord | null,
  next: InstanceRecord | null,
  instance: InstanceRecord,
  why: string,
  disks: readonly DiskRecord[],
  nowMs: number,
): VpeEvent {
  const what = whatHappened(before, next)
  return {
    kind: 'instance',
    id: instance.uuid,
    what,
    data: {
      uuid: instance.uuid,
      name: instance.name,
      namespace: instance.namespace,
      generation: instance.generation,
      status: instance.status,
      task: instance.task,
      previous: before && phaseOf(before),
      power: instance.power,
      ha: instance.ha,
      restarts: instance.restarts,
      host_uuid: instance.hostId,
      leaving_host_uuid: instance.leavingHostId,
      addresses: instance.addresses,
      disks: disks.map(({ uuid, name }) => ({ uuid, name })),
      fault: instance.fault || null,
      ...(OF_MIGRATION.has(what) &&
        instance.migration && { migration: showMigration(instance.migration, nowMs) }),
      why,
    },
  }
}

const OF_MIGRATION: ReadonlySet<string> = new Set(['migrating', 'released', 'migrated', 'migration_failed'])

function showMigration(migration: Migration, nowMs: number) {
  return {
    mode: migration.mode,
    from_host_uuid: migration.fromHostId,
    to_host_uuid: migration.toHostId,
    duration_ms: nowMs - migration.startedAtMs,
    downtime_ms: migration.downtimeMs,
    fault: migration.fault || null,
  }
}

const WHAT_OF_PHASE: Record<InstancePhase, string> = {
  creating: 'creating',
  starting: 'starting',
  stopping: 'stopping',
  rebooting: 'rebooting',
  pausing: 'pausing',
  resuming: 'resuming',
  rebuilding: 'rebuilding',
  reverting: 'reverting',
  resizing: 'resizing',
  migrating: 'migrating',
  updating: 'updating',
  recovering: 'recovering',
  deleting: 'deleting',
  active: 'started',
  shutoff: 'stopped',
  paused: 'paused',
  error: 'failed',
}

/** What a task has done when it comes to rest, where that is not told by where it rests. */
const WHAT_OF_END: Partial<Record<InstancePhase, string>> = {
  rebooting: 'rebooted',
  resuming: 'resumed',
  rebuilding: 'rebuilt',
  reverting: 'reverted',
  resizing: 'resized',
  migrating: 'migrated',
}

/** It was to go elsewhere, and is where it was. */
function hasStayed({ migration }: InstanceRecord): boolean {
  return migration?.end === 'failed' || migration?.end === 'cancelled'
}

function whatHappened(before: InstanceRecord | null, next: InstanceRecord | null): string {
  if (!next) return 'deleted'
  const phase = phaseOf(next)
  if (before && next.restarts > before.restarts) return 'recovered'
  if (before && before.locked !== next.locked) return next.locked ? 'locked' : 'unlocked'
  if (before && before.leavingHostId !== null && next.leavingHostId === null && before.hostId === next.hostId)
    return 'released'
  if (before && before.leavingHostId === next.hostId && hasStayed(next)) return 'migration_failed'
  if (before && phaseOf(before) === phase) return before.hostId === next.hostId ? 'updated' : 'migrating'
  // An update that comes to rest where it began has neither started nor stopped anything.
  const isInPlace = before?.task === 'updating' || (before?.task === 'migrating' && hasStayed(next))
  if (isInPlace && before.status === phase) return 'updated'
  const isSettled = before && next.task === null && next.settledGeneration > before.settledGeneration
  return (isSettled && WHAT_OF_END[phaseOf(before)]) || WHAT_OF_PHASE[phase]
}
