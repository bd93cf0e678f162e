import type { PlacementGroup } from './groups.ts'

/**
 * Prefers the hosts that the soft groups of an instance prefer: with a member of those that attract, with few of
 * those that repel. The mean over the groups.
 * @param membersOf how many of a group the host has
 */
export function weighPreferred(
  groups: readonly PlacementGroup[],
  membersOf: (key: string) => number,
): number {
  let sum = 0
  let count = 0
  for (const { rule, key } of groups) {
    if (rule !== 'prefer-affinity' && rule !== 'prefer-anti-affinity') continue
    const members = membersOf(key)
    sum += rule === 'prefer-anti-affinity' ? 1 / (1 + members) : members > 0 ? 1 : 0
    count++
  }
  return count === 0 ? 0 : sum / count
}
