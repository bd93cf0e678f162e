import { MARK, markAllBut } from './marks.ts'
import type { MarkingFilter } from './rules.ts'

/** Every data disk that the instance shall have must be within the host's reach. */
export const filterDataDisks: MarkingFilter = {
  name: 'data-disks',
  summary: 'do not reach its data disks',
  bit: MARK.dataDisks,
  mark: (table, { dataDisks }, marks) => {
    for (const { hostIds } of dataDisks) {
      markAllBut(
        marks,
        MARK.dataDisks,
        hostIds.map((id) => table.rowOf(id)),
      )
    }
  },
  explain: (table, { request }, row) => {
    const missing = request.dataDisks.find(({ hostIds }) => !hostIds.includes(table.ids[row] ?? ''))
    return `data disk ${missing?.name} lies on ${missing?.home}`
  },
}
