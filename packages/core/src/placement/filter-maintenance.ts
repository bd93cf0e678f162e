import { MARK } from './marks.ts'
import type { MarkingFilter } from './rules.ts'

/** A cordoned host keeps what it has and gets nothing more. */
export const filterMaintenance: MarkingFilter = {
  name: 'maintenance',
  summary: 'are cordoned',
  bit: MARK.cordoned,
  explain: () => 'the host is cordoned',
}
