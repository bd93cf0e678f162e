// Goal: pages are a list cut into pieces, whatever happens between two of them. Method: random lives of
// instances, with a reader that walks through the pages meanwhile.

import { type HostRecord, type InstanceRecord, VpeError } from '@vpe/core'
import { InstanceStatus, ListInstancesRequest } from '@vpe/proto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { InstanceOrder } from '../store/instance-order.ts'
import { NamedMap } from '../store/named-map.ts'
import { listInstances } from './instance-list.ts'

class Shelf {
  readonly instances = new Map<string, InstanceRecord>()
  readonly instanceOrder = new InstanceOrder()
  readonly hosts = new NamedMap<HostRecord>().set('h-1', { uuid: 'h-1', name: 'h1' } as HostRecord)

  put(uuid: string, changes: Partial<InstanceRecord> = {}): void {
    const before = this.instances.get(uuid) ?? null
    const fresh = { uuid, name: uuid, namespace: 'default', status: 'active', tags: [], hostId: 'h-1' }
    const after = { createdAtMs: 0, ...fresh, ...before, ...changes } as unknown as InstanceRecord
    this.instances.set(uuid, after)
    this.instanceOrder.replace(before, after)
  }

  remove(uuid: string): void {
    this.instanceOrder.replace(this.instances.get(uuid) ?? null, null)
    this.instances.delete(uuid)
  }

  list(request: Partial<ListInstancesRequest> = {}): string[] {
    return this.page(request).instances.map(({ uuid }) => uuid)
  }

  page(request: Partial<ListInstancesRequest> = {}) {
    return listInstances(this, ListInstancesRequest.fromPartial(request))
  }
}

const uuidOf = (number: number) => `${number.toString(16).padStart(8, '0')}-0000-4000-8000-000000000000`

/** An instance is made (with a time of creation), changed or deleted; or the reader takes its next page. */
const life = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: fc.tuple(fc.constant('put' as const), fc.nat(30), fc.nat(5)) },
    { weight: 2, arbitrary: fc.tuple(fc.constant('remove' as const), fc.nat(30), fc.constant(0)) },
    { weight: 2, arbitrary: fc.tuple(fc.constant('read' as const), fc.constant(0), fc.constant(0)) },
  ),
  { minLength: 20, maxLength: 200 },
)

describe('pages', () => {
  test('never repeat, and never leave out one that was there all the time', () => {
    fc.assert(
      fc.property(life, fc.integer({ min: 1, max: 7 }), fc.boolean(), (steps, limit, isBare) => {
        const shelf = new Shelf()
        for (let number = 0; number < 15; number++) shelf.put(uuidOf(number * 2), { createdAtMs: number % 5 })
        const survivors = new Set(shelf.instances.keys())
        const seen: string[] = []
        const gone = new Set<string>()
        let marker: string | null = ''
        const read = () => {
          if (marker === null) return
          const page = shelf.page({ limit, marker })
          seen.push(...page.instances.map(({ uuid }) => uuid))
          expect(page.instances.length).toBeLessThanOrEqual(limit)
          const last = page.instances.at(-1)?.uuid ?? ''
          // A bare uuid is as good, if that instance is not deleted before the next page.
          marker = page.nextMarker === '' ? null : isBare ? last : page.nextMarker
        }
        for (const [what, number, createdAtMs] of steps) {
          const uuid = uuidOf(number)
          if (what === 'read') read()
          else if (what === 'remove' && !(isBare && marker === uuid)) {
            shelf.remove(uuid)
            survivors.delete(uuid)
            gone.add(uuid)
          } else if (what === 'put' && !gone.has(uuid)) {
            shelf.put(uuid, shelf.instances.has(uuid) ? { status: 'error' } : { createdAtMs })
          }
        }
        while (marker !== null) read()
        expect(new Set(seen).size).toBe(seen.length)
        expect(new Set(seen)).toEqual(new Set([...seen, ...survivors]))
      }),
      { numRuns: 500 },
    )
  })

  test('are in the order of creation, and of uuids within a millisecond', () => {
    const shelf = new Shelf()
    for (const [number, createdAtMs] of [
      [3, 20],
      [2, 10],
      [1, 10],
      [4, 5],
    ] as const)
      shelf.put(uuidOf(number), { createdAtMs })
    expect(shelf.list()).toEqual([4, 1, 2, 3].map(uuidOf))
    expect(shelf.list({ limit: 2 })).toEqual([4, 1].map(uuidOf))
  })

  test('end with no marker, also when the last one is full', () => {
    const shelf = new Shelf()
    for (let number = 0; number < 4; number++) shelf.put(uuidOf(number))
    const { nextMarker } = shelf.page({ limit: 2 })
    expect(nextMarker).not.toBe('')
    expect(shelf.page({ limit: 2, marker: nextMarker }).nextMarker).toBe('')
  })

  test('are of a thousand at most', () => {
    const shelf = new Shelf()
    for (let number = 0; number < 1_001; number++) shelf.put(uuidOf(number))
    expect(shelf.list()).toHaveLength(1_000)
    expect(shelf.list({ marker: shelf.page().nextMarker })).toEqual([uuidOf(1_000)])
  })

  test('go on where a deleted one was', () => {
    const shelf = new Shelf()
    for (let number = 0; number < 4; number++) shelf.put(uuidOf(number))
    const { nextMarker } = shelf.page({ limit: 2 })
    shelf.remove(uuidOf(1))
    expect(shelf.list({ marker: nextMarker })).toEqual([2, 3].map(uuidOf))
    expect(() => shelf.list({ marker: uuidOf(1) })).toThrow(VpeError)
  })

  test.each([
    [{ limit: 1_001 }, 'limit'],
    [{ limit: -1 }, 'limit'],
    [{ marker: 'x' }, 'marker'],
    [{ marker: uuidOf(9) }, 'marker'],
    [{ host: 'h9' }, 'host'],
  ])('%j is refused', (request, field) => {
    const shelf = new Shelf()
    expect(() => shelf.list(request)).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', fields: [expect.objectContaining({ field })] }),
    )
  })
})

test('filters add up', () => {
  const shelf = new Shelf()
  shelf.put(uuidOf(1), { name: 'frontend', tags: ['a', 'b'] })
  shelf.put(uuidOf(2), { name: 'backend', tags: ['a'], status: 'shutoff' })
  shelf.put(uuidOf(3), { name: 'database', namespace: 'other', hostId: 'h-2' })
  expect(shelf.list({ nameContains: 'end' })).toEqual([1, 2].map(uuidOf))
  expect(shelf.list({ tags: ['a'] })).toEqual([1, 2].map(uuidOf))
  expect(shelf.list({ tags: ['b', 'a'] })).toEqual([uuidOf(1)])
  expect(shelf.list({ tags: ['a'], status: InstanceStatus.SHUTOFF })).toEqual([uuidOf(2)])
  expect(shelf.list({ namespace: 'other' })).toEqual([uuidOf(3)])
  expect(shelf.list({ host: 'h1' })).toEqual([1, 2].map(uuidOf))
  expect(shelf.list({ host: 'h-1', nameContains: 'front' })).toEqual([uuidOf(1)])
})
