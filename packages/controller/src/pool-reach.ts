// Which host does the work on a pool's files that any of its hosts could do: one that is up, preferably one where
// the pool is ready. When it does not answer, the next one is asked; its own word of what is wrong counts.

import { type DiskPoolHost, type DiskPoolRecord, type HostRecord, VpeError } from '@vpe/core'
import { fromClientError } from '@vpe/proto'
import type { Store } from './store/store.ts'

/** The hosts that are up and reach a pool, the best first; of one only, where its files are only there. */
export function hostsThatReach(store: Store, pool: DiskPoolRecord, onlyHostId: string | null): HostRecord[] {
  const rank = { ready: 0, pending: 1, error: 2, leaving: 3 } as const
  return hostsOfPool(store, pool, onlyHostId)
    .filter(({ state }) => state !== 'leaving')
    .toSorted((a, b) => rank[a.state] - rank[b.state])
    .flatMap(({ hostId }) => store.hosts.get(hostId) ?? [])
    .filter(({ state }) => state === 'up')
}

/**
 * Has work done by way of a host that reaches a pool.
 * @throws VpeError UNAVAILABLE when no such host is up, else what the last of those that were asked said
 */
export async function byWayOf<T>(
  store: Store,
  pool: DiskPoolRecord,
  onlyHostId: string | null,
  signal: AbortSignal,
  work: (host: HostRecord) => Promise<T>,
): Promise<T> {
  const hosts = hostsThatReach(store, pool, onlyHostId)
  let silence: VpeError | null = null
  for (const host of hosts) {
    try {
      return await work(host)
    } catch (cause) {
      const error = fromClientError(cause)
      // What keeps one from the pool need not keep another; what is wrong with the work itself holds for all.
      if (error.code !== 'UNAVAILABLE' && error.code !== 'DISK_POOL_FAILED') throw error
      const message = `disk pool ${pool.name} on ${host.name}: ${error.message}`
      silence = new VpeError(error.code, message, { cause })
      if (signal.aborted) throw silence
    }
  }
  if (silence) throw silence
  const names = hostsOfPool(store, pool, onlyHostId)
    .map(({ hostId }) => store.hosts.get(hostId)?.name ?? hostId)
    .join(', ')
  throw new VpeError(
    'UNAVAILABLE',
    `no host that reaches disk pool ${pool.name} is up (${names || 'it has none'})`,
  )
}

function hostsOfPool(store: Store, pool: DiskPoolRecord, onlyHostId: string | null): readonly DiskPoolHost[] {
  if (onlyHostId === null) return pool.hosts
  const only = store.poolHosts.find(pool.uuid, onlyHostId)
  return only ? [only] : []
}
