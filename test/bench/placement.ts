// How many placements a second the scheduler decides, alone: the choice among 10,000 hosts that carry 100,000
// instances, its verdict, and the reservation in the table. No disk, no network, one thread.

import { DEFAULT_OVERCOMMIT, groupsOf, HostTable, type PlacementRequest, place } from '@vpe/core'
import { aRequest } from '@vpe/core/testing'
import { type Distribution, distribution } from './figures.ts'

export interface PlacementFigures {
  readonly perSecond: number
  /** By the process's own CPU time: what a core of its own would do. */
  readonly perCpuSecond: number
  readonly latencyUs: Distribution
}

const GIB = 1024 ** 3
const FLAVORS = [
  { vcpus: 1, memoryMib: 512 },
  { vcpus: 2, memoryMib: 2_048 },
  { vcpus: 4, memoryMib: 8_192 },
  { vcpus: 8, memoryMib: 16_384 },
]
const SIZES = [
  { cpus: 16, memoryMib: 64 * 1024 },
  { cpus: 32, memoryMib: 128 * 1024 },
  { cpus: 64, memoryMib: 256 * 1024 },
]

const hostId = (index: number) => `${String(index).padStart(8, '0')}-0000-4000-8000-000000000000`

/** Hosts of three sizes, some down, some cordoned, half of them on a share; each with its ten instances. */
function furnishedTable(hosts: number, instances: number): HostTable {
  const table = new HostTable(DEFAULT_OVERCOMMIT)
  const pool = { state: 'ready' as const, fault: '', reservedBytes: 0 }
  for (let index = 0; index < hosts; index++) {
    const id = hostId(index)
    const state = index % 100 === 7 ? 'down' : 'up'
    const size = SIZES[index % 3] ?? { cpus: 16, memoryMib: 65_536 }
    table.setHost({ id, name: `h${index}`, state, schedulable: index % 100 !== 9, cpuFeatures: [], ...size })
    table.setPool(id, { uuid: 'local', name: 'local', shared: false, capacityBytes: 2e12, ...pool })
    if (index % 2 === 0)
      table.setPool(id, { uuid: 'nfs', name: 'nfs', shared: true, capacityBytes: 1e16, ...pool })
  }
  for (let index = 0; index < instances; index++) {
    reserve(table, hostId((index * 7919) % hosts), 'local', requestOf(index))
  }
  return table
}

function requestOf(index: number): PlacementRequest {
  const flavor = FLAVORS[(index * 2_654_435_761) % FLAVORS.length]
  return aRequest({ ...flavor, diskBytes: 10 * GIB, ha: index % 3 === 0 })
}

function reserve(table: HostTable, id: string, diskPoolUuid: string, request: PlacementRequest): void {
  const { vcpus, memoryMib, diskBytes, ha, groups } = request
  const keys = groups.map(({ key }) => key)
  table.reserve(id, { vcpus, memoryMib, diskBytes, diskPoolUuid, ha, hasTask: false, groups: keys })
}

/** @param isSingled each request is in a group of its own, so that none is of a shape that was seen before */
export function measurePlacements(count: number, isSingled: boolean): PlacementFigures {
  const table = furnishedTable(10_000, 100_000)
  const latencies: number[] = []
  const cpuBefore = process.cpuUsage()
  const fromMs = performance.now()
  for (let index = 0; index < count; index++) {
    const startMs = performance.now()
    const plain = requestOf(index)
    const groups = groupsOf('default', [`anti-affinity:g${index % 50}`])
    const request = isSingled ? { ...plain, groups } : plain
    const result = place(request, table)
    if (result.hostId === null) throw new Error(result.refusal)
    reserve(table, result.hostId, result.diskPoolUuid, request)
    latencies.push((performance.now() - startMs) * 1_000)
  }
  const seconds = (performance.now() - fromMs) / 1_000
  const { user, system } = process.cpuUsage(cpuBefore)
  return {
    perSecond: count / seconds,
    perCpuSecond: (count / (user + system)) * 1e6,
    latencyUs: distribution(latencies),
  }
}
