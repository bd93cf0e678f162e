import { memoryMibTotal } from './filter-memory.ts'
import type { PlacementScorer } from './rules.ts'

/** Prefers the host that keeps the larger share of its memory free. */
export const scoreMemoryBalance: PlacementScorer = {
  name: 'memory-balance',
  weight: 2,
  score: (request, host, policy) => {
    const total = memoryMibTotal(host, policy)
    return total === 0 ? 0 : 1 - (host.memoryMibUsed + request.memoryMib) / total
  },
}
