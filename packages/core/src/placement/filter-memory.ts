import type { HostCandidate, OvercommitPolicy, PlacementFilter } from './rules.ts'

/** Memory of a host that may be promised to guests, in MiB. */
export function memoryMibTotal(host: HostCandidate, policy: OvercommitPolicy): number {
  return Math.max(0, (host.memoryMib - policy.hostReservedMib) * policy.memoryRatio)
}

/** The host must have memory left under the overcommit ratio. */
export const filterMemory: PlacementFilter = {
  name: 'memory',
  summary: 'lack memory',
  refuse: (request, host, policy) => {
    const free = Math.floor(memoryMibTotal(host, policy) - host.memoryMibUsed)
    return request.memoryMib <= free
      ? null
      : `needs ${request.memoryMib} MiB, ${Math.max(0, free)} MiB are free`
  },
}
