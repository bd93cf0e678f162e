// The bits of filters that do not look at amounts, in the order in which a host is charged with them. A row
// without any goes on to the amounts.

export const MARK = {
  hostIds: 1 << 0,
  excluded: 1 << 1,
  down: 1 << 2,
  cordoned: 1 << 3,
  cpuFeatures: 1 << 4,
  image: 1 << 5,
  dataDisks: 1 << 6,
  affinity: 1 << 7,
  antiAffinity: 1 << 8,
  unreliable: 1 << 9,
} as const

/** Marks every row but some. */
export function markAllBut(marks: Uint16Array, bit: number, rows: Iterable<number>): void {
  const spared = new Set(rows)
  for (let row = 0; row < marks.length; row++) {
    if (!spared.has(row)) marks[row] = (marks[row] as number) | bit
  }
}

export function markRow(marks: Uint16Array, bit: number, row: number): void {
  if (row >= 0) marks[row] = (marks[row] as number) | bit
}
