// How evenly hosts are loaded, and how evenly they would be after a move. Only hosts that can be moved to count:
// those that are up and not cordoned.

import type { HostTable } from './host-table.ts'

/** What an instance takes of its host. */
export interface Load {
  readonly vcpus: number
  readonly memoryMib: number
}

/** The smaller, the more even: first by spread, then by variance. Both are rounded, so that they compare exactly. */
export interface Evenness {
  /** Between the most and the least loaded host, as a share. */
  readonly spread: number
  readonly variance: number
}

export class Balance {
  readonly #table: HostTable
  readonly #memoryUsed: Float64Array
  readonly #vcpusUsed: Float64Array
  readonly #loads: Float64Array
  /** Rows that count, the least loaded first, ties by host id. */
  readonly #rows: number[]
  #sum = 0
  #squares = 0

  constructor(table: HostTable) {
    this.#table = table
    this.#memoryUsed = table.memoryUsed.slice()
    this.#vcpusUsed = table.vcpusUsed.slice()
    this.#loads = new Float64Array(table.blocked.length)
    this.#rows = [...table.order].filter((row) => table.blocked[row] === 0)
    for (const row of this.#rows) this.#loads[row] = this.#loadWith(row, 0, 0)
    this.#rows.sort((a, b) => this.#compare(a, b))
    this.#addUp()
  }

  /** Rows that count, the least loaded first. */
  get rows(): readonly number[] {
    return this.#rows
  }

  /** The larger of the shares of memory and of vCPUs that are promised; over 1 where more is than may be. */
  loadOf(row: number): number {
    return this.#loads[row] as number
  }

  get evenness(): Evenness {
    return this.#measure(this.#leastBut(-1, -1), this.#mostBut(-1, -1), this.#sum, this.#squares)
  }

  /** How even it would be, were this moved from one row to another. */
  evennessAfter(load: Load, from: number, to: number): Evenness {
    const [before, after] = [
      [this.loadOf(from), this.loadOf(to)],
      [this.#loadWith(from, -load.vcpus, -load.memoryMib), this.#loadWith(to, load.vcpus, load.memoryMib)],
    ] as const
    const sum = this.#sum - before[0] - before[1] + after[0] + after[1]
    const squares = this.#squares - before[0] ** 2 - before[1] ** 2 + after[0] ** 2 + after[1] ** 2
    return this.#measure(
      Math.min(this.#leastBut(from, to), ...after),
      Math.max(this.#mostBut(from, to), ...after),
      sum,
      squares,
    )
  }

  move(load: Load, from: number, to: number): void {
    this.#change(from, load, -1)
    this.#change(to, load, 1)
    this.#addUp()
  }

  /** This goes from a row, and is counted where it goes to already. */
  leave(load: Load, from: number): void {
    this.#change(from, load, -1)
    this.#addUp()
  }

  #loadWith(row: number, vcpus: number, memoryMib: number): number {
    const { memoryTotal, vcpusTotal } = this.#table
    return Math.max(
      shareOf((this.#memoryUsed[row] as number) + memoryMib, memoryTotal[row] as number),
      shareOf((this.#vcpusUsed[row] as number) + vcpus, vcpusTotal[row] as number),
    )
  }

  #leastBut(one: number, other: number): number {
    const row = this.#rows.find((each) => each !== one && each !== other)
    return row === undefined ? Number.POSITIVE_INFINITY : this.loadOf(row)
  }

  #mostBut(one: number, other: number): number {
    const row = this.#rows.findLast((each) => each !== one && each !== other)
    return row === undefined ? Number.NEGATIVE_INFINITY : this.loadOf(row)
  }

  #measure(least: number, most: number, sum: number, squares: number): Evenness {
    const hosts = this.#rows.length
    if (hosts === 0) return { spread: 0, variance: 0 }
    return { spread: rounded(most - least), variance: rounded(squares / hosts - (sum / hosts) ** 2) }
  }

  /** Changes the load of one row, and puts it where it then belongs: to sort ten thousand anew for each move would take seconds. */
  #change(row: number, { vcpus, memoryMib }: Load, sign: 1 | -1): void {
    this.#memoryUsed[row] = (this.#memoryUsed[row] as number) + sign * memoryMib
    this.#vcpusUsed[row] = (this.#vcpusUsed[row] as number) + sign * vcpus
    const before = this.#rows.indexOf(row)
    // A host that is down or cordoned does not count.
    if (before < 0) return
    this.#rows.splice(before, 1)
    this.#loads[row] = this.#loadWith(row, 0, 0)
    let [low, high] = [0, this.#rows.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#compare(this.#rows[middle] as number, row) < 0) low = middle + 1
      else high = middle
    }
    this.#rows.splice(low, 0, row)
  }

  #compare(a: number, b: number): number {
    return this.loadOf(a) - this.loadOf(b) || this.#table.positionOf(a) - this.#table.positionOf(b)
  }

  /** Anew and in order, so that the same loads have the same sums, whichever moves led there. */
  #addUp(): void {
    this.#sum = 0
    this.#squares = 0
    for (const row of this.#rows) {
      this.#sum += this.loadOf(row)
      this.#squares += this.loadOf(row) ** 2
    }
  }
}

function shareOf(used: number, total: number): number {
  if (total > 0) return used / total
  return used > 0 ? 1 : 0
}

function rounded(share: number): number {
  return Math.round(share * 1e9) / 1e9
}
