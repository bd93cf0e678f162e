// The controller's state: all of it in memory, and one door to change it. `commit` takes rows and the
// events they cause, shows them in memory at once (so that the next decision sees them: two requests
// never share the last slot) and resolves when they are durable. Commits that come while one
// transaction is being written share the next (group commit).
//
// The rule that keeps this safe: nothing leaves the process (an answer, a call to an agent) before
// the state it rests on is durable. Whoever acts on what it read from memory awaits `durable()` first.
// A write that fails leaves memory ahead of the disk, so the process must end and read it again.

import type { StreamEntry, VpeEvent } from '@vpe/bus'
import {
  type DiskPoolRecord,
  type DiskRecord,
  type FlavorRecord,
  type HostRecord,
  type ImageRecord,
  type InstanceRecord,
  isInstanceOperation,
  type JoinTokenRecord,
  type MemberRecord,
  type OperationRecord,
  type RebalanceRecord,
  type RevocationRecord,
  type SnapshotRecord,
  type WebhookRecord,
} from '@vpe/core'
import type { HostRecord as HaHostRecord, HaInstance } from '@vpe/core/ha'
import type { HostFencingRecord, PoolLeasesRecord } from '../ha/records.ts'
import type { StoreBackend } from './backend.ts'
import { DiskIndex } from './disk-index.ts'
import { InstanceOrder } from './instance-order.ts'
import { NamedMap } from './named-map.ts'
import { PoolHostIndex } from './pool-host-index.ts'
import { SnapshotIndex } from './snapshot-index.ts'
import type { Change, DisarmRecord, FailoverRecord } from './tables.ts'
import { UsageIndex } from './usage-index.ts'

interface Batch {
  readonly changes: Map<string, Change>
  readonly events: StreamEntry[]
  readonly written: PromiseWithResolvers<void>
}

export interface StoreListener {
  /** Called right after memory shows a change; `before` is null for a new row, `after` for a deleted one. */
  onInstance?(before: InstanceRecord | null, after: InstanceRecord | null): void
  onImage?(image: ImageRecord | null): void
  onDiskPool?(pool: DiskPoolRecord | null, before: DiskPoolRecord | null): void
  onDisk?(disk: DiskRecord | null, before: DiskRecord | null): void
  onSnapshot?(snapshot: SnapshotRecord | null, before: SnapshotRecord | null): void
  onHost?(before: HostRecord | null, after: HostRecord | null): void
  onWebhook?(uuid: string): void
  onOperationEnded?(operation: OperationRecord): void
  /** Told of events that have just become durable, in their order. */
  onEvents?(entries: readonly StreamEntry[]): void
  onRebalance?(): void
  onRevocation?(): void
  onPoolLeases?(poolUuid: string): void
  onHostFencing?(hostId: string): void
}

export class Store {
  readonly storeId: string
  readonly epoch: number
  readonly flavors = new NamedMap<FlavorRecord>()
  readonly images = new NamedMap<ImageRecord>()
  readonly diskPools = new NamedMap<DiskPoolRecord>()
  readonly disks = new NamedMap<DiskRecord>()
  readonly hosts = new NamedMap<HostRecord>()
  readonly instances = new Map<string, InstanceRecord>()
  readonly webhooks = new Map<string, WebhookRecord>()
  readonly joinTokens = new Map<string, JoinTokenRecord>()
  readonly members = new Map<string, MemberRecord>()
  readonly revocations = new Map<string, RevocationRecord>()
  readonly rebalances = new Map<string, RebalanceRecord>()
  readonly poolLeases = new Map<string, PoolLeasesRecord>()
  readonly hostFencing = new Map<string, HostFencingRecord>()
  /** Only those that run; ended ones are in the database. */
  readonly operations = new Map<string, OperationRecord>()
  readonly snapshots = new Map<string, SnapshotRecord>()
  /** As they were when this controller started, and as it has written them since; see ha/ha-keeper.ts. */
  readonly haHosts = new Map<string, HaHostRecord>()
  readonly haInstances = new Map<string, HaInstance>()
  readonly haDisarms = new Map<string, DisarmRecord>()
  /** Oldest first. */
  readonly haFailovers = new Map<string, FailoverRecord>()
  readonly usage = new UsageIndex()
  readonly diskIndex = new DiskIndex()
  readonly poolHosts = new PoolHostIndex()
  readonly snapshotIndex = new SnapshotIndex()
  readonly instanceOrder = new InstanceOrder()
  readonly backend: StoreBackend
  readonly #now: () => number
  readonly #onFatal: (error: unknown) => void
  readonly #listeners: StoreListener[] = []
  readonly #operationsOf = new Map<string, Set<string>>()
  #lastPosition: number
  #pending: Batch | null = null
  #commits = 0
  #transactions = 0
  #writing: Batch | null = null

  private constructor(
    backend: StoreBackend,
    loaded: Awaited<ReturnType<StoreBackend['open']>>,
    now: () => number,
    onFatal: (error: unknown) => void,
  ) {
    this.backend = backend
    this.storeId = loaded.storeId
    this.epoch = loaded.epoch
    this.#lastPosition = loaded.lastPosition
    this.#now = now
    this.#onFatal = onFatal
    for (const row of loaded.rows.flavors) this.flavors.set(row.uuid, row)
    for (const row of loaded.rows.images) this.images.set(row.uuid, row)
    for (const row of loaded.rows.diskPools) this.#showDiskPool(row.uuid, row)
    for (const row of loaded.rows.disks) this.#showDisk(row.uuid, row)
    for (const row of loaded.rows.hosts) this.hosts.set(row.uuid, row)
    for (const row of loaded.rows.instances) this.#showInstance(row.uuid, row)
    for (const row of loaded.rows.webhooks) this.webhooks.set(row.uuid, row)
    for (const row of loaded.rows.joinTokens) this.joinTokens.set(row.uuid, row)
    for (const row of loaded.rows.members) this.members.set(row.id, row)
    for (const row of loaded.rows.revocations) this.revocations.set(row.keySha256, row)
    for (const row of loaded.rows.rebalances) this.rebalances.set(row.uuid, row)
    for (const row of loaded.rows.poolLeases) this.poolLeases.set(row.diskPoolUuid, row)
    for (const row of loaded.rows.hostFencing) this.hostFencing.set(row.hostId, row)
    for (const row of loaded.rows.snapshots) this.#showSnapshot(row.uuid, row)
    for (const row of loaded.rows.haHosts) this.haHosts.set(row.hostId, row)
    for (const row of loaded.rows.haInstances) this.haInstances.set(row.uuid, row)
    for (const row of loaded.rows.haDisarms) this.haDisarms.set(row.key, row)
    for (const row of loaded.rows.haFailovers) this.haFailovers.set(row.key, row)
    for (const row of loaded.runningOperations) this.#showOperation(row)
  }

  /**
   * Opens the store with a new epoch.
   * @param onFatal told once when a write failed; memory can then not be trusted, the process must end
   */
  static async open(
    backend: StoreBackend,
    now: () => number,
    onFatal: (error: unknown) => void,
  ): Promise<Store> {
    return new Store(backend, await backend.open(), now, onFatal)
  }

  listen(listener: StoreListener): void {
    this.#listeners.push(listener)
  }

  /** Changes rows and records what that caused. Resolves once all of it is durable. */
  commit(changes: readonly Change[], events: readonly VpeEvent[] = []): Promise<void> {
    if (changes.length === 0 && events.length === 0) return this.durable()
    const batch = this.#openBatch()
    this.#commits++
    for (const change of changes) batch.changes.set(`${change.table}/${change.key}`, change)
    const atMs = this.#now()
    for (const event of events) batch.events.push({ position: ++this.#lastPosition, atMs, event })
    for (const change of changes) this.#show(change)
    return batch.written.promise
  }

  /** How many commits there were, and how many transactions they shared. */
  get statistics(): { readonly commits: number; readonly transactions: number } {
    return { commits: this.#commits, transactions: this.#transactions }
  }

  /** Resolves when everything that memory shows now is durable. */
  durable(): Promise<void> {
    return (this.#pending ?? this.#writing)?.written.promise ?? Promise.resolve()
  }

  runningOperationsOf(instanceUuid: string): OperationRecord[] {
    return this.runningOperationsOn(instanceUuid).filter((each) => isInstanceOperation(each, instanceUuid))
  }

  /** Those that run on a resource of whatever kind. */
  runningOperationsOn(resourceUuid: string): OperationRecord[] {
    const uuids = this.#operationsOf.get(resourceUuid) ?? []
    return [...uuids].flatMap((uuid) => this.operations.get(uuid) ?? [])
  }

  /** Writes what is pending, and closes the database. */
  async close(): Promise<void> {
    await this.durable()
    await this.backend.close()
  }

  #openBatch(): Batch {
    if (this.#pending) return this.#pending
    const batch: Batch = { changes: new Map(), events: [], written: Promise.withResolvers() }
    // Every awaiter handles the failure by ending; without one the process would die of the rejection alone.
    batch.written.promise.catch(() => {})
    this.#pending = batch
    if (!this.#writing) setImmediate(() => this.#writePending())
    return batch
  }

  #writePending(): void {
    const batch = this.#pending
    if (!batch || this.#writing) return
    this.#pending = null
    this.#writing = batch
    this.#transactions++
    this.backend.write([...batch.changes.values()], batch.events).then(
      () => {
        this.#writing = null
        batch.written.resolve()
        if (batch.events.length > 0) for (const listener of this.#listeners) listener.onEvents?.(batch.events)
        if (this.#pending) setImmediate(() => this.#writePending())
      },
      (error: unknown) => {
        batch.written.reject(error)
        this.#onFatal(error)
      },
    )
  }

  #show(change: Change): void {
    switch (change.table) {
      case 'flavors':
        setOrDelete(this.flavors, change.key, change.row)
        return
      case 'images':
        setOrDelete(this.images, change.key, change.row)
        for (const listener of this.#listeners) listener.onImage?.(change.row)
        return
      case 'diskPools': {
        const before = this.#showDiskPool(change.key, change.row)
        for (const listener of this.#listeners) listener.onDiskPool?.(change.row, before)
        return
      }
      case 'disks': {
        const before = this.disks.get(change.key) ?? null
        this.#showDisk(change.key, change.row)
        for (const listener of this.#listeners) listener.onDisk?.(change.row, before)
        return
      }
      case 'hosts': {
        const before = this.hosts.get(change.key) ?? null
        setOrDelete(this.hosts, change.key, change.row)
        for (const listener of this.#listeners) listener.onHost?.(before, change.row)
        return
      }
      case 'instances': {
        const before = this.#showInstance(change.key, change.row)
        for (const listener of this.#listeners) listener.onInstance?.(before, change.row)
        return
      }
      case 'webhooks':
        setOrDelete(this.webhooks, change.key, change.row)
        for (const listener of this.#listeners) listener.onWebhook?.(change.key)
        return
      case 'snapshots': {
        const before = this.snapshots.get(change.key) ?? null
        this.#showSnapshot(change.key, change.row)
        for (const listener of this.#listeners) listener.onSnapshot?.(change.row, before)
        return
      }
      case 'operations': {
        const { row } = change
        if (!row) return
        this.#showOperation(row)
        if (row.status !== 'running') for (const listener of this.#listeners) listener.onOperationEnded?.(row)
        return
      }
      case 'haHosts':
        setOrDelete(this.haHosts, change.key, change.row)
        return
      case 'haInstances':
        setOrDelete(this.haInstances, change.key, change.row)
        return
      case 'haDisarms':
        setOrDelete(this.haDisarms, change.key, change.row)
        return
      case 'haFailovers':
        setOrDelete(this.haFailovers, change.key, change.row)
        return
      case 'joinTokens':
        setOrDelete(this.joinTokens, change.key, change.row)
        return
      case 'members':
        setOrDelete(this.members, change.key, change.row)
        return
      case 'revocations':
        setOrDelete(this.revocations, change.key, change.row)
        for (const listener of this.#listeners) listener.onRevocation?.()
        return
      case 'rebalances':
        setOrDelete(this.rebalances, change.key, change.row)
        for (const listener of this.#listeners) listener.onRebalance?.()
        return
      case 'poolLeases':
        setOrDelete(this.poolLeases, change.key, change.row)
        for (const listener of this.#listeners) listener.onPoolLeases?.(change.key)
        return
      case 'hostFencing':
        setOrDelete(this.hostFencing, change.key, change.row)
        for (const listener of this.#listeners) listener.onHostFencing?.(change.key)
        return
      case 'userData':
      case 'placements':
      case 'idempotencyKeys':
        return
      default:
        throw new Error(`no such table: ${JSON.stringify(change satisfies never)}`)
    }
  }

  #showDiskPool(uuid: string, row: DiskPoolRecord | null): DiskPoolRecord | null {
    const before = this.diskPools.get(uuid) ?? null
    this.poolHosts.replace(before, row)
    setOrDelete(this.diskPools, uuid, row)
    return before
  }

  #showDisk(uuid: string, row: DiskRecord | null): void {
    this.diskIndex.replace(this.disks.get(uuid) ?? null, row)
    setOrDelete(this.disks, uuid, row)
  }

  #showInstance(uuid: string, row: InstanceRecord | null): InstanceRecord | null {
    const before = this.instances.get(uuid) ?? null
    setOrDelete(this.instances, uuid, row)
    this.usage.replace(before, row)
    this.instanceOrder.replace(before, row)
    return before
  }

  #showSnapshot(uuid: string, row: SnapshotRecord | null): void {
    const before = this.snapshots.get(uuid) ?? null
    this.snapshotIndex.replace(before, row)
    setOrDelete(this.snapshots, uuid, row)
    const instanceUuid = (row ?? before)?.instanceUuid ?? ''
    const instance = this.instances.get(instanceUuid) ?? null
    this.usage.holdBack(instanceUuid, (row?.sizeBytes ?? 0) - (before?.sizeBytes ?? 0), instance)
  }

  #showOperation(row: OperationRecord): void {
    const ofResource = this.#operationsOf.get(row.resourceUuid) ?? new Set()
    if (row.status === 'running') {
      this.operations.set(row.uuid, row)
      this.#operationsOf.set(row.resourceUuid, ofResource.add(row.uuid))
      return
    }
    this.operations.delete(row.uuid)
    ofResource.delete(row.uuid)
    if (ofResource.size === 0) this.#operationsOf.delete(row.resourceUuid)
  }
}

function setOrDelete<T>(map: Map<string, T>, key: string, row: T | null): void {
  if (row === null) map.delete(key)
  else map.set(key, row)
}
