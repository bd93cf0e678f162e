import type { PlacementFilter } from './rules.ts'

/** The host must reach a pool that may hold the system disk. */
export const filterDiskPool: PlacementFilter = {
  name: 'disk-pool',
  summary: 'do not reach the disk pool',
  explain: ({ pools }, { request, usablePools }, row) => {
    const asked = request.diskPoolUuid ?? request.imageHome?.diskPoolUuid ?? null
    const isUsable = (uuid: string) => usablePools[pools.numberOf(uuid)] === 1
    const failed = pools.on(row).find(({ uuid, state }) => state === 'error' && isUsable(uuid))
    if (failed) return `disk pool ${failed.name} does not work there: ${failed.fault}`
    if (asked) return `the host does not reach disk pool ${asked}`
    return request.sharedPoolOnly ? 'the host reaches no shared disk pool' : 'the host has no disk pool'
  },
}
