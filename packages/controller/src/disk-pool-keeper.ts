// Makes every disk pool usable on every host it belongs to, and keeps what is known of its size
// current: when a pool or a host appears, when a host comes back, and every minute; where a pool does not work, sooner
// at first, as most of what goes wrong passes. Hosts that are to let go of a pool are asked to in the same way, until
// they have.

import { randomUUID } from 'node:crypto'
import type { DiskPoolHost, DiskPoolRecord, HostRecord } from '@vpe/core'
import { fromClientError } from '@vpe/proto'
import type { Logger } from 'pino'
import type { Agents } from './agents.ts'
import { commitOfDeparted } from './pool-departures.ts'
import { Slots } from './slots.ts'
import { changedHosts } from './store/pool-host-index.ts'
import type { Store } from './store/store.ts'
import { change } from './store/tables.ts'
import { diskPoolSpecToWire, markerOn } from './wire.ts'

const REFRESH_MS = 60_000
/** Where a pool does not work it is looked at again after so long, then after twice that, up to REFRESH_MS. */
const RETRY_MS = 1_000
/** Longer than what an agent gives a mount and a worker. */
const TIMEOUT_MS = 90_000
/** So many hosts are asked at once: every minute it is all of them. */
const AT_ONCE = 128
/** So long somebody who takes a pool from hosts waits for their answer; they are asked on after that. */
const SETTLE_MS = 5_000
/** A smaller share of the pool's size is not worth a row and an fsync. */
const NOTEWORTHY_SHARE = 0.01

export class DiskPoolKeeper {
  readonly #store: Store
  readonly #agents: Agents
  readonly #now: () => number
  readonly #log: Logger
  readonly #onFatal: (error: unknown) => void
  readonly #onReady: (hostId: string) => void
  readonly #underWay = new Map<string, Promise<void>>()
  /** Shared pools that a host is being asked to mark. */
  readonly #marking = new Map<string, Promise<void>>()
  /** By pool and host, where a pool did not work the last time: for how long until the next. */
  readonly #retries = new Map<string, { readonly delayMs: number; readonly timer: NodeJS.Timeout }>()
  readonly #slots = new Slots(AT_ONCE)
  /** Null before it is started, and once it is closed. */
  #timer: NodeJS.Timeout | null = null

  /**
   * @param onFatal told of a defect, or of a store that failed: the process must end
   * @param now for the ends of operations
   * @param onReady told of a host on which a pool has become ready
   */
  constructor(
    store: Store,
    agents: Agents,
    now: () => number,
    log: Logger,
    onFatal: (error: unknown) => void,
    onReady: (hostId: string) => void,
  ) {
    this.#store = store
    this.#agents = agents
    this.#now = now
    this.#log = log
    this.#onFatal = onFatal
    this.#onReady = onReady
    store.listen({
      onDiskPool: (pool, before) => {
        for (const { hostId, state } of changedHosts(pool, before)) {
          // One that could not let go of it is asked again in a minute, not at each change.
          const isAsked = state === 'leaving' && stateOn(before, hostId) === state
          if (pool && (state === 'pending' || (state === 'leaving' && !isAsked)))
            this.#visitSoon(pool.uuid, hostId)
        }
      },
    })
  }

  start(): void {
    this.#timer = setInterval(() => this.lookAtAll(), REFRESH_MS)
    for (const { uuid, hosts } of this.#store.diskPools.values())
      for (const { hostId, state } of hosts) if (state === 'leaving') this.#visitSoon(uuid, hostId)
  }

  /** Resolves when what is being asked of a pool's hosts has been answered, or after a while. */
  async settled(poolUuid: string): Promise<void> {
    const underWay = [...this.#underWay]
      .filter(([key]) => key.startsWith(`${poolUuid}/`))
      .map(([, visit]) => visit)
    const late = Promise.withResolvers<void>()
    const timer = setTimeout(late.resolve, SETTLE_MS)
    await Promise.race([Promise.allSettled(underWay), late.promise])
    clearTimeout(timer)
  }

  lookAtAll(): void {
    for (const host of this.#store.hosts.values()) if (host.state === 'up') this.lookAtHost(host.uuid)
  }

  /** Ensures every pool of a host: it has just become reachable. */
  lookAtHost(hostId: string): void {
    for (const poolUuid of this.#store.poolHosts.poolsOf(hostId)) this.#visitSoon(poolUuid, hostId)
  }

  close(): void {
    if (this.#timer) clearInterval(this.#timer)
    this.#timer = null
    for (const { timer } of this.#retries.values()) clearTimeout(timer)
  }

  /** Once however often it is called until that is done. */
  #visitSoon(poolUuid: string, hostId: string): void {
    const key = keyOf(poolUuid, hostId)
    if (this.#underWay.has(key)) return
    const visit = this.#slots
      .run(() => this.#visit(poolUuid, hostId))
      .finally(() => this.#underWay.delete(key))
      .catch(this.#onFatal)
    this.#underWay.set(key, visit)
  }

  async #visit(poolUuid: string, hostId: string): Promise<void> {
    const isLeaving = () => this.#store.poolHosts.find(poolUuid, hostId)?.state === 'leaving'
    if (!isLeaving()) await this.#ensure(poolUuid, hostId)
    // Also where that was decided while it was being made usable: it has to be undone after that.
    if (isLeaving()) await this.#forget(poolUuid, hostId)
    this.#retryLater(poolUuid, hostId)
  }

  /** Where it does not work as yet; on a host that is down, when that is back. */
  #retryLater(poolUuid: string, hostId: string): void {
    const key = keyOf(poolUuid, hostId)
    const last = this.#retries.get(key)
    clearTimeout(last?.timer)
    this.#retries.delete(key)
    const state = this.#store.poolHosts.find(poolUuid, hostId)?.state
    if (state !== 'pending' && state !== 'error') return
    if (this.#timer === null || this.#store.hosts.get(hostId)?.state !== 'up') return
    const delayMs = last ? Math.min(last.delayMs * 2, REFRESH_MS) : RETRY_MS
    const timer = setTimeout(() => this.#visitSoon(poolUuid, hostId), delayMs)
    this.#retries.set(key, { delayMs, timer })
  }

  async #forget(poolUuid: string, hostId: string): Promise<void> {
    await this.#store.durable()
    // A host that marks the pool now would do so after another has taken the marker away.
    while (this.#marking.has(poolUuid)) await this.#marking.get(poolUuid)
    const pool = this.#store.diskPools.get(poolUuid)
    const host = this.#store.hosts.get(hostId)
    if (!pool || !host) return
    const fault = await this.#askToForget(pool, host)
    const after = this.#store.diskPools.get(poolUuid)
    const onHost = this.#store.poolHosts.find(poolUuid, hostId)
    if (!after || !onHost) return
    if (fault === null && after.deletionUuid !== pool.deletionUuid) return this.#forget(poolUuid, hostId)
    if (fault === null) {
      const { changes, events } = commitOfDeparted(this.#store, after, new Set([hostId]), this.#now())
      void this.#store.commit(changes, events)
    } else if (fault !== onHost.fault) {
      const hosts = after.hosts.map((each) => (each === onHost ? { ...each, fault } : each))
      void this.#store.commit([change.diskPool({ ...after, hosts })])
    }
  }

  /** Why a host has not let go of a pool; null where it has. */
  async #askToForget(pool: DiskPoolRecord, host: HostRecord): Promise<string | null> {
    if (host.state === 'down') return 'the host is down, and is asked when it is back'
    const request = {
      epoch: this.#store.epoch,
      uuid: pool.uuid,
      diskPool: diskPoolSpecToWire(this.#store, pool, host.uuid),
      removeMarker: pool.deletionUuid !== null,
    }
    try {
      await this.#agents.client(host).removeDiskPool(request, { signal: AbortSignal.timeout(TIMEOUT_MS) })
      return null
    } catch (cause) {
      const error = fromClientError(cause)
      this.#log.warn({ disk_pool: pool.uuid, host: host.uuid, code: error.code }, error.message)
      return error.message
    }
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
    if (seen) this.#note(pool.uuid, { hostId: host.uuid, leavingBy: null, ...seen })
  }

  async #ask(
    pool: DiskPoolRecord,
    host: HostRecord,
  ): Promise<Omit<DiskPoolHost, 'hostId' | 'leavingBy'> | null> {
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

  /** What a host has said, unless another host of a local pool has the very folder: then the pool works on that one alone. */
  #unlessShared(pool: DiskPoolRecord, before: DiskPoolHost, answer: DiskPoolHost): DiskPoolHost {
    if (pool.shared || answer.state !== 'ready') return answer
    const twin = firstToHave(pool.hosts, this.#store.poolHosts.withMarker(pool.uuid, answer.marker), before)
    if (!twin) return answer
    const name = this.#store.hosts.get(twin.hostId)?.name ?? twin.hostId
    const fault = sharedUnawares(pool, name)
    this.#log.warn({ disk_pool: pool.uuid, host: answer.hostId, other: twin.hostId }, fault)
    // What it was known by stays known: what lies there may be its own.
    return { ...before, state: 'error', fault, capacityBytes: 0, availableBytes: 0 }
  }

  #note(poolUuid: string, answer: DiskPoolHost): void {
    const pool = this.#store.diskPools.get(poolUuid)
    const before = this.#store.poolHosts.find(poolUuid, answer.hostId)
    const seen = pool && before ? this.#unlessShared(pool, before, answer) : answer
    if (!pool || !before || before.state === 'leaving' || !isNews(before, seen)) return
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

function keyOf(poolUuid: string, hostId: string): string {
  return `${poolUuid}/${hostId}`
}

/** Another host among those with a pool's marker that had it first: one where the pool works, and of two such, the first of the list. */
function firstToHave(
  hosts: readonly DiskPoolHost[],
  marked: ReadonlySet<DiskPoolHost>,
  own: DiskPoolHost,
): DiskPoolHost | undefined {
  const others = [...marked].filter((other) => other !== own && other.state === 'ready')
  if (own.state !== 'ready') return others[0]
  return others.find((other) => hosts.indexOf(other) < hosts.indexOf(own))
}

/** In the words of the agent, but found here: the agents do not know of each other. */
function sharedUnawares({ name, path }: DiskPoolRecord, other: string): string {
  return `the folder ${path} is the one that host ${other} has as disk pool ${name}, which is local, so that each host has a folder of its own; make a pool with shared: true for it, or mount something else here`
}

function stateOn(pool: DiskPoolRecord | null, hostId: string): DiskPoolHost['state'] | null {
  return pool?.hosts.find((host) => host.hostId === hostId)?.state ?? null
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
