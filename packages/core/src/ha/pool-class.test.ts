import { expect, test } from 'vitest'
import { classifyPool, type FencingHost, type PoolProbe } from './pool-class.ts'

const sound: PoolProbe = {
  isConflictShown: true,
  isConflictRefused: true,
  isReleaseSeen: true,
  areLostLocksFenced: true,
  unsafeOptions: [],
  isLinearizable: true,
}
const host: FencingHost = { name: 'a', hasWatchdog: true, pausable: '' }

test.each([
  ['E', {}, {}, /refuses writes/],
  ['T', { areLostLocksFenced: false }, {}, /takes writes of a host/],
  ['T', { isConflictShown: false }, {}, /it said no although/],
  ['T', { isConflictRefused: false }, {}, /two hosts got the same lock/],
  ['T', { isReleaseSeen: null }, {}, /not tried to the end/],
  ['T', { unsafeOptions: ['nolock'] }, {}, /mounted with nolock/],
  ['N', { areLostLocksFenced: false }, { hasWatchdog: false }, /no watchdog on a/],
  [
    'N',
    { areLostLocksFenced: false },
    { pausable: 'it can suspend' },
    /may be paused, and would write when woken: a \(it can suspend\)/,
  ],
  ['N', { areLostLocksFenced: false, isLinearizable: false }, {}, /more than one server/],
] as const)('class %s for %o on %o', (poolClass, probe, change, why) => {
  const verdict = classifyPool({ ...sound, ...probe }, [{ ...host, ...change }])
  expect(verdict.poolClass).toBe(poolClass)
  expect(verdict.why).toMatch(why)
})
