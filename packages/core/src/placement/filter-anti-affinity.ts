import { MARK, markRow } from './marks.ts'
import type { MarkingFilter } from './rules.ts'

/** No two members of an anti-affinity group share a host. */
export const filterAntiAffinity: MarkingFilter = {
  name: 'anti-affinity',
  summary: 'have a member of its anti-affinity group',
  bit: MARK.antiAffinity,
  mark: (table, { groups }, marks) => {
    for (const { rule, key } of groups) {
      if (rule !== 'anti-affinity') continue
      for (const row of table.groups.of(key).keys()) markRow(marks, MARK.antiAffinity, row)
    }
  },
  explain: (table, { request }, row) => {
    const group = request.groups.find(
      ({ rule, key }) => rule === 'anti-affinity' && table.groups.of(key).has(row),
    )
    return `it has an instance with tag ${group?.tag}`
  },
}
