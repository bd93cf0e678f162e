// Pools that are taken from hosts, and from all of them when they are deleted. That is wanted state: a host is asked until
// it has answered, and only then it is not the pool's any more (DiskPoolKeeper).

import type { VpeEvent } from '@vpe/bus'
import { type DiskPoolRecord, endOperation } from '@vpe/core'
import { resourceEvent } from './service/resources.ts'
import type { Store } from './store/store.ts'
import { type Change, change } from './store/tables.ts'

/** What is committed when hosts have let go of a pool, or are no more. */
export function commitOfDeparted(
  store: Store,
  pool: DiskPoolRecord,
  hostIds: ReadonlySet<string>,
  nowMs: number,
): { readonly changes: Change[]; readonly events: VpeEvent[] } {
  const hosts = pool.hosts.filter(({ hostId }) => !hostIds.has(hostId))
  const gone = pool.hosts.filter(({ hostId }) => hostIds.has(hostId))
  const isDeleted = pool.deletionUuid !== null && hosts.length === 0
  const detached = gone.filter(({ leavingBy }) => leavingBy !== null && leavingBy !== pool.deletionUuid)
  const ended = [...detached.map(({ leavingBy }) => leavingBy), isDeleted ? pool.deletionUuid : null]
  const operations = ended.flatMap((uuid) => store.operations.get(uuid ?? '') ?? [])
  const orphans = pool.orphans.filter(({ hostId }) => hostId === null || !hostIds.has(hostId))
  const event = (what: string, data: object = {}): VpeEvent => {
    const plain = resourceEvent('disk_pool', pool, what)
    return { ...plain, data: { ...plain.data, ...data } }
  }
  return {
    changes: [
      isDeleted ? change.remove('diskPools', pool.uuid) : change.diskPool({ ...pool, hosts, orphans }),
      ...operations.map((operation) => change.operation(endOperation(operation, 'succeeded', nowMs))),
    ],
    events: [
      ...detached.map(({ hostId }) => event('host_detached', { host_uuid: hostId })),
      ...(isDeleted ? [event('deleted')] : []),
    ],
  }
}

/** How far that is, for people; empty where no host is waited for. */
export function tellDepartures(store: Store, pool: DiskPoolRecord, operationUuid: string): string {
  const left = pool.hosts.filter(({ leavingBy }) => leavingBy !== null)
  const ofThis =
    pool.deletionUuid === operationUuid ? left : left.filter((on) => on.leavingBy === operationUuid)
  const told = ofThis.map(({ hostId, fault }) => {
    const name = store.hosts.get(hostId)?.name ?? hostId
    return fault === '' ? name : `${name} (${fault})`
  })
  return told.length === 0 ? '' : `waits until these hosts have let go of it: ${told.join(', ')}`
}
