// What an instance asks of a host that it moves to.

import { groupsOf, type InstanceRecord, type PlacementRequest } from '@vpe/core'
import { disksOf } from '../instance-disks.ts'
import type { Store } from '../store/store.ts'
import { reachOf } from './disks.ts'

/** @param hostIds those that it may move to; empty for any */
export function moveRequest(
  store: Store,
  instance: InstanceRecord,
  hostIds: readonly string[],
): PlacementRequest {
  const { uuid, vcpus, memoryMib, diskPoolUuid, ha, namespace, tags } = instance
  return {
    vcpus,
    memoryMib,
    // The pool holds the system disk already, wherever it is used from.
    diskBytes: 0,
    hostIds,
    excludeHostIds: [],
    diskPoolUuid,
    sharedPoolOnly: true,
    imageHome: null,
    dataDisks: disksOf(store, uuid).map((disk) => ({ name: disk.name, ...reachOf(store, disk) })),
    cpuFeatures: [],
    ha,
    groups: groupsOf(namespace, tags),
  }
}
