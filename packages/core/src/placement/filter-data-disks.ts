import type { PlacementFilter } from './rules.ts'

/** Every data disk that the instance shall have must be within the host's reach. */
export const filterDataDisks: PlacementFilter = {
  name: 'data-disks',
  summary: 'do not reach its data disks',
  refuse: (request, host) => {
    const missing = request.dataDisks.find(({ hostIds }) => !hostIds.includes(host.id))
    return missing ? `data disk ${missing.name} lies on ${missing.home}` : null
  },
}
