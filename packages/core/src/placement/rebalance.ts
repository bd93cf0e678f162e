// The fewest moves that bring the spread of the load under a bound. Step by step the best move, then without those
// that are not needed; and where that took more than one, a search for fewer, as far as its budget reaches: on small clusters
// that finds the fewest there are.

import type { HostId, InstanceId } from '../ids.ts'
import type { Evenness, Load } from './balance.ts'
import type { HostTable } from './host-table.ts'
import { type BoardMove, RebalanceBoard, type RebalanceInstance, type Trial } from './rebalance-board.ts'

export type { RebalanceInstance } from './rebalance-board.ts'

/** In percent: what the most loaded host may have more than the least loaded one. */
export const REBALANCE_BOUND_PERCENT = 20
export const REBALANCE_MOVES = 10
export const REBALANCE_MOVES_MAX = 50

/** Moves that the search for fewer looks at, so that it ends soon. */
const SEARCH_MAX = 20_000

export interface RebalanceQuestion {
  readonly table: HostTable
  /** All instances of a host, in any order. */
  readonly instancesOn: (hostId: HostId) => readonly RebalanceInstance[]
  readonly boundPercent: number
  readonly maxMoves: number
}

export interface RebalanceMove {
  readonly instanceUuid: InstanceId
  readonly fromHostId: HostId
  readonly toHostId: HostId
  readonly copiedMib: number
  /** What it does to both hosts. */
  readonly reason: string
  /** Of the spread, once it has been made. */
  readonly spreadPercent: number
}

export interface RebalancePlan {
  readonly spreadBeforePercent: number
  readonly spreadAfterPercent: number
  /** To be made in this order. */
  readonly moves: readonly RebalanceMove[]
  /** Whether the spread is then within the bound. */
  readonly isBalanced: boolean
  /** Why it goes as far as it does, and no further. */
  readonly explanation: string
}

/**
 * Plans moves, and makes none. The table is as it was when this returns. The load of a host is the larger of the
 * shares of memory and vCPUs that are promised of what may be.
 */
export function planRebalance({
  table,
  instancesOn,
  boundPercent,
  maxMoves,
}: RebalanceQuestion): RebalancePlan {
  const board = new RebalanceBoard(table, instancesOn)
  const bound = boundPercent / 100
  try {
    const moves = fewestMoves(board, bound, maxMoves)
    return describe(board, moves, boundPercent, maxMoves)
  } finally {
    board.takeAllBack()
  }
}

/** An instance that is on its way from one host, and counts on both. */
export interface MoveUnderWay {
  readonly load: Load
  readonly fromHostId: HostId
}

export interface MoveCheck {
  readonly table: HostTable
  readonly underWay: readonly MoveUnderWay[]
  readonly instance: RebalanceInstance
  readonly fromHostId: HostId
  readonly toHostId: HostId
  readonly boundPercent: number
  /** What the spread may be at most after it. */
  readonly spreadMaxPercent: number
}

export type MoveVerdict =
  | { readonly kind: 'go' }
  | { readonly kind: 'needless' | 'refused'; readonly why: string }

/** Whether a planned move is still to be made, as things are now. The table is as it was when this returns. */
export function checkMove(check: MoveCheck): MoveVerdict {
  const { table, underWay, instance, fromHostId, toHostId, boundPercent, spreadMaxPercent } = check
  const board = new RebalanceBoard(table, () => [])
  const { balance } = board
  for (const { load, fromHostId } of underWay) {
    const row = table.rowOf(fromHostId)
    if (row >= 0) balance.leave(load, row)
  }
  const now = percentOf(balance.evenness.spread)
  if (now <= boundPercent)
    return { kind: 'needless', why: `the spread of ${now} % is within ${boundPercent} %` }
  const [from, to] = [table.rowOf(fromHostId), table.rowOf(toHostId)]
  const refused = (why: string): MoveVerdict => ({ kind: 'refused', why })
  if (from < 0 || to < 0) return refused('its host, or the one that it was to go to, is gone')
  if (instance.stays !== null) return refused(`it is left where it is: ${instance.stays}`)
  if (!balance.rows.includes(from)) return refused(`host ${table.names[from]} is down or cordoned now`)
  if (!board.allows({ instance, from, to })) return refused(`host ${table.names[to]} does not fit any more`)
  const after = percentOf(balance.evennessAfter(instance.request, from, to).spread)
  const most = Math.max(now, spreadMaxPercent)
  return after > most ? refused(`it would make the spread ${after} % now, over ${most} %`) : { kind: 'go' }
}

function fewestMoves(board: RebalanceBoard, bound: number, maxMoves: number): readonly BoardMove[] {
  const start = board.balance.evenness.spread
  goDown(board, bound, maxMoves)
  // Where there are more to come, also those count that only make it more even: the next plan goes on from there.
  const isUnfinished = board.balance.evenness.spread > bound && board.moves.length === maxMoves
  if (!isUnfinished) dropNeedless(board, bound, start)
  const found = [...board.moves]
  const isWithin = board.balance.evenness.spread <= bound
  board.takeAllBack()
  // What one move can do, the first step has done.
  const most = isWithin ? found.length - 1 : maxMoves
  return searchFewer(board, bound, most) ?? found
}

/** Makes the best move again and again, while it helps. */
function goDown(board: RebalanceBoard, bound: number, maxMoves: number): void {
  while (board.moves.length < maxMoves && !board.isExhausted) {
    const now = board.balance.evenness
    if (now.spread <= bound) return
    const [best] = bestFirst(board.trials(false), board, bound)
    if (!best || compareEvenness(best.after, now) >= 0) return
    board.make(best)
  }
}

/**
 * Takes out each move without which the bound is kept as well, or the spread no larger, and never larger than at the outset in
 * between; the costly ones first.
 */
function dropNeedless(board: RebalanceBoard, bound: number, start: number): void {
  const enough = Math.max(bound, board.balance.evenness.spread)
  const costlyFirst = [...board.moves].sort((a, b) => b.instance.copiedMib - a.instance.copiedMib)
  for (const needless of costlyFirst) {
    const { instance, from, to } = needless
    if (board.balance.evennessAfter(instance.request, to, from).spread > enough) continue
    const before = [...board.moves]
    const rest = before.filter((move) => move !== needless)
    if (!remake(board, rest, start)) remake(board, before, Number.POSITIVE_INFINITY)
  }
}

/** Whether these moves, in this order, are allowed, and none leaves more than `most` of spread; if so, they are made, and no others. */
function remake(board: RebalanceBoard, moves: readonly BoardMove[], most: number): boolean {
  board.takeAllBack()
  return moves.every((move) => {
    if (!board.allows(move)) return false
    board.make(move)
    return board.balance.evenness.spread <= most
  })
}

/**
 * The fewest moves, two or more, that keep the bound; null where there are none, or the budget ends first. After none
 * of them is the spread larger than at the outset: who stops halfway has lost nothing.
 */
function searchFewer(board: RebalanceBoard, bound: number, most: number): readonly BoardMove[] | null {
  const start = board.balance.evenness.spread
  let budget = SEARCH_MAX

  function descend(left: number): boolean {
    const trials = bestFirst(board.trials(true), board, bound)
    budget -= 1 + trials.length
    for (const trial of left === 1 ? trials.slice(0, 1) : trials) {
      if (budget <= 0 || board.isExhausted) return false
      if (trial.after.spread > (left === 1 ? bound : start)) continue
      board.make(trial)
      if (left === 1 || descend(left - 1)) return true
      board.takeBack()
    }
    return false
  }

  for (let depth = 2; depth <= most && budget > 0 && !board.isExhausted; depth++) {
    if (!descend(depth)) continue
    const found = [...board.moves]
    board.takeAllBack()
    return found
  }
  return null
}

/** Of those that suffice the cheapest first; then those after which it is most even. */
function bestFirst(trials: Trial[], { table }: RebalanceBoard, bound: number): Trial[] {
  const suffices = ({ after }: Trial) => (after.spread <= bound ? 0 : 1)
  return trials.sort((a, b) => {
    const [cost, evenness] = [a.instance.copiedMib - b.instance.copiedMib, compareEvenness(a.after, b.after)]
    return (
      suffices(a) - suffices(b) ||
      (suffices(a) === 0 ? cost || evenness : evenness || cost) ||
      (a.instance.uuid < b.instance.uuid ? -1 : a.instance.uuid > b.instance.uuid ? 1 : 0) ||
      table.positionOf(a.to) - table.positionOf(b.to)
    )
  })
}

function compareEvenness(a: Evenness, b: Evenness): number {
  return a.spread - b.spread || a.variance - b.variance
}

/** Makes the moves, which are allowed, on an empty board, and says what each does. */
function describe(
  board: RebalanceBoard,
  planned: readonly BoardMove[],
  boundPercent: number,
  maxMoves: number,
): RebalancePlan {
  const { table, balance } = board
  const before = balance.evenness
  const moves = planned.map((move): RebalanceMove => {
    const { from, to, instance } = move
    const loads = () => [from, to].map((row) => inPercent(balance.loadOf(row)))
    const old = loads()
    board.make(move)
    const now = loads()
    const told = [from, to].map((row, i) => `${table.names[row]} from ${old[i]} to ${now[i]} %`)
    return {
      instanceUuid: instance.uuid,
      fromHostId: table.ids[from] ?? '',
      toHostId: table.ids[to] ?? '',
      copiedMib: instance.copiedMib,
      reason: `takes ${told.join(', ')}`,
      spreadPercent: percentOf(balance.evenness.spread),
    }
  })
  const after = balance.evenness
  const isBalanced = after.spread <= boundPercent / 100
  return {
    spreadBeforePercent: percentOf(before.spread),
    spreadAfterPercent: percentOf(after.spread),
    moves,
    isBalanced,
    explanation: isBalanced
      ? explainSuccess(before, after, moves.length, boundPercent)
      : `the spread is ${inPercent(after.spread)} % then, over ${boundPercent} %: ${whyNoFurther(board, maxMoves)}`,
  }
}

function explainSuccess(before: Evenness, after: Evenness, moves: number, boundPercent: number): string {
  return moves === 0
    ? `the spread of ${inPercent(before.spread)} % is within ${boundPercent} %: nothing needs to move`
    : `${moves} move${moves === 1 ? ' takes' : 's take'} the spread from ${inPercent(before.spread)} to ${inPercent(after.spread)} %, within ${boundPercent} %`
}

function whyNoFurther(board: RebalanceBoard, maxMoves: number): string {
  const { table, balance, moves } = board
  if (board.isExhausted)
    return 'few hosts fit, and the search for more moves was ended; the next plan may go on from there'
  const [best] = bestFirst(board.trials(false), board, 0)
  if (best && compareEvenness(best.after, balance.evenness) < 0)
    return `a plan has at most ${maxMoves} moves; the next one may go on from there`
  const most = balance.rows.at(-1)
  if (most === undefined) throw new Error('no host is too loaded where there is none')
  const here = board.instancesAt(most)
  const movedAway = new Set(moves.map(({ instance }) => instance.uuid))
  const left = here.filter(({ uuid }) => !movedAway.has(uuid))
  const counts = new Map<string, number>()
  for (const instance of left) {
    const isStuck = board.targetsOf(instance, most, false).length === 0
    const why =
      instance.stays ?? (isStuck ? 'that may go to no host with less load' : 'that would make it no smaller')
    counts.set(why, (counts.get(why) ?? 0) + 1)
  }
  const told = [...counts].sort(([a], [b]) => (a < b ? -1 : 1)).map(([why, count]) => `${count} ${why}`)
  const what =
    told.length === 0 ? 'no instance that was there before is left' : `its instances: ${told.join(', ')}`
  return `${table.names[most]} has the most load, ${inPercent(balance.loadOf(most))} %; ${what}`
}

function inPercent(share: number): string {
  return (100 * share).toFixed(1)
}

/** To a tenth. */
function percentOf(share: number): number {
  return Math.round(1_000 * share) / 10
}
