// A rebalance that is carried out: what has become of its moves, and which begins next. What has moved is seen from
// the records, so it does not matter how often one looks, or who has died in between. A move that cannot be made is
// left out and told: the next rebalance plans anew.

import type { HostId, InstanceId, OperationId } from './ids.ts'
import type { InstanceRecord } from './instance.ts'
import type { OperationStatus } from './operation.ts'
import type { RebalancePlan } from './placement/index.ts'

/** Moves of a rebalance that are under way at once, where nobody says otherwise. */
export const REBALANCE_PARALLEL = 2
export const REBALANCE_PARALLEL_MAX = 50

export const REBALANCE_MOVE_STATES = ['waiting', 'moving', 'moved', 'failed', 'refused', 'needless'] as const
/** refused: it was not begun, since it could not be any more; needless: not begun, since nothing was to be gained. */
export type RebalanceMoveState = (typeof REBALANCE_MOVE_STATES)[number]

export interface RebalanceRunMove {
  readonly instanceUuid: InstanceId
  /** As it was called when this was planned. */
  readonly instanceName: string
  readonly fromHostId: HostId
  readonly toHostId: HostId
  readonly state: RebalanceMoveState
  /** Why it was planned, and then why it came to what it is. */
  readonly why: string
  /** Of the instance, with which it began to move; 0 before. */
  readonly generation: number
}

export interface RebalanceRecord {
  /** Its operation's, too. */
  readonly uuid: OperationId
  /** Nobody asked for it: it is one of those that are made again and again. */
  readonly isPeriodic: boolean
  readonly boundPercent: number
  readonly parallel: number
  readonly spreadBeforePercent: number
  readonly explanation: string
  readonly startedAtMs: number
  /** Null while it goes on. */
  readonly endedAtMs: number | null
  /** Nothing more is begun. */
  readonly isCancelled: boolean
  readonly moves: readonly RebalanceRunMove[]
}

/** The record of a plan that is to be carried out. */
export function rebalanceOf(
  plan: RebalancePlan,
  nameOf: (instanceUuid: InstanceId) => string,
  more: Pick<RebalanceRecord, 'uuid' | 'isPeriodic' | 'boundPercent' | 'parallel' | 'startedAtMs'>,
): RebalanceRecord {
  return {
    ...more,
    spreadBeforePercent: plan.spreadBeforePercent,
    explanation: plan.explanation,
    endedAtMs: null,
    isCancelled: false,
    moves: plan.moves.map(({ instanceUuid, fromHostId, toHostId, reason }) => ({
      ...{ instanceUuid, instanceName: nameOf(instanceUuid), fromHostId, toHostId },
      ...{ state: 'waiting', why: reason, generation: 0 },
    })),
  }
}

/** What has become of a move that is under way; any other is as it was. */
export function followMove(move: RebalanceRunMove, instance: InstanceRecord | null): RebalanceRunMove {
  if (move.state !== 'moving') return move
  if (!instance) return { ...move, state: 'failed', why: 'the instance is gone' }
  const { migration, leavingHostId, hostId, task, fault } = instance
  if (leavingHostId === move.fromHostId) {
    if (task !== null) return move
    return {
      ...move,
      state: 'failed',
      why: `its move has failed: ${fault}; start or stop it, then it goes on`,
    }
  }
  if (hostId === move.toHostId) return { ...move, state: 'moved' }
  if (migration?.generation === move.generation && migration.fault !== '')
    return { ...move, state: 'failed', why: migration.fault }
  return { ...move, state: 'failed', why: 'it was moved elsewhere meanwhile' }
}

/**
 * The moves as they stand, and the next one to be judged and begun; null while as many as may be are under way, or
 * where none is left.
 */
export function planRebalanceStep(
  record: RebalanceRecord,
  instanceOf: (uuid: InstanceId) => InstanceRecord | null,
): { readonly moves: readonly RebalanceRunMove[]; readonly next: number | null; readonly isOver: boolean } {
  const moves = record.moves.map((move): RebalanceRunMove => {
    if (move.state !== 'waiting') return followMove(move, instanceOf(move.instanceUuid))
    if (record.isCancelled) return { ...move, state: 'needless', why: 'the rebalance was cancelled' }
    const instance = instanceOf(move.instanceUuid)
    if (!instance) return { ...move, state: 'refused', why: 'the instance is gone' }
    if (instance.hostId === move.fromHostId && instance.leavingHostId === null) return move
    return { ...move, state: 'refused', why: 'it was moved elsewhere meanwhile' }
  })
  const moving = moves.filter(({ state }) => state === 'moving').length
  const first = moves.findIndex(({ state }) => state === 'waiting')
  return {
    moves,
    next: first >= 0 && moving < record.parallel ? first : null,
    isOver: first < 0 && moving === 0,
  }
}

/** How a rebalance ends whose moves are all over. */
export function outcomeOfRebalance({ isCancelled, moves }: RebalanceRecord): {
  readonly status: Exclude<OperationStatus, 'running'>
  readonly fault: string
} {
  const left = moves.filter(({ state }) => state === 'failed' || state === 'refused')
  const told = left.map(({ instanceName, why }) => `${instanceName} (${why})`).join(', ')
  const fault = left.length === 0 ? '' : `${left.length} of ${moves.length} could not move: ${told}`
  if (isCancelled) return { status: 'cancelled', fault: fault || 'it was cancelled' }
  return { status: left.length === 0 ? 'succeeded' : 'failed', fault }
}

/** How far a rebalance is, in one line. */
export function tellRebalance(
  { moves, isCancelled }: RebalanceRecord,
  stepOf: (uuid: InstanceId) => string,
): string {
  const of = (...states: RebalanceMoveState[]) => moves.filter(({ state }) => states.includes(state))
  const parts = [`${of('moved').length} of ${moves.length} moved`]
  const moving = of('moving').map(({ instanceUuid, instanceName }) => {
    const step = stepOf(instanceUuid)
    return step === '' ? instanceName : `${instanceName} (${step})`
  })
  if (moving.length > 0) parts.push(`${moving.length} move: ${moving.join(', ')}`)
  const [waiting, stuck, needless] = [of('waiting').length, of('failed', 'refused'), of('needless').length]
  if (waiting > 0) parts.push(`${waiting} wait`)
  if (stuck.length > 0)
    parts.push(`${stuck.length} could not: ${stuck.map((m) => m.instanceName).join(', ')}`)
  if (needless > 0) parts.push(`${needless} ${isCancelled ? 'were called off' : 'were not needed any more'}`)
  return parts.join('; ')
}
