// The messages of instances, encoded for lists. Records never change, so what was made of one holds as long
// as it and what it refers to are the same records. Nothing is made anew to find that out: a list asks for
// a thousand.

import { randomInt } from 'node:crypto'
import type {
  DiskPoolRecord,
  DiskRecord,
  FlavorRecord,
  HostRecord,
  ImageRecord,
  InstanceRecord,
} from '@vpe/core'
import { Instance } from '@vpe/proto'
import { disksOf } from '../instance-disks.ts'
import type { Store } from '../store/store.ts'
import { instanceToWire, unprotectedBy } from '../wire.ts'

interface Encoded {
  readonly flavor: FlavorRecord | undefined
  readonly image: ImageRecord | undefined
  readonly pool: DiskPoolRecord | undefined
  readonly host: HostRecord | undefined
  readonly disks: readonly DiskRecord[]
  readonly unprotected: string
  readonly listed: { readonly edition: number; readonly instance: Uint8Array }
}

const NO_DISKS: readonly DiskRecord[] = []

export class InstanceMessages {
  readonly #store: Store
  readonly #encoded = new WeakMap<InstanceRecord, Encoded>()
  #lastEdition = 0
  /** Never that of another process: a store that was put back from a backup repeats its epochs. */
  readonly run = randomInt(1, 2 ** 47)

  constructor(store: Store) {
    this.#store = store
  }

  /** The encoded Instance, not to be written to, and the number that stands for it in this process. */
  encode(instance: InstanceRecord): Encoded['listed'] {
    const { flavors, images, diskPools, hosts, diskIndex } = this.#store
    const flavor = flavors.get(instance.flavorUuid)
    const image = images.get(instance.imageUuid)
    const pool = diskPools.get(instance.diskPoolUuid)
    const host = hosts.get(instance.hostId)
    const hasDisks = diskIndex.ofInstance(instance.uuid).size > 0
    const disks = hasDisks ? disksOf(this.#store, instance.uuid) : NO_DISKS
    const unprotected = unprotectedBy(this.#store, instance)
    const known = this.#encoded.get(instance)
    if (
      known?.flavor === flavor &&
      known?.image === image &&
      known?.pool === pool &&
      known?.host === host &&
      known?.unprotected === unprotected &&
      known?.disks.length === disks.length &&
      known.disks.every((disk, at) => disk === disks[at])
    ) {
      return known.listed
    }
    const bytes = Instance.encode(instanceToWire(this.#store, instance)).finish()
    const listed = { edition: ++this.#lastEdition, instance: bytes }
    this.#encoded.set(instance, { flavor, image, pool, host, disks, unprotected, listed })
    return listed
  }
}
