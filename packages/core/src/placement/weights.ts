// How much each weigher counts. A preferred host wins against any balance; among preferred ones balance decides.

export const WEIGHT = {
  memory: 2,
  vcpus: 1,
  quiet: 0.5,
  haSpread: 1,
  preferred: 5,
} as const
