import { expect, test } from 'vitest'
import type { HostId } from '../ids.ts'
import { assignSlots, type LeaseSlot } from './lease-slots.ts'

const hosts = (...names: string[]) => names as HostId[]
const slot = (slot: number, hostId: string, state: LeaseSlot['state'] = 'kept') => ({
  ...{ slot, hostId: hostId as HostId, state },
})

test('each gets the lowest that is free, and keeps it', () => {
  const first = assignSlots([], hosts('a', 'b', 'c'), 64)
  expect(first).toEqual([slot(0, 'a'), slot(1, 'b'), slot(2, 'c')])
  const withoutB = first.filter(({ hostId }) => hostId !== 'b')
  expect(assignSlots(withoutB, hosts('a', 'c', 'd', 'e'), 64)).toEqual([
    slot(0, 'a'),
    slot(1, 'd'),
    slot(2, 'c'),
    slot(3, 'e'),
  ])
})

test('what another may still write is nobody’s, and its own when it is back', () => {
  const taken = [slot(0, 'a', 'leaving'), slot(1, 'b', 'unconfirmed')]
  expect(assignSlots(taken, hosts('c'), 64)).toEqual([...taken, slot(2, 'c')])
  expect(assignSlots(taken, hosts('b'), 64)).toEqual([slot(0, 'a', 'leaving'), slot(1, 'b')])
})

test('who comes when all are taken gets none, and nobody loses one', () => {
  const full = assignSlots([], hosts('a', 'b', 'c'), 2)
  expect(full).toEqual([slot(0, 'a'), slot(1, 'b')])
  expect(assignSlots(full, hosts('a', 'b', 'c'), 2)).toBe(full)
})
