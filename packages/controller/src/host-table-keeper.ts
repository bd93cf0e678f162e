// Keeps the table that placement reads as the records are: filled once, then changed with each commit, in the same
// turn of the event loop. So two decisions never share the last place, and none builds anything anew.

import {
  type DiskPoolRecord,
  type DiskRecord,
  groupsOf,
  type HostRecord,
  HostTable,
  hostsOf,
  type InstanceRecord,
  type OvercommitPolicy,
  type Reservation,
} from '@vpe/core'
import { poolOnHost, takenBytes } from './service/pool-on-host.ts'
import { changedHosts } from './store/pool-host-index.ts'
import type { Store } from './store/store.ts'

/** A table that follows the store from now on. */
export function keepHostTable(store: Store, policy: OvercommitPolicy): HostTable {
  const table = new HostTable(policy)

  function showHost(host: HostRecord): void {
    const { uuid: id, name, state, schedulable, facts } = host
    const { cpus, memoryMib, cpuFeatures } = facts
    table.setHost({ id, name, state, schedulable, cpus, memoryMib, cpuFeatures })
  }

  function showUse(hostId: string): void {
    const { vcpus, memoryMib, tasks, ha } = store.usage.ofHost(hostId)
    table.setUse(hostId, { vcpusUsed: vcpus, memoryMibUsed: memoryMib, runningTasks: tasks, haInstances: ha })
  }

  function showReserved(poolUuid: string, hostId: string | null): void {
    const pool = store.diskPools.get(poolUuid)
    if (pool) table.setReserved(hostId, poolUuid, takenBytes(store, pool, hostId))
  }

  function showPool(pool: DiskPoolRecord, before: DiskPoolRecord | null): void {
    const changed = changedHosts(pool, before?.name === pool.name ? before : null)
    for (const onHost of changed) table.setPool(onHost.hostId, poolOnHost(store, pool, onHost))
    if (before) dropHosts(before, pool)
    // What a host that is gone had measured of it counts no more.
    if (pool.shared) showReserved(pool.uuid, null)
  }

  function dropHosts(before: DiskPoolRecord, pool: DiskPoolRecord): void {
    for (const { hostId } of changedHosts(before, pool))
      if (!store.poolHosts.find(pool.uuid, hostId)) table.removePool(hostId, pool.uuid)
  }

  function countMember(instance: InstanceRecord, amount: number, hostIds = hostsOf(instance)): void {
    const groups = groupsOf(instance.namespace, instance.tags)
    for (const hostId of hostIds) for (const { key } of groups) table.countMember(hostId, key, amount)
  }

  function showInstance(before: InstanceRecord | null, after: InstanceRecord | null): void {
    if (before) countMember(before, -1)
    if (after) countMember(after, 1)
    const touched = [before, after].filter((each) => each !== null)
    for (const hostId of new Set(touched.flatMap((each) => hostsOf(each)))) {
      showUse(hostId)
      for (const { diskPoolUuid } of touched) showReserved(diskPoolUuid, hostId)
    }
  }

  function addHost(host: HostRecord): void {
    showHost(host)
    showUse(host.uuid)
    for (const poolUuid of store.poolHosts.poolsOf(host.uuid)) {
      const [pool, onHost] = [store.diskPools.get(poolUuid), store.poolHosts.find(poolUuid, host.uuid)]
      if (pool && onHost) table.setPool(host.uuid, poolOnHost(store, pool, onHost))
    }
    for (const uuid of store.usage.instancesOfHost(host.uuid)) {
      const instance = store.instances.get(uuid)
      if (instance) countMember(instance, 1, [host.uuid])
    }
  }

  for (const host of store.hosts.values()) {
    showHost(host)
    showUse(host.uuid)
  }
  for (const pool of store.diskPools.values()) showPool(pool, null)
  for (const instance of store.instances.values()) countMember(instance, 1)

  store.listen({
    onHost(before, after) {
      if (!after) {
        if (before) table.removeHost(before.uuid)
      } else if (before) showHost(after)
      else addHost(after)
    },
    onDiskPool(after, before) {
      if (after) showPool(after, before)
      else for (const { hostId } of before?.hosts ?? []) table.removePool(hostId, before?.uuid ?? '')
    },
    onInstance: showInstance,
    onDisk(after, before) {
      for (const disk of [before, after] as (DiskRecord | null)[])
        if (disk) showReserved(disk.diskPoolUuid, disk.hostId)
    },
    onSnapshot(after, before) {
      const instance = store.instances.get((after ?? before)?.instanceUuid ?? '')
      if (instance) for (const hostId of hostsOf(instance)) showReserved(instance.diskPoolUuid, hostId)
    },
  })
  return table
}

/** What an instance takes of each host that it is on. */
export function reservationOf(instance: InstanceRecord): Reservation {
  const { vcpus, memoryMib, diskBytes, diskPoolUuid, ha, task, namespace, tags } = instance
  const groups = groupsOf(namespace, tags).map(({ key }) => key)
  return { vcpus, memoryMib, diskBytes, diskPoolUuid, ha, hasTask: task !== null, groups }
}
