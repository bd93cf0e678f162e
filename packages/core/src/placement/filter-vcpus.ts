import type { PlacementFilter } from './rules.ts'

/**
 * The host must have vCPUs left under the overcommit ratio, and no guest may have more of them than
 * the host has CPUs: such a guest only waits for itself.
 */
export function lacksVcpus(asked: number, cpus: number, total: number, used: number): boolean {
  return asked > cpus || asked > Math.floor(total - used)
}

export const filterVcpus: PlacementFilter = {
  name: 'vcpus',
  summary: 'lack vCPUs',
  explain: (table, { request }, row) => {
    const cpus = table.cpus[row] as number
    if (request.vcpus > cpus) return `needs ${request.vcpus} vCPUs, the host has ${cpus} CPUs`
    const free = Math.floor((table.vcpusTotal[row] as number) - (table.vcpusUsed[row] as number))
    return `needs ${request.vcpus} vCPUs, ${Math.max(0, free)} are free`
  },
}
