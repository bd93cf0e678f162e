import { expect, test } from 'vitest'
import { HA_PROFILES, leastDeadMs, profileOf, refuseTimings, worstDetectionMs } from './timings.ts'

test.each(Object.entries(HA_PROFILES))('the profile %s is safe', (_name, timings) => {
  expect(refuseTimings(timings)).toBeNull()
  expect(timings.deadMs).toBeGreaterThanOrEqual(leastDeadMs(timings))
})

test('the bound is the holder at a slow clock, its packets and its watchdog, seen by a fast one', () => {
  const bound = leastDeadMs({ selfMs: 30_000, watchdogMs: 15_000, flightMs: 5_000, watchdogLateMs: 0 })
  expect(bound).toBe(Math.ceil((1.001 * 45_000 + 5_000) / 0.999))
  expect(worstDetectionMs(HA_PROFILES.default)).toBe(58_000)
})

test.each([
  [{ deadMs: 51_000 }, /deadMs is 51000, but a host may write for \d+ ms/],
  [{ watchdogMs: 6_000 }, /watchdogMs/],
  [{ selfMs: 5_000 }, /selfMs is 5000/],
  [{ tryMs: 6_000 }, /tryMs is 6000/],
  [{ lossMs: 9_000 }, /lossMs is 9000/],
  [{ settleMs: 10_000 }, /settleMs is 10000/],
  [{ writeMs: 0 }, /writeMs is 0/],
  [{ flightMs: Number.NaN }, /flightMs is NaN/],
])('unsafe timings are refused, with the figures: %o', (change, why) => {
  expect(refuseTimings({ ...HA_PROFILES.default, ...change })).toMatch(why)
})

test('a profile is known by its times, in whatever order they are given', () => {
  const { deadMs, ...rest } = HA_PROFILES.fast
  expect(profileOf({ deadMs, ...rest })).toBe('fast')
  expect(profileOf({ ...rest, deadMs: deadMs + 1 })).toBeNull()
})
