// A request, made ready for one scan of the table: which rows are out whatever their amounts, which pools may be
// used, and how much each row is preferred.

import { filterAffinity } from './filter-affinity.ts'
import { filterAntiAffinity } from './filter-anti-affinity.ts'
import { filterCpuFeatures } from './filter-cpu-features.ts'
import { filterDataDisks } from './filter-data-disks.ts'
import { filterExcluded } from './filter-excluded.ts'
import { filterHostIds } from './filter-host-ids.ts'
import { filterHostState } from './filter-host-state.ts'
import { filterImage } from './filter-image.ts'
import { filterMaintenance } from './filter-maintenance.ts'
import { filterUnreliable } from './filter-unreliable.ts'
import type { HostTable } from './host-table.ts'
import { usablePools } from './pool-choice.ts'
import type { MarkingFilter, PlacementRequest } from './rules.ts'
import { weighPreferred } from './weigh-preferred.ts'

/** In the order of their bits. */
export const MARKING_FILTERS: readonly MarkingFilter[] = [
  filterHostIds,
  filterExcluded,
  filterHostState,
  filterMaintenance,
  filterCpuFeatures,
  filterImage,
  filterDataDisks,
  filterAffinity,
  filterAntiAffinity,
  filterUnreliable,
]

export interface Ask {
  readonly request: PlacementRequest
  /** By row: the bits of the filters that refuse it; the table's own column where the request adds none. */
  readonly marks: Uint16Array
  /** By pool: 1 where it may hold the system disk. */
  readonly usablePools: Uint8Array
  /** By row; null where the request prefers nothing. */
  readonly preferred: Float64Array | null
}

export function prepareAsk(table: HostTable, request: PlacementRequest): Ask {
  return {
    request,
    marks: singlesOutHosts(request) ? markRows(table, request) : table.blocked,
    usablePools: usablePools(table.pools, request),
    preferred: preferredRows(table, request),
  }
}

/** Whether it depends on which host a row is, and not only on amounts and pools. */
export function singlesOutHosts(request: PlacementRequest): boolean {
  const { hostIds, excludeHostIds, imageHome, dataDisks, cpuFeatures, groups } = request
  const lists = [hostIds, excludeHostIds, dataDisks, cpuFeatures, groups]
  return lists.some(({ length }) => length > 0) || Boolean(imageHome?.hostId)
}

function markRows(table: HostTable, request: PlacementRequest): Uint16Array {
  const marks = table.blocked.slice()
  for (const filter of MARKING_FILTERS) filter.mark?.(table, request, marks)
  return marks
}

function preferredRows(table: HostTable, { groups }: PlacementRequest): Float64Array | null {
  if (!groups.some(({ rule }) => rule.startsWith('prefer-'))) return null
  const preferred = new Float64Array(table.blocked.length)
  for (const row of table.order)
    preferred[row] = weighPreferred(groups, (key) => table.groups.of(key).get(row) ?? 0)
  return preferred
}
