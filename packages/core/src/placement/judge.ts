// One row against one request: the first filter that refuses it, or its score. Rules are plain functions of
// numbers here; what they say in words is asked for later, and of few rows.

import { type Ask, MARKING_FILTERS } from './ask.ts'
import { filterDiskPool } from './filter-disk-pool.ts'
import { filterDiskSpace } from './filter-disk-space.ts'
import { filterMemory, lacksMemory } from './filter-memory.ts'
import { filterVcpus, lacksVcpus } from './filter-vcpus.ts'
import type { HostTable } from './host-table.ts'
import { roomiest } from './pool-choice.ts'
import { NO_POOL } from './pool-columns.ts'
import type { PlacementFilter } from './rules.ts'
import { weighHaSpread } from './weigh-ha-spread.ts'
import { weighMemory } from './weigh-memory.ts'
import { weighQuiet } from './weigh-quiet.ts'
import { weighVcpus } from './weigh-vcpus.ts'
import { WEIGHT } from './weights.ts'

/** In the order in which a host is charged with them: cheap and decisive ones first. */
export const FILTERS: readonly PlacementFilter[] = [
  ...MARKING_FILTERS,
  filterDiskPool,
  filterMemory,
  filterVcpus,
  filterDiskSpace,
]

/** Stands where the number of a filter could: no filter refuses it. */
export const PASSED = FILTERS.length

const DISK_POOL = FILTERS.indexOf(filterDiskPool)
const MEMORY = FILTERS.indexOf(filterMemory)
const VCPUS = FILTERS.indexOf(filterVcpus)
const DISK_SPACE = FILTERS.indexOf(filterDiskSpace)

/** The number of the first filter that refuses a row, or PASSED. */
export function judge(table: HostTable, { request, marks, usablePools }: Ask, row: number): number {
  const mark = marks[row] as number
  if (mark !== 0) return lowestBit(mark)
  const room = roomiest(table.pools, usablePools, row)
  if (room === NO_POOL) return DISK_POOL
  if (lacksMemory(request.memoryMib, table.memoryTotal[row] as number, table.memoryUsed[row] as number))
    return MEMORY
  const { cpus, vcpusTotal, vcpusUsed } = table
  if (lacksVcpus(request.vcpus, cpus[row] as number, vcpusTotal[row] as number, vcpusUsed[row] as number))
    return VCPUS
  return room < request.diskBytes ? DISK_SPACE : PASSED
}

/** What a row that passed scores: the higher, the better. */
export function weigh(table: HostTable, { request, preferred }: Ask, row: number): number {
  const { memoryTotal, memoryUsed, vcpusTotal, vcpusUsed } = table
  return (
    WEIGHT.memory * weighMemory(request.memoryMib, memoryTotal[row] as number, memoryUsed[row] as number) +
    WEIGHT.vcpus * weighVcpus(request.vcpus, vcpusTotal[row] as number, vcpusUsed[row] as number) +
    WEIGHT.quiet * weighQuiet(table.tasks[row] as number) +
    WEIGHT.haSpread * (request.ha ? weighHaSpread(table.haInstances[row] as number) : 0) +
    WEIGHT.preferred * (preferred === null ? 0 : (preferred[row] as number))
  )
}

function lowestBit(mark: number): number {
  return 31 - Math.clz32(mark & -mark)
}
