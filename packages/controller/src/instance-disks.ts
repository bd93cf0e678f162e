// Which data disks an instance has.

import { type DiskRecord, diskTarget, type InstanceRecord, isWantedAttached } from '@vpe/core'
import type { Store } from './store/store.ts'

/** In the order in which it was given them. */
export function disksOf(store: Pick<Store, 'disks' | 'diskIndex'>, instanceUuid: string): DiskRecord[] {
  return [...store.diskIndex.ofInstance(instanceUuid)]
    .flatMap((uuid) => store.disks.get(uuid) ?? [])
    .sort((a, b) => a.slot - b.slot)
}

/** Those that its domain shall have, with the device of each. */
export function wantedDisks(store: Store, instanceUuid: string): { disk: DiskRecord; target: string }[] {
  return disksOf(store, instanceUuid)
    .filter(isWantedAttached)
    .map((disk) => ({ disk, target: diskTarget(disk.slot) }))
}

/** Whether some of its disks, the system disk among them, lie in a pool that is local to a host. */
export function hasLocalDisks(store: Store, { uuid, diskPoolUuid }: InstanceRecord): boolean {
  const isLocal = store.diskPools.get(diskPoolUuid)?.shared === false
  return isLocal || disksOf(store, uuid).some(({ hostId }) => hostId !== null)
}
