// Distributions, not averages: a figure of this project is a median with its spread, or a ratio of medians
// of one run.

export interface Distribution {
  readonly count: number
  readonly min: number
  readonly p50: number
  readonly p99: number
  readonly max: number
}

export function distribution(samples: readonly number[]): Distribution {
  const sorted = [...samples].sort((a, b) => a - b)
  const at = (share: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN
  return { count: sorted.length, min: at(0), p50: at(0.5), p99: at(0.99), max: at(1) }
}

/** "p50 402 (min 380, p99 455, max 455, n 10) ms". */
export function show({ count, min, p50, p99, max }: Distribution, unit: string): string {
  const round = (value: number) => (value >= 100 ? value.toFixed(0) : value.toFixed(1))
  return `p50 ${round(p50)} (min ${round(min)}, p99 ${round(p99)}, max ${round(max)}, n ${count}) ${unit}`
}
