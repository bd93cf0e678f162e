// A pool as one of its hosts has it, with what is promised of it: what placements of every kind judge by.

import type { DiskPoolHost, DiskPoolRecord, PoolCandidate } from '@vpe/core'
import type { Store } from '../store/store.ts'

export function poolOnHost(store: Store, pool: DiskPoolRecord, onHost: DiskPoolHost): PoolCandidate {
  const { uuid, name, shared } = pool
  const { hostId, state, fault, capacityBytes } = onHost
  const reservedBytes =
    store.usage.reservedBytes(uuid, hostId, shared) + store.diskIndex.reservedBytes(uuid, hostId, shared)
  return { uuid, name, shared, state, fault, capacityBytes, reservedBytes }
}
