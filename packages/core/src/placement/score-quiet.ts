import type { PlacementScorer } from './rules.ts'

/** Prefers hosts that are not busy with tasks, so that a burst of creations spreads at once. */
export const scoreQuiet: PlacementScorer = {
  name: 'quiet',
  weight: 0.5,
  score: (_request, host) => 1 / (1 + host.runningTasks),
}
