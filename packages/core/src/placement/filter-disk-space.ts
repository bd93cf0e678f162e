import { roomiest } from './pool-choice.ts'
import type { PlacementFilter } from './rules.ts'

const GIB = 1024 ** 3

/** The pool must have room for all that its disks may grow to. */
export const filterDiskSpace: PlacementFilter = {
  name: 'disk-space',
  summary: 'lack disk space',
  explain: (table, ask, row) => {
    const largest = roomiest(table.pools, ask.usablePools, row)
    const needed = (ask.request.diskBytes / GIB).toFixed(1)
    return `needs ${needed} GiB of disk, ${(Math.max(0, largest) / GIB).toFixed(1)} GiB are free`
  },
}
