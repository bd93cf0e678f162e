// What holds of every plan, whatever the cluster: each move is checked against the plainest placement, and the
// number of moves against the fewest that trying everything finds.

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { aHost, aPool } from '../testing.ts'
import { groupsOf } from './groups.ts'
import { HostTable } from './host-table.ts'
import { placeNaively } from './naive-placement.ts'
import { planRebalance, type RebalanceInstance } from './rebalance.ts'
import type { HostCandidate } from './rules.ts'

const POLICY = { vcpuRatio: 4, memoryRatio: 1, diskRatio: 1, hostReservedMib: 0 }
const TAGS = ['affinity:a', 'anti-affinity:b', 'prefer-affinity:c', 'prefer-anti-affinity:d']
const HOST_IDS = ['a', 'b', 'c', 'd', 'e']

interface Guest {
  readonly uuid: string
  readonly instance: RebalanceInstance
  readonly hostId: string
}

interface Cluster {
  /** Empty; guests are reserved on them. */
  readonly hosts: readonly HostCandidate[]
  readonly guests: readonly Guest[]
}

function clusters(hostsMax: number, guestsMax: number, tags: readonly string[]): fc.Arbitrary<Cluster> {
  const host = fc.record({
    memoryMib: fc.constantFrom(1_000, 1_000, 2_000),
    cpus: fc.constantFrom(4, 4, 8),
    state: fc.constantFrom('up' as const, 'up' as const, 'up' as const, 'up' as const, 'down' as const),
    schedulable: fc.constantFrom(true, true, true, true, false),
    reachesPool: fc.constantFrom(true, true, true, true, false),
  })
  const guest = fc.record({
    memoryMib: fc.integer({ min: 1, max: 8 }).map((count) => 50 * count),
    vcpus: fc.integer({ min: 1, max: 4 }),
    isOff: fc.boolean(),
    stays: fc.constantFrom(null, null, null, null, 'paused'),
    hostIds: fc.oneof(
      { weight: 4, arbitrary: fc.constant([] as string[]) },
      fc.subarray(HOST_IDS.slice(0, hostsMax), { minLength: 1 }),
    ),
    tags: fc.subarray([...tags]),
    // Most on the first, or nothing would need to move.
    at: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, fc.nat(hostsMax - 1)),
  })
  return fc
    .tuple(fc.array(host, { minLength: 1, maxLength: hostsMax }), fc.array(guest, { maxLength: guestsMax }))
    .map(([hosts, guests]) => ({
      hosts: hosts.map(({ reachesPool, ...over }, index) => {
        const id = HOST_IDS[index] ?? ''
        const pools = reachesPool ? [aPool({ uuid: 'shared', shared: true })] : []
        return aHost({ id, name: id, ...over, pools })
      }),
      guests: guests.map((each, index) => {
        const { memoryMib, vcpus, isOff, stays, hostIds, tags, at } = each
        const groups = groupsOf('default', tags)
        const size = { memoryMib, vcpus, diskBytes: 0, ha: false }
        const uuid = `vm${index}`
        const instance: RebalanceInstance = {
          uuid,
          copiedMib: isOff ? 0 : memoryMib,
          stays,
          request: {
            ...size,
            hostIds,
            excludeHostIds: [],
            diskPoolUuid: 'shared',
            sharedPoolOnly: true,
            imageHome: null,
            dataDisks: [],
            cpuFeatures: [],
            groups,
          },
          reservation: {
            ...size,
            diskPoolUuid: 'shared',
            hasTask: false,
            groups: groups.map(({ key }) => key),
          },
        }
        return { uuid, instance, hostId: hosts[at] ? (HOST_IDS[at] ?? '') : 'a' }
      }),
    }))
}

function plan({ hosts, guests }: Cluster, boundPercent: number, maxMoves: number) {
  const table = HostTable.of(hosts, POLICY)
  for (const { hostId, instance } of guests) table.reserve(hostId, instance.reservation)
  const instancesOn = (id: string) =>
    guests.flatMap(({ hostId, instance }) => (hostId === id ? instance : []))
  const before = table.hosts()
  const found = planRebalance({ table, instancesOn, boundPercent, maxMoves })
  expect(table.hosts()).toEqual(before)
  return found
}

/** Where guests are, and what of memory and vCPUs is promised for those that have moved. */
class Plainly {
  readonly cluster: Cluster
  readonly at: Map<string, string>
  /** Hosts that have promised something, by guest. */
  readonly held: Map<string, readonly string[]>

  constructor(
    cluster: Cluster,
    at = new Map(cluster.guests.map(({ uuid, hostId }) => [uuid, hostId])),
    held = new Map([...at].map(([uuid, hostId]) => [uuid, [hostId] as readonly string[]])),
  ) {
    this.cluster = cluster
    this.at = at
    this.held = held
  }

  get spread(): number {
    const loads = this.cluster.hosts
      .filter(({ state, schedulable }) => state === 'up' && schedulable)
      .map(({ id, memoryMib, cpus }) => {
        const here = this.cluster.guests.filter(({ uuid }) => this.at.get(uuid) === id)
        const memory = here.reduce((sum, { instance }) => sum + instance.request.memoryMib, 0)
        const vcpus = here.reduce((sum, { instance }) => sum + instance.request.vcpus, 0)
        return Math.max(memory / memoryMib, vcpus / (cpus * POLICY.vcpuRatio))
      })
    return loads.length === 0 ? 0 : Math.round(1e9 * (Math.max(...loads) - Math.min(...loads))) / 1e9
  }

  /** The rule that forbids a move; null where it is allowed. */
  refusal(uuid: string, to: string): string | null {
    const { hosts, guests } = this.cluster
    const guest = guests.find((each) => each.uuid === uuid)
    if (!guest || guest.instance.stays !== null) return 'stays'
    const from = hosts.find(({ id }) => id === guest.hostId)
    if (from?.state !== 'up' || !from.schedulable) return 'host'
    if (this.at.get(uuid) !== guest.hostId || to === guest.hostId) return 'moves once'
    const seen = hosts.map((host): HostCandidate => {
      const held = guests.filter((each) => this.held.get(each.uuid)?.includes(host.id))
      const groups: Record<string, number> = {}
      for (const each of guests) {
        if (each.uuid === uuid || this.at.get(each.uuid) !== host.id) continue
        for (const { key } of each.instance.request.groups) groups[key] = (groups[key] ?? 0) + 1
      }
      return {
        ...host,
        groups,
        memoryMibUsed: held.reduce((sum, { instance }) => sum + instance.request.memoryMib, 0),
        vcpusUsed: held.reduce((sum, { instance }) => sum + instance.request.vcpus, 0),
      }
    })
    const refused = placeNaively(guest.instance.request, seen, POLICY).judged[to]?.rule ?? null
    if (refused !== null) return refused
    const liking = (id: string) => {
      const soft = guest.instance.request.groups.filter(({ rule }) => rule.startsWith('prefer-'))
      const members = (key: string) => seen.find((host) => host.id === id)?.groups[key] ?? 0
      return soft.reduce(
        (sum, { rule, key }) =>
          sum + (rule === 'prefer-affinity' ? Math.min(1, members(key)) : 1 / (1 + members(key))),
        0,
      )
    }
    return liking(to) < liking(guest.hostId) - 1e-9 ? 'preference' : null
  }

  after(uuid: string, to: string): Plainly {
    const held = new Map(this.held).set(uuid, [...(this.held.get(uuid) ?? []), to])
    return new Plainly(this.cluster, new Map(this.at).set(uuid, to), held)
  }
}

/** Tries everything that never makes the spread larger than it was; null where nothing brings it within the bound. */
function fewestOfAll(cluster: Cluster, bound: number, maxMoves: number): number | null {
  let level = [new Plainly(cluster)]
  const keyOf = ({ at }: Plainly) => JSON.stringify([...at])
  const seen = new Set(level.map(keyOf))
  const start = new Plainly(cluster).spread
  for (let moves = 0; moves <= maxMoves; moves++) {
    if (level.some(({ spread }) => spread <= bound)) return moves
    const next: Plainly[] = []
    for (const state of level) {
      for (const { uuid } of cluster.guests) {
        for (const { id } of cluster.hosts) {
          if (state.refusal(uuid, id) !== null) continue
          const after = state.after(uuid, id)
          if (after.spread > start || seen.has(keyOf(after))) continue
          seen.add(keyOf(after))
          next.push(after)
        }
      }
    }
    level = next
  }
  return null
}

const bounds = fc.constantFrom(1, 5, 10, 20, 40)

test('every plan keeps to the rules, to its length and to its word, and makes nothing worse', () => {
  fc.assert(
    fc.property(clusters(5, 10, TAGS), bounds, fc.integer({ min: 1, max: 6 }), (cluster, bound, maxMoves) => {
      const found = plan(cluster, bound, maxMoves)
      expect(found.moves.length).toBeLessThanOrEqual(maxMoves)
      let state = new Plainly(cluster)
      const { spread: before } = state
      for (const { instanceUuid, fromHostId, toHostId, spreadPercent } of found.moves) {
        expect(state.at.get(instanceUuid)).toBe(fromHostId)
        expect(state.refusal(instanceUuid, toHostId)).toBeNull()
        state = state.after(instanceUuid, toHostId)
        expect(state.spread).toBeLessThanOrEqual(before)
        expect(spreadPercent).toBeCloseTo(100 * state.spread, 0)
      }
      expect(found.isBalanced).toBe(state.spread <= bound / 100)
      if (found.moves.length > 0 && found.isBalanced) expect(before).toBeGreaterThan(bound / 100)
    }),
    { numRuns: 100 },
  )
})

test('a plan does not depend on the order of hosts and instances', () => {
  fc.assert(
    fc.property(clusters(5, 10, TAGS), bounds, (cluster, bound) => {
      const turned = { hosts: [...cluster.hosts].reverse(), guests: [...cluster.guests].reverse() }
      expect(plan(turned, bound, 6)).toEqual(plan(cluster, bound, 6))
    }),
  )
})

test('on small clusters no plan needs more moves than trying everything does', () => {
  fc.assert(
    fc.property(clusters(3, 5, TAGS), bounds, (cluster, bound) => {
      const fewest = fewestOfAll(cluster, bound / 100, 5)
      const { isBalanced, moves } = plan(cluster, bound, 5)
      expect(isBalanced ? moves.length : null).toBe(fewest)
    }),
    { numRuns: 300 },
  )
})
