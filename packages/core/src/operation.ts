// An operation is one change that a user asked for. It ends only when the world has reached what was
// asked, so its end is derived from where its resource comes to rest, never from a call returning.

import type { InstanceId, OperationId, PlacementId } from './ids.ts'
import type { InstancePhase, InstanceRecord, Power } from './instance.ts'

export type OperationStatus = 'running' | 'succeeded' | 'failed' | 'cancelled'

export type InstanceVerb =
  | 'create'
  | 'start'
  | 'stop'
  | 'reboot'
  | 'pause'
  | 'resume'
  | 'rebuild'
  | 'revert'
  | 'resize'
  | 'update'
  | 'migrate'
  | 'cancel_migration'
  | 'lock'
  | 'unlock'
  | 'delete'

/** Verbs that are about power, and what each wants. */
const WANTED_POWER: Partial<Record<InstanceVerb, Power>> = {
  create: 'on',
  start: 'on',
  reboot: 'on',
  resume: 'on',
  stop: 'off',
  pause: 'paused',
}

const POWER_WORDS = { on: 'ran', off: 'was off', paused: 'was paused' } as const

export interface OperationRecord {
  readonly uuid: OperationId
  /** "<resource>.<verb>", for example "instance.create". */
  readonly kind: string
  readonly resourceUuid: string
  /** Generation of the resource that this operation brought about; it cannot end well below it. */
  readonly generation: number
  readonly status: OperationStatus
  readonly fault: string
  readonly createdAtMs: number
  readonly endedAtMs: number | null
  readonly placementUuid: PlacementId | null
  /** What its user should know besides; empty for nothing. */
  readonly note: string
}

export function isInstanceOperation(operation: OperationRecord, instance: InstanceId): boolean {
  return operation.resourceUuid === instance && operation.kind.startsWith('instance.')
}

/** Ends an operation. */
export function endOperation(
  operation: OperationRecord,
  status: Exclude<OperationStatus, 'running'>,
  nowMs: number,
  fault = '',
): OperationRecord {
  return { ...operation, status, fault, endedAtMs: nowMs }
}

/**
 * Which running operations of an instance end, now that it stands where it stands. `after` is null
 * when the instance is gone. Operations that are not returned run on.
 */
export function settleInstanceOperations(
  operations: readonly OperationRecord[],
  after: InstanceRecord | null,
  nowMs: number,
): OperationRecord[] {
  const ended: OperationRecord[] = []
  for (const operation of operations) {
    const outcome = outcomeOf(operation.kind.slice('instance.'.length) as InstanceVerb, operation, after)
    if (outcome) ended.push(endOperation(operation, outcome.status, nowMs, outcome.fault))
  }
  return ended
}

interface Outcome {
  readonly status: Exclude<OperationStatus, 'running'>
  readonly fault: string
}

function outcomeOf(
  verb: InstanceVerb,
  operation: OperationRecord,
  after: InstanceRecord | null,
): Outcome | null {
  if (!after) {
    if (verb === 'delete') return { status: 'succeeded', fault: '' }
    return { status: 'cancelled', fault: 'the instance was deleted meanwhile' }
  }
  const phase: InstancePhase = after.task ?? after.status
  if (phase === 'error') return { status: 'failed', fault: after.fault }
  if (phase === 'deleting' && verb !== 'delete') {
    return { status: 'cancelled', fault: 'the instance is being deleted' }
  }
  const { migration } = after
  if (migration && after.leavingHostId === null) {
    const { end, fault } = migration
    const isOfThis = operation.generation === migration.generation
    if (isOfThis && (end === 'failed' || end === 'cancelled')) return { status: end, fault }
    if (verb === 'cancel_migration' && end === 'moved') {
      return { status: 'failed', fault: 'the migration had come to its end already' }
    }
  }
  // Starting it was overtaken by a stop, or the other way round; no rest need be waited for.
  const wanted = WANTED_POWER[verb]
  if (wanted && after.power !== wanted) {
    const fault = `the instance was wanted ${after.power} before it ${POWER_WORDS[wanted]}`
    return { status: 'cancelled', fault }
  }
  if (after.task !== null || after.settledGeneration < operation.generation) return null
  if (verb === 'delete') return null
  return { status: 'succeeded', fault: '' }
}
