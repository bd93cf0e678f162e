// A pool as one of its hosts has it, with what is taken of it: what placements of every kind judge by.

import type { DiskPoolHost, DiskPoolRecord, PoolCandidate } from '@vpe/core'
import { measuredBytes } from '../store/pool-host-index.ts'
import type { Store } from '../store/store.ts'

/** Nothing more is to be made there. */
const LEAVING = { state: 'error', fault: 'the pool is being taken from the host' } as const

export function poolOnHost(store: Store, pool: DiskPoolRecord, onHost: DiskPoolHost): PoolCandidate {
  const { uuid, name, shared } = pool
  const { hostId, capacityBytes } = onHost
  const { state, fault } = onHost.state === 'leaving' ? LEAVING : { ...onHost, state: onHost.state }
  return { uuid, name, shared, state, fault, capacityBytes, reservedBytes: takenBytes(store, pool, hostId) }
}

/**
 * Bytes of a pool that nothing else may have, on a host, or of all of it where it is shared: what is promised of
 * it, or what its hosts have measured, whichever is more. Others' files, images and snapshots are promised to
 * nobody, and fill it all the same.
 * @param hostId may be null for a shared pool
 */
export function takenBytes(
  store: Store,
  pool: Pick<DiskPoolRecord, 'uuid' | 'shared'>,
  hostId: string | null,
): number {
  const { uuid, shared } = pool
  const on = hostId ?? ''
  const promised =
    store.usage.reservedBytes(uuid, on, shared) + store.diskIndex.reservedBytes(uuid, on, shared)
  if (shared) return Math.max(promised, store.poolHosts.fullestBytes(uuid))
  const seen = store.poolHosts.find(uuid, on)
  return seen ? Math.max(promised, measuredBytes(seen)) : promised
}
