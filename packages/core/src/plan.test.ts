import { expect, test } from 'vitest'
import { INSTANCE_STATUSES, INSTANCE_TASKS } from './instance.ts'
import { decideCancelMigration, decideMove, decideStop } from './instance-decisions.ts'
import { enterPhase } from './instance-machine.ts'
import { plan } from './plan.ts'
import { anInstance } from './testing.ts'

test('tasks are carried out, rest is left alone, and recovery is the agent’s own', () => {
  const kinds = Object.fromEntries(
    [...INSTANCE_TASKS, ...INSTANCE_STATUSES].map((phase) => [
      phase,
      plan(enterPhase(anInstance(), phase), null, 0).kind,
    ]),
  )
  expect(kinds).toEqual({
    creating: 'apply',
    starting: 'apply',
    stopping: 'apply',
    rebooting: 'apply',
    pausing: 'apply',
    resuming: 'apply',
    rebuilding: 'apply',
    reverting: 'apply',
    resizing: 'apply',
    migrating: 'apply',
    updating: 'apply',
    recovering: 'none',
    deleting: 'remove',
    active: 'none',
    shutoff: 'none',
    paused: 'none',
    error: 'none',
  })
})

test('until the old host has let go of one that moves, nothing else is done', () => {
  for (const phase of [...INSTANCE_TASKS, ...INSTANCE_STATUSES]) {
    const instance = enterPhase(anInstance(), phase)
    const before = plan(instance, null, 0).kind
    const leaving = plan({ ...instance, leavingHostId: 'old' }, null, 0).kind
    expect(leaving, phase).toBe(before === 'none' ? 'none' : 'release')
  }
})

test('a guest is handed over as it runs until that is not wanted any more, and whatever else is wanted stops it', () => {
  const move = { hostId: 'new', mode: 'live', atMs: 0 } as const
  const migrating = decideMove(anInstance(), move)?.next ?? anInstance()
  const cancelled = decideCancelMigration(migrating)?.next ?? migrating
  const stopping = decideStop(migrating)?.next ?? migrating
  const kinds = [migrating, cancelled, stopping].map((instance) => plan(instance, null, 0).kind)
  expect(kinds).toEqual(['migrate', 'end-migration', 'release'])
})

test('a failure is waited out, but not by a newer generation', () => {
  const creating = anInstance({ status: 'shutoff', task: 'creating', generation: 2 })
  const attempts = { generation: 2, failures: 1, refusals: 0, retryAtMs: 100 }
  expect(plan(creating, attempts, 50)).toMatchObject({ kind: 'wait', untilMs: 100 })
  expect(plan(creating, attempts, 100).kind).toBe('apply')
  expect(plan(creating, { ...attempts, generation: 1 }, 50).kind).toBe('apply')
})
