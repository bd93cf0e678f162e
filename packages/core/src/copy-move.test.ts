// Moves that take disks along: which host has files too many at which moment, and when they are removed.

import { describe, expect, test } from 'vitest'
import { decideDiskFollows } from './disk-decisions.ts'
import { VpeError } from './errors.ts'
import type { InstanceRecord } from './instance.ts'
import {
  decideCopyFailed,
  decideDelete,
  decideMove,
  decideReleased,
  decideReport,
  decideStayed,
  decideStop,
  decideSwept,
  type InstanceDecision,
} from './instance-decisions.ts'
import { plan } from './plan.ts'
import { aDisk, anInstance, aReport } from './testing.ts'

const WISH = { hostId: 'b', atMs: 1, copyDisks: true } as const

function next(decision: InstanceDecision | null): InstanceRecord {
  if (!decision?.next) throw new Error('nothing was decided')
  return decision.next
}

const begun = (mode: 'live' | 'cold', over: Partial<InstanceRecord> = {}) =>
  next(decideMove(anInstance({ hostId: 'a', ...over }), { ...WISH, mode }))
const step = (instance: InstanceRecord) => plan(instance, null, 0)
const settled = (instance: InstanceRecord) =>
  next(
    decideReport(
      instance,
      aReport({ generation: instance.generation, power: instance.power as 'on' | 'off' }),
    ),
  )

describe('live', () => {
  test('once it has gone and is at rest there, the old files go, and not before', () => {
    const moving = begun('live')
    expect(step(moving)).toMatchObject({ kind: 'migrate' })
    const gone = next(decideReleased(moving, 40))
    expect(gone).toMatchObject({ hostId: 'b', staleCopies: ['a'] })
    expect(step(gone)).toMatchObject({ kind: 'apply' })
    const there = settled(gone)
    expect(step(there)).toMatchObject({ kind: 'sweep', hostId: 'a' })
    expect(step(next(decideSwept(there, 'a')))).toMatchObject({ kind: 'none' })
  })

  test('what its guest is reported to do before it is let go on counts for nothing', () => {
    const gone = next(decideReleased(begun('live'), 40))
    const waiting = aReport({ generation: gone.generation - 1, power: 'paused' })
    expect(decideReport(gone, waiting)).toBeNull()
  })

  test('where it stays, the half copies go', () => {
    const stayed = next(decideStayed(begun('live'), null, 'the link broke'))
    expect(stayed).toMatchObject({ hostId: 'a', leavingHostId: null, staleCopies: ['b'] })
    expect(step(stayed)).toMatchObject({ kind: 'apply' })
    expect(step(settled(stayed))).toMatchObject({ kind: 'sweep', hostId: 'b' })
  })

  test('an error on the new host removes nothing', () => {
    const gone = next(decideReleased(begun('live'), 40))
    const broken = { ...gone, task: null, status: 'error' as const }
    expect(step(broken)).toMatchObject({ kind: 'none' })
  })

  test.each([
    ['stop', decideStop],
    ['delete', decideDelete],
  ])('a %s ends the copying before it is carried out where the disks are whole', (_what, decide) => {
    const overtaken = next(decide(begun('live')))
    expect(step(overtaken)).toMatchObject({ kind: 'end-migration' })
    const stayed = next(decideStayed(overtaken, null, ''))
    expect(stayed).toMatchObject({ hostId: 'a', staleCopies: ['b'], migration: { end: 'cancelled' } })
    expect(step(stayed).kind).toBe(_what === 'stop' ? 'apply' : 'sweep')
    expect(step(next(decideSwept(stayed, 'b'))).kind).toBe(_what === 'stop' ? 'apply' : 'remove')
  })
})

describe('cold', () => {
  const off = { power: 'off', status: 'shutoff' } as const

  test('the old host lets go, then has files too many', () => {
    const moving = begun('cold', off)
    expect(step(moving)).toMatchObject({ kind: 'release' })
    const released = next(decideReleased(moving))
    expect(released).toMatchObject({ hostId: 'b', staleCopies: ['a'] })
    expect(step(settled(released))).toMatchObject({ kind: 'sweep', hostId: 'a' })
  })

  test('what cannot be copied belongs where it was, and so does its guest', () => {
    const failed = next(decideCopyFailed(begun('cold', off), 'no room'))
    expect(failed).toMatchObject({ hostId: 'a', leavingHostId: null, staleCopies: ['b'], power: 'off' })
    expect(failed.migration).toMatchObject({ end: 'failed', fault: 'no room' })
  })

  test('a plain move has nothing to fail at', () => {
    const moving = next(
      decideMove(anInstance({ hostId: 'a', ...off }), { ...WISH, mode: 'cold', copyDisks: false }),
    )
    expect(decideCopyFailed(moving, 'no room')).toBeNull()
  })

  test('called back on the way, what was copied goes', () => {
    const back = next(decideMove(begun('cold', off), { hostId: 'a', mode: 'cold', atMs: 2 }))
    expect(back).toMatchObject({ hostId: 'a', leavingHostId: null, staleCopies: ['b'] })
  })
})

test('nothing goes where an earlier copy still lies, nor elsewhere with disks that are on their way', () => {
  const stale = anInstance({ hostId: 'a', staleCopies: ['b'] })
  expect(() => decideMove(stale, { ...WISH, mode: 'live' })).toThrow(/not removed yet/)
  const moving = begun('cold', { power: 'off', status: 'shutoff' })
  expect(() => decideMove(moving, { ...WISH, hostId: 'c', mode: 'cold' })).toThrow(/on their way already/)
})

test('post-copy is for live moves of guests alone', () => {
  const wish = { hostId: 'b', atMs: 1, postCopy: true } as const
  expect(begunWith({ ...wish, mode: 'live' }).migration).toMatchObject({ postCopy: true })
  for (const refused of [
    { ...wish, mode: 'cold' },
    { ...wish, mode: 'live', copyDisks: true },
  ] as const)
    expect(() => decideMove(anInstance({ hostId: 'a' }), refused)).toThrow(VpeError)
})

const begunWith = (wish: Parameters<typeof decideMove>[1]) =>
  next(decideMove(anInstance({ hostId: 'a' }), wish))

test('a data disk of a local pool is where its guest is', () => {
  const disk = aDisk({ hostId: 'a', status: 'in-use', instanceUuid: anInstance().uuid, slot: 1 })
  const moving = begun('live')
  expect(decideDiskFollows(disk, moving)).toBeNull()
  const gone = next(decideReleased(moving, 40))
  expect(decideDiskFollows(disk, gone)?.next).toMatchObject({ hostId: 'b', status: 'in-use' })
  expect(decideDiskFollows({ ...disk, hostId: null }, gone)).toBeNull()
  expect(decideDiskFollows(disk, next(decideStayed(moving, null, 'the link broke')))).toBeNull()
})
