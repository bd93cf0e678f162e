import { describe, expect, it } from 'vitest'
import { countTests, formatOutcomes } from './run-tests.ts'

describe('the count of tests', () => {
  const report = (numFailedTests: number, ...files: [string, ...string[]][]) =>
    JSON.stringify({
      numPassedTests: 3,
      numFailedTests,
      numPendingTests: 1,
      testResults: files.map(([status, ...tests]) => ({
        status,
        assertionResults: tests.map((test) => ({ status: test })),
      })),
    })

  it('is what vitest reports', () => {
    expect(countTests(report(0, ['passed', 'passed']), 0)).toEqual({ passed: 3, failed: 0, skipped: 1 })
    expect(countTests(report(1, ['failed', 'failed', 'passed']), 1)).toEqual({
      passed: 3,
      failed: 1,
      skipped: 1,
    })
  })

  it('counts a file that could not be loaded', () => {
    expect(countTests(report(1, ['failed', 'failed'], ['failed']), 1).failed).toBe(2)
  })

  it('never calls a broken run a success', () => {
    expect(countTests(undefined, undefined).failed).toBe(1)
    expect(countTests(report(0, ['passed']), 1).failed).toBe(1)
  })
})

it('ends with the sum', () => {
  const outcomes = [
    { stage: 'lint', passed: 1, failed: 0, skipped: 0, seconds: 2 },
    { stage: 'unit', passed: 40, failed: 2, skipped: 1, seconds: 9 },
  ]
  expect(formatOutcomes(outcomes).split('\n').at(-1)).toBe('41 passed, 2 failed')
})
