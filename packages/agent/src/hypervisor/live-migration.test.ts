import { type DomainState, type JobStats, LibvirtError } from '@vpe/node-libvirt'
import { expect, test } from 'vitest'
import { abortMigration, migrationJob } from './live-migration.ts'

const failing = (code: number, words: string) => async (): Promise<JobStats> => {
  throw new LibvirtError({ code, domain: 10, level: 2, message: words })
}
const telling = (type: string, operation: string) => async () => ({ type, operation }) as unknown as JobStats
const receiving = failing(84, 'migration statistics are available only on the source host')

test.each([
  ['nothing is done', telling('none', 'unknown'), null],
  ['it is copied', telling('unbounded', 'migration-out'), 'out'],
  ['it is received, by a driver that has figures of that', telling('unbounded', 'migration-in'), 'in'],
  ['it is received, by QEMU', receiving, 'in'],
  ['something else is done', telling('unbounded', 'snapshot'), null],
  ['it is off', failing(55, 'domain is not running'), null],
  ['it is not there', failing(42, 'no domain'), null],
])('where %s, its job is told', async (_what, jobStats, job) => {
  expect(await migrationJob({ jobStats })).toBe(job)
})

test('what libvirt cannot say is no answer', async () => {
  const locked = failing(68, 'cannot acquire state change lock')
  await expect(migrationJob({ jobStats: locked })).rejects.toThrow(/state change lock/)
})

test.each([
  ['waits for its memory', { state: 'paused', reason: 'migration' }, ['destroy']],
  ['is being made', { state: 'paused', reason: 'starting-up' }, []],
  ['runs already, with the job not quite over', { state: 'running', reason: 'migrated' }, []],
] as const)(
  'a domain that is received and %s is destroyed only if it has not run',
  async (_what, state, done) => {
    const calls: string[] = []
    await abortMigration({
      jobStats: receiving,
      state: async () => state satisfies DomainState,
      abortJob: async () => void calls.push('abortJob'),
      destroy: async () => void calls.push('destroy'),
    })
    expect(calls).toEqual(done)
  },
)
