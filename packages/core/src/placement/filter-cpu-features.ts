import { MARK } from './marks.ts'
import type { MarkingFilter } from './rules.ts'

const NAMED_MAX = 5

/** The host's CPU must have every feature that the guest has seen. One whose features are not known passes. */
export const filterCpuFeatures: MarkingFilter = {
  name: 'cpu-features',
  summary: 'lack CPU features',
  bit: MARK.cpuFeatures,
  mark: (table, { cpuFeatures }, marks) => {
    if (cpuFeatures.length === 0) return
    const lacking = table.features.lacking(cpuFeatures)
    for (const row of table.order) {
      if (lacking[table.featureSet[row] as number] === 1)
        marks[row] = (marks[row] as number) | MARK.cpuFeatures
    }
  },
  explain: (table, { request }, row) => {
    const missing = table.features.missing(table.featureSet[row] as number, request.cpuFeatures)
    const more = missing.length > NAMED_MAX ? ` and ${missing.length - NAMED_MAX} more` : ''
    return `its CPU does not have ${missing.slice(0, NAMED_MAX).join(', ')}${more}`
  },
}
