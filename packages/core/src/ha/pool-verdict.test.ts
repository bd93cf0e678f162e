import { expect, test } from 'vitest'
import { DEFAULT_PROTECTION, judgePool, type PoolUnderJudgement } from './pool-verdict.ts'

const host = { name: 'a', hasWatchdog: true, pausable: '' }
const trial = {
  isConflictShown: true,
  isConflictRefused: true,
  isReleaseSeen: true,
  mounts: [{ host: 'a', fileSystem: 'nfs4', options: ['vers=4.2'] }],
}
const nfs: PoolUnderJudgement = {
  kind: 'nfs',
  shared: true,
  settings: DEFAULT_PROTECTION,
  hosts: [host, { ...host, name: 'b' }],
  trial,
  trialFault: '',
}
const ext4 = { ...trial, mounts: [{ host: 'a', fileSystem: 'ext4', options: [] }] }
const wants = (wantedClass: 'T' | 'N') => ({ settings: { ...DEFAULT_PROTECTION, wantedClass } })
const without = [host, { ...host, name: 'b', hasWatchdog: false }]

test.each<[string, Partial<PoolUnderJudgement>, RegExp]>([
  ['E', {}, /refuses writes/],
  ['E', { hosts: without }, /refuses writes/],
  ['N', { shared: false, kind: 'dir' }, /it is local/],
  ['N', { kind: 'rbd' }, /no files for leases/],
  ['N', { hosts: [host] }, /^one host only: nothing to fail over to$/],
  ['N', { trial: null }, /have not been tried yet/],
  ['N', { trial: null, trialFault: 'b has no guard' }, /could not be tried yet: b has no guard/],
  ['N', { trial: ext4 }, /ext4/],
  ['N', { trial: ext4, ...wants('T') }, /ext4/],
  ['N', wants('N'), /it was set to N/],
  ['T', wants('T'), /it was set to T/],
  ['N', { ...wants('T'), hosts: without }, /no watchdog on b/],
  [
    'N',
    { ...wants('T'), hosts: [host, { ...host, name: 'b', pausable: 'it can suspend' }] },
    /woken: b \(it can/,
  ],
  ['T', { trial: { ...trial, isConflictRefused: false } }, /two hosts got the same lock/],
  ['N', { settings: { ...DEFAULT_PROTECTION, wantedClass: 'T', isLinearizable: false } }, /more than one/],
])('class %s for %o', (poolClass, change, why) => {
  const verdict = judgePool({ ...nfs, ...change })
  expect(verdict.poolClass).toBe(poolClass)
  expect(verdict.why).toMatch(why)
})
