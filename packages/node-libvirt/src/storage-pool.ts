// A handle to a storage pool: a connection and a uuid, nothing native, as with domains.

import { isLibvirtError } from './error.ts'
import { flagBits } from './flags.ts'
import type { PoolIdentity } from './identity.ts'
import { callLocal } from './library.ts'
import type { Link } from './link.ts'
import { freeMemory, readInt, readPointer, readPointers, readStruct, withMemory } from './memory.ts'
import type { Pointer } from './native-functions.ts'
import type { Call } from './session.ts'
import {
  type PoolBuildFlags,
  type PoolStartFlags,
  poolBuildFlags,
  poolStartFlags,
  type VolumeCreateFlags,
  volumeCreateFlags,
} from './storage-flags.ts'
import { takeVolume, type Volume, withVolume } from './volume.ts'

const poolStates = ['inactive', 'building', 'running', 'degraded', 'inaccessible'] as const
export type StoragePoolState = (typeof poolStates)[number] | 'unknown'

/** Sizes are those of the last refresh. */
export interface StoragePoolInfo {
  readonly state: StoragePoolState
  readonly capacityBytes: number
  readonly allocationBytes: number
  readonly availableBytes: number
}

/** A storage pool. All methods reject with a LibvirtError, NO_STORAGE_POOL when the pool is gone. */
export class StoragePool {
  readonly uuid: string
  readonly name: string
  readonly #link: Link

  /** Handles come from a Connection. */
  constructor(link: Link, identity: PoolIdentity) {
    this.#link = link
    this.uuid = identity.uuid
    this.name = identity.name
  }

  /** Starts a defined pool. libvirt calls it create. */
  start(flags?: PoolStartFlags): Promise<void> {
    return this.#do((call, pool) => call('virStoragePoolCreate', pool, flagBits(poolStartFlags, flags)))
  }

  /** Prepares the storage: makes the directory, formats the device… */
  build(flags?: PoolBuildFlags): Promise<void> {
    return this.#do((call, pool) => call('virStoragePoolBuild', pool, flagBits(poolBuildFlags, flags)))
  }

  /** Stops the pool; the data stays. */
  destroy(): Promise<void> {
    return this.#do((call, pool) => call('virStoragePoolDestroy', pool))
  }

  /** Removes the definition of a stopped pool; the data stays. */
  undefine(): Promise<void> {
    return this.#do((call, pool) => call('virStoragePoolUndefine', pool))
  }

  /** Deletes the storage of a stopped pool. */
  delete(flags: { zeroed?: boolean } = {}): Promise<void> {
    return this.#do((call, pool) => call('virStoragePoolDelete', pool, flags.zeroed === true ? 1 : 0))
  }

  /** Reads the list of volumes and the sizes anew. May take as long as the storage does. */
  refresh(): Promise<void> {
    return this.#do((call, pool) => call('virStoragePoolRefresh', pool, 0))
  }

  info(): Promise<StoragePoolInfo> {
    return this.#with((call, pool) =>
      withMemory(32, async (memory) => {
        await call('virStoragePoolGetInfo', pool, memory)
        const info = readStruct(memory, 32)
        return {
          state: poolStates[info.getInt32(0, true)] ?? 'unknown',
          capacityBytes: Number(info.getBigUint64(8, true)),
          allocationBytes: Number(info.getBigUint64(16, true)),
          availableBytes: Number(info.getBigUint64(24, true)),
        }
      }),
    )
  }

  xml(flags: { inactive?: boolean } = {}): Promise<string> {
    return this.#with((call, pool) => call('virStoragePoolGetXMLDesc', pool, flags.inactive === true ? 1 : 0))
  }

  isActive(): Promise<boolean> {
    return this.#with(async (call, pool) => (await call('virStoragePoolIsActive', pool)) === 1)
  }

  isPersistent(): Promise<boolean> {
    return this.#with(async (call, pool) => (await call('virStoragePoolIsPersistent', pool)) === 1)
  }

  /** Whether libvirtd starts the pool when it starts itself. */
  autostart(): Promise<boolean> {
    return this.#with((call, pool) =>
      withMemory(4, async (memory) => {
        await call('virStoragePoolGetAutostart', pool, memory)
        return readInt(memory) === 1
      }),
    )
  }

  setAutostart(autostart: boolean): Promise<void> {
    return this.#do((call, pool) => call('virStoragePoolSetAutostart', pool, autostart ? 1 : 0))
  }

  listVolumes(): Promise<Volume[]> {
    return this.#with((call, pool) =>
      withMemory(8, async (memory) => {
        const count = await call('virStoragePoolListAllVolumes', pool, memory, 0)
        const list = readPointer(memory)
        if (list === null) return []
        const handles = readPointers(list, count)
        freeMemory(list)
        const volumes: Volume[] = []
        for (const handle of handles) {
          try {
            volumes.push(await takeVolume(this.#link, call, handle))
          } catch (error) {
            // Deleted since it was listed. The handles that follow must be freed in any case.
            if (!isLibvirtError(error)) throw error
          }
        }
        return volumes
      }),
    )
  }

  /** Rejects with NO_STORAGE_VOL when the pool, as last refreshed, has no volume of that name. */
  lookupVolume(name: string): Promise<Volume> {
    return this.#with(async (call, pool) =>
      takeVolume(this.#link, call, await call('virStorageVolLookupByName', pool, name)),
    )
  }

  createVolume(xml: string, flags?: VolumeCreateFlags): Promise<Volume> {
    return this.#with(async (call, pool) => {
      const volume = await call('virStorageVolCreateXML', pool, xml, flagBits(volumeCreateFlags, flags))
      return takeVolume(this.#link, call, volume)
    })
  }

  /** Creates a volume with the contents of another, which may be in another pool. */
  cloneVolume(xml: string, original: Volume, flags?: VolumeCreateFlags): Promise<Volume> {
    return this.#with((call, pool, connection) =>
      withVolume(call, connection, original.key, async (source) => {
        const bits = flagBits(volumeCreateFlags, flags)
        return takeVolume(this.#link, call, await call('virStorageVolCreateXMLFrom', pool, xml, source, bits))
      }),
    )
  }

  #with<T>(work: (call: Call, pool: Pointer, connection: Pointer) => Promise<T>): Promise<T> {
    return this.#link.use(async (call, connection) => {
      const pool = await call('virStoragePoolLookupByUUIDString', connection, this.uuid)
      try {
        return await work(call, pool, connection)
      } finally {
        callLocal('virStoragePoolFree', pool)
      }
    })
  }

  async #do(work: (call: Call, pool: Pointer) => Promise<unknown>): Promise<void> {
    await this.#with(work)
  }
}
