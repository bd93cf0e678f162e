// Looks for files of vpe in disk pools that no record owns, now and then and when somebody asks. What is found is
// kept with the pool and told of once; nothing is ever deleted by it.

import { type DiskPoolRecord, findOrphans, type HostRecord, type Orphan, type PoolOwners } from '@vpe/core'
import { fromClientError, type PoolFile } from '@vpe/proto'
import type { Logger } from 'pino'
import type { Agents } from './agents.ts'
import { hostsThatReach } from './pool-reach.ts'
import { Slots } from './slots.ts'
import type { Store } from './store/store.ts'
import { change } from './store/tables.ts'
import { diskPoolSpecToWire, markerOn, poolFileFromWire } from './wire.ts'

const INTERVAL_MS = 15 * 60_000
const TIMEOUT_MS = 75_000
/** So many hosts are asked at once. */
const AT_ONCE = 128
/** More than these are an accident of which nobody reads the end. */
const ORPHANS_MAX = 10_000

export interface OrphanLook {
  readonly orphans: readonly Orphan[]
  readonly foreign: number
  /** Hosts that did not say what is there; what was found there before still stands. */
  readonly silent: readonly HostRecord[]
}

export class OrphanFinder {
  readonly #store: Store
  readonly #agents: Agents
  readonly #now: () => number
  readonly #log: Logger
  readonly #onFatal: (error: unknown) => void
  readonly #slots = new Slots(AT_ONCE)
  #timer: NodeJS.Timeout | null = null

  /** @param onFatal told of a defect, or of a store that failed: the process must end */
  constructor(
    store: Store,
    agents: Agents,
    now: () => number,
    log: Logger,
    onFatal: (error: unknown) => void,
  ) {
    this.#store = store
    this.#agents = agents
    this.#now = now
    this.#log = log
    this.#onFatal = onFatal
  }

  start(): void {
    this.#timer = setInterval(() => {
      for (const uuid of this.#store.diskPools.keys()) this.look(uuid).catch(this.#onFatal)
    }, INTERVAL_MS)
  }

  close(): void {
    if (this.#timer) clearInterval(this.#timer)
  }

  /** Looks at a pool afresh. */
  async look(poolUuid: string): Promise<OrphanLook> {
    const pool = this.#store.diskPools.get(poolUuid)
    if (!pool) return { orphans: [], foreign: 0, silent: [] }
    // Nothing of vpe is where no host has ever had the pool ready. Where hosts that should have a folder each see
    // one marker, they see one folder: what is an orphan to one of them is another's disk.
    const seenBy = new Map<string, number>()
    for (const { marker } of pool.hosts) seenBy.set(marker, (seenBy.get(marker) ?? 0) + 1)
    const hosts = pool.hosts.filter(
      ({ hostId, marker }) =>
        markerOn(this.#store, pool, hostId) !== '' && (pool.shared || seenBy.get(marker) === 1),
    )
    const places = pool.shared
      ? hosts.length > 0
        ? [{ hostId: null, hosts: hostsThatReach(this.#store, pool, null) }]
        : []
      : hosts.map(({ hostId }) => ({ hostId, hosts: hostsThatReach(this.#store, pool, hostId) }))
    const answers = await Promise.all(
      places.map(async ({ hostId, hosts }) => ({
        hostId,
        heard: await this.#slots.run(() => this.#ask(pool, hosts)),
      })),
    )
    // Only now the records: see findOrphans.
    const now = this.#store.diskPools.get(poolUuid)
    if (!now) return { orphans: [], foreign: 0, silent: [] }
    const orphans = answers.flatMap(({ hostId, heard }) =>
      heard
        ? findOrphans(heard.files, now, hostId, ownersOf(this.#store), now.orphans, this.#now())
        : now.orphans.filter((orphan) => orphan.hostId === hostId),
    )
    this.#note(now, orphans.slice(0, ORPHANS_MAX))
    const silentIds = new Set(answers.filter(({ heard }) => !heard).map(({ hostId }) => hostId))
    return {
      orphans: orphans.slice(0, ORPHANS_MAX),
      foreign: answers.reduce((sum, { heard }) => sum + (heard?.foreign ?? 0), 0),
      silent: now.hosts
        .filter(({ hostId }) => silentIds.has(hostId) || silentIds.has(null))
        .flatMap(({ hostId }) => this.#store.hosts.get(hostId) ?? []),
    }
  }

  /** Null when none of the hosts says. */
  async #ask(pool: DiskPoolRecord, hosts: readonly HostRecord[]) {
    for (const host of hosts) {
      try {
        const answer = await this.#agents
          .client(host)
          .listPoolFiles(
            { diskPool: diskPoolSpecToWire(this.#store, pool, host.uuid) },
            { signal: AbortSignal.timeout(TIMEOUT_MS) },
          )
        return {
          files: answer.files.map((file: PoolFile) => poolFileFromWire(file)),
          foreign: answer.foreign,
        }
      } catch (cause) {
        const error = fromClientError(cause)
        this.#log.warn({ disk_pool: pool.uuid, host: host.uuid, code: error.code }, error.message)
      }
    }
    return null
  }

  #note(pool: DiskPoolRecord, orphans: readonly Orphan[]): void {
    const key = ({ hostId, name, sizeBytes, modifiedAtMs }: Orphan) =>
      JSON.stringify([hostId, name, sizeBytes, modifiedAtMs])
    if (orphans.map(key).join() === pool.orphans.map(key).join()) return
    const appeared = orphans.filter(
      ({ hostId, name }) => !pool.orphans.some((known) => known.name === name && known.hostId === hostId),
    )
    const events = appeared.map(({ hostId, name, kind, ownerUuid, sizeBytes }) => ({
      kind: 'disk_pool' as const,
      id: pool.uuid,
      what: 'orphan_found',
      data: {
        uuid: pool.uuid,
        name: pool.name,
        host_uuid: hostId,
        file: name,
        kind,
        owner_uuid: ownerUuid,
        size_bytes: sizeBytes,
      },
    }))
    void this.#store.commit([change.diskPool({ ...pool, orphans })], events)
    for (const { name, hostId } of appeared)
      this.#log.warn({ disk_pool: pool.uuid, host: hostId, file: name }, 'a file that no record owns')
  }
}

export function ownersOf(store: Store): PoolOwners {
  return {
    instance: (uuid) => store.instances.get(uuid),
    isImage: (uuid) => store.images.has(uuid),
    disk: (uuid) => store.disks.get(uuid),
  }
}
