import { MARK, markRow } from './marks.ts'
import type { MarkingFilter } from './rules.ts'

/** Leaves out the hosts that it shall not come to. */
export const filterExcluded: MarkingFilter = {
  name: 'excluded',
  summary: 'are left out',
  bit: MARK.excluded,
  mark: (table, { excludeHostIds }, marks) => {
    for (const id of excludeHostIds) markRow(marks, MARK.excluded, table.rowOf(id))
  },
  explain: () => 'it shall not come to this host',
}
