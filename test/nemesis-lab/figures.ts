// Figures of times for people.

/** The least, the median, and what all but one of a hundred stayed below; in seconds, of times in ms. */
export function figures(ms: readonly number[]): string {
  const sorted = ms.toSorted((a, b) => a - b)
  const at = (part: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? Number.NaN
  const [min, median, p99] = [0, 0.5, 0.99].map((part) => seconds(at(part)))
  return `min ${min}, p50 ${median}, p99 ${p99} of ${sorted.length}`
}

export function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`
}
