// The messages of instances, encoded for lists. Records never change, so what was made of one holds as long
// as it and what it refers to are the same records.

import type { InstanceRecord } from '@vpe/core'
import { Instance } from '@vpe/proto'
import { disksOf } from '../instance-disks.ts'
import type { Store } from '../store/store.ts'
import { instanceToWire } from '../wire.ts'

interface Encoded {
  /** The records whose names the message shows. */
  readonly named: readonly unknown[]
  readonly bytes: Uint8Array
}

export class InstanceMessages {
  readonly #store: Store
  readonly #encoded = new WeakMap<InstanceRecord, Encoded>()

  constructor(store: Store) {
    this.#store = store
  }

  /** The encoded Instance; not to be written to. */
  encode(instance: InstanceRecord): Uint8Array {
    const { flavors, images, diskPools, hosts } = this.#store
    const disks = disksOf(this.#store, instance.uuid)
    const named = [
      flavors.get(instance.flavorUuid),
      images.get(instance.imageUuid),
      diskPools.get(instance.diskPoolUuid),
      hosts.get(instance.hostId),
      ...disks,
    ]
    const known = this.#encoded.get(instance)
    const isSame =
      known?.named.length === named.length && named.every((record, at) => record === known.named[at])
    if (known && isSame) return known.bytes
    const bytes = Instance.encode(instanceToWire(this.#store, instance)).finish()
    this.#encoded.set(instance, { named, bytes })
    return bytes
  }
}
