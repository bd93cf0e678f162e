// Which of a host's pools can hold a system disk, and which of them is best. A pool that was not tried yet is
// given the benefit of the doubt.

import type { DiskPoolId } from '../ids.ts'
import { NO_POOL, type PoolColumns } from './pool-columns.ts'
import type { OvercommitPolicy, PlacementRequest, PoolCandidate } from './rules.ts'

/** By pool: 1 where the request allows it. */
export function usablePools(
  pools: PoolColumns,
  { diskPoolUuid, imageHome, sharedPoolOnly }: PlacementRequest,
): Uint8Array {
  const named = [diskPoolUuid, imageHome?.diskPoolUuid ?? null].filter((uuid) => uuid !== null)
  const usable = sharedPoolOnly ? pools.shared.slice(0, pools.count) : new Uint8Array(pools.count).fill(1)
  if (named.length === 0) return usable
  for (let pool = 0; pool < usable.length; pool++) {
    if (named.some((uuid) => pools.numberOf(uuid) !== pool)) usable[pool] = 0
  }
  return usable
}

/** Room in the usable pool of a row that has most, in bytes; NO_POOL when there is none. */
export function roomiest(pools: PoolColumns, usable: Uint8Array, row: number): number {
  const { first, next, pool, room, reserved, sharedReserved } = pools
  let best = NO_POOL
  for (let slot = first[row] as number; slot >= 0; slot = next[slot] as number) {
    const number = pool[slot] as number
    if (usable[number] !== 1) continue
    const free = (room[slot] as number) - ((reserved[slot] as number) + (sharedReserved[number] as number))
    if (free > best) best = free
  }
  return best
}

/** The usable pool of a row with the most room; ties go to the lower uuid. Null when there is none. */
export function choosePool(pools: PoolColumns, usable: Uint8Array, row: number): DiskPoolId | null {
  const most = roomiest(pools, usable, row)
  const [uuid] = pools
    .slotsOf(row)
    .filter((slot) => usable[pools.pool[slot] as number] === 1 && pools.freeAt(slot) === most)
    .map((slot) => pools.uuidOf(pools.pool[slot] as number))
    .sort()
  return most === NO_POOL ? null : (uuid ?? null)
}

/** What may still be promised of a pool; without bound while its size is not known. */
export function freeBytes(pool: PoolCandidate, policy: OvercommitPolicy): number {
  if (pool.capacityBytes === 0) return Number.POSITIVE_INFINITY
  return pool.capacityBytes * policy.diskRatio - pool.reservedBytes
}
