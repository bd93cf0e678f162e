import { expect, test } from 'vitest'
import { judgeReadiness, type ReadinessFacts, type ReadinessPool } from './readiness.ts'

const pool: ReadinessPool = {
  name: 'p',
  poolClass: 'E',
  why: 'sound',
  isWithoutSlot: false,
  lease: 'renewed',
}
const well: ReadinessFacts = {
  pools: [pool],
  isAlone: false,
  report: { guardFault: '', profile: 'default', hasWatchdog: false },
  reportFault: '',
  profile: 'default',
  drillFault: null,
}
const says = (change: Partial<NonNullable<ReadinessFacts['report']>>) => ({
  report: { guardFault: '', profile: 'default', hasWatchdog: true, ...change },
})

test.each<[string, Partial<ReadinessFacts>, RegExp]>([
  ['ok', {}, /leases in p \(E\)/],
  ['ok', { pools: [pool, { ...pool, name: 'q', poolClass: 'N', lease: null }] }, /leases in p \(E\)$/],
  ['warning', { isAlone: true, report: null }, /nothing to fail over to/],
  ['failed', { report: null, reportFault: 'no answer' }, /does not say: no answer/],
  ['failed', says({ guardFault: 'the guard is away' }), /guard is away/],
  ['failed', says({ profile: 'fast' }), /"fast".*"default"/],
  ['failed', { pools: [{ ...pool, isWithoutSlot: true }] }, /all blocks/],
  ['failed', { pools: [{ ...pool, poolClass: 'N', why: 'no' }] }, /none .* protected: p: no/],
  ['failed', { pools: [{ ...pool, poolClass: 'T' }] }, /no watchdog/],
  ['ok', { pools: [{ ...pool, poolClass: 'T' }], ...says({}) }, /\(T\)/],
  ['failed', { pools: [{ ...pool, lease: 'lost' }] }, /lease in p is lost/],
  ['failed', { pools: [{ ...pool, lease: null }] }, /not begun/],
  ['failed', { drillFault: 'no pill was answered' }, /drill failed: no pill/],
])('%s for %o', (status, change, message) => {
  const finding = judgeReadiness({ ...well, ...change })
  expect(finding).toMatchObject({ type: 'HaReady', status })
  expect(finding.message).toMatch(message)
  expect(finding.cure === '').toBe(status === 'ok')
})
