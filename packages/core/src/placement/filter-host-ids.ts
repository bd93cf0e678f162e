import { MARK, markAllBut } from './marks.ts'
import type { MarkingFilter } from './rules.ts'

/** Honours the hosts that the user named. */
export const filterHostIds: MarkingFilter = {
  name: 'host-ids',
  summary: 'are not among the hostIDs',
  bit: MARK.hostIds,
  mark: (table, { hostIds }, marks) => {
    if (hostIds.length > 0)
      markAllBut(
        marks,
        MARK.hostIds,
        hostIds.map((id) => table.rowOf(id)),
      )
  },
  explain: (_table, { request }) => `the host is not among the ${request.hostIds.length} allowed`,
}
