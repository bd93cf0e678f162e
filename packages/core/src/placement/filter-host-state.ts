import type { PlacementFilter } from './rules.ts'

/** Only hosts that answer get new instances. */
export const filterHostState: PlacementFilter = {
  name: 'host-state',
  summary: 'are down',
  refuse: (_request, host) => (host.state === 'up' ? null : 'the host is down'),
}
