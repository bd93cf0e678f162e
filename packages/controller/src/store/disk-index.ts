// Which data disks an instance has, and what disks add up to by host and pool, kept current with each
// change so that neither a list of instances nor a placement costs a scan.

import type { DiskRecord } from '@vpe/core'

const NONE: ReadonlySet<string> = new Set()

export class DiskIndex {
  readonly #ofInstance = new Map<string, Set<string>>()
  readonly #bytes = new Map<string, number>()
  /** By pool and by host. */
  readonly #counts = new Map<string, number>()

  /** Takes one record out and puts another in. */
  replace(before: DiskRecord | null, after: DiskRecord | null): void {
    if (before) this.#count(before, -1)
    if (after) this.#count(after, 1)
  }

  ofInstance(instanceUuid: string): ReadonlySet<string> {
    return this.#ofInstance.get(instanceUuid) ?? NONE
  }

  /** How many lie on a host, in pools that are not shared, or in a pool. */
  countAt(hostOrPoolUuid: string): number {
    return this.#counts.get(hostOrPoolUuid) ?? 0
  }

  /** Bytes that disks in a local pool of a host, or in a shared pool, may grow to. */
  reservedBytes(diskPoolUuid: string, hostId: string, shared: boolean): number {
    return this.#bytes.get(shared ? diskPoolUuid : `${diskPoolUuid}/${hostId}`) ?? 0
  }

  #count(disk: DiskRecord, sign: 1 | -1): void {
    const { uuid, diskPoolUuid, hostId, instanceUuid, sizeBytes } = disk
    const home = hostId === null ? diskPoolUuid : `${diskPoolUuid}/${hostId}`
    add(this.#bytes, home, sign * sizeBytes)
    add(this.#counts, diskPoolUuid, sign)
    if (hostId !== null) add(this.#counts, hostId, sign)
    if (instanceUuid === null) return
    const disks = this.#ofInstance.get(instanceUuid) ?? new Set()
    if (sign === 1) this.#ofInstance.set(instanceUuid, disks.add(uuid))
    else if (disks.delete(uuid) && disks.size === 0) this.#ofInstance.delete(instanceUuid)
  }
}

function add(sums: Map<string, number>, key: string, amount: number): void {
  const sum = (sums.get(key) ?? 0) + amount
  if (sum === 0) sums.delete(key)
  else sums.set(key, sum)
}
