// The next step for one instance, from its record alone. The shell around it makes the call and feeds
// the result back as a decision; it may die at any line, since the next look comes to the same step.

import type { HostId } from './ids.ts'
import { type InstanceRecord, isLeavingLive, phaseOf } from './instance.ts'

/** What happened to the calls made so far for the present generation. Lives in memory only. */
export interface Attempts {
  readonly generation: number
  readonly failures: number
  /** Those of the failures in which the host answered, and refused. */
  readonly refusals: number
  readonly retryAtMs: number
}

export type PlannedAction =
  | { readonly kind: 'none' }
  | { readonly kind: 'wait'; readonly untilMs: number; readonly why: string }
  /** Has the host that it moves away from hand its guest over as it runs. */
  | { readonly kind: 'migrate'; readonly why: string }
  /** Has a live move that is not wanted any more come to its end, there or here. */
  | { readonly kind: 'end-migration'; readonly why: string }
  /** Has the host that it moves away from let go of it. */
  | { readonly kind: 'release'; readonly why: string }
  | { readonly kind: 'apply'; readonly why: string }
  | { readonly kind: 'remove'; readonly why: string }
  /** Has a host remove what a move has left there of its disks. */
  | { readonly kind: 'sweep'; readonly hostId: HostId; readonly why: string }

/** Says what to do next for an instance, at a time. */
export function plan(instance: InstanceRecord, attempts: Attempts | null, nowMs: number): PlannedAction {
  const action = nextAction(instance)
  if (action.kind === 'none' || !attempts || attempts.generation !== instance.generation) return action
  if (attempts.retryAtMs > nowMs) return { kind: 'wait', untilMs: attempts.retryAtMs, why: action.why }
  return action
}

/**
 * Whatever is wanted of an instance that moves, nothing is done on its new host while the old one may run it.
 * What takes over from a live move has its guest stopped where it is.
 */
function nextAction(instance: InstanceRecord): Exclude<PlannedAction, { kind: 'wait' }> {
  const action = wantedAction(instance)
  if (action.kind === 'none') return leftOver(instance) ?? action
  if (instance.leavingHostId === null) {
    // Its record is all that knows of them.
    return (action.kind === 'remove' ? staleCopy(instance) : null) ?? action
  }
  // Of disks that are being copied only the old host's are whole: whatever takes over, it is ended first.
  if (isLeavingLive(instance) && (instance.task === 'migrating' || instance.migration?.copyDisks)) {
    return instance.migration?.end === null && instance.task === 'migrating'
      ? { kind: 'migrate', why: `${action.why} from host ${instance.leavingHostId} as it runs` }
      : { kind: 'end-migration', why: `its live migration is ${instance.migration?.end}` }
  }
  return { kind: 'release', why: `${action.why}: host ${instance.leavingHostId} has it` }
}

/** What an earlier place has of it goes when it is well where it is now. */
function leftOver(instance: InstanceRecord): SweepAction | null {
  const isWell = instance.task === null && instance.status !== 'error'
  return isWell && instance.settledGeneration === instance.generation ? staleCopy(instance) : null
}

type SweepAction = Extract<PlannedAction, { kind: 'sweep' }>

function staleCopy({ staleCopies, hostId, leavingHostId }: InstanceRecord): SweepAction | null {
  const stale = staleCopies.find((each) => each !== hostId && each !== leavingHostId)
  if (stale === undefined) return null
  return { kind: 'sweep', hostId: stale, why: `host ${stale} has files that are its disks no more` }
}

function wantedAction(
  instance: InstanceRecord,
): Extract<PlannedAction, { kind: 'none' | 'apply' | 'remove' }> {
  const phase = phaseOf(instance)
  switch (phase) {
    case 'creating':
    case 'starting':
    case 'stopping':
    case 'rebooting':
    case 'pausing':
    case 'resuming':
    case 'rebuilding':
    case 'reverting':
    case 'resizing':
    case 'migrating':
    case 'updating':
      return { kind: 'apply', why: phase }
    case 'deleting':
      return { kind: 'remove', why: phase }
    case 'recovering': // its agent is at it, with a back-off that a call from here would defeat
    case 'active':
    case 'shutoff':
    case 'paused':
    case 'error':
      return { kind: 'none' }
    default:
      throw new Error(`no such phase: ${phase satisfies never}`)
  }
}
