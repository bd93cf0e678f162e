// Which block of a pool's lease files is whose. A block is one host's until that host is known to have let go of the pool:
// two hosts that wrote one block would each keep the other alive.

import type { HostId } from '../ids.ts'

/** Hosts that can have a lease in a pool where nothing else was said when it was made. */
export const LEASE_SLOTS = 64
export const LEASE_SLOTS_MAX = 1_024

export interface LeaseSlot {
  readonly slot: number
  readonly hostId: HostId
  /**
   * kept: the host has the pool. leaving: it was taken from it, and has not said yet that its lease is given up.
   * unconfirmed: the host was removed, and whether it still writes is not known.
   */
  readonly state: 'kept' | 'leaving' | 'unconfirmed'
}

/**
 * The blocks once these hosts have the pool: each that has one keeps it, the others get the lowest that is free.
 * A host for which none is left gets none. Returns the very list where nothing changes.
 */
export function assignSlots(
  taken: readonly LeaseSlot[],
  hostIds: readonly HostId[],
  slots: number,
): readonly LeaseSlot[] {
  const bySlot = new Map(taken.map((each) => [each.slot, each]))
  const byHost = new Map(taken.map((each) => [each.hostId, each]))
  let isChanged = false
  let lowest = 0
  for (const hostId of hostIds) {
    const own = byHost.get(hostId)
    if (own?.state === 'kept') continue
    while (bySlot.has(lowest)) lowest++
    const slot = own?.slot ?? lowest
    if (slot >= slots) continue
    bySlot.set(slot, { slot, hostId, state: 'kept' })
    isChanged = true
  }
  return isChanged ? [...bySlot.values()].sort((a, b) => a.slot - b.slot) : taken
}
