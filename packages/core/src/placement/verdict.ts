// What a placement has to say for itself: of each host whether it passed, or the rule that refused it with its
// numbers. Of many hosts it keeps a summary: all counts, the best that passed, and the first that each rule refused.

import type { DiskPoolId, HostId } from '../ids.ts'
import type { HostTable } from './host-table.ts'
import { FILTERS, PASSED } from './judge.ts'
import { choosePool } from './pool-choice.ts'
import type { Ranking } from './ranking.ts'

/** Verdicts on up to so many hosts are kept whole. */
export const WHOLE_VERDICT_MAX = 100

const BEST_KEPT = 10
const REFUSED_KEPT = 3

export interface HostVerdict {
  readonly hostId: HostId
  readonly hostName: string
  readonly passed: boolean
  /** The rule that refused it; empty where none did. */
  readonly rule: string
  readonly reason: string
  readonly score: number
}

export interface RuleCount {
  readonly rule: string
  /** Hosts that it refused. */
  readonly hosts: number
}

export interface PlacementVerdict {
  readonly hostsTotal: number
  readonly hostsPassed: number
  /** Only rules that refused some, in the order in which they are applied. */
  readonly byRule: readonly RuleCount[]
  /** The best first, then those that were refused; all of them, or some: see isSummary. */
  readonly hosts: readonly HostVerdict[]
  readonly isSummary: boolean
}

export type PlacementResult = { readonly verdict: PlacementVerdict } & (
  | { readonly hostId: HostId; readonly diskPoolUuid: DiskPoolId }
  | { readonly hostId: null; readonly refusal: string }
)

export function resultOf(table: HostTable, ranking: Ranking): PlacementResult {
  const isWhole = table.size <= WHOLE_VERDICT_MAX
  const best = ranking.best(isWhole ? table.size : BEST_KEPT)
  const hosts: HostVerdict[] = best.map(({ row, score }) => ({
    ...nameOf(table, row),
    passed: true,
    rule: '',
    reason: '',
    score,
  }))
  const byRule: RuleCount[] = []
  for (const [number, filter] of FILTERS.entries()) {
    const count = ranking.counts[number] as number
    if (count === 0) continue
    byRule.push({ rule: filter.name, hosts: count })
    for (const row of ranking.refused(number, isWhole ? count : REFUSED_KEPT)) {
      const reason = filter.explain(table, ranking.ask, row)
      hosts.push({ ...nameOf(table, row), passed: false, rule: filter.name, reason, score: 0 })
    }
  }
  const hostsTotal = table.size
  const hostsPassed = ranking.counts[PASSED] as number
  const verdict = { hostsTotal, hostsPassed, byRule, hosts, isSummary: hosts.length < hostsTotal }
  const [first] = best
  const diskPoolUuid = first && choosePool(table.pools, ranking.ask.usablePools, first.row)
  if (!first || !diskPoolUuid) return { hostId: null, refusal: explainRefusal(verdict), verdict }
  return { hostId: table.ids[first.row] ?? '', diskPoolUuid, verdict }
}

function nameOf(table: HostTable, row: number): { hostId: HostId; hostName: string } {
  return { hostId: table.ids[row] ?? '', hostName: table.names[row] ?? '' }
}

/** "no host fits: 3 of 5 are down (h1: the host is down), 2 lack memory (h4: needs 8192 MiB, 512 MiB are free)". */
function explainRefusal({ hostsTotal, byRule, hosts }: PlacementVerdict): string {
  if (hostsTotal === 0) return 'no host fits: no host is registered; add one with POST /hosts'
  const parts = byRule.map((count, index) => {
    const first = hosts.find(({ rule }) => rule === count.rule)
    const summary = FILTERS.find(({ name }) => name === count.rule)?.summary
    const of = index === 0 ? ` of ${hostsTotal}` : ''
    return `${count.hosts}${of} ${summary} (${first?.hostName}: ${first?.reason})`
  })
  return `no host fits: ${parts.join(', ')}`
}
