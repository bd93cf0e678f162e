import type { PlacementFilter, PoolCandidate } from './rules.ts'

/** The host must reach a pool that may hold the system disk. */
export const filterDiskPool: PlacementFilter = {
  name: 'disk-pool',
  summary: 'do not reach the disk pool',
  explain: (table, { request }, row) => {
    const asked = request.diskPoolUuid ?? request.imageHome?.diskPoolUuid ?? null
    const isWanted = ({ uuid, shared }: PoolCandidate) =>
      asked === null ? shared || !request.sharedPoolOnly : uuid === asked
    const failed = table.pools.on(row).find((pool) => pool.state === 'error' && isWanted(pool))
    if (failed) return `disk pool ${failed.name} does not work there: ${failed.fault}`
    if (asked) return `the host does not reach disk pool ${asked}`
    return request.sharedPoolOnly ? 'the host reaches no shared disk pool' : 'the host has no disk pool'
  },
}
