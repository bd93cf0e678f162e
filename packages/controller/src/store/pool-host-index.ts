// Which hosts a disk pool has and which pools a host has, kept current with each change: a pool of every host has
// thousands, and most questions are about one of them.

import type { DiskPoolHost, DiskPoolRecord } from '@vpe/core'

const NONE: ReadonlySet<string> = new Set()
const NOBODY: ReadonlySet<DiskPoolHost> = new Set()

export class PoolHostIndex {
  /** By pool and by host. */
  readonly #hosts = new Map<string, Map<string, DiskPoolHost>>()
  readonly #poolsOf = new Map<string, Set<string>>()
  /** By pool and by marker, of local pools: hosts of a shared one all have the same. */
  readonly #marked = new Map<string, Map<string, Set<DiskPoolHost>>>()
  /** By pool, for those that were asked about since they changed. */
  readonly #fullest = new Map<string, number>()

  /** Takes one record out and puts another in. */
  replace(before: DiskPoolRecord | null, after: DiskPoolRecord | null): void {
    const uuid = (after ?? before)?.uuid ?? ''
    this.#fullest.delete(uuid)
    const hosts = this.#hosts.get(uuid) ?? new Map<string, DiskPoolHost>()
    const [gone, come] = [changedHosts(before, after), changedHosts(after, before)]
    const marked = this.#marked.get(uuid) ?? new Map<string, Set<DiskPoolHost>>()
    for (const host of gone) {
      const { hostId, marker } = host
      hosts.delete(hostId)
      const those = marked.get(marker)
      if (those?.delete(host) && those.size === 0) marked.delete(marker)
      const pools = this.#poolsOf.get(hostId)
      if (pools?.delete(uuid) && pools.size === 0) this.#poolsOf.delete(hostId)
    }
    for (const host of come) {
      hosts.set(host.hostId, host)
      this.#poolsOf.set(host.hostId, (this.#poolsOf.get(host.hostId) ?? new Set()).add(uuid))
      if (!after?.shared && host.marker !== '')
        marked.set(host.marker, (marked.get(host.marker) ?? new Set()).add(host))
    }
    if (after) {
      this.#hosts.set(uuid, hosts)
      this.#marked.set(uuid, marked)
    } else {
      this.#hosts.delete(uuid)
      this.#marked.delete(uuid)
    }
  }

  /** A pool as one of its hosts sees it; null when it is none of them. */
  find(poolUuid: string, hostId: string): DiskPoolHost | null {
    return this.#hosts.get(poolUuid)?.get(hostId) ?? null
  }

  /** Those hosts of a local pool that have found this marker in it: more than one where they have the same folder. */
  withMarker(poolUuid: string, marker: string): ReadonlySet<DiskPoolHost> {
    return this.#marked.get(poolUuid)?.get(marker) ?? NOBODY
  }

  /** Uuids of the pools that a host has. */
  poolsOf(hostId: string): ReadonlySet<string> {
    return this.#poolsOf.get(hostId) ?? NONE
  }

  /** The most bytes that any host has measured as taken of a pool. */
  fullestBytes(poolUuid: string): number {
    const known = this.#fullest.get(poolUuid)
    if (known !== undefined) return known
    let most = 0
    for (const host of this.#hosts.get(poolUuid)?.values() ?? []) most = Math.max(most, measuredBytes(host))
    this.#fullest.set(poolUuid, most)
    return most
  }
}

/**
 * Hosts of a pool as it is that are not so in what it was, or the other way round. Most changes are of one host, or
 * add one at the end: the others are where they were.
 */
export function changedHosts(pool: DiskPoolRecord | null, other: DiskPoolRecord | null): DiskPoolHost[] {
  const changed: DiskPoolHost[] = []
  const [hosts, others] = [pool?.hosts ?? [], other?.hosts ?? []]
  for (let index = 0; index < hosts.length; index++) {
    const host = hosts[index]
    if (host && host !== others[index]) changed.push(host)
  }
  return changed
}

/** Bytes that a host has measured as taken of a pool. */
export function measuredBytes({ capacityBytes, availableBytes }: DiskPoolHost): number {
  return capacityBytes - availableBytes
}
