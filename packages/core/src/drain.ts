// How a host is emptied for maintenance: which of its instances begin to move now, which wait, and which cannot.
// What has moved is seen from the records, so it does not matter how often one looks, or who has died in between.

import type { ErrorCode } from './errors.ts'
import type { HostId, InstanceId, OperationId } from './ids.ts'
import { type InstanceRecord, phaseOf } from './instance.ts'

/** Moves of one drain that are under way at once, where nobody says otherwise. */
export const DRAIN_PARALLEL = 2
export const DRAIN_PARALLEL_MAX = 64

/** How often one drain moves an instance that each time is back where it was. */
const TRIES = 3
const FIRST_DELAY_MS = 1_000

/** What is full or down now may not be so in a moment: a drain that has nothing else to do waits for it so long. */
const PATIENCE_MS = 15_000

/** What cannot leave a host, and why. */
export interface StuckInstance {
  readonly uuid: InstanceId
  readonly why: string
}

/** The latest drain of a host, of its record; it stays there, over, until the host is uncordoned. */
export interface DrainRecord {
  readonly operationUuid: OperationId
  readonly parallel: number
  /** Instances with disks in pools of the host's own leave, too, and take them along. */
  readonly copyDisks: boolean
  readonly startedAtMs: number
  /** Null while it goes on. */
  readonly endedAtMs: number | null
  /** Instances that the host had at its beginning. */
  readonly total: number
  /** As they were last, and once it is over, what it has left behind. */
  readonly stuck: readonly StuckInstance[]
}

/** What has come of the moves of one instance in a drain. Lives in memory only. */
export interface MoveFailures {
  /** Of the latest that has failed. */
  readonly generation: number
  readonly count: number
  readonly why: string
  readonly retryAtMs: number
  /** Hosts that it did not get to. */
  readonly hostIds: readonly HostId[]
}

/** The failures of an instance's moves, with its latest, if that is one that this drain has not counted. */
export function countMoveFailure(
  before: MoveFailures | null,
  { migration, leavingHostId }: Pick<InstanceRecord, 'migration' | 'leavingHostId'>,
  hostId: HostId,
  { startedAtMs }: Pick<DrainRecord, 'startedAtMs'>,
  nowMs: number,
): MoveFailures | null {
  if (!migration || leavingHostId !== null || migration.fromHostId !== hostId) return before
  if (migration.end !== 'failed' && migration.end !== 'cancelled') return before
  if (migration.startedAtMs < startedAtMs || migration.generation === before?.generation) return before
  const count = (before?.count ?? 0) + 1
  return {
    generation: migration.generation,
    count,
    why: migration.fault,
    retryAtMs: nowMs + FIRST_DELAY_MS * 2 ** (count - 1),
    hostIds: [...(before?.hostIds ?? []), migration.toHostId],
  }
}

/** Until when a drain bears with a refusal that it has met at each look since then; null where no time helps. */
export function patienceUntil(code: ErrorCode, sinceMs: number): number | null {
  return code === 'NO_HOST_FITS' ? sinceMs + PATIENCE_MS : null
}

export interface DrainView {
  readonly hostId: HostId
  readonly isUp: boolean
  readonly parallel: number
  /** Those that are on the host, or may be, or come to it. */
  readonly instances: readonly InstanceRecord[]
  /** Why an instance that was to begin to move did not. */
  readonly refusals: ReadonlyMap<InstanceId, string>
  /** Until when a refusal may pass by itself, of those that may; see `patienceUntil`. */
  readonly patience: ReadonlyMap<InstanceId, number>
  /** What an instance is used for that a move would spoil, and that ends by itself. */
  readonly uses: ReadonlyMap<InstanceId, string>
  readonly failures: ReadonlyMap<InstanceId, MoveFailures>
  readonly nowMs: number
}

export interface WaitingInstance {
  readonly uuid: InstanceId
  readonly why: string
}

export interface DrainPlan {
  /** To be begun now, in this order. */
  readonly start: readonly InstanceId[]
  readonly moving: readonly InstanceId[]
  readonly waiting: readonly WaitingInstance[]
  readonly stuck: readonly StuckInstance[]
  /** When one that waits for its next try is due; null where none does. */
  readonly wakeAtMs: number | null
  /** Nothing moves, and nothing will: all have left but those that are stuck, and have been for long enough. */
  readonly isOver: boolean
}

/**
 * The next step of a drain. Guests that run go first, since they are why one waits, and large ones before small ones,
 * while there is the most room elsewhere.
 */
export function planDrain(view: DrainView): DrainPlan {
  const moving: InstanceId[] = []
  const waiting: WaitingInstance[] = []
  const stuck: StuckInstance[] = []
  const ready: InstanceRecord[] = []
  let wakeAtMs: number | null = null
  for (const instance of [...view.instances].sort(byTurn)) {
    const stand = standOf(view, instance)
    const { uuid } = instance
    if (stand.kind === 'ready') ready.push(instance)
    else if (stand.kind === 'moving') moving.push(uuid)
    else if (stand.kind === 'stuck') stuck.push({ uuid, why: stand.why })
    else {
      waiting.push({ uuid, why: stand.why })
      if (stand.untilMs !== null) wakeAtMs = Math.min(wakeAtMs ?? stand.untilMs, stand.untilMs)
    }
  }
  const free = view.isUp ? Math.max(0, view.parallel - moving.length) : 0
  const why = view.isUp ? 'it waits for its turn' : 'its host is down, so what it does there is not known'
  waiting.push(...ready.slice(free).map(({ uuid }) => ({ uuid, why })))
  let mayPass = false
  for (const { uuid } of stuck) {
    const untilMs = view.patience.get(uuid) ?? 0
    if (untilMs <= view.nowMs) continue
    mayPass = true
    wakeAtMs = Math.min(wakeAtMs ?? untilMs, untilMs)
  }
  return {
    start: ready.slice(0, free).map(({ uuid }) => uuid),
    moving,
    waiting,
    stuck,
    wakeAtMs,
    isOver: moving.length === 0 && waiting.length === 0 && ready.length === 0 && !mayPass,
  }
}

type Stand =
  | { readonly kind: 'ready' }
  | { readonly kind: 'moving' }
  | { readonly kind: 'waiting'; readonly why: string; readonly untilMs: number | null }
  | { readonly kind: 'stuck'; readonly why: string }

function standOf({ hostId, refusals, uses, failures, nowMs }: DrainView, instance: InstanceRecord): Stand {
  const { uuid, task, leavingHostId } = instance
  const waiting = (why: string, untilMs: number | null = null): Stand => ({ kind: 'waiting', why, untilMs })
  if (leavingHostId === hostId) {
    if (task !== null) return { kind: 'moving' }
    return { kind: 'stuck', why: `its move has failed: ${instance.fault}; start or stop it, then it goes on` }
  }
  if (leavingHostId !== null) return waiting('it is still on its way here')
  if (task !== null) return waiting(instance.fault ? `it is ${task}: ${instance.fault}` : `it is ${task}`)
  const use = uses.get(uuid)
  if (use !== undefined) return waiting(use)
  const phase = phaseOf(instance)
  if (phase === 'paused') return { kind: 'stuck', why: 'it is paused; resume or stop it' }
  // Its guest may run all the same, and would be stopped by a move.
  if (phase === 'error' && instance.power === 'on') {
    return { kind: 'stuck', why: `it is in error: ${instance.fault}; start or stop it` }
  }
  const refusal = refusals.get(uuid)
  if (refusal !== undefined) return { kind: 'stuck', why: refusal }
  const failed = failures.get(uuid)
  if (failed && failed.count >= TRIES) {
    return { kind: 'stuck', why: `it was moved ${failed.count} times and came back: ${failed.why}` }
  }
  if (failed && failed.retryAtMs > nowMs) return waiting(`it came back: ${failed.why}`, failed.retryAtMs)
  return { kind: 'ready' }
}

function byTurn(a: InstanceRecord, b: InstanceRecord): number {
  const isUp = ({ status }: InstanceRecord) => (status === 'active' ? 0 : 1)
  return isUp(a) - isUp(b) || b.memoryMib - a.memoryMib || (a.uuid < b.uuid ? -1 : 1)
}

/** Instances that are named in a sentence; more are counted. */
const NAMED = 5

interface Told {
  readonly name: string
  readonly what: string
}

/** How far a drain is, in one line. */
export function tellDrain(
  total: number,
  { moving, waiting, stuck }: Record<'moving' | 'waiting' | 'stuck', readonly Told[]>,
): string {
  const left = Math.max(0, total - moving.length - waiting.length - stuck.length)
  const parts = [`${left} of ${Math.max(total, left)} have left`]
  if (moving.length > 0) parts.push(`${moving.length} move: ${tellAll(moving)}`)
  if (waiting.length > 0) parts.push(`${waiting.length} wait: ${tellAll(waiting)}`)
  if (stuck.length > 0) parts.push(tellStuck(stuck))
  return parts.join('; ')
}

/** What cannot leave, and why. */
export function tellStuck(stuck: readonly Told[]): string {
  return `${stuck.length} cannot: ${tellAll(stuck)}`
}

function tellAll(all: readonly Told[]): string {
  const named = all.slice(0, NAMED).map(({ name, what }) => (what === '' ? name : `${name} (${what})`))
  const more = all.length - named.length
  return named.join(', ') + (more > 0 ? ` and ${more} more` : '')
}
