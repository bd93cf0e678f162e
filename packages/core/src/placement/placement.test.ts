import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { aHost, aPool, aRequest } from '../testing.ts'
import { DEFAULT_OVERCOMMIT, FILTERS, type HostCandidate, type PlacementRequest, place } from './index.ts'

const GIB = 1024 ** 3

/** What one filter says of one host. */
function refuse(
  filter: string,
  request: Partial<PlacementRequest>,
  host: Partial<HostCandidate>,
): string | null {
  const found = FILTERS.find(({ name }) => name === filter)
  if (!found) throw new Error(`no filter ${filter}`)
  return found.refuse(aRequest(request), aHost(host), DEFAULT_OVERCOMMIT)
}

describe('filters', () => {
  test.each([
    ['host-state', {}, {}, null],
    ['host-state', {}, { state: 'down' }, 'the host is down'],
    ['host-ids', { hostIds: ['other', 'host'] }, {}, null],
    ['host-ids', { hostIds: ['other'] }, {}, 'the host is not among the 1 allowed'],
    ['data-disks', { dataDisks: [{ name: 'vol1', hostIds: ['host'], home: 'host h1' }] }, {}, null],
    [
      'data-disks',
      { dataDisks: [{ name: 'vol1', hostIds: ['other'], home: 'host h2' }] },
      {},
      'data disk vol1 lies on host h2',
    ],
    ['memory', { memoryMib: 7680 }, {}, null],
    ['memory', { memoryMib: 7681 }, {}, 'needs 7681 MiB, 7680 MiB are free'],
    ['memory', {}, { memoryMibUsed: 9000 }, 'needs 512 MiB, 0 MiB are free'],
    ['vcpus', { vcpus: 4 }, { vcpusUsed: 60 }, null],
    ['vcpus', { vcpus: 4 }, { vcpusUsed: 61 }, 'needs 4 vCPUs, 3 are free'],
    ['vcpus', { vcpus: 5 }, {}, 'needs 5 vCPUs, the host has 4 CPUs'],
    ['disk-pool', {}, { pools: [] }, 'the host has no disk pool'],
    ['disk-pool', { sharedPoolOnly: true }, {}, 'the host reaches no shared disk pool'],
    ['disk-pool', { sharedPoolOnly: true }, { pools: [aPool({ shared: true })] }, null],
    ['disk-pool', { diskPoolUuid: 'p2' }, {}, 'the host does not reach disk pool p2'],
    [
      'disk-pool',
      { diskPoolUuid: 'pool' },
      { pools: [aPool({ state: 'error', fault: 'gone' })] },
      'disk pool local does not work there: gone',
    ],
    ['disk-pool', {}, { pools: [aPool({ state: 'pending', capacityBytes: 0 })] }, null],
    ['disk-space', { diskBytes: 10 * GIB }, { pools: [aPool({ reservedBytes: 90 * GIB })] }, null],
    [
      'disk-space',
      { diskBytes: 11 * GIB },
      { pools: [aPool({ reservedBytes: 90 * GIB })] },
      'needs 11.0 GiB of disk, 10.0 GiB are free',
    ],
  ] as const)('%s, %o on %o: %s', (filter, request, host, expected) => {
    expect(refuse(filter, request, host)).toBe(expected)
  })
})

describe('placement', () => {
  test('explains a refusal by rule, with the first host’s numbers', () => {
    const hosts = [
      aHost({ id: 'a', name: 'h1', state: 'down' }),
      aHost({ id: 'b', name: 'h2', state: 'down' }),
      aHost({ id: 'c', name: 'h3', memoryMibUsed: 7600 }),
    ]
    expect(place(aRequest(), hosts)).toMatchObject({
      hostId: null,
      refusal:
        'no host fits: 2 of 3 are down (h1: the host is down), 1 lack memory (h3: needs 512 MiB, 80 MiB are free)',
    })
    expect(place(aRequest(), [])).toMatchObject({ refusal: expect.stringContaining('no host is registered') })
  })

  test('prefers the emptier host, and the roomier pool on it', () => {
    const hosts = [
      aHost({ id: 'a', memoryMibUsed: 4096 }),
      aHost({ id: 'b', pools: [aPool({ uuid: 'p1', reservedBytes: GIB }), aPool({ uuid: 'p2' })] }),
    ]
    expect(place(aRequest(), hosts)).toMatchObject({ hostId: 'b', diskPoolUuid: 'p2' })
  })

  const host = fc.record({
    id: fc.uuid(),
    name: fc.string(),
    state: fc.constantFrom('up' as const, 'up' as const, 'down' as const),
    cpus: fc.integer({ min: 1, max: 64 }),
    memoryMib: fc.integer({ min: 512, max: 65_536 }),
    vcpusUsed: fc.integer({ min: 0, max: 1024 }),
    memoryMibUsed: fc.integer({ min: 0, max: 65_536 }),
    runningTasks: fc.nat(20),
    pools: fc.array(
      fc.record({
        uuid: fc.constantFrom('p1', 'p2', 'p3'),
        name: fc.string(),
        shared: fc.boolean(),
        state: fc.constantFrom('pending' as const, 'ready' as const, 'error' as const),
        fault: fc.string(),
        capacityBytes: fc.constantFrom(0, 10 * GIB, 1000 * GIB),
        reservedBytes: fc.integer({ min: 0, max: 1000 }).map((gib) => gib * GIB),
      }),
      { maxLength: 3 },
    ),
  })
  const request = fc.record({
    vcpus: fc.integer({ min: 1, max: 32 }),
    memoryMib: fc.integer({ min: 64, max: 32_768 }),
    diskBytes: fc.integer({ min: 0, max: 100 }).map((gib) => gib * GIB),
    hostIds: fc.constant<string[]>([]),
    diskPoolUuid: fc.constantFrom(null, 'p1', 'p2'),
    sharedPoolOnly: fc.boolean(),
    dataDisks: fc.constant([]),
  })
  const hosts = fc.uniqueArray(host, { selector: ({ id }) => id, maxLength: 12 })

  test('never exceeds capacity, leaves the named hosts, or picks a pool that is not there', () => {
    fc.assert(
      fc.property(request, hosts, fc.nat(), (wish, all, pick) => {
        const allowed = all.filter((_each, index) => (pick >> index) & 1).map(({ id }) => id)
        const result = place({ ...wish, hostIds: allowed }, all)
        if (result.hostId === null) return
        const chosen = all.find(({ id }) => id === result.hostId)
        if (!chosen) throw new Error('a host that is not there')
        if (allowed.length > 0) expect(allowed).toContain(chosen.id)
        expect(chosen.state).toBe('up')
        expect(chosen.memoryMibUsed + wish.memoryMib).toBeLessThanOrEqual(chosen.memoryMib - 512)
        expect(chosen.vcpusUsed + wish.vcpus).toBeLessThanOrEqual(chosen.cpus * 16)
        const pool = chosen.pools.find(
          ({ uuid, shared, state }) =>
            uuid === result.diskPoolUuid && state !== 'error' && (shared || !wish.sharedPoolOnly),
        )
        expect(pool).toBeDefined()
        if (wish.diskPoolUuid) expect(result.diskPoolUuid).toBe(wish.diskPoolUuid)
      }),
    )
  })

  test('does not depend on the order of the hosts, and one more empty host never makes it fail', () => {
    fc.assert(
      fc.property(request, hosts, (wish, all) => {
        const result = place(wish, all)
        expect(place(wish, [...all].reverse()).hostId).toBe(result.hostId)
        if (result.hostId !== null)
          expect(place(wish, [...all, aHost({ id: 'z', pools: [] })]).hostId).not.toBeNull()
      }),
    )
  })

  test('is what a naive search over all hosts finds', () => {
    fc.assert(
      fc.property(request, hosts, (wish, all) => {
        const fitting = all.filter((each) =>
          FILTERS.every((filter) => !filter.refuse(wish, each, DEFAULT_OVERCOMMIT)),
        )
        expect(place(wish, all).hostId === null).toBe(fitting.length === 0)
      }),
    )
  })
})
