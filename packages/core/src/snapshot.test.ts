import { describe, expect, test } from 'vitest'
import type { InstanceRecord } from './instance.ts'
import { decideRebuild, decideRevert } from './instance-decisions.ts'
import {
  assertNoSnapshots,
  decideSnapshotCreate,
  decideSnapshotDelete,
  decideSnapshotFailed,
  decideSnapshotSettled,
  SNAPSHOT_GONE_WITH_INSTANCE,
  SNAPSHOTS_MAX,
  settleSnapshotOperations,
} from './snapshot.ts'
import { anInstance, anOperation, aSnapshot } from './testing.ts'

const fresh = { uuid: 'snapshot-2', name: 'before', createdAtMs: 5 }
const conflict = (words: string) =>
  expect.objectContaining({ code: 'CONFLICT', message: expect.stringContaining(words) })
const refusal = (work: () => unknown) => {
  try {
    work()
  } catch (error) {
    return error
  }
  throw new Error('it was not refused')
}

const BUSY = anInstance({ task: 'stopping' })
const GOING = anInstance({ task: 'deleting' })
const LOCKED = anInstance({ locked: true })

describe('a snapshot', () => {
  test.each<Partial<InstanceRecord>>([
    { status: 'active' },
    { status: 'shutoff', power: 'off' },
    { status: 'paused', power: 'paused' },
    { status: 'error' },
    { locked: true },
  ])('is made of an instance that is %j', (state) => {
    const instance = anInstance({ ...state, diskBytes: 7 })
    expect(decideSnapshotCreate(instance, [], fresh).next).toEqual({
      ...fresh,
      instanceUuid: instance.uuid,
      status: 'creating',
      fault: '',
      sizeBytes: 7,
    })
  })

  test.each([
    ['while something is being done to the instance', BUSY, 'it is stopping; wait until that has ended'],
    ['of one that goes', GOING, 'it is deleting'],
    ['of a disk that is to be made anew', anInstance({ diskGeneration: 2 }), 'still to be made anew'],
  ])('is refused %s', (_when, instance, words) => {
    expect(refusal(() => decideSnapshotCreate(instance, [], fresh))).toEqual(conflict(words))
  })

  test('needs a name of its own among those of its instance, and there are only so many', () => {
    const others = Array.from({ length: SNAPSHOTS_MAX }, (_, at) =>
      aSnapshot({ uuid: `s${at}`, name: `n${at}` }),
    )
    expect(refusal(() => decideSnapshotCreate(anInstance(), others, fresh))).toEqual(conflict('more than 32'))
    const taken = { ...fresh, name: 'n3' }
    expect(refusal(() => decideSnapshotCreate(anInstance(), others, taken))).toMatchObject({
      code: 'NAME_TAKEN',
    })
  })

  test.each([
    ['creating', 'available', 'error'],
    ['deleting', 'gone', 'deleting'],
    ['available', 'available', 'available'],
    ['error', 'error', 'error'],
  ] as const)(
    'that is %s is %s when its host has done it, and %s when that cannot be',
    (status, done, failed) => {
      const snapshot = aSnapshot({ status })
      const after = decideSnapshotSettled(snapshot)
      expect(after ? (after.next?.status ?? 'gone') : status).toBe(done)
      const broken = decideSnapshotFailed(snapshot, 'no room')
      expect(broken?.next?.status ?? status).toBe(failed)
      if (broken) expect(broken.next?.fault).toBe('no room')
    },
  )

  test('that is being made can be given up; one that is going is going', () => {
    expect(decideSnapshotDelete(anInstance(), aSnapshot({ status: 'creating' }))?.next?.status).toBe(
      'deleting',
    )
    expect(decideSnapshotDelete(anInstance(), aSnapshot({ status: 'deleting' }))).toBeNull()
  })

  test('is kept while a revert to it has not come about', () => {
    const due = { diskGeneration: 5, settledGeneration: 4, status: 'error' } as const
    const snapshot = aSnapshot()
    const instance = anInstance({ ...due, diskSnapshotUuid: snapshot.uuid })
    expect(refusal(() => decideSnapshotDelete(instance, snapshot))).toEqual(
      conflict('has not come about yet'),
    )
    expect(decideSnapshotDelete({ ...instance, diskSnapshotUuid: null }, snapshot)).not.toBeNull()
  })

  test('is kept by a lock, and while something is being done', () => {
    expect(refusal(() => decideSnapshotDelete(LOCKED, aSnapshot()))).toEqual(conflict('unlock it first'))
    expect(refusal(() => decideSnapshotDelete(BUSY, aSnapshot()))).toEqual(conflict('it is stopping'))
  })
})

describe('operations of a snapshot', () => {
  const making = anOperation({ uuid: 'making', kind: 'snapshot.create' })
  const removing = anOperation({ uuid: 'removing', kind: 'snapshot.delete' })
  test.each([
    ['is made', { next: aSnapshot({ status: 'available' }), why: '' }, { making: 'succeeded' }],
    [
      'could not be made',
      { next: aSnapshot({ status: 'error', fault: 'no' }), why: '' },
      { making: 'failed' },
    ],
    ['is to go', { next: aSnapshot({ status: 'deleting' }), why: '' }, { making: 'cancelled' }],
    ['is gone', { next: null, why: '' }, { making: 'cancelled', removing: 'succeeded' }],
    ['went with its instance', SNAPSHOT_GONE_WITH_INSTANCE, { making: 'cancelled', removing: 'succeeded' }],
  ] as const)('end when it %s', (_when, decision, expected) => {
    const ended = settleSnapshotOperations([making, removing], decision, 9)
    expect(Object.fromEntries(ended.map(({ uuid, status }) => [uuid, status]))).toEqual(expected)
    expect(ended.every(({ endedAtMs }) => endedAtMs === 9)).toBe(true)
  })
})

describe('a revert', () => {
  const snapshot = aSnapshot()
  const revert = (instance: InstanceRecord, of = snapshot, all = [of]) => decideRevert(instance, of, all)

  test('is a new content of the disk, named by its generation; wanted power stays', () => {
    expect(revert(anInstance()).next).toMatchObject({
      task: 'reverting',
      power: 'on',
      generation: 2,
      diskGeneration: 2,
      diskSnapshotUuid: snapshot.uuid,
    })
    const off = anInstance({ status: 'shutoff', power: 'off' })
    expect(revert(off).next).toMatchObject({ task: 'reverting', power: 'off' })
  })

  test('and a rebuild after it is of the image again', () => {
    const reverted = { ...anInstance(), ...revert(anInstance()).next, task: null }
    expect(decideRebuild(reverted, 'image')?.next).toMatchObject({
      diskGeneration: 3,
      diskSnapshotUuid: null,
    })
  })

  test.each([
    ['while something is being done', () => revert(BUSY), 'it is stopping'],
    ['of one that goes', () => revert(GOING), 'it is deleting'],
    ['of a paused one', () => revert(anInstance({ status: 'paused', power: 'paused' })), 'resume or stop it'],
    ['of a locked one', () => revert(LOCKED), 'unlock it first'],
    [
      'to what is not there yet',
      () => revert(anInstance(), aSnapshot({ status: 'creating' })),
      'that is creating',
    ],
    [
      'while another is being made',
      () => revert(anInstance(), snapshot, [snapshot, aSnapshot({ name: 'new', status: 'creating' })]),
      'while snapshot new is being made',
    ],
  ])('is refused %s', (_when, work, words) => {
    expect(refusal(work)).toEqual(conflict(words))
  })
})

test('what takes the disk away is refused while there are snapshots in it', () => {
  expect(refusal(() => assertNoSnapshots(anInstance(), 2, 'be rebuilt'))).toEqual(
    conflict('it has 2 snapshots'),
  )
  expect(() => assertNoSnapshots(anInstance(), 0, 'be rebuilt')).not.toThrow()
})
