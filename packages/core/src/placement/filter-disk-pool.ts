import { usablePools } from './pool-choice.ts'
import type { PlacementFilter } from './rules.ts'

/** The host must reach a pool that may hold the system disk. */
export const filterDiskPool: PlacementFilter = {
  name: 'disk-pool',
  summary: 'do not reach the disk pool',
  refuse: (request, host) => {
    if (usablePools(request, host).length > 0) return null
    const failed = host.pools.find((pool) => pool.state === 'error' && pool.uuid === request.diskPoolUuid)
    if (failed) return `disk pool ${failed.name} does not work there: ${failed.fault}`
    if (request.diskPoolUuid) return `the host does not reach disk pool ${request.diskPoolUuid}`
    return request.sharedPoolOnly ? 'the host reaches no shared disk pool' : 'the host has no disk pool'
  },
}
