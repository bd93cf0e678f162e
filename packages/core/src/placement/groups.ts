// Placement groups: instances of a namespace that carry the same tag of one of four forms.
//   affinity:<group>              only on a host that has a member, once there is one anywhere
//   anti-affinity:<group>         never on a host that has a member
//   prefer-affinity:<group>       rather on a host that has a member
//   prefer-anti-affinity:<group>  rather on a host that has few members

export type GroupRule = 'affinity' | 'anti-affinity' | 'prefer-affinity' | 'prefer-anti-affinity'

export interface PlacementGroup {
  readonly rule: GroupRule
  /** The tag, as users know the group. */
  readonly tag: string
  /** Distinguishes it from every other group. */
  readonly key: string
}

const FORM = /^((?:prefer-)?(?:anti-)?affinity):(.*)$/s

/** The groups that an instance is in, by its tags; each once. */
export function groupsOf(namespace: string, tags: readonly string[]): PlacementGroup[] {
  const groups: PlacementGroup[] = []
  for (const tag of new Set(tags)) {
    const rule = FORM.exec(tag)?.[1] as GroupRule | undefined
    if (rule) groups.push({ rule, tag, key: JSON.stringify([namespace, tag]) })
  }
  return groups
}

/** What is wrong with a tag that has the form of a group's; null when nothing is. */
export function groupTagFault(tag: string): string | null {
  const [, rule, group] = FORM.exec(tag) ?? []
  return rule !== undefined && group?.trim() === ''
    ? `tag ${JSON.stringify(tag)} names no group: expected ${rule}:<group>`
    : null
}
