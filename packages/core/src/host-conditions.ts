// Conditions of a host: what was found of it last, and since when. Findings come and go with each look; a condition
// changes, and is news, when the status of its findings does, and not each time that it flaps.

export const FINDING_STATUSES = ['ok', 'warning', 'failed'] as const
export type FindingStatus = (typeof FINDING_STATUSES)[number]

/** What one look has found of one thing. */
export interface Finding {
  /** `KvmUsable`; of a disk pool `PoolWorks:<uuid>`. */
  readonly type: string
  readonly status: FindingStatus
  /** What was found, with its numbers. */
  readonly message: string
  /** What to do about it; empty when it is ok. */
  readonly cure: string
  /** How long it took to answer, where that is measured. */
  readonly latencyMs: number | null
}

export interface HostCondition extends Finding {
  /** Since when it has this status. */
  readonly sinceMs: number
  readonly checkedAtMs: number
  /** The last look has found it better than its status; null when it has not. */
  readonly betterStatus: FindingStatus | null
}

export interface ConditionChange {
  readonly condition: HostCondition
  /** Null for one that is new. */
  readonly previous: FindingStatus | null
}

/** Findings of one look. */
export interface Look {
  readonly findings: readonly Finding[]
  readonly checkedAtMs: number
  /** Somebody has asked for it, and waits: what it finds counts at once. */
  readonly isAsked: boolean
}

/**
 * The conditions after a look at everything that `isCovered` is about; others stay as they are. Worse counts at
 * once. Better counts when two looks in a row have found it so, or when somebody has asked: what flaps stays bad, and is told once.
 * What is covered and not found any more is no condition any more.
 */
export function foldConditions(
  before: readonly HostCondition[],
  { findings, checkedAtMs, isAsked }: Look,
  isCovered: (type: string) => boolean,
): { readonly conditions: readonly HostCondition[]; readonly changes: readonly ConditionChange[] } {
  const known = new Map(before.map((condition) => [condition.type, condition]))
  const kept = before.filter(({ type }) => !isCovered(type))
  const changes: ConditionChange[] = []
  const seen = findings.map((finding): HostCondition => {
    const old = known.get(finding.type)
    const fresh = { ...finding, checkedAtMs, betterStatus: null }
    if (old?.status === finding.status) return { ...fresh, sinceMs: old.sinceMs }
    if (old && !isAsked && isBetter(finding.status, old.status) && !wasBetter(old)) {
      return { ...old, checkedAtMs, betterStatus: finding.status }
    }
    const condition = { ...fresh, sinceMs: checkedAtMs }
    // That all is well with what was never looked at before is no news.
    if (old || finding.status !== 'ok') changes.push({ condition, previous: old?.status ?? null })
    return condition
  })
  const conditions = [...kept, ...seen].sort((a, b) => (a.type < b.type ? -1 : 1))
  return { conditions, changes }
}

/** Whether conditions differ in more than numbers and times, so that they are worth a write. */
export function isConditionNews(before: readonly HostCondition[], after: readonly HostCondition[]): boolean {
  const gist = (conditions: readonly HostCondition[]) =>
    conditions.map(({ type, status }) => `${type} ${status}`).join()
  return gist(before) !== gist(after)
}

const RANK: Readonly<Record<FindingStatus, number>> = { ok: 0, warning: 1, failed: 2 }

function isBetter(status: FindingStatus, than: FindingStatus): boolean {
  return RANK[status] < RANK[than]
}

function wasBetter({ betterStatus }: HostCondition): boolean {
  return betterStatus !== null
}
