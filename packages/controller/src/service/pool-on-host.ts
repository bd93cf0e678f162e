// A pool as one of its hosts has it, with what is promised of it: what placements of every kind judge by.

import type { DiskPoolHost, DiskPoolRecord, PoolCandidate } from '@vpe/core'
import type { Store } from '../store/store.ts'

export function poolOnHost(store: Store, pool: DiskPoolRecord, onHost: DiskPoolHost): PoolCandidate {
  const { uuid, name, shared } = pool
  const { hostId, state, fault, capacityBytes } = onHost
  return {
    uuid,
    name,
    shared,
    state,
    fault,
    capacityBytes,
    reservedBytes: promisedBytes(store, pool, hostId),
  }
}

/**
 * Bytes that are promised of a pool: on a host, or of all of it where it is shared.
 * @param hostId may be null for a shared pool
 */
export function promisedBytes(
  store: Store,
  { uuid, shared }: Pick<DiskPoolRecord, 'uuid' | 'shared'>,
  hostId: string | null,
): number {
  const on = hostId ?? ''
  return store.usage.reservedBytes(uuid, on, shared) + store.diskIndex.reservedBytes(uuid, on, shared)
}
