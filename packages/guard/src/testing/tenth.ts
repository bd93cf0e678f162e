import type { HaTimings } from '@vpe/core/ha'

/** The same protocol, ten times as fast. */
export function tenth(timings: HaTimings): HaTimings {
  const entries = Object.entries(timings).map(([name, ms]) => [name, ms / 10])
  return Object.fromEntries(entries) as unknown as HaTimings
}
