// All hosts by columns, a number of each in one array, kept current change by change: a placement is a scan of
// memory that lies in order, and builds nothing. Rows are numbered as they come; `order` has them by host id.

import type { DiskPoolId, HostId } from '../ids.ts'
import { FeatureSets } from './feature-sets.ts'
import { GroupMembers } from './group-members.ts'
import { MARK } from './marks.ts'
import { PoolColumns } from './pool-columns.ts'
import { Rankings } from './ranking.ts'
import type { HostCandidate, HostTraits, HostUse, OvercommitPolicy, PoolCandidate } from './rules.ts'

/** What an instance takes of a host. */
export interface Reservation {
  readonly vcpus: number
  readonly memoryMib: number
  readonly diskBytes: number
  readonly diskPoolUuid: DiskPoolId
  readonly ha: boolean
  readonly hasTask: boolean
  /** Keys of its placement groups. */
  readonly groups: readonly string[]
}

export class HostTable {
  readonly policy: OvercommitPolicy
  readonly pools: PoolColumns
  readonly groups = new GroupMembers()
  readonly features = new FeatureSets()
  readonly rankings = new Rankings()
  /** How many of the last changes are known by their row. */
  readonly changesKept = 4_096
  // By row.
  ids: HostId[] = []
  names: string[] = []
  /** MARK.down, MARK.cordoned and MARK.unreliable. */
  blocked = new Uint16Array(0)
  cpus = new Float64Array(0)
  memoryMib = new Float64Array(0)
  /** What may be promised: see vcpusTotal, memoryMibTotal. */
  vcpusTotal = new Float64Array(0)
  vcpusUsed = new Float64Array(0)
  memoryTotal = new Float64Array(0)
  memoryUsed = new Float64Array(0)
  tasks = new Int32Array(0)
  haInstances = new Int32Array(0)
  featureSet = new Int32Array(0)
  readonly #rowOf = new Map<string, number>()
  readonly #unreliable = new Map<HostId, string>()
  readonly #freeRows: number[] = []
  #rows = 0
  readonly #changedRows = new Int32Array(this.changesKept)
  #positions = new Int32Array(0)
  #changes = 0
  #order: Int32Array | null = null
  #orderVersion = 0

  constructor(policy: OvercommitPolicy) {
    this.policy = policy
    this.pools = new PoolColumns(policy.diskRatio)
  }

  /** A table of plain objects. */
  static of(hosts: readonly HostCandidate[], policy: OvercommitPolicy): HostTable {
    const table = new HostTable(policy)
    for (const host of hosts) {
      table.setHost(host)
      table.setUse(host.id, host)
      for (const pool of host.pools) table.setPool(host.id, pool)
      const row = table.rowOf(host.id)
      for (const [key, members] of Object.entries(host.groups)) table.groups.count(key, row, members)
    }
    return table
  }

  /** How many hosts there are. */
  get size(): number {
    return this.#rowOf.size
  }

  /** Rows by the id of their host. */
  get order(): Int32Array {
    if (this.#order) return this.#order
    const order = Int32Array.from(
      [...this.#rowOf].sort(([a], [b]) => (a < b ? -1 : 1)),
      ([, row]) => row,
    )
    this.#positions = new Int32Array(this.blocked.length)
    for (const [position, row] of order.entries()) this.#positions[row] = position
    this.#order = order
    return order
  }

  /** Rises when a host comes or goes. */
  get orderVersion(): number {
    return this.#orderVersion
  }

  /** Where a row is in `order`. */
  positionOf(row: number): number {
    return this.#positions[row] as number
  }

  /** How many times a row has changed. */
  get changes(): number {
    return this.#changes
  }

  /** The row of one of the last changes. */
  changedRow(change: number): number {
    return this.#changedRows[change % this.changesKept] as number
  }

  /** The row of a host; -1 when there is none. */
  rowOf(hostId: HostId): number {
    return this.#rowOf.get(hostId) ?? -1
  }

  /** Adds a host, or changes what it is; what lies on it stays. */
  setHost({ id, name, state, schedulable, cpus, memoryMib, cpuFeatures }: HostTraits): void {
    const row = this.#rowOf.get(id) ?? this.#addRow(id)
    const { vcpuRatio, memoryRatio, hostReservedMib } = this.policy
    this.names[row] = name
    const unreliable = this.#unreliable.has(id) ? MARK.unreliable : 0
    this.blocked[row] = (state === 'up' ? 0 : MARK.down) | (schedulable ? 0 : MARK.cordoned) | unreliable
    this.cpus[row] = cpus
    this.memoryMib[row] = memoryMib
    this.vcpusTotal[row] = cpus * vcpuRatio
    this.memoryTotal[row] = Math.max(0, (memoryMib - hostReservedMib) * memoryRatio)
    this.featureSet[row] = this.features.intern(cpuFeatures)
    this.#touch(row)
  }

  /** Says why a host gets nothing new, whatever its state; null where it may. It holds for one that is yet to come, too. */
  setUnreliable(id: HostId, why: string | null): void {
    if (why === null) this.#unreliable.delete(id)
    else this.#unreliable.set(id, why)
    const row = this.rowOf(id)
    if (row < 0) return
    const blocked = (this.blocked[row] as number) & ~MARK.unreliable
    this.blocked[row] = blocked | (why === null ? 0 : MARK.unreliable)
    this.#touch(row)
  }

  whyUnreliable(row: number): string {
    return this.#unreliable.get(this.ids[row] ?? '') ?? ''
  }

  removeHost(id: HostId): void {
    const row = this.#rowOf.get(id)
    if (row === undefined) return
    this.pools.clear(row)
    this.groups.clear(row)
    this.#rowOf.delete(id)
    this.#freeRows.push(row)
    this.#reorder()
  }

  /** Sets what the instances of a host add up to. */
  setUse(id: HostId, { vcpusUsed, memoryMibUsed, runningTasks, haInstances }: HostUse): void {
    const row = this.rowOf(id)
    if (row < 0) return
    this.vcpusUsed[row] = vcpusUsed
    this.memoryUsed[row] = memoryMibUsed
    this.tasks[row] = runningTasks
    this.haInstances[row] = haInstances
    this.#touch(row)
  }

  /** A host reaches a pool, and sees it so. */
  setPool(id: HostId, pool: PoolCandidate): void {
    const row = this.rowOf(id)
    if (row < 0) return
    this.pools.put(row, pool)
    this.#touch(row)
  }

  removePool(id: HostId, diskPoolUuid: DiskPoolId): void {
    const row = this.rowOf(id)
    if (row < 0) return
    this.pools.remove(row, diskPoolUuid)
    this.#touch(row)
  }

  /** Sets what is promised of a pool: on a host, or of all of it where it is shared. */
  setReserved(id: HostId | null, diskPoolUuid: DiskPoolId, bytes: number): void {
    const row = id === null ? -1 : this.rowOf(id)
    this.pools.setReserved(row, diskPoolUuid, bytes)
    if (row >= 0) this.#touch(row)
  }

  /** So many members of a group more are on a host; fewer when negative. */
  countMember(id: HostId, groupKey: string, amount: number): void {
    const row = this.rowOf(id)
    if (row >= 0) this.groups.count(groupKey, row, amount)
  }

  /** An instance takes its place on a host: the next placement sees it. */
  reserve(id: HostId, reservation: Reservation): void {
    this.#add(id, reservation, 1)
  }

  /** An instance gives its place on a host back. */
  release(id: HostId, reservation: Reservation): void {
    this.#add(id, reservation, -1)
  }

  /** What `look` sees where an instance is on none of these hosts. It is put back whatever happens. */
  without<Result>(hostIds: readonly HostId[], reservation: Reservation, look: () => Result): Result {
    const disk = reservation.diskBytes
    // A disk in a shared pool is one, however many hosts have a part of the instance.
    const on = hostIds.map((id, index) => ({
      id,
      reservation: { ...reservation, diskBytes: index > 0 && this.#isShared(reservation) ? 0 : disk },
    }))
    for (const each of on) this.release(each.id, each.reservation)
    try {
      return look()
    } finally {
      for (const each of on) this.reserve(each.id, each.reservation)
    }
  }

  /** One host as a plain object; null when there is none. */
  host(id: HostId): HostCandidate | null {
    const row = this.rowOf(id)
    if (row < 0) return null
    const blocked = this.blocked[row] as number
    return {
      id,
      name: this.names[row] ?? '',
      state: (blocked & MARK.down) === 0 ? 'up' : 'down',
      schedulable: (blocked & MARK.cordoned) === 0,
      cpus: this.cpus[row] as number,
      memoryMib: this.memoryMib[row] as number,
      cpuFeatures: this.features.features(this.featureSet[row] as number),
      vcpusUsed: this.vcpusUsed[row] as number,
      memoryMibUsed: this.memoryUsed[row] as number,
      runningTasks: this.tasks[row] as number,
      haInstances: this.haInstances[row] as number,
      pools: this.pools.on(row),
      groups: this.groups.on(row),
    }
  }

  /** All hosts as plain objects, by id. */
  hosts(): HostCandidate[] {
    return [...this.order].flatMap((row) => this.host(this.ids[row] ?? '') ?? [])
  }

  #isShared({ diskPoolUuid }: Reservation): boolean {
    return this.pools.shared[this.pools.numberOf(diskPoolUuid)] === 1
  }

  #add(id: HostId, reservation: Reservation, sign: 1 | -1): void {
    const row = this.rowOf(id)
    if (row < 0) return
    const { vcpus, memoryMib, diskBytes, diskPoolUuid, ha, hasTask, groups } = reservation
    this.vcpusUsed[row] = (this.vcpusUsed[row] as number) + sign * vcpus
    this.memoryUsed[row] = (this.memoryUsed[row] as number) + sign * memoryMib
    if (hasTask) this.tasks[row] = (this.tasks[row] as number) + sign
    if (ha) this.haInstances[row] = (this.haInstances[row] as number) + sign
    this.pools.reserve(row, diskPoolUuid, sign * diskBytes)
    for (const key of groups) this.groups.count(key, row, sign)
    this.#touch(row)
  }

  #touch(row: number): void {
    this.#changedRows[this.#changes++ % this.changesKept] = row
  }

  #reorder(): void {
    this.#order = null
    this.#orderVersion++
  }

  #addRow(id: HostId): number {
    const row = this.#freeRows.pop() ?? this.#rows++
    if (row >= this.blocked.length) this.#grow(2 * row + 16)
    this.ids[row] = id
    this.vcpusUsed[row] = 0
    this.memoryUsed[row] = 0
    this.tasks[row] = 0
    this.haInstances[row] = 0
    this.#rowOf.set(id, row)
    this.#reorder()
    return row
  }

  #grow(rows: number): void {
    const floats = (from: Float64Array<ArrayBuffer>) => copied(from, new Float64Array(rows))
    const ints = (from: Int32Array<ArrayBuffer>) => copied(from, new Int32Array(rows))
    this.blocked = copied(this.blocked, new Uint16Array(rows))
    this.cpus = floats(this.cpus)
    this.memoryMib = floats(this.memoryMib)
    this.vcpusTotal = floats(this.vcpusTotal)
    this.vcpusUsed = floats(this.vcpusUsed)
    this.memoryTotal = floats(this.memoryTotal)
    this.memoryUsed = floats(this.memoryUsed)
    this.tasks = ints(this.tasks)
    this.haInstances = ints(this.haInstances)
    this.featureSet = ints(this.featureSet)
    this.pools.grow(rows)
  }
}

function copied<To extends Float64Array | Int32Array | Uint16Array>(from: To, to: To): To {
  to.set(from)
  return to
}
