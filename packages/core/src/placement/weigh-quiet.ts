/** Prefers hosts that are not busy with tasks, so that a burst of creations spreads at once. */
export function weighQuiet(runningTasks: number): number {
  return 1 / (1 + runningTasks)
}
