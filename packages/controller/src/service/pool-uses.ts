// What uses a disk pool: all of it, or on one host.

import { type DiskPoolRecord, VpeError } from '@vpe/core'
import type { Store } from '../store/store.ts'
import { assertUnused } from './resources.ts'

/** @throws VpeError IN_USE while anything lies in it */
export function assertPoolUnused(store: Store, pool: DiskPoolRecord): void {
  assertUnused(store, 'disk pool', pool)
  const disks = store.diskIndex.countAt(pool.uuid)
  if (disks > 0)
    throw new VpeError('IN_USE', `disk pool ${pool.name} has ${disks} data disk(s); delete them first`)
  const image = [...store.images.values()].find(({ diskPoolUuid }) => diskPoolUuid === pool.uuid)
  if (image) throw new VpeError('IN_USE', `disk pool ${pool.name} holds image ${image.name}; delete it first`)
}

/** What of a pool a host could not do without it, in words: "instance web", "disk data". */
export function usesOnHost(store: Store, pool: DiskPoolRecord, hostId: string): string[] {
  const instances = [...store.instances.values()].filter(
    (instance) =>
      instance.diskPoolUuid === pool.uuid &&
      (instance.hostId === hostId || instance.leavingHostId === hostId),
  )
  const disks = [...store.disks.values()].filter((disk) => {
    if (disk.diskPoolUuid !== pool.uuid) return false
    if (disk.hostId === hostId) return true
    const holder = store.instances.get(disk.instanceUuid ?? '')
    return holder?.hostId === hostId || holder?.leavingHostId === hostId
  })
  const images = [...store.images.values()].filter(
    (image) =>
      image.diskPoolUuid === pool.uuid &&
      image.hostId === hostId &&
      (!pool.shared || image.status === 'uploading' || image.status === 'importing'),
  )
  return [
    ...instances.map(({ name }) => `instance ${name}`),
    ...disks.map(({ name }) => `disk ${name}`),
    ...images.map(({ name }) => `image ${name}`),
  ]
}
