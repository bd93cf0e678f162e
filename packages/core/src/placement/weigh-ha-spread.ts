/** Prefers, for an HA instance, the host whose loss would bring down the fewest others. */
export function weighHaSpread(haInstances: number): number {
  return 1 / (1 + haInstances)
}
