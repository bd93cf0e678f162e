// What holds of every placement, whatever the hosts: checked against hosts and requests at random, and against
// the plainest placement that there could be.

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { groupsOf } from './groups.ts'
import { HostTable, place } from './index.ts'
import { placeNaively } from './naive-placement.ts'
import type { HostCandidate, OvercommitPolicy, PlacementRequest, PoolCandidate } from './rules.ts'

const GIB = 1024 ** 3
const POOLS = ['p1', 'p2', 's1', 's2'] as const
const TAGS = ['affinity:a', 'anti-affinity:b', 'prefer-affinity:c', 'prefer-anti-affinity:d'] as const
const HOST_IDS = ['a', 'b', 'c', 'd', 'e', 'f', 'g'] as const

const isShared = (uuid: string) => uuid.startsWith('s')
const keyOf = (tag: string) => groupsOf('default', [tag])[0]?.key ?? ''

const policies = fc.record<OvercommitPolicy>({
  vcpuRatio: fc.constantFrom(1, 1.5, 16),
  memoryRatio: fc.constantFrom(1, 1.25),
  diskRatio: fc.constantFrom(1, 2),
  hostReservedMib: fc.constantFrom(0, 512),
})

const traits = fc.record({
  name: fc.constantFrom('h1', 'h2', 'h3'),
  state: fc.constantFrom('up', 'up', 'up', 'down'),
  schedulable: fc.constantFrom(true, true, true, false),
  cpus: fc.integer({ min: 1, max: 8 }),
  memoryMib: fc.integer({ min: 512, max: 8_192 }),
  cpuFeatures: fc.subarray(['avx', 'avx2', 'sse', 'vmx']),
})

const use = fc.record({
  vcpusUsed: fc.nat(40),
  memoryMibUsed: fc.nat(6_000),
  runningTasks: fc.nat(3),
  haInstances: fc.nat(3),
})

const poolSight = fc.record({
  state: fc.constantFrom('pending' as const, 'ready' as const, 'ready' as const, 'error' as const),
  capacityBytes: fc.constantFrom(0, 10 * GIB, 20 * GIB),
})

const slots = fc.uniqueArray(
  fc.tuple(
    fc.constantFrom(...POOLS),
    poolSight,
    fc.nat(15).map((gib) => gib * GIB),
  ),
  { selector: ([uuid]) => uuid, maxLength: 4 },
)

const groups = fc
  .uniqueArray(fc.tuple(fc.constantFrom(...TAGS), fc.integer({ min: 1, max: 3 })), {
    selector: ([tag]) => tag,
  })
  .map((members) => Object.fromEntries(members.map(([tag, count]) => [keyOf(tag), count])))

/** What is promised of a shared pool is the same, whatever host looks at it. */
const sharedReserved = fc.record({ s1: fc.nat(25), s2: fc.nat(25) })

const worlds = fc
  .tuple(
    fc.uniqueArray(fc.record({ id: fc.constantFrom(...HOST_IDS), traits, use, slots, groups }), {
      selector: ({ id }) => id,
    }),
    sharedReserved,
  )
  .map(([hosts, reserved]) =>
    hosts.map(
      ({ id, traits, use, slots, groups }): HostCandidate => ({
        id,
        ...traits,
        ...use,
        groups,
        cpuFeatures: [...traits.cpuFeatures].sort(),
        pools: slots
          .map(([uuid, sight, bytes]): PoolCandidate => {
            const reservedBytes = isShared(uuid) ? reserved[uuid as 's1' | 's2'] * GIB : bytes
            return { uuid, name: uuid, shared: isShared(uuid), fault: '', ...sight, reservedBytes }
          })
          .sort((a, b) => (a.uuid < b.uuid ? -1 : 1)),
      }),
    ),
  )

const plainRequests = fc.record({
  vcpus: fc.integer({ min: 1, max: 8 }),
  memoryMib: fc.integer({ min: 64, max: 4_096 }),
  diskBytes: fc.nat(12).map((gib) => gib * GIB),
  diskPoolUuid: fc.constantFrom(null, null, ...POOLS),
  sharedPoolOnly: fc.boolean(),
  ha: fc.boolean(),
})

const NOT_SINGLED_OUT = {
  hostIds: [],
  excludeHostIds: [],
  imageHome: null,
  dataDisks: [],
  cpuFeatures: [],
  groups: [],
} as const

const requests: fc.Arbitrary<PlacementRequest> = fc
  .tuple(
    plainRequests,
    fc.record({
      hostIds: fc.oneof(fc.constant([]), fc.subarray([...HOST_IDS])),
      excludeHostIds: fc.oneof(fc.constant([]), fc.subarray([...HOST_IDS])),
      imageHome: fc.oneof(
        { weight: 3, arbitrary: fc.constant(null) },
        fc.record({
          diskPoolUuid: fc.constantFrom(...POOLS),
          hostId: fc.constantFrom(null, ...HOST_IDS),
        }),
      ),
      dataDisks: fc.array(
        fc
          .subarray([...HOST_IDS], { minLength: 3 })
          .map((hostIds) => ({ name: 'vol', hostIds, home: 'there' })),
        { maxLength: 2 },
      ),
      cpuFeatures: fc.subarray(['avx', 'sse']),
      groups: fc.subarray([...TAGS]).map((tags) => groupsOf('default', tags)),
    }),
  )
  .map(([plain, singled]) => ({ ...plain, ...singled }))

/** Those that a table remembers, and those that it does not. */
const anyRequests = fc.oneof(
  requests,
  plainRequests.map((plain): PlacementRequest => ({ ...plain, ...NOT_SINGLED_OUT })),
)

function outcome(request: PlacementRequest, table: HostTable) {
  const result = place(request, table)
  const { verdict } = result
  return {
    hostId: result.hostId,
    diskPoolUuid: result.hostId === null ? null : result.diskPoolUuid,
    judged: Object.fromEntries(
      verdict.hosts.map(({ hostId, rule, score }) => [hostId, { rule: rule || null, score }]),
    ),
    counts: Object.fromEntries(verdict.byRule.map(({ rule, hosts }) => [rule, hosts])),
  }
}

function naiveOutcome(request: PlacementRequest, hosts: readonly HostCandidate[], policy: OvercommitPolicy) {
  const naive = placeNaively(request, hosts, policy)
  const counts: Record<string, number> = {}
  for (const { rule } of Object.values(naive.judged)) if (rule) counts[rule] = (counts[rule] ?? 0) + 1
  return { ...naive, counts }
}

describe('every placement', () => {
  test('is what the plainest placement finds, of every host', () => {
    fc.assert(
      fc.property(worlds, anyRequests, policies, (hosts, request, policy) => {
        const found = outcome(request, HostTable.of(hosts, policy))
        expect(found).toEqual(naiveOutcome(request, hosts, policy))
      }),
      { numRuns: 300 },
    )
  })

  test('keeps within capacity, the named hosts, the pools and the groups', () => {
    fc.assert(
      fc.property(worlds, anyRequests, policies, (hosts, request, policy) => {
        const result = place(request, HostTable.of(hosts, policy))
        if (result.hostId === null) return
        const chosen = hosts.find(({ id }) => id === result.hostId)
        if (!chosen) throw new Error('a host that is not there')
        if (request.hostIds.length > 0) expect(request.hostIds).toContain(chosen.id)
        expect(request.excludeHostIds).not.toContain(chosen.id)
        expect([chosen.state, chosen.schedulable]).toEqual(['up', true])
        const memory = (chosen.memoryMib - policy.hostReservedMib) * policy.memoryRatio
        expect(chosen.memoryMibUsed + request.memoryMib).toBeLessThanOrEqual(memory)
        expect(chosen.vcpusUsed + request.vcpus).toBeLessThanOrEqual(chosen.cpus * policy.vcpuRatio)
        const pool = chosen.pools.find(({ uuid }) => uuid === result.diskPoolUuid)
        expect(pool?.state).not.toBe('error')
        expect(pool?.shared || !request.sharedPoolOnly).toBe(true)
        if (request.diskPoolUuid) expect(result.diskPoolUuid).toBe(request.diskPoolUuid)
        if (pool && pool.capacityBytes > 0) {
          const total = pool.capacityBytes * policy.diskRatio
          expect(pool.reservedBytes + request.diskBytes).toBeLessThanOrEqual(total)
        }
        for (const { rule, key } of request.groups) {
          const here = chosen.groups[key] ?? 0
          if (rule === 'anti-affinity') expect(here).toBe(0)
          if (rule === 'affinity' && hosts.some((each) => each.groups[key])) expect(here).toBeGreaterThan(0)
        }
      }),
    )
  })

  test('does not depend on the order of the hosts', () => {
    fc.assert(
      fc.property(worlds, anyRequests, policies, (hosts, request, policy) => {
        const found = place(request, HostTable.of(hosts, policy))
        expect(place(request, HostTable.of([...hosts].reverse(), policy))).toEqual(found)
      }),
    )
  })

  test('does not fail for one more empty host', () => {
    fc.assert(
      fc.property(worlds, anyRequests, policies, traits, (hosts, request, policy, more) => {
        const table = HostTable.of(hosts, policy)
        if (place(request, table).hostId === null) return
        table.setHost({ id: 'z', ...more })
        expect(place(request, table).hostId).not.toBeNull()
      }),
    )
  })
})

describe('a table that is changed step by step', () => {
  type Step = (table: HostTable, world: World) => void

  /** The same hosts as plain objects, changed in the plainest way. */
  class World {
    readonly hosts = new Map<string, HostCandidate>()

    change(id: string, change: (host: HostCandidate) => Partial<HostCandidate>): void {
      const host = this.hosts.get(id)
      if (host) this.hosts.set(id, { ...host, ...change(host) })
    }

    reservedOf(uuid: string): number {
      for (const { pools } of this.hosts.values())
        for (const pool of pools) if (pool.uuid === uuid) return pool.reservedBytes
      return 0
    }

    /** Adds to what is promised of a pool: wherever it is seen, when it is shared. */
    reserve(id: string, uuid: string, bytes: number): void {
      for (const each of isShared(uuid) ? this.hosts.keys() : [id]) {
        this.change(each, ({ pools }) => ({
          pools: pools.map((pool) =>
            pool.uuid === uuid ? { ...pool, reservedBytes: pool.reservedBytes + bytes } : pool,
          ),
        }))
      }
    }

    list(): HostCandidate[] {
      return [...this.hosts.values()].sort((a, b) => (a.id < b.id ? -1 : 1))
    }
  }

  const ids = fc.constantFrom(...HOST_IDS)

  const steps: fc.Arbitrary<Step> = fc.oneof(
    fc.tuple(ids, traits).map(
      ([id, more]): Step =>
        (table, world) => {
          const host = { id, ...more, cpuFeatures: [...more.cpuFeatures].sort() }
          table.setHost(host)
          const fresh = {
            vcpusUsed: 0,
            memoryMibUsed: 0,
            runningTasks: 0,
            haInstances: 0,
            pools: [],
            groups: {},
          }
          world.hosts.set(id, { ...fresh, ...world.hosts.get(id), ...host })
        },
    ),
    ids.map(
      (id): Step =>
        (table, world) => {
          table.removeHost(id)
          world.hosts.delete(id)
        },
    ),
    fc.tuple(ids, use).map(
      ([id, sums]): Step =>
        (table, world) => {
          table.setUse(id, sums)
          world.change(id, () => sums)
        },
    ),
    fc.tuple(ids, fc.constantFrom(...POOLS), poolSight).map(
      ([id, uuid, sight]): Step =>
        (table, world) => {
          const reservedBytes = isShared(uuid)
            ? world.reservedOf(uuid)
            : (world.hosts.get(id)?.pools.find((pool) => pool.uuid === uuid)?.reservedBytes ?? 0)
          const pool = { uuid, name: uuid, shared: isShared(uuid), fault: '', ...sight, reservedBytes }
          table.setPool(id, pool)
          world.change(id, ({ pools }) => ({
            pools: [...pools.filter((each) => each.uuid !== uuid), pool].sort((a, b) =>
              a.uuid < b.uuid ? -1 : 1,
            ),
          }))
        },
    ),
    fc.tuple(ids, fc.constantFrom(...POOLS)).map(
      ([id, uuid]): Step =>
        (table, world) => {
          table.removePool(id, uuid)
          world.change(id, ({ pools }) => ({ pools: pools.filter((pool) => pool.uuid !== uuid) }))
        },
    ),
    fc.tuple(anyRequests, fc.boolean(), fc.boolean()).map(
      ([request, hasTask, goesAgain]): Step =>
        (table, world) => {
          const result = place(request, table)
          if (result.hostId === null) return
          const { hostId, diskPoolUuid } = result
          const keys = request.groups.map(({ key }) => key)
          const reservation = { ...request, diskPoolUuid, hasTask, groups: keys }
          table.reserve(hostId, reservation)
          if (goesAgain) {
            table.release(hostId, reservation)
            return
          }
          world.change(hostId, (host) => ({
            vcpusUsed: host.vcpusUsed + request.vcpus,
            memoryMibUsed: host.memoryMibUsed + request.memoryMib,
            runningTasks: host.runningTasks + (hasTask ? 1 : 0),
            haInstances: host.haInstances + (request.ha ? 1 : 0),
            groups: {
              ...host.groups,
              ...Object.fromEntries(keys.map((key) => [key, (host.groups[key] ?? 0) + 1])),
            },
          }))
          world.reserve(hostId, diskPoolUuid, request.diskBytes)
        },
    ),
  )

  test('is the same as one that is made anew, and places the same', () => {
    fc.assert(
      fc.property(
        worlds,
        policies,
        fc.array(steps, { maxLength: 25 }),
        fc.array(anyRequests, { minLength: 1, maxLength: 3 }),
        (hosts, policy, sequence, asked) => {
          const table = HostTable.of(hosts, policy)
          const world = new World()
          for (const host of hosts) world.hosts.set(host.id, host)
          for (const step of sequence) {
            step(table, world)
            expect(table.hosts()).toEqual(world.list())
            for (const request of asked) {
              expect(outcome(request, table)).toEqual(naiveOutcome(request, world.list(), policy))
            }
          }
        },
      ),
      { numRuns: 300 },
    )
  })
})
