// What becomes of an instance when a user asks for something, or when its host reports. Each
// function takes the record and returns the next one with the reason, or null when nothing changes.
// What follows from it (events, operations, calls to agents) is derived elsewhere from the two records.

import { VpeError } from './errors.ts'
import type { HostId, ImageId } from './ids.ts'
import { type InstanceRecord, type InstanceReport, phaseOf } from './instance.ts'
import { enterPhase, type InstanceEvent, nextPhase } from './instance-machine.ts'

export interface InstanceDecision {
  /** The next record; null when the instance is gone. */
  readonly next: InstanceRecord | null
  /** Why, for the log and the event. */
  readonly why: string
}

/** A user wants it powered on. Null when it is wanted on already. */
export function decideStart(instance: InstanceRecord): InstanceDecision | null {
  return decidePower(instance, 'start', 'on', 'start was asked for')
}

/** A user wants it powered off. Null when it is wanted off already. */
export function decideStop(instance: InstanceRecord): InstanceDecision | null {
  return decidePower(instance, 'stop', 'off', 'stop was asked for')
}

function decidePower(
  instance: InstanceRecord,
  event: 'start' | 'stop',
  power: 'on' | 'off',
  why: string,
): InstanceDecision | null {
  const phase = nextPhase(instance, event)
  if (phase === 'refused') throw refusal(instance, event)
  if (phase === 'ignored' || phase === 'same' || phase === 'gone') return null
  return { next: enterPhase(nextGeneration({ ...instance, power }), phase), why }
}

export interface InstanceChanges {
  readonly name?: string
  readonly tags?: readonly string[]
  readonly hostIds?: readonly HostId[]
  readonly ha?: boolean
  readonly imageUuid?: ImageId
}

/**
 * A user changes its properties. Name, tags and hosts are the controller's own affair; a change of
 * `ha` or of the image is carried out by the host, so it raises the generation and is a task.
 */
export function decideUpdate(instance: InstanceRecord, changes: InstanceChanges): InstanceDecision | null {
  const phase = nextPhase(instance, 'update')
  if (phase === 'refused') throw refusal(instance, 'update')
  const changed: InstanceRecord = { ...instance, ...changes }
  const why = `${Object.keys(changes).join(', ') || 'nothing'} changed`
  // A new name is shown by the host, too, but is no reason to start what its host has given up on.
  const isRenamed = changed.name !== instance.name && phaseOf(instance) !== 'error'
  if (isRenamed || changed.ha !== instance.ha || changed.imageUuid !== instance.imageUuid) {
    const next = nextGeneration(changed)
    return {
      next: phase === 'same' || phase === 'ignored' || phase === 'gone' ? next : enterPhase(next, phase),
      why,
    }
  }
  const same =
    JSON.stringify([changed.name, changed.tags, changed.hostIds]) ===
    JSON.stringify([instance.name, instance.tags, instance.hostIds])
  return same ? null : { next: changed, why }
}

/** A user wants it gone. Null when it is going already. */
export function decideDelete(instance: InstanceRecord): InstanceDecision | null {
  const phase = nextPhase(instance, 'delete')
  if (phase === 'same') return null
  return { next: enterPhase(nextGeneration(instance), 'deleting'), why: 'deletion was asked for' }
}

/** Its host says that nothing of it is left. */
export function decideRemoved(instance: InstanceRecord): InstanceDecision | null {
  return nextPhase(instance, 'removed') === 'gone' ? { next: null, why: 'its host has removed it' } : null
}

/** What its host was asked to do cannot be done, and trying again would not help. */
export function decideFailed(instance: InstanceRecord, fault: string): InstanceDecision | null {
  const phase = nextPhase(instance, 'failed')
  if (phase === 'same' && fault !== instance.fault) return { next: { ...instance, fault }, why: fault }
  if (phase !== 'error') return null
  return { next: { ...enterPhase(instance, 'error'), fault }, why: fault }
}

/**
 * Its host reports. `null` stands for a host that answered and does not have the instance at all.
 * Reports that are half way, stale, or say nothing new change nothing.
 */
export function decideReport(
  instance: InstanceRecord,
  report: InstanceReport | null,
): InstanceDecision | null {
  const seen = classifyReport(instance, report)
  if (!seen) return null
  const phase = nextPhase(instance, seen.event)
  if (seen.event === 'settled' && phase === 'ignored') return decideRecovered(instance, report)
  if (phase === 'ignored' || phase === 'same' || phase === 'refused' || phase === 'gone') return null
  switch (seen.event) {
    case 'settled': {
      const restarts = report?.restarts ?? instance.restarts
      const settled = { ...instance, settledGeneration: instance.generation, restarts }
      return { next: enterPhase(settled, phase), why: seen.why }
    }
    case 'guestOff':
      // The agent has written the same into the domain's metadata, so the generation stays.
      return { next: enterPhase({ ...instance, power: 'off' }, phase), why: seen.why }
    case 'failed':
      return { next: { ...enterPhase(instance, phase), fault: seen.why }, why: seen.why }
    case 'guestDown':
      return { next: enterPhase(instance, phase), why: seen.why }
    default:
      return { next: enterPhase(nextGeneration(instance), phase), why: seen.why }
  }
}

/** It runs as it did, but its host had to bring it back meanwhile: that is news. */
function decideRecovered(instance: InstanceRecord, report: InstanceReport | null): InstanceDecision | null {
  if (!report || report.restarts <= instance.restarts) return null
  const times = report.restarts === 1 ? 'once' : `${report.restarts} times`
  return {
    next: { ...instance, restarts: report.restarts },
    why: `its guest went off, and its host brought it back (${times} so far)`,
  }
}

interface SeenEvent {
  readonly event: InstanceEvent
  readonly why: string
}

function classifyReport(instance: InstanceRecord, report: InstanceReport | null): SeenEvent | null {
  if (instance.task === 'deleting') return null
  if (!report) return { event: 'lost', why: 'its host does not have it' }
  if (report.converging || report.generation !== instance.generation) return null
  if (report.fault) return { event: 'failed', why: report.fault }
  if (report.power === instance.power) return { event: 'settled', why: `its host reports it ${report.power}` }
  if (report.power === 'on') return { event: 'revived', why: 'it runs although it is wanted off' }
  switch (report.stopCause) {
    case 'guest':
    case 'crash': {
      const what = report.stopCause === 'guest' ? 'the guest powered itself off' : 'the guest crashed'
      return instance.ha ? { event: 'guestDown', why: what } : { event: 'guestOff', why: what }
    }
    case 'requested':
    case null:
      return { event: 'lost', why: 'it is off for no cause known here, such as a reboot of its host' }
    default:
      throw new Error(`no such cause: ${report.stopCause satisfies never}`)
  }
}

function nextGeneration(instance: InstanceRecord): InstanceRecord {
  return { ...instance, generation: instance.generation + 1 }
}

function refusal(instance: InstanceRecord, action: string): VpeError {
  return new VpeError('CONFLICT', `instance ${instance.uuid} cannot ${action}: it is ${phaseOf(instance)}`)
}
