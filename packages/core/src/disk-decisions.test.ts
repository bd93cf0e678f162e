// Goal: a disk belongs to one instance at a time, and is free only once a host has said so, whatever
// users, hosts and mishaps do in whatever order. Method: cases by hand, then random lives.

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { DiskRecord } from './disk.ts'
import {
  decideAttach,
  decideDetach,
  decideDiskDelete,
  decideDiskFailed,
  decideDiskFollows,
  decideDiskSettled,
  decideDiskUpdate,
  isWantedAttached,
  settleDiskOperations,
} from './disk-decisions.ts'
import { VpeError } from './errors.ts'
import { decideDisksChange } from './instance-decisions.ts'
import { aDisk, anInstance, anOperation } from './testing.ts'

const GIB = 1024 ** 3
const instance = anInstance({ uuid: 'vm1', name: 'web' })
const target = {
  instance,
  slot: 3,
  count: 0,
  hostIds: ['host'],
  home: 'host h1',
  holder: '',
  host: 'h1',
}
const attached = aDisk({ status: 'in-use', instanceUuid: 'vm1', slot: 1 })

describe('attaching', () => {
  test('gives a free disk to an instance', () => {
    expect(decideAttach(aDisk(), target)?.next).toMatchObject({
      status: 'attaching',
      instanceUuid: 'vm1',
      slot: 3,
    })
  })

  test('what is attached there already changes nothing', () => {
    expect(decideAttach(attached, target)).toBeNull()
    expect(decideAttach({ ...attached, status: 'attaching' }, target)).toBeNull()
  })

  test.each<[string, Partial<DiskRecord>, Partial<typeof target>, RegExp]>([
    [
      'held by another',
      { status: 'in-use', instanceUuid: 'vm2' },
      { holder: 'db' },
      /it is in-use with instance db \(vm2\); detach it first/,
    ],
    ['on its way out', { status: 'detaching', instanceUuid: 'vm1' }, { holder: 'web' }, /is detaching/],
    ['not made yet', { status: 'creating' }, {}, /is creating; wait until its operation has ended/],
    ['in error', { status: 'error' }, {}, /is error; delete it/],
    [
      'out of reach',
      { hostId: 'other' },
      { hostIds: ['other'], home: 'host h2' },
      /disk vol1 lies on host h2, and instance web is on host h1, which does not reach it/,
    ],
    ['one too many', {}, { count: 16 }, /has 16 data disks, and no room for more/],
  ])('%s: refused', (_name, disk, more, words) => {
    expect(() => decideAttach(aDisk(disk), { ...target, ...more })).toThrow(words)
  })
})

describe('what an instance does to its disks', () => {
  const settled = { ...instance, generation: 4, settledGeneration: 4 }

  test.each([
    ['attaching', 'in-use', 'vm1'],
    ['detaching', 'available', null],
    ['resizing', 'in-use', 'vm1'],
  ] as const)('at rest as it is wanted, %s is %s', (status, then, instanceUuid) => {
    const decision = decideDiskFollows({ ...attached, status }, settled)
    expect(decision?.next).toMatchObject({ status: then, instanceUuid })
  })

  test.each([
    ['at work', { task: 'updating' as const }],
    ['at rest, but not as it is wanted', { settledGeneration: 3 }],
    ['in error', { status: 'error' as const }],
  ])('%s, nothing', (_name, over) => {
    expect(decideDiskFollows({ ...attached, status: 'detaching' }, { ...settled, ...over })).toBeNull()
  })

  test.each(['attaching', 'in-use', 'detaching'] as const)('gone, %s is available', (status) => {
    const decision = decideDiskFollows({ ...attached, status }, null)
    expect(decision?.next).toMatchObject({ status: 'available', instanceUuid: null, slot: 0 })
  })

  test('gone, what was growing grows on by itself', () => {
    const growing = { ...attached, status: 'resizing' as const, sizeBytes: 2 * GIB }
    const decision = decideDiskFollows(growing, null)
    expect(decision?.next).toMatchObject({ status: 'resizing', instanceUuid: null, sizeBytes: 2 * GIB })
  })

  test('a change of disks is a wish of the instance, except where it would start what is given up', () => {
    expect(decideDisksChange(instance, '').next).toMatchObject({ task: 'updating', generation: 2 })
    const error = anInstance({ status: 'error', fault: 'too often' })
    expect(() => decideDisksChange(error, '')).toThrow(/in error \(too often\); start, stop or delete it/)
    expect(() => decideDisksChange(anInstance({ task: 'deleting' }), '')).toThrow(/deleting/)
  })
})

describe('sizes', () => {
  test('grow', () => {
    expect(decideDiskUpdate(aDisk(), { sizeBytes: 2 * GIB }, '')?.next).toMatchObject({
      status: 'resizing',
      sizeBytes: 2 * GIB,
      settledBytes: GIB,
    })
  })

  test('do not shrink, and the refusal has the figures', () => {
    expect(() => decideDiskUpdate(aDisk({ sizeBytes: 3 * GIB }), { sizeBytes: GIB }, '')).toThrow(
      'disk vol1 has 3.0 GiB and cannot shrink to 1.0 GiB: what lies beyond would be lost',
    )
  })

  test('fall back to what the host has reached when it cannot do it', () => {
    const growing = aDisk({ status: 'resizing', sizeBytes: 9 * GIB })
    expect(decideDiskFailed(growing, 'no')).toMatchObject({
      next: { status: 'available', sizeBytes: GIB, fault: '' },
      fault: 'no',
    })
  })

  test('a name changes by itself, also while something is under way', () => {
    const decision = decideDiskUpdate(aDisk({ status: 'creating' }), { name: 'b' }, '')
    expect(decision?.next).toMatchObject({ name: 'b', status: 'creating' })
    expect(decideDiskUpdate(aDisk(), { name: 'vol1', sizeBytes: GIB }, '')).toBeNull()
  })
})

describe('operations', () => {
  const outcome = (kind: string, decision: Parameters<typeof settleDiskOperations>[1]) =>
    settleDiskOperations([anOperation({ kind })], decision, 7).map(({ status, fault }) => [status, fault])[0]

  test.each([
    ['disk.create', aDisk(), ['succeeded', '']],
    ['disk.create', aDisk({ status: 'deleting' }), ['cancelled', 'the disk was deleted meanwhile']],
    ['disk.attach', attached, ['succeeded', '']],
    ['disk.attach', aDisk(), ['cancelled', 'the instance was deleted meanwhile']],
    ['disk.attach', { ...attached, status: 'attaching' }, undefined],
    [
      'disk.attach',
      { ...attached, status: 'detaching' },
      ['cancelled', 'the disk is wanted detached meanwhile'],
    ],
    ['disk.detach', { ...attached, status: 'detaching' }, undefined],
    ['disk.detach', aDisk(), ['succeeded', '']],
    ['disk.update', aDisk({ status: 'resizing' }), undefined],
    ['disk.update', attached, ['succeeded', '']],
    ['disk.update', aDisk({ status: 'error' }), ['succeeded', '']],
    ['disk.delete', aDisk({ status: 'deleting' }), undefined],
    ['disk.delete', null, ['succeeded', '']],
  ] as const)('%s', (kind, next, expected) => {
    expect(outcome(kind, { next })).toEqual(expected)
  })

  test('a detach that fails leaves the disk where it is, and its operation says why', () => {
    const decision = decideDiskFailed({ ...attached, status: 'detaching' }, 'the guest holds it')
    expect(decision?.next).toMatchObject({ status: 'in-use', instanceUuid: 'vm1' })
    expect(outcome('disk.detach', decision ?? { next: null })).toEqual(['failed', 'the guest holds it'])
  })

  test('an attach that fails is taken back, by way of the host', () => {
    const decision = decideDiskFailed({ ...attached, status: 'attaching' }, 'no such file')
    expect(decision?.next).toMatchObject({ status: 'detaching', instanceUuid: 'vm1' })
    expect(outcome('disk.attach', decision ?? { next: null })).toEqual(['failed', 'no such file'])
  })
})

describe('in random lives', () => {
  const moves = [
    'attach 1',
    'attach 2',
    'detach',
    'grow',
    'delete',
    'apply',
    'fail',
    'remove',
    'keeper',
  ] as const

  test('no domain keeps a disk that its record gives to another, or to none', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...moves), { maxLength: 60 }), (life) => {
        let disk: DiskRecord | null = aDisk()
        /** Instances whose domain has the disk. */
        const domains = new Set<string>()
        const instances = new Map(['1', '2'].map((uuid) => [uuid, anInstance({ uuid, name: uuid })]))
        for (const move of life) {
          if (!disk) break
          const holder = disk.instanceUuid === null ? undefined : instances.get(disk.instanceUuid)
          const user = (decide: () => { next: DiskRecord | null } | null) => {
            try {
              const decision = decide()
              if (decision) disk = decision.next
            } catch (error) {
              expect(error).toBeInstanceOf(VpeError)
            }
          }
          const now: DiskRecord = disk
          if (move.startsWith('attach')) {
            const wanted = instances.get(move.slice(-1))
            if (wanted) user(() => decideAttach(now, { ...target, instance: wanted }))
          } else if (move === 'detach') user(() => decideDetach(now, ''))
          else if (move === 'grow') user(() => decideDiskUpdate(now, { sizeBytes: now.sizeBytes + GIB }, ''))
          else if (move === 'delete') user(() => decideDiskDelete(now, ''))
          else if (move === 'fail') user(() => decideDiskFailed(now, 'no'))
          else if (move === 'keeper' && now.instanceUuid === null) user(() => decideDiskSettled(now))
          else if (move === 'apply' && holder) {
            if (isWantedAttached(now)) domains.add(holder.uuid)
            else domains.delete(holder.uuid)
            user(() => decideDiskFollows(now, holder))
          } else if (move === 'remove' && holder) {
            domains.delete(holder.uuid)
            user(() => decideDiskFollows(now, null))
          }
          const after = disk as DiskRecord | null
          for (const uuid of domains) expect(after?.instanceUuid).toBe(uuid)
          if (after && after.instanceUuid === null) expect(after.slot).toBe(0)
        }
      }),
      { numRuns: 1000 },
    )
  })
})
