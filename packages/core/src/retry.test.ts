import { describe, expect, test } from 'vitest'
import type { ErrorCode } from './errors.ts'
import type { Attempts } from './plan.ts'
import { afterFailure, isGivenUp, isHopeless } from './retry.ts'

function delays(code: ErrorCode, tries: number): (number | null)[] {
  let attempts: Attempts | null = null
  const seen: (number | null)[] = []
  for (let i = 0; i < tries; i++) {
    attempts = afterFailure(attempts, 1, code, 0)
    const isOver = isHopeless(code, attempts)
    seen.push(isOver ? null : attempts.retryAtMs)
    if (isOver) break
  }
  return seen
}

describe('retries', () => {
  test('a host that is away is waited for without end, ever less often', () => {
    expect(delays('UNAVAILABLE', 9)).toEqual([250, 500, 1000, 2000, 4000, 8000, 15000, 15000, 15000])
  })

  test('a hypervisor that refuses is asked four times', () => {
    expect(delays('HYPERVISOR_FAILED', 9)).toEqual([250, 500, 1000, null])
  })

  test('a host that was away has not refused anything', () => {
    let attempts: Attempts | null = null
    for (let i = 0; i < 9; i++) attempts = afterFailure(attempts, 1, 'UNAVAILABLE', 0)
    attempts = afterFailure(attempts, 1, 'HYPERVISOR_FAILED', 0)
    expect(isHopeless('HYPERVISOR_FAILED', attempts)).toBe(false)
  })

  test('what no retry can mend is not retried', () => {
    expect(delays('IMAGE_INVALID', 9)).toEqual([null])
  })

  test.each([
    ['apply', 'HYPERVISOR_FAILED', 4],
    ['apply', 'UNAVAILABLE', null],
    ['migrate', 'UNAVAILABLE', 8],
    ['migrate', 'CONFLICT', 4],
    ['end-migration', 'HYPERVISOR_FAILED', null],
    ['end-migration', 'NOT_FOUND', null],
  ] as const)('%s that fails with %s is given up after %s', (kind, code, tries) => {
    let attempts: Attempts | null = null
    let given: number | null = null
    for (let i = 1; i <= 20 && given === null; i++) {
      attempts = afterFailure(attempts, 1, code, 0)
      if (isGivenUp(kind, code, attempts)) given = i
    }
    expect(given).toBe(tries)
    expect(attempts?.retryAtMs).toBeLessThanOrEqual(15_000)
  })

  test('a new generation starts from nothing', () => {
    expect(
      afterFailure({ generation: 1, failures: 8, refusals: 3, retryAtMs: 0 }, 2, 'UNAVAILABLE', 0),
    ).toMatchObject({
      failures: 1,
    })
  })
})
