// Whose the blocks in the lease files of pools are, as the records change with pools, hosts and what hosts report.

import type { DiskPoolHost, DiskPoolRecord, HostId } from '@vpe/core'
import { assignSlots, DEFAULT_PROTECTION, LEASE_SLOTS, type LeaseSlot } from '@vpe/core/ha'
import type { Store } from '../store/store.ts'
import { type Change, change } from '../store/tables.ts'
import type { PoolLeasesRecord } from './records.ts'

export function newPoolLeases(diskPoolUuid: string): PoolLeasesRecord {
  return {
    ...{ diskPoolUuid, slots: LEASE_SLOTS, taken: [], settings: DEFAULT_PROTECTION },
    ...{
      poolClass: 'N',
      why: 'its locks have not been tried yet',
      trial: null,
      triedAtMs: null,
      triedOf: '',
    },
  }
}

/** What blocks the hosts of a pool have; those of hosts that it has no more are theirs until they have said so. */
export function changesOfMembers(store: Store, pool: DiskPoolRecord): Change[] {
  if (!pool.shared || pool.kind === 'rbd') return []
  const known = store.poolLeases.get(pool.uuid)
  const leases = known ?? newPoolLeases(pool.uuid)
  const members = pool.hosts.filter(({ state }) => state !== 'leaving').map(({ hostId }) => hostId)
  const isHere = new Set(members)
  let taken = leases.taken
  for (const { hostId, state } of leases.taken)
    if (state === 'kept' && !isHere.has(hostId))
      taken = withState(taken, hostId, store.hosts.has(hostId) ? 'leaving' : 'unconfirmed')
  taken = assignSlots(taken, members, leases.slots)
  return known && taken === known.taken ? [] : [change.poolLeases({ ...leases, taken })]
}

/** A host was removed: nobody has heard that it has let go of anything. */
export function changesOfRemoved(store: Store, hostId: HostId): Change[] {
  return leasesWith(store, hostId).map((leases) =>
    change.poolLeases({ ...leases, taken: withState(leases.taken, hostId, 'unconfirmed') }),
  )
}

/** The pools in which a host has a block that it is not to have any more. */
export function givenUpBy(store: Store, hostId: HostId): ReadonlySet<string> {
  const isGivenUp = (slot: LeaseSlot) => slot.hostId === hostId && slot.state !== 'kept'
  return new Set(
    leasesWith(store, hostId)
      .filter(({ taken }) => taken.some(isGivenUp))
      .map(({ diskPoolUuid }) => diskPoolUuid),
  )
}

/**
 * Blocks that are free again: their host says that it has no lease there any more.
 * @param givenUp that it was told to give up, before it said so
 * @param held pools that it says it has leases in
 */
export function changesOfFreed(
  store: Store,
  hostId: HostId,
  givenUp: ReadonlySet<string>,
  held: ReadonlySet<string>,
): Change[] {
  return leasesWith(store, hostId)
    .filter(({ diskPoolUuid }) => givenUp.has(diskPoolUuid) && !held.has(diskPoolUuid))
    .flatMap((leases) => {
      // Meanwhile it may have been given the pool again.
      const taken = leases.taken.filter((slot) => slot.hostId !== hostId || slot.state === 'kept')
      return taken.length < leases.taken.length ? [change.poolLeases({ ...leases, taken })] : []
    })
}

/** Whether hosts have come, have gone, or are to go: most changes of a pool are of what one host has measured. */
export function areOthers(come: readonly DiskPoolHost[], gone: readonly DiskPoolHost[]): boolean {
  const after = new Set(come.map(({ hostId }) => hostId))
  const before = new Set(gone.map(({ hostId }) => hostId))
  return (
    come.some(({ hostId, state }) => state === 'leaving' || !before.has(hostId)) ||
    gone.some(({ hostId }) => !after.has(hostId))
  )
}

/** Those of pools in which a host has a block. */
export function leasesWith(store: Store, hostId: HostId): PoolLeasesRecord[] {
  return [...store.poolLeases.values()].filter(({ taken }) => taken.some((slot) => slot.hostId === hostId))
}

function withState(taken: readonly LeaseSlot[], hostId: string, state: LeaseSlot['state']): LeaseSlot[] {
  return taken.map((slot) => (slot.hostId === hostId ? { ...slot, state } : slot))
}
