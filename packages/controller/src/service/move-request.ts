// What an instance asks of a host that it moves to.

import { groupsOf, type InstanceRecord, type PlacementRequest, VpeError } from '@vpe/core'
import { disksOf } from '../instance-disks.ts'
import type { Store } from '../store/store.ts'
import { markerOn } from '../wire.ts'
import { reachOf } from './disks.ts'
import { imageHomeOf } from './images.ts'

/**
 * @param hostIds those that it may move to; empty for any
 * @param copyDisks its disks in local pools come along
 */
export function moveRequest(
  store: Store,
  instance: InstanceRecord,
  hostIds: readonly string[],
  copyDisks = false,
): PlacementRequest {
  const { uuid, vcpus, memoryMib, diskPoolUuid, ha, namespace, tags, imageUuid } = instance
  const pool = store.diskPools.get(diskPoolUuid)
  const image = store.images.get(imageUuid)
  const isCopied = copyDisks && pool?.shared === false
  return {
    vcpus,
    memoryMib,
    // A pool that is shared holds the system disk already, wherever it is used from.
    diskBytes: isCopied ? Math.max(instance.diskBytes, image?.virtualSizeBytes ?? 0) : 0,
    hostIds,
    excludeHostIds: [],
    diskPoolUuid,
    sharedPoolOnly: !isCopied,
    // A disk that is a copy of its own lies on no image.
    imageHome: isCopied && image && pool.systemDisks === 'overlay' ? imageHomeOf(store, image) : null,
    dataDisks: disksOf(store, uuid).map((disk) => ({
      name: disk.name,
      ...reachOf(store, copyDisks ? { ...disk, hostId: null } : disk),
    })),
    cpuFeatures: [],
    ha,
    groups: groupsOf(namespace, tags),
  }
}

/**
 * Hosts that are known to have another folder than its own host in each pool that a move is to copy disks of: a copy
 * would replace what it is made from, else, and then be removed.
 */
export function withFoldersOfTheirOwn(
  store: Store,
  instance: InstanceRecord,
  hostIds: readonly string[],
): string[] {
  const pools = [instance.diskPoolUuid, ...disksOf(store, instance.uuid).map((disk) => disk.diskPoolUuid)]
    .flatMap((uuid) => store.diskPools.get(uuid) ?? [])
    .filter(({ shared }) => !shared)
  const isApart = (hostId: string) =>
    pools.every((pool) => {
      // A host that is not in the pool is refused with that reason by the placement.
      if (!store.poolHosts.find(pool.uuid, hostId)) return true
      const [there, here] = [hostId, instance.hostId].map((each) => markerOn(store, pool, each))
      return there !== '' && here !== '' && there !== here
    })
  const apart = hostIds.filter(isApart)
  if (apart.length > 0) return apart
  throw new VpeError(
    'CONFLICT',
    `instance ${instance.name} cannot move with its disks: no other host is known to have a folder of its own in its pool; wait until the pool is ready there, or declare it shared if all see the folder of its pool that its host sees`,
  )
}
