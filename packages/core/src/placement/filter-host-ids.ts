import type { PlacementFilter } from './rules.ts'

/** Honours the hosts that the user named. */
export const filterHostIds: PlacementFilter = {
  name: 'host-ids',
  summary: 'are not among the hostIDs',
  refuse: (request, host) =>
    request.hostIds.length === 0 || request.hostIds.includes(host.id)
      ? null
      : `the host is not among the ${request.hostIds.length} allowed`,
}
