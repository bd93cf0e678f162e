// Pools whose classes a test says, on the storage that pretended hosts share.

import type { HaPools } from '../ha/ports.ts'
import type { Store } from '../store/store.ts'
import type { FakeStorage } from './fake-guard.ts'

export class MemoryPools implements HaPools {
  poolClass: 'E' | 'N' = 'E'
  canRevoke = false
  readonly revoked: string[] = []
  #store: Store | null = null
  readonly #storage: FakeStorage

  constructor(storage: FakeStorage) {
    this.#storage = storage
  }

  /** Pools of that store from now on. */
  of(store: Store): this {
    this.#store = store
    return this
  }

  poolsOfHost(hostId: string) {
    const store = this.#store
    if (!store) return []
    return [...store.poolHosts.poolsOf(hostId)]
      .filter((uuid) => store.diskPools.get(uuid)?.shared)
      .map((pool) => ({
        pool,
        poolClass: this.poolClass,
        canUnmount: false,
        canRevoke: this.canRevoke,
      }))
  }

  classOf() {
    return { poolClass: this.poolClass, why: 'the test says so' }
  }

  slotOf() {
    return 0
  }

  canPowerOff() {
    return false
  }

  async revoke(hostId: string) {
    this.revoked.push(hostId)
    this.#storage.revoke(hostId)
    return true
  }

  async powerOff() {
    return false
  }
}
