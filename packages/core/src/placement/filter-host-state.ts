import { MARK } from './marks.ts'
import type { MarkingFilter } from './rules.ts'

/** Only hosts that answer get new instances. */
export const filterHostState: MarkingFilter = {
  name: 'host-state',
  summary: 'are down',
  bit: MARK.down,
  explain: () => 'the host is down',
}
