// All rows as one request finds them: the filter that refuses each, or its score, how many each filter refuses,
// and who is best, as a tournament: each match is won by the better score, of equal ones by the lower host id.
// A row that changes plays its few matches anew, so that the next request of the same shape costs what has
// changed since the last, and not all hosts.

import { type Ask, prepareAsk, singlesOutHosts } from './ask.ts'
import type { HostTable } from './host-table.ts'
import { FILTERS, judge, PASSED, weigh } from './judge.ts'
import type { PlacementRequest } from './rules.ts'

export interface Ranked {
  readonly row: number
  readonly score: number
}

const OUT = Number.NEGATIVE_INFINITY

export class Ranking {
  ask: Ask
  readonly #table: HostTable
  readonly #request: PlacementRequest
  // By position, which is the place in the order of host ids.
  #rows: Int32Array = new Int32Array(0)
  #filters = new Uint8Array(0)
  #scores = new Float64Array(0)
  #counts = new Int32Array(FILTERS.length + 1)
  /** Match i is between the winners of 2i and 2i + 1; leaves are positions. */
  #winners = new Int32Array(0)
  #leaves = 1
  #seenChanges = 0
  #seenOrder = -1
  #seenPools = -1
  /** What was promised of each shared pool. */
  #seenShared: Float64Array = new Float64Array(0)

  constructor(table: HostTable, request: PlacementRequest) {
    this.#table = table
    this.#request = request
    this.ask = prepareAsk(table, request)
    this.#build()
  }

  /** How many rows each filter refuses, by its number, and behind them how many passed. */
  get counts(): Int32Array {
    return this.#counts
  }

  /** Takes in what has changed in the table. */
  catchUp(): void {
    const table = this.#table
    const behind = table.changes - this.#seenChanges
    const isKnown = this.#seenOrder === table.orderVersion && this.#seenPools === table.pools.count
    if (!isKnown || behind > table.changesKept || behind > this.#rows.length || this.#hasPoolTurned()) {
      this.ask = prepareAsk(table, this.#request)
      this.#build()
      return
    }
    for (let change = this.#seenChanges; change < table.changes; change++) {
      const position = table.positionOf(table.changedRow(change))
      this.#judge(position)
      this.#replay(position)
    }
    this.#see()
  }

  /** The best, best first. */
  best(count: number): Ranked[] {
    const best: Ranked[] = []
    const positions: number[] = []
    while (best.length < count) {
      const position = this.#winners[1] as number
      const score = this.#scores[position] as number
      if (position < 0 || score === OUT) break
      best.push({ row: this.#rows[position] as number, score })
      positions.push(position)
      this.#scores[position] = OUT
      this.#replay(position)
    }
    for (const [index, position] of positions.entries()) {
      this.#scores[position] = best[index]?.score ?? OUT
      this.#replay(position)
    }
    return best
  }

  /** The first rows that a filter refuses, by host id. */
  refused(filter: number, count: number): number[] {
    const rows: number[] = []
    let position = this.#filters.indexOf(filter)
    while (position >= 0 && rows.length < count) {
      rows.push(this.#rows[position] as number)
      position = this.#filters.indexOf(filter, position + 1)
    }
    return rows
  }

  #build(): void {
    const { order } = this.#table
    this.#rows = order
    this.#filters = new Uint8Array(order.length).fill(PASSED)
    this.#scores = new Float64Array(order.length).fill(OUT)
    this.#counts.fill(0)
    this.#counts[PASSED] = order.length
    for (let position = 0; position < order.length; position++) this.#judge(position)
    this.#leaves = 1
    while (this.#leaves < order.length) this.#leaves *= 2
    this.#winners = new Int32Array(2 * this.#leaves).fill(-1)
    for (let position = 0; position < order.length; position++)
      this.#winners[this.#leaves + position] = position
    for (let match = this.#leaves - 1; match >= 1; match--) this.#winners[match] = this.#winnerOf(match)
    this.#see()
  }

  #see(): void {
    this.#seenChanges = this.#table.changes
    this.#seenOrder = this.#table.orderVersion
    this.#seenPools = this.#table.pools.count
    this.#seenShared = this.#table.pools.sharedReserved.slice(0, this.#seenPools)
  }

  /** Whether what is promised of a shared pool has changed so that its hosts may be judged otherwise. */
  #hasPoolTurned(): boolean {
    const { pools } = this.#table
    const { diskBytes } = this.#request
    for (const pool of pools.sharedPools) {
      const before = this.#seenShared[pool] as number
      const now = pools.sharedReserved[pool] as number
      if (before === now || this.ask.usablePools[pool] !== 1) continue
      const { least, most } = pools.roomBounds(pool)
      const allFit = least - Math.max(before, now) >= diskBytes
      const noneFits = most - Math.min(before, now) < diskBytes
      if (!allFit && !noneFits) return true
    }
    return false
  }

  #judge(position: number): void {
    const row = this.#rows[position] as number
    const filter = judge(this.#table, this.ask, row)
    const before = this.#filters[position] as number
    this.#counts[before] = (this.#counts[before] as number) - 1
    this.#counts[filter] = (this.#counts[filter] as number) + 1
    this.#filters[position] = filter
    this.#scores[position] = filter === PASSED ? weigh(this.#table, this.ask, row) : OUT
  }

  /** Plays the matches of a position anew. */
  #replay(position: number): void {
    for (let match = (this.#leaves + position) >> 1; match >= 1; match >>= 1)
      this.#winners[match] = this.#winnerOf(match)
  }

  #winnerOf(match: number): number {
    const left = this.#winners[2 * match] as number
    const right = this.#winners[2 * match + 1] as number
    if (right < 0) return left
    return (this.#scores[left] as number) >= (this.#scores[right] as number) ? left : right
  }
}

/** How many shapes of request a table keeps the rankings of; each takes some 20 bytes a host. */
const RANKINGS_MAX = 64

/** The rankings of the shapes of request that come again and again. */
export class Rankings {
  readonly #byShape = new Map<string, Ranking>()

  /** Current, for a request. One that singles out hosts is ranked for itself alone. */
  of(table: HostTable, request: PlacementRequest): Ranking {
    const shape = shapeOf(request)
    if (shape === null) return new Ranking(table, request)
    const known = this.#byShape.get(shape)
    const ranking = known ?? new Ranking(table, request)
    if (known) {
      known.catchUp()
      this.#byShape.delete(shape)
    } else if (this.#byShape.size >= RANKINGS_MAX) {
      const [oldest] = this.#byShape.keys()
      this.#byShape.delete(oldest ?? '')
    }
    this.#byShape.set(shape, ranking)
    return ranking
  }
}

/** All that the ranking of a request depends on beside the table; null when hosts are singled out. */
function shapeOf(request: PlacementRequest): string | null {
  if (singlesOutHosts(request)) return null
  const { vcpus, memoryMib, diskBytes, diskPoolUuid, sharedPoolOnly, imageHome, ha } = request
  return `${vcpus} ${memoryMib} ${diskBytes} ${sharedPoolOnly} ${ha} ${diskPoolUuid} ${imageHome?.diskPoolUuid}`
}
