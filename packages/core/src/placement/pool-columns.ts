// Which pools each row of the table reaches, and how much room they have. A pool on a row is a slot; the slots
// of a row are a chain. What is promised of a shared pool is one number, whatever row it is reached from.

import type { PoolCandidate } from './rules.ts'

/** The room of what cannot be used. */
export const NO_POOL = Number.NEGATIVE_INFINITY

const NONE = -1

export interface RoomBounds {
  readonly least: number
  readonly most: number
}

export class PoolColumns {
  /** By row: its first slot, or -1. */
  first = new Int32Array(0)
  /** By slot. Room is what may be promised in all: NO_POOL where the pool has failed, infinite while not known. */
  next = new Int32Array(0)
  pool = new Int32Array(0)
  room = new Float64Array(0)
  /** What is promised of a pool that is not shared; 0 for the others. */
  reserved = new Float64Array(0)
  /** By pool: what is promised of it where it is shared; 0 for the others. */
  sharedReserved = new Float64Array(0)
  shared = new Uint8Array(0)
  readonly #diskRatio: number
  readonly #seen: (PoolCandidate | null)[] = []
  readonly #freeSlots: number[] = []
  readonly #uuids: string[] = []
  readonly #poolOf = new Map<string, number>()
  readonly #bounds = new Map<number, RoomBounds>()
  #slots = 0
  /** The numbers of shared pools. */
  readonly sharedPools: number[] = []

  constructor(diskRatio: number) {
    this.#diskRatio = diskRatio
  }

  /** Makes room for so many rows. */
  grow(rows: number): void {
    const first = new Int32Array(rows).fill(NONE)
    first.set(this.first)
    this.first = first
  }

  /** How many pools there have ever been. */
  get count(): number {
    return this.#uuids.length
  }

  /** The number of a pool; -1 when no row has ever had it. */
  numberOf(uuid: string): number {
    return this.#poolOf.get(uuid) ?? NONE
  }

  uuidOf(pool: number): string {
    return this.#uuids[pool] ?? ''
  }

  /** A row reaches a pool, and sees it so. */
  put(row: number, candidate: PoolCandidate): void {
    const pool = this.#intern(candidate)
    const slot = this.slotOf(row, pool)
    const at = slot === NONE ? this.#link(row, pool) : slot
    const { state, capacityBytes, reservedBytes } = candidate
    const isKnown = capacityBytes > 0
    this.#seen[at] = candidate
    this.room[at] =
      state === 'error' ? NO_POOL : isKnown ? capacityBytes * this.#diskRatio : Number.POSITIVE_INFINITY
    this.#bounds.delete(pool)
    if (candidate.shared) this.sharedReserved[pool] = reservedBytes
    else this.reserved[at] = reservedBytes
  }

  /** A row does not reach a pool any more. */
  remove(row: number, uuid: string): void {
    const slot = this.slotOf(row, this.numberOf(uuid))
    if (slot === NONE) return
    const after = this.next[slot] as number
    if (this.first[row] === slot) this.first[row] = after
    else for (const each of this.slotsOf(row)) if (this.next[each] === slot) this.next[each] = after
    this.#seen[slot] = null
    this.reserved[slot] = 0
    this.#bounds.delete(this.pool[slot] as number)
    this.#freeSlots.push(slot)
  }

  clear(row: number): void {
    for (const { uuid } of this.on(row)) this.remove(row, uuid)
  }

  /** Adds to what is promised of a pool on a row, or of all of it where it is shared. */
  reserve(row: number, uuid: string, bytes: number): void {
    const pool = this.numberOf(uuid)
    if (pool === NONE) return
    if (this.shared[pool] === 1) {
      this.sharedReserved[pool] = (this.sharedReserved[pool] as number) + bytes
      return
    }
    const slot = this.slotOf(row, pool)
    if (slot !== NONE) this.reserved[slot] = (this.reserved[slot] as number) + bytes
  }

  /** Sets what is promised of a pool on a row, or of all of it where it is shared. */
  setReserved(row: number, uuid: string, bytes: number): void {
    const pool = this.numberOf(uuid)
    if (pool === NONE) return
    if (this.shared[pool] === 1) this.sharedReserved[pool] = bytes
    else if (row >= 0) {
      const slot = this.slotOf(row, pool)
      if (slot !== NONE) this.reserved[slot] = bytes
    }
  }

  /** The least and the most room that rows see in a pool, of those that know; the other way round when none does. */
  roomBounds(pool: number): RoomBounds {
    const known = this.#bounds.get(pool)
    if (known) return known
    let [least, most] = [Number.POSITIVE_INFINITY, NO_POOL]
    for (let slot = 0; slot < this.#slots; slot++) {
      const room = this.room[slot] as number
      if (this.pool[slot] !== pool || !this.#seen[slot] || !Number.isFinite(room)) continue
      least = Math.min(least, room)
      most = Math.max(most, room)
    }
    const bounds = { least, most }
    this.#bounds.set(pool, bounds)
    return bounds
  }

  /** The pools of a row, by uuid. */
  on(row: number): PoolCandidate[] {
    return this.slotsOf(row)
      .flatMap((slot) => {
        const seen = this.#seen[slot]
        return seen ? { ...seen, reservedBytes: this.reservedAt(slot) } : []
      })
      .sort((a, b) => (a.uuid < b.uuid ? -1 : 1))
  }

  slotsOf(row: number): number[] {
    const slots: number[] = []
    for (let slot = this.first[row] as number; slot !== NONE; slot = this.next[slot] as number)
      slots.push(slot)
    return slots
  }

  slotOf(row: number, pool: number): number {
    let slot = this.first[row] as number
    while (slot !== NONE && this.pool[slot] !== pool) slot = this.next[slot] as number
    return slot
  }

  seen(slot: number): PoolCandidate | null {
    return this.#seen[slot] ?? null
  }

  reservedAt(slot: number): number {
    const pool = this.pool[slot] as number
    return (this.reserved[slot] as number) + (this.sharedReserved[pool] as number)
  }

  freeAt(slot: number): number {
    return (this.room[slot] as number) - this.reservedAt(slot)
  }

  #intern({ uuid, shared }: PoolCandidate): number {
    const known = this.#poolOf.get(uuid)
    if (known !== undefined) return known
    const pool = this.#uuids.push(uuid) - 1
    this.#poolOf.set(uuid, pool)
    if (pool >= this.shared.length) {
      this.shared = grown(this.shared, new Uint8Array(2 * pool + 8))
      this.sharedReserved = grown(this.sharedReserved, new Float64Array(2 * pool + 8))
    }
    this.shared[pool] = shared ? 1 : 0
    if (shared) this.sharedPools.push(pool)
    return pool
  }

  #link(row: number, pool: number): number {
    const slot = this.#freeSlots.pop() ?? this.#slots++
    if (slot >= this.next.length) {
      const size = 2 * slot + 16
      this.next = grown(this.next, new Int32Array(size))
      this.pool = grown(this.pool, new Int32Array(size))
      this.room = grown(this.room, new Float64Array(size))
      this.reserved = grown(this.reserved, new Float64Array(size))
    }
    this.pool[slot] = pool
    this.reserved[slot] = 0
    this.next[slot] = this.first[row] as number
    this.first[row] = slot
    return slot
  }
}

function grown<Column extends Int32Array | Float64Array | Uint8Array>(from: Column, to: Column): Column {
  to.set(from)
  return to
}
