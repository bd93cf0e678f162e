import { expect, test } from 'vitest'
import { failoverDurations } from './failover-durations.ts'

const CLOCK = {
  lastHeardMs: 1_000,
  suspectedMs: 11_000,
  provenMs: 13_000,
  placedMs: 13_000,
  runningMs: 16_500,
}

test('each part is from one time to the next, and the total to the guest that runs', () => {
  expect(failoverDurations(CLOCK, 20_000)).toEqual({
    ...{ suspicionMs: 10_000, proofMs: 2_000, placementMs: 0, startMs: 3_500, answerMs: 3_500 },
    totalMs: 15_500,
  })
})

test('what is not known, or not yet, has no duration; what was noted in another order took no time', () => {
  const clock = { ...CLOCK, suspectedMs: null, runningMs: null }
  const unknown = { suspicionMs: null, proofMs: null, startMs: null, answerMs: null, totalMs: null }
  expect(failoverDurations(clock, null)).toMatchObject(unknown)
  expect(failoverDurations({ ...CLOCK, provenMs: 10_000 }, null).proofMs).toBe(0)
})
