import { expect, test } from 'vitest'
import type { GuestState, InstanceMark } from './host-convergence.ts'
import { departureOf, type MigrationJob } from './migration.ts'

const guests: [string, GuestState | null, MigrationJob, string][] = [
  ['nothing', null, null, 'gone'],
  ['a guest that runs', { power: 'on' }, null, 'running'],
  ['one that is copied', { power: 'on' }, 'out', 'under-way'],
  ['one that its user has paused', { power: 'paused', reason: 'asked' }, null, 'running'],
  ['one left standing', { power: 'paused', reason: 'migration' }, null, 'standing'],
  [
    'one that the lock of its image keeps from going on',
    { power: 'paused', reason: 'fault' },
    null,
    'standing',
  ],
  ['one that is off', { power: 'off', reason: 'crashed' }, null, 'off'],
  ['one that has panicked', { power: 'panicked' }, null, 'off'],
]

test.each(guests)('of %s its host says', (_what, guest, job, departure) => {
  const domain = guest && { mark: {} as InstanceMark, guest }
  expect(departureOf(domain, job)).toBe(departure)
})
