import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  DISK_EVENTS,
  DISK_STATUSES,
  DISK_TRANSITIONS,
  DISKS_PER_INSTANCE_MAX,
  type DiskStatus,
  diskSerial,
  diskTarget,
  nextDiskSlot,
  nextDiskStatus,
} from './disk.ts'

const WITH_INSTANCE: ReadonlySet<DiskStatus> = new Set(['attaching', 'in-use', 'detaching'])

describe('the disk transition table', () => {
  test.each(DISK_STATUSES)('%s has a cell for every event', (status) => {
    expect(Object.keys(DISK_TRANSITIONS[status]).sort()).toEqual([...DISK_EVENTS].sort())
  })

  test.each(DISK_STATUSES)('%s ends only by the word of its host, once deletion was asked for', (status) => {
    for (const event of DISK_EVENTS) {
      const isEnd = DISK_TRANSITIONS[status][event] === 'gone'
      expect(isEnd, `${status} + ${event}`).toBe(status === 'deleting' && event === 'removed')
    }
  })

  test('a disk that an instance has is neither deleted nor given to another', () => {
    for (const status of WITH_INSTANCE) {
      expect(DISK_TRANSITIONS[status].delete).toBe('refused')
      expect(DISK_TRANSITIONS[status].attach).toBe('refused')
    }
    for (const status of DISK_STATUSES) {
      if (status !== 'available') expect(DISK_TRANSITIONS[status].attach).toBe('refused')
    }
  })

  test('a disk leaves an instance only by way of its host', () => {
    for (const status of WITH_INSTANCE) {
      for (const event of DISK_EVENTS) {
        const isFreed = DISK_TRANSITIONS[status][event] === 'available'
        const isWordOfHost = event === 'freed' || (status === 'detaching' && event === 'settled')
        expect(isFreed, `${status} + ${event}`).toBe(isWordOfHost)
      }
    }
  })

  test('a larger disk comes to rest where it was', () => {
    expect(nextDiskStatus({ status: 'resizing', instanceUuid: null }, 'settled')).toBe('available')
    expect(nextDiskStatus({ status: 'resizing', instanceUuid: 'vm1' }, 'settled')).toBe('in-use')
  })
})

describe('slots', () => {
  test('are not taken twice, and one that was just left is taken last', () => {
    fc.assert(
      fc.property(fc.array(fc.boolean(), { maxLength: 200 }), (moves) => {
        const taken = new Set<number>()
        let last = 0
        for (const isAttach of moves) {
          if (!isAttach) {
            const [oldest] = taken
            if (oldest !== undefined) taken.delete(oldest)
            continue
          }
          if (taken.size === DISKS_PER_INSTANCE_MAX) continue
          const slot = nextDiskSlot(last, taken)
          expect(taken).not.toContain(slot)
          expect(slot).not.toBe(last)
          taken.add(slot)
          last = slot
        }
      }),
    )
    expect(nextDiskSlot(1, new Set())).toBe(2)
    expect(nextDiskSlot(25, new Set([1]))).toBe(2)
  })

  test('name devices beside the system disk', () => {
    expect([1, 2, 25].map(diskTarget)).toEqual(['vdb', 'vdc', 'vdz'])
    expect(() => diskTarget(0)).toThrow()
    expect(() => diskTarget(26)).toThrow()
  })

  test('serials fit into what virtio has room for', () => {
    expect(diskSerial('22c91117-08de-4894-9aa9-6ef382400985')).toBe('22c91117-08de-4894-9')
  })
})
