import type { PlacementFilter } from './rules.ts'

export function lacksMemory(asked: number, total: number, used: number): boolean {
  return asked > Math.floor(total - used)
}

/** The host must have memory left under the overcommit ratio, in MiB. */
export const filterMemory: PlacementFilter = {
  name: 'memory',
  summary: 'lack memory',
  explain: (table, { request }, row) => {
    const free = Math.floor((table.memoryTotal[row] as number) - (table.memoryUsed[row] as number))
    return `needs ${request.memoryMib} MiB, ${Math.max(0, free)} MiB are free`
  },
}
