// A handle to a storage volume: a connection and the volume's key, nothing native, as with domains.

import { flagBits } from './flags.ts'
import { poolIdentity, takeIdentity, type VolumeIdentity, volumeIdentity } from './identity.ts'
import { callLocal } from './library.ts'
import type { Link } from './link.ts'
import { readStruct, withMemory } from './memory.ts'
import type { Pointer } from './native-functions.ts'
import type { Call } from './session.ts'
import {
  type VolumeDeleteFlags,
  type VolumeResizeFlags,
  volumeDeleteFlags,
  volumeResizeFlags,
} from './storage-flags.ts'
import { StoragePool } from './storage-pool.ts'

const volumeTypes = ['file', 'block', 'dir', 'network', 'netdir', 'ploop'] as const
export type VolumeType = (typeof volumeTypes)[number] | 'unknown'

export interface VolumeInfo {
  readonly type: VolumeType
  /** What a guest sees. */
  readonly capacityBytes: number
  /** What is taken up on storage, or with `physical` the length of the file. */
  readonly allocationBytes: number
}

/** A volume. All methods reject with a LibvirtError, NO_STORAGE_VOL when the volume is gone. */
export class Volume {
  readonly name: string
  readonly key: string
  /** The path on the host; for network volumes, the name libvirt gives to hypervisors. */
  readonly path: string
  readonly #link: Link

  /** Handles come from a StoragePool or a Connection. */
  constructor(link: Link, identity: VolumeIdentity & { readonly path: string }) {
    this.#link = link
    this.name = identity.name
    this.key = identity.key
    this.path = identity.path
  }

  info(flags: { physical?: boolean } = {}): Promise<VolumeInfo> {
    return this.#with((call, volume) =>
      withMemory(24, async (memory) => {
        const physical = 1
        if (flags.physical === true) await call('virStorageVolGetInfoFlags', volume, memory, physical)
        else await call('virStorageVolGetInfo', volume, memory)
        const info = readStruct(memory, 24)
        return {
          type: volumeTypes[info.getInt32(0, true)] ?? 'unknown',
          capacityBytes: Number(info.getBigUint64(8, true)),
          allocationBytes: Number(info.getBigUint64(16, true)),
        }
      }),
    )
  }

  xml(): Promise<string> {
    return this.#with((call, volume) => call('virStorageVolGetXMLDesc', volume, 0))
  }

  /** Changes the capacity of a volume no guest uses; `shrink` is needed to lose data. */
  resize(capacityBytes: number, flags?: VolumeResizeFlags): Promise<void> {
    return this.#do((call, volume) =>
      call('virStorageVolResize', volume, capacityBytes, flagBits(volumeResizeFlags, flags)),
    )
  }

  delete(flags?: VolumeDeleteFlags): Promise<void> {
    return this.#do((call, volume) => call('virStorageVolDelete', volume, flagBits(volumeDeleteFlags, flags)))
  }

  /** The pool the volume is in. */
  pool(): Promise<StoragePool> {
    return this.#with(async (call, volume) => {
      const pool = await call('virStoragePoolLookupByVolume', volume)
      return new StoragePool(this.#link, takeIdentity(pool, poolIdentity, 'virStoragePoolFree'))
    })
  }

  #with<T>(work: (call: Call, volume: Pointer) => Promise<T>): Promise<T> {
    return this.#link.use((call, connection) =>
      withVolume(call, connection, this.key, (volume) => work(call, volume)),
    )
  }

  async #do(work: (call: Call, volume: Pointer) => Promise<unknown>): Promise<void> {
    await this.#with(work)
  }
}

/** Looks a volume up by key, lends its native handle to `work` and frees it. */
export async function withVolume<T>(
  call: Call,
  connection: Pointer,
  key: string,
  work: (volume: Pointer) => Promise<T>,
): Promise<T> {
  const volume = await call('virStorageVolLookupByKey', connection, key)
  try {
    return await work(volume)
  } finally {
    callLocal('virStorageVolFree', volume)
  }
}

/** Makes the handle of a volume from its native one, which is freed. */
export async function takeVolume(link: Link, call: Call, volume: Pointer): Promise<Volume> {
  try {
    const path = await call('virStorageVolGetPath', volume)
    return new Volume(link, { ...volumeIdentity(volume), path })
  } finally {
    callLocal('virStorageVolFree', volume)
  }
}
