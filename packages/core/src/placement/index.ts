// The choice of a host: every filter in order, then the weighted sum of the scores, then the lower id.
// Deterministic, and every host keeps its verdict: passed with a score, or the rule that refused it
// and why.

import type { DiskPoolId, HostId } from '../ids.ts'
import { filterDataDisks } from './filter-data-disks.ts'
import { filterDiskPool } from './filter-disk-pool.ts'
import { filterDiskSpace } from './filter-disk-space.ts'
import { filterHostIds } from './filter-host-ids.ts'
import { filterHostState } from './filter-host-state.ts'
import { filterMemory } from './filter-memory.ts'
import { filterVcpus } from './filter-vcpus.ts'
import { choosePool } from './pool-choice.ts'
import type {
  HostCandidate,
  OvercommitPolicy,
  PlacementFilter,
  PlacementRequest,
  PlacementScorer,
} from './rules.ts'
import { scoreMemoryBalance } from './score-memory-balance.ts'
import { scoreQuiet } from './score-quiet.ts'
import { scoreVcpuBalance } from './score-vcpu-balance.ts'

/** Cheap and decisive rules first: a host is charged with the first rule that refuses it. */
export const FILTERS: readonly PlacementFilter[] = [
  filterHostIds,
  filterHostState,
  filterDataDisks,
  filterDiskPool,
  filterMemory,
  filterVcpus,
  filterDiskSpace,
]

export const SCORERS: readonly PlacementScorer[] = [scoreMemoryBalance, scoreVcpuBalance, scoreQuiet]

export const DEFAULT_OVERCOMMIT: OvercommitPolicy = {
  vcpuRatio: 16,
  memoryRatio: 1,
  diskRatio: 1,
  hostReservedMib: 512,
}

export interface HostVerdict {
  readonly hostId: HostId
  readonly hostName: string
  readonly passed: boolean
  readonly rule: string
  readonly reason: string
  readonly score: number
}

export type PlacementResult =
  | { readonly hostId: HostId; readonly diskPoolUuid: DiskPoolId; readonly verdicts: readonly HostVerdict[] }
  | { readonly hostId: null; readonly refusal: string; readonly verdicts: readonly HostVerdict[] }

/** Chooses the host and the pool for an instance, or says why there is none. */
export function place(
  request: PlacementRequest,
  hosts: readonly HostCandidate[],
  policy: OvercommitPolicy = DEFAULT_OVERCOMMIT,
): PlacementResult {
  const verdicts = hosts.map((host) => judge(request, host, policy))
  let best: HostCandidate | null = null
  let bestScore = Number.NEGATIVE_INFINITY
  for (const [index, host] of hosts.entries()) {
    const verdict = verdicts[index]
    if (!verdict?.passed) continue
    const isBetter = verdict.score > bestScore || (verdict.score === bestScore && best && host.id < best.id)
    if (!isBetter) continue
    best = host
    bestScore = verdict.score
  }
  const pool = best && choosePool(request, best, policy)
  if (!best || !pool) return { hostId: null, refusal: explainRefusal(verdicts), verdicts }
  return { hostId: best.id, diskPoolUuid: pool.uuid, verdicts }
}

/** Why an instance that is on a host cannot have another size there; null when it can. `host` is without it. */
export function explainMisfit(
  request: PlacementRequest,
  host: HostCandidate,
  policy: OvercommitPolicy = DEFAULT_OVERCOMMIT,
): string | null {
  const verdict = judge(request, host, policy)
  return verdict.passed ? null : verdict.reason
}

function judge(request: PlacementRequest, host: HostCandidate, policy: OvercommitPolicy): HostVerdict {
  const named = { hostId: host.id, hostName: host.name }
  for (const filter of FILTERS) {
    const reason = filter.refuse(request, host, policy)
    if (reason !== null) return { ...named, passed: false, rule: filter.name, reason, score: 0 }
  }
  let score = 0
  for (const scorer of SCORERS) score += scorer.weight * scorer.score(request, host, policy)
  return { ...named, passed: true, rule: '', reason: '', score }
}

/** "no host fits: 3 of 5 are down, 2 lack memory (h4: needs 8192 MiB, 512 MiB are free)". */
export function explainRefusal(verdicts: readonly HostVerdict[]): string {
  if (verdicts.length === 0) return 'no host fits: no host is registered; add one with POST /hosts'
  const parts: string[] = []
  for (const filter of FILTERS) {
    const refused = verdicts.filter((verdict) => verdict.rule === filter.name)
    const first = refused[0]
    if (!first) continue
    const count = parts.length === 0 ? `${refused.length} of ${verdicts.length}` : `${refused.length}`
    parts.push(`${count} ${filter.summary} (${first.hostName}: ${first.reason})`)
  }
  return `no host fits: ${parts.join(', ')}`
}

export type {
  DataDiskWish,
  HostCandidate,
  OvercommitPolicy,
  PlacementFilter,
  PlacementRequest,
  PlacementScorer,
  PoolCandidate,
} from './rules.ts'
