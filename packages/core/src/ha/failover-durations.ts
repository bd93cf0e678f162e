// How long each part of a failover took, from the times that are kept of it.

import type { FailoverClock } from './recovery.ts'

/** Milliseconds; null where one of the two times is not known, or not yet. */
export interface FailoverDurations {
  /** T0 to T1: until its host was suspected. */
  readonly suspicionMs: number | null
  /** T1 to T2: until it was proven that nothing can be written there any more. */
  readonly proofMs: number | null
  /** T2 to T3: until it had another host. */
  readonly placementMs: number | null
  /** T3 to T4: until that one reported its guest running. */
  readonly startMs: number | null
  /** T4 to T5: until its guest was heard. */
  readonly answerMs: number | null
  /** T0 to T4. */
  readonly totalMs: number | null
}

/** `answeredMs` is T5. */
export function failoverDurations(
  clock: Omit<FailoverClock, 'provenBy'>,
  answeredMs: number | null,
): FailoverDurations {
  const { lastHeardMs, suspectedMs, provenMs, placedMs, runningMs } = clock
  return {
    suspicionMs: between(lastHeardMs, suspectedMs),
    proofMs: between(suspectedMs, provenMs),
    placementMs: between(provenMs, placedMs),
    startMs: between(placedMs, runningMs),
    answerMs: between(runningMs, answeredMs),
    totalMs: between(lastHeardMs, runningMs),
  }
}

/** What seems to end before it began was noted in another order than it happened in: it took no time. */
function between(fromMs: number | null, toMs: number | null): number | null {
  return fromMs === null || toMs === null ? null : Math.max(0, toMs - fromMs)
}
