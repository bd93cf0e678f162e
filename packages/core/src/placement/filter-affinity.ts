import { MARK, markAllBut } from './marks.ts'
import type { MarkingFilter } from './rules.ts'

/** Members of an affinity group share a host; the first may go anywhere. */
export const filterAffinity: MarkingFilter = {
  name: 'affinity',
  summary: 'have no member of its affinity group',
  bit: MARK.affinity,
  mark: (table, { groups }, marks) => {
    for (const { rule, key } of groups) {
      if (rule !== 'affinity') continue
      const members = table.groups.of(key)
      if (members.size > 0) markAllBut(marks, MARK.affinity, members.keys())
    }
  },
  explain: (table, { request }, row) => {
    const group = request.groups.find(({ rule, key }) => {
      const members = table.groups.of(key)
      return rule === 'affinity' && members.size > 0 && !members.has(row)
    })
    return `the others with tag ${group?.tag} are elsewhere`
  },
}
