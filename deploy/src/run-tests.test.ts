import { describe, expect, it } from 'vitest'
import { countTests, formatOutcomes, nameFailures } from './run-tests.ts'

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

it('names what failed, with how its message begins', () => {
  const report = JSON.stringify({
    testResults: [
      {
        name: '/elsewhere/disks.test.ts',
        status: 'failed',
        assertionResults: [
          { fullName: 'a disk grows', status: 'failed', failureMessages: ['Error: too small\n    at …'] },
          { fullName: 'a disk goes', status: 'passed', failureMessages: [] },
        ],
      },
      {
        name: '/elsewhere/broken.test.ts',
        status: 'failed',
        message: 'no such module',
        assertionResults: [],
      },
    ],
  })
  expect(nameFailures(report)).toEqual([
    expect.stringMatching(/disks\.test\.ts > a disk grows: Error: too small$/),
    expect.stringMatching(/broken\.test\.ts: no such module$/),
  ])
  expect(nameFailures(undefined)).toEqual([])
})

it('ends with the failures and the sum', () => {
  const outcomes = [
    { stage: 'lint', passed: 1, failed: 0, skipped: 0, seconds: 2, failures: [] },
    {
      stage: 'unit',
      passed: 40,
      failed: 2,
      skipped: 1,
      seconds: 9,
      failures: ['ports.test.ts > a: Error: b'],
    },
  ]
  const lines = formatOutcomes(outcomes).split('\n')
  expect(lines[0]).toBe('unit: ports.test.ts > a: Error: b')
  expect(lines.at(-1)).toBe('41 passed, 2 failed')
})
