import { expect, test } from 'vitest'
import { judgeHost, SUSPECT_AFTER_MS } from './host-liveness.ts'

test('late is not dead: silence is probed, and only an unanswered probe is down', () => {
  expect(judgeHost(0, SUSPECT_AFTER_MS - 1, null)).toBe('up')
  expect(judgeHost(0, SUSPECT_AFTER_MS, null)).toBe('probe')
  expect(judgeHost(0, SUSPECT_AFTER_MS, true)).toBe('up')
  expect(judgeHost(0, SUSPECT_AFTER_MS, false)).toBe('down')
})
