// The choice of a host: every filter in order, then the weighted sum of what the weighers say, then the lower id.
// Deterministic, and explained: see verdict.ts.

import type { HostId } from '../ids.ts'
import { prepareAsk } from './ask.ts'
import type { HostTable } from './host-table.ts'
import { FILTERS, judge } from './judge.ts'
import { MARK } from './marks.ts'
import type { OvercommitPolicy, PlacementRequest } from './rules.ts'
import { type PlacementResult, resultOf } from './verdict.ts'

export const DEFAULT_OVERCOMMIT: OvercommitPolicy = {
  vcpuRatio: 16,
  memoryRatio: 1,
  diskRatio: 1,
  hostReservedMib: 512,
}

/**
 * Chooses the host and the pool for an instance, or says why there is none. The place is taken once it is
 * reserved in the table, which must happen before anything else is placed.
 */
export function place(request: PlacementRequest, table: HostTable): PlacementResult {
  return resultOf(table, table.rankings.of(table, request))
}

/**
 * Why an instance that is on a host cannot have another size there; null when it can. The table is without it.
 * That the host gets nothing new says nothing of what it has.
 * @param mayBeDown whether the host may be down for now
 */
export function explainMisfit(
  request: PlacementRequest,
  table: HostTable,
  hostId: HostId,
  mayBeDown = false,
): string | null {
  const ask = prepareAsk(table, request)
  const row = table.rowOf(hostId)
  const marks = ask.marks.slice()
  marks[row] = (marks[row] as number) & ~(MARK.cordoned | MARK.unreliable | (mayBeDown ? MARK.down : 0))
  const filter = FILTERS[judge(table, { ...ask, marks }, row)]
  return filter?.explain(table, ask, row) ?? null
}

export { type GroupRule, groupsOf, groupTagFault, type PlacementGroup } from './groups.ts'
export { HostTable, type Reservation } from './host-table.ts'
export { FILTERS } from './judge.ts'
export {
  checkMove,
  type MoveUnderWay,
  type MoveVerdict,
  planRebalance,
  REBALANCE_BOUND_PERCENT,
  REBALANCE_MOVES,
  REBALANCE_MOVES_MAX,
  type RebalanceInstance,
  type RebalanceMove,
  type RebalancePlan,
  type RebalanceQuestion,
} from './rebalance.ts'
export type {
  DataDiskWish,
  HostCandidate,
  HostTraits,
  HostUse,
  ImageHome,
  OvercommitPolicy,
  PlacementRequest,
  PoolCandidate,
} from './rules.ts'
export {
  type HostVerdict,
  type PlacementResult,
  type PlacementVerdict,
  type RuleCount,
  WHOLE_VERDICT_MAX,
} from './verdict.ts'
