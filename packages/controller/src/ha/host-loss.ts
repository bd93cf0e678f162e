// What the loss of a host would come to, from the records and from what is known of pools.

import { type HostId, type HostTable, hostOfGuest, type InstanceRecord } from '@vpe/core'
import { type HaTimings, type HostPool, type WhatIfFate, type WhatIfInstance, whatIfLost } from '@vpe/core/ha'
import { reservationOf } from '../host-table-keeper.ts'
import { disksOf } from '../instance-disks.ts'
import { moveRequest } from '../service/move-request.ts'
import type { Store } from '../store/store.ts'
import type { HaView } from './ports.ts'

export interface HostLossDeps {
  readonly store: Store
  /** All hosts, as placement reads them. */
  readonly hosts: HostTable
  readonly view: HaView
  readonly timings: HaTimings
}

/** What would become of each highly available instance of a host that is to run, first to start first. */
export function fatesOnLossOf({ store, hosts, view, timings }: HostLossDeps, hostId: HostId): WhatIfFate[] {
  const host = view.host(hostId)
  const instances = [...store.usage.instancesOfHost(hostId)].flatMap((uuid) => {
    const instance = store.instances.get(uuid)
    const isConcerned = instance?.ha && instance.power !== 'off' && hostOfGuest(instance) === hostId
    return isConcerned ? instanceOf(store, instance, poolsOf(store, view, instance, host?.pools ?? [])) : []
  })
  const canPowerOff = host?.canPowerOff ?? false
  return whatIfLost({ hostId, table: hosts, instances, canPowerOff, timings })
}

function instanceOf(store: Store, instance: InstanceRecord, pools: readonly HostPool[]): WhatIfInstance {
  const { uuid, name, haPriority, hostIds, hostId, leavingHostId } = instance
  return {
    uuid,
    name,
    priority: haPriority,
    request: moveRequest(store, instance, hostIds),
    reservation: reservationOf(instance),
    pools,
    stays: whyItStays(store, instance),
    reservedOn: leavingHostId === null ? null : hostId,
  }
}

/** Those that the keeper goes by; of one that it does not look after yet, those of its disks. */
function poolsOf(
  store: Store,
  view: HaView,
  { uuid, diskPoolUuid }: InstanceRecord,
  ofHost: readonly HostPool[],
): readonly HostPool[] {
  const known = view.instance(uuid)
  if (known) return known.pools
  const used = new Set([diskPoolUuid, ...disksOf(store, uuid).map((disk) => disk.diskPoolUuid)])
  return ofHost.filter(({ pool }) => used.has(pool))
}

/** What only its own host can reach is not to be had where that is lost. */
function whyItStays(store: Store, { uuid, diskPoolUuid, fault, status }: InstanceRecord): string | null {
  if (status === 'error') return `it is in error: ${fault}`
  const pool = store.diskPools.get(diskPoolUuid)
  if (pool?.shared === false)
    return `its system disk lies in disk pool ${pool.name}, which is local to its host: it starts when that is back`
  const local = disksOf(store, uuid).find((disk) => disk.hostId !== null)
  return local
    ? `its disk ${local.name} lies in a disk pool that is local to its host: it starts when that is back`
    : null
}
