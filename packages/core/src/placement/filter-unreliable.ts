import { MARK } from './marks.ts'
import type { MarkingFilter } from './rules.ts'

/** Nothing new goes where recovery may be about to take things away, or has not let the host in again. */
export const filterUnreliable: MarkingFilter = {
  name: 'ha-state',
  summary: 'are not to be relied on',
  bit: MARK.unreliable,
  explain: (table, _ask, row) => `the host is ${table.whyUnreliable(row)}`,
}
