import { expect, test } from 'vitest'
import { RequestRate } from './request-rate.ts'

test('an address gets its burst, then so many a second; others are not touched by it', () => {
  const rate = new RequestRate(3, 2)
  const allowed = (atMs: number, address = 'a') => rate.allows(address, atMs)
  expect([0, 0, 0, 0, 0].map((atMs) => allowed(atMs))).toEqual([true, true, true, false, false])
  expect(allowed(0, 'b')).toBe(true)
  expect([500, 500].map((atMs) => allowed(atMs))).toEqual([true, false])
  expect([100_000, 100_000, 100_000, 100_000].map((atMs) => allowed(atMs))).toEqual([true, true, true, false])
})

test('a clock that goes back takes nothing away', () => {
  const rate = new RequestRate(1, 1)
  expect(rate.allows('a', 10_000)).toBe(true)
  expect(rate.allows('a', 0)).toBe(false)
  expect(rate.allows('a', 1_000)).toBe(true)
})
