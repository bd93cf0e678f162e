import { choosePool, freeBytes, usablePools } from './pool-choice.ts'
import type { PlacementFilter } from './rules.ts'

const GIB = 1024 ** 3

/** The pool must have room for all that its disks may grow to. */
export const filterDiskSpace: PlacementFilter = {
  name: 'disk-space',
  summary: 'lack disk space',
  refuse: (request, host, policy) => {
    if (choosePool(request, host, policy)) return null
    const largest = Math.max(...usablePools(request, host).map((pool) => freeBytes(pool, policy)))
    return `needs ${(request.diskBytes / GIB).toFixed(1)} GiB of disk, ${(Math.max(0, largest) / GIB).toFixed(1)} GiB are free`
  },
}
