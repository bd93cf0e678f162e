// How many members of each placement group are on each row of the table.

export class GroupMembers {
  readonly #groups = new Map<string, Map<number, number>>()

  /** Adds to the members of a group on a row; takes away when negative. */
  count(key: string, row: number, amount: number): void {
    const rows = this.#groups.get(key) ?? new Map<number, number>()
    const members = (rows.get(row) ?? 0) + amount
    if (members === 0) rows.delete(row)
    else rows.set(row, members)
    if (rows.size === 0) this.#groups.delete(key)
    else this.#groups.set(key, rows)
  }

  /** Members by row; only rows that have some. */
  of(key: string): ReadonlyMap<number, number> {
    return this.#groups.get(key) ?? new Map()
  }

  on(row: number): Record<string, number> {
    const members: Record<string, number> = {}
    for (const [key, rows] of this.#groups) {
      const count = rows.get(row)
      if (count !== undefined) members[key] = count
    }
    return members
  }

  clear(row: number): void {
    for (const [key, count] of Object.entries(this.on(row))) this.count(key, row, -count)
  }
}
