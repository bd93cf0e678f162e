// Makes every disk pool usable on every host it belongs to, and keeps what is known of its size
// current: when a pool or a host appears, when a host comes back, and every minute.

import { randomUUID } from 'node:crypto'
import type { DiskPoolHost, DiskPoolRecord, HostRecord } from '@vpe/core'
import { fromClientError } from '@vpe/proto'
import type { Logger } from 'pino'
import type { Agents } from './agents.ts'
import { Slots } from './slots.ts'
import { changedHosts } from './store/pool-host-index.ts'
import type { Store } from './store/store.ts'
import { change } from './store/tables.ts'
import { diskPoolSpecToWire, markerOn } from './wire.ts'

const REFRESH_MS = 60_000
/** Longer than what an agent gives a mount and a worker. */
const TIMEOUT_MS = 90_000
/** So many hosts are asked at once: every minute it is all of them. */
const AT_ONCE = 128
/** A smaller share of the pool's size is not worth a row and an fsync. */
const NOTEWORTHY_SHARE = 0.01

export class DiskPoolKeeper {
  readonly #store: Store
  readonly #agents: Agents
  readonly #log: Logger
  readonly #onFatal: (error: unknown) => void
  readonly #onReady: (hostId: string) => void
  readonly #underWay = new Set<string>()
  /** Shared pools that a host is being asked to mark. */
  readonly #marking = new Map<string, Promise<void>>()
  readonly #slots = new Slots(AT_ONCE)
  #timer: NodeJS.Timeout | null = null

  /**
   * @param onFatal told of a defect, or of a store that failed: the process must end
   * @param onReady told of a host on which a pool has become ready
   */
  constructor(
    store: Store,
    agents: Agents,
    log: Logger,
    onFatal: (error: unknown) => void,
    onReady: (hostId: string) => void,
  ) {
    this.#store = store
    this.#agents = agents
    this.#log = log
    this.#onFatal = onFatal
    this.#onReady = onReady
    store.listen({
      onDiskPool: (pool, before) => {
        for (const { hostId, state } of changedHosts(pool, before))
          if (pool && state === 'pending') this.#ensureSoon(pool.uuid, hostId)
      },
    })
  }

  start(): void {
    this.#timer = setInterval(() => this.lookAtAll(), REFRESH_MS)
  }

  lookAtAll(): void {
    for (const host of this.#store.hosts.values()) if (host.state === 'up') this.lookAtHost(host.uuid)
  }

  /** Ensures every pool of a host: it has just become reachable. */
  lookAtHost(hostId: string): void {
    for (const poolUuid of this.#store.poolHosts.poolsOf(hostId)) this.#ensureSoon(poolUuid, hostId)
  }

  close(): void {
    if (this.#timer) clearInterval(this.#timer)
  }

  /** Once however often it is called until that is done. */
  #ensureSoon(poolUuid: string, hostId: string): void {
    const key = `${poolUuid}/${hostId}`
    if (this.#underWay.has(key)) return
    this.#underWay.add(key)
    this.#slots
      .run(() => this.#ensure(poolUuid, hostId))
      .finally(() => this.#underWay.delete(key))
      .catch(this.#onFatal)
  }

  async #ensure(poolUuid: string, hostId: string): Promise<void> {
    await this.#store.durable()
    // A shared pool is marked by one host: the others must find what that has written. Of two that mark at
    // once, one may be without the share, and mark the folder below.
    while (this.#marking.has(poolUuid)) await this.#marking.get(poolUuid)
    const pool = this.#store.diskPools.get(poolUuid)
    const host = this.#store.hosts.get(hostId)
    if (!pool || !host) return
    if (pool.shared && pool.marker === '') await this.#mark(pool, host)
    else await this.#look(pool, host)
  }

  async #mark(pool: DiskPoolRecord, host: HostRecord): Promise<void> {
    // The others would wait for one that does not answer; it is asked when it is back.
    if (host.state !== 'up') return
    const over = Promise.withResolvers<void>()
    this.#marking.set(pool.uuid, over.promise)
    try {
      await this.#look(pool, host)
    } finally {
      this.#marking.delete(pool.uuid)
      over.resolve()
    }
  }

  async #look(pool: DiskPoolRecord, host: HostRecord): Promise<void> {
    const seen = await this.#ask(pool, host)
    if (seen) this.#note(pool.uuid, { hostId: host.uuid, ...seen })
  }

  async #ask(pool: DiskPoolRecord, host: HostRecord): Promise<Omit<DiskPoolHost, 'hostId'> | null> {
    try {
      const answer = await this.#agents.client(host).ensureDiskPool(
        {
          epoch: this.#store.epoch,
          diskPool: diskPoolSpecToWire(this.#store, pool, host.uuid),
          proposedMarker: markerOn(this.#store, pool, host.uuid) === '' ? randomUUID() : '',
        },
        { signal: AbortSignal.timeout(TIMEOUT_MS) },
      )
      return { state: 'ready', fault: '', ...answer }
    } catch (cause) {
      const error = fromClientError(cause)
      this.#log.warn({ disk_pool: pool.uuid, host: host.uuid, code: error.code }, error.message)
      // A host that does not answer says nothing about the pool; it is asked again when it is back.
      if (error.code === 'UNAVAILABLE') return null
      const marker = this.#store.poolHosts.find(pool.uuid, host.uuid)?.marker ?? ''
      return { state: 'error', fault: error.message, capacityBytes: 0, availableBytes: 0, marker }
    }
  }

  #note(poolUuid: string, seen: DiskPoolHost): void {
    const pool = this.#store.diskPools.get(poolUuid)
    const before = this.#store.poolHosts.find(poolUuid, seen.hostId)
    if (!pool || !before || !isNews(before, seen)) return
    const hosts = pool.hosts.with(pool.hosts.indexOf(before), seen)
    const next = { ...pool, marker: pool.marker || (pool.shared ? seen.marker : ''), hosts }
    const events =
      before.state === seen.state
        ? []
        : [
            {
              kind: 'disk_pool' as const,
              id: pool.uuid,
              what: seen.state === 'ready' ? 'ready' : 'failed',
              data: { uuid: pool.uuid, name: pool.name, host_uuid: seen.hostId, fault: seen.fault || null },
            },
          ]
    void this.#store.commit([change.diskPool(next)], events)
    if (seen.state === 'ready' && before.state !== 'ready') this.#onReady(seen.hostId)
  }
}

function isNews(before: DiskPoolHost, seen: DiskPoolHost): boolean {
  if (
    before.state !== seen.state ||
    before.fault !== seen.fault ||
    before.marker !== seen.marker ||
    before.capacityBytes !== seen.capacityBytes
  ) {
    return true
  }
  return Math.abs(before.availableBytes - seen.availableBytes) > seen.capacityBytes * NOTEWORTHY_SHARE
}
