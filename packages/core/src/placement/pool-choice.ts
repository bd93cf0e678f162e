// Which of a host's pools can hold a system disk, and which of them is best.

import type { HostCandidate, OvercommitPolicy, PlacementRequest, PoolCandidate } from './rules.ts'

/** Pools of the host that the request allows. A pool that was not tried yet is given the benefit of the doubt. */
export function usablePools(request: PlacementRequest, host: HostCandidate): PoolCandidate[] {
  return host.pools.filter(
    (pool) =>
      pool.state !== 'error' &&
      (request.diskPoolUuid === null || pool.uuid === request.diskPoolUuid) &&
      (pool.shared || !request.sharedPoolOnly),
  )
}

/** What may still be promised of a pool; without bound while its size is not known. */
export function freeBytes(pool: PoolCandidate, policy: OvercommitPolicy): number {
  if (pool.capacityBytes === 0) return Number.POSITIVE_INFINITY
  return pool.capacityBytes * policy.diskRatio - pool.reservedBytes
}

/** The usable pool with the most room that has enough; ties go to the lower uuid. */
export function choosePool(
  request: PlacementRequest,
  host: HostCandidate,
  policy: OvercommitPolicy,
): PoolCandidate | null {
  let best: PoolCandidate | null = null
  for (const pool of usablePools(request, host)) {
    const free = freeBytes(pool, policy)
    if (free < request.diskBytes) continue
    const bestFree = best ? freeBytes(best, policy) : -1
    if (!best || free > bestFree || (free === bestFree && pool.uuid < best.uuid)) best = pool
  }
  return best
}
