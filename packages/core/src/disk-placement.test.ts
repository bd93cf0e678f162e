import { describe, expect, test } from 'vitest'
import { type DiskHome, placeDisk } from './disk-placement.ts'
import { DEFAULT_OVERCOMMIT } from './placement/index.ts'
import { aPool } from './testing.ts'

const GIB = 1024 ** 3
const aHome = (over: Partial<DiskHome> = {}): DiskHome => ({
  ...aPool(),
  hostId: 'host',
  hostName: 'h1',
  isHostUp: true,
  ...over,
})
const place = (sizeGib: number, homes: readonly DiskHome[]) =>
  placeDisk(sizeGib * GIB, homes, DEFAULT_OVERCOMMIT)

describe('a new disk', () => {
  test('goes where the most room is', () => {
    const homes = [aHome({ hostId: 'a', reservedBytes: GIB }), aHome({ hostId: 'b' }), aHome({ hostId: 'c' })]
    expect(place(1, homes)).toEqual({ diskPoolUuid: 'pool', hostId: 'b' })
    expect(place(1, [...homes].reverse())).toEqual({ diskPoolUuid: 'pool', hostId: 'b' })
  })

  test('lies on no host in a shared pool', () => {
    expect(place(1, [aHome({ shared: true })])).toEqual({ diskPoolUuid: 'pool', hostId: null })
  })

  test('goes nowhere where nothing is ready, and the refusal says what is', () => {
    const homes = [
      aHome({ isHostUp: false }),
      aHome({ hostName: 'h2', state: 'error', fault: 'the folder is gone' }),
      aHome({ hostName: 'h3', state: 'pending' }),
    ]
    expect(() => place(1, homes)).toThrow(
      'no disk pool is ready for the disk (disk pool local on host h1: the host is down; disk pool local on host h2: the folder is gone; disk pool local on host h3: pending)',
    )
    expect(() => place(1, [])).toThrow('there is none')
  })

  test('is refused where it does not fit, with the figures', () => {
    expect(() => place(31, [aHome({ reservedBytes: 70 * GIB })])).toThrow(
      'disk pool local on host h1 has 30.0 GiB of 100.0 GiB left, and 31.0 GiB are needed',
    )
  })
})
