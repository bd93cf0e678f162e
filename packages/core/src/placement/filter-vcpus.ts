import type { HostCandidate, OvercommitPolicy, PlacementFilter } from './rules.ts'

/** vCPUs of a host that may be promised to guests. */
export function vcpusTotal(host: HostCandidate, policy: OvercommitPolicy): number {
  return host.cpus * policy.vcpuRatio
}

/**
 * The host must have vCPUs left under the overcommit ratio, and no guest may have more of them than
 * the host has CPUs: such a guest only waits for itself.
 */
export const filterVcpus: PlacementFilter = {
  name: 'vcpus',
  summary: 'lack vCPUs',
  refuse: (request, host, policy) => {
    if (request.vcpus > host.cpus) return `needs ${request.vcpus} vCPUs, the host has ${host.cpus} CPUs`
    const free = Math.floor(vcpusTotal(host, policy) - host.vcpusUsed)
    return request.vcpus <= free ? null : `needs ${request.vcpus} vCPUs, ${Math.max(0, free)} are free`
  },
}
