// What becomes of the record of an instance when its host is lost, or only silent. Who has it, and whether anybody else may, is
// decided elsewhere (ha/recovery.ts); here is what that means for its user.

import type { HostId } from './ids.ts'
import type { InstanceRecord } from './instance.ts'
import type { InstanceDecision } from './instance-decisions.ts'
import { enterPhase, nextPhase } from './instance-machine.ts'

/**
 * Its host does not answer, or is lost. Null where that is no news: what is off stays off, and a task waits as it is.
 * @param fault why it does not run elsewhere, for people
 */
export function decideCutOff(instance: InstanceRecord, fault: string): InstanceDecision | null {
  const phase = nextPhase(instance, 'cutOff')
  if (phase === 'recovering')
    return { next: { ...enterPhase(instance, phase), status: 'error', fault }, why: fault }
  if (phase !== 'same' || (instance.status === 'error' && instance.fault === fault)) return null
  return { next: { ...instance, status: 'error', fault }, why: fault }
}

/** It is given to another host, as a generation that nobody has had. A move that was under way has failed by that. */
export function decideGiven(
  instance: InstanceRecord,
  hostId: HostId,
  generation: number,
  why: string,
): InstanceDecision {
  const { migration, leavingHostId } = instance
  const isMoving = leavingHostId !== null && migration !== null
  const given: InstanceRecord = {
    ...instance,
    hostId,
    generation,
    leavingHostId: null,
    ...(isMoving && {
      hostIds: migration.hostIdsBefore,
      migration: { ...migration, end: 'failed', fault: 'a host of it was lost' },
    }),
  }
  return { next: inPhase(given, nextPhase(instance, 'given')), why }
}

/** Nobody has it any more, and it is not wanted on: it rests. Of a paused one there is nothing left to go on with. */
export function decideLetGo(instance: InstanceRecord, generation: number, why: string): InstanceDecision {
  const phase = nextPhase(instance, 'letGo')
  const next: InstanceRecord = { ...instance, generation }
  if (phase !== 'shutoff' || instance.power === 'on') return { next, why }
  return { next: enterPhase({ ...next, power: 'off', settledGeneration: generation }, phase), why }
}

/** It runs, and can be guarded as it could not be before: its host is told. Null while something else is under way. */
export function decideGuard(instance: InstanceRecord): InstanceDecision | null {
  if (instance.task !== null || instance.status !== 'active' || instance.leavingHostId !== null) return null
  const next = { ...instance, generation: instance.generation + 1 }
  return { next: enterPhase(next, 'updating'), why: 'its disks can be guarded now' }
}

function inPhase(instance: InstanceRecord, phase: ReturnType<typeof nextPhase>): InstanceRecord {
  return phase === 'starting' ? enterPhase(instance, phase) : instance
}
