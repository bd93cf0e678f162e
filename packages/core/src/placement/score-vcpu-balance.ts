import { vcpusTotal } from './filter-vcpus.ts'
import type { PlacementScorer } from './rules.ts'

/** Prefers the host that keeps the larger share of its vCPUs free. */
export const scoreVcpuBalance: PlacementScorer = {
  name: 'vcpu-balance',
  weight: 1,
  score: (request, host, policy) => {
    const total = vcpusTotal(host, policy)
    return total === 0 ? 0 : 1 - (host.vcpusUsed + request.vcpus) / total
  },
}
