// Which changes of a host's facts are news.

import type { HostFacts } from './resources.ts'

/**
 * The names of the facts that differ. Not the boot id: that of another boot is an event of its own.
 */
export function changedFacts(before: HostFacts, after: HostFacts): readonly (keyof HostFacts)[] {
  const names = Object.keys(after) as (keyof HostFacts)[]
  return names.filter(
    (name) => name !== 'bootId' && JSON.stringify(before[name]) !== JSON.stringify(after[name]),
  )
}
