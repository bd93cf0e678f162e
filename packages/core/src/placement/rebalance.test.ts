import { describe, expect, test } from 'vitest'
import { aHost, aPool } from '../testing.ts'
import { groupsOf } from './groups.ts'
import { HostTable } from './host-table.ts'
import { checkMove, planRebalance, type RebalanceInstance } from './rebalance.ts'
import type { HostCandidate } from './rules.ts'

const POLICY = { vcpuRatio: 16, memoryRatio: 1, diskRatio: 1, hostReservedMib: 0 }

interface Guest {
  readonly memoryMib: number
  readonly vcpus?: number
  readonly tags?: readonly string[]
  readonly hostIds?: readonly string[]
  readonly copiedMib?: number
  readonly stays?: string
}

function instance(uuid: string, { memoryMib, vcpus = 1, tags = [], ...rest }: Guest): RebalanceInstance {
  const { hostIds = [], copiedMib = memoryMib, stays = null } = rest
  const groups = groupsOf('default', tags)
  const request = {
    vcpus,
    memoryMib,
    diskBytes: 0,
    hostIds,
    excludeHostIds: [],
    diskPoolUuid: 'shared',
    sharedPoolOnly: true,
    imageHome: null,
    dataDisks: [],
    cpuFeatures: [],
    ha: false,
    groups,
  }
  const reservation = {
    vcpus,
    memoryMib,
    diskBytes: 1,
    diskPoolUuid: 'shared',
    ha: false,
    hasTask: false,
    groups: groups.map(({ key }) => key),
  }
  return { uuid, request, reservation, copiedMib, stays }
}

/** Hosts h1, h2 … of 1000 MiB each, with these guests. */
function cluster(
  guests: readonly Record<string, Guest>[],
  over: Record<string, Partial<HostCandidate>> = {},
) {
  const names = guests.map((_, index) => `h${index + 1}`)
  const pools = [aPool({ uuid: 'shared', shared: true, reservedBytes: 9 })]
  const hosts = names.map((id) => aHost({ id, name: id, memoryMib: 1_000, cpus: 8, pools, ...over[id] }))
  const table = HostTable.of(hosts, POLICY)
  const on = new Map(
    guests.map((some, i) => [names[i], Object.entries(some).map(([uuid, guest]) => instance(uuid, guest))]),
  )
  for (const [hostId, some] of on)
    for (const { reservation } of some) table.reserve(hostId ?? '', { ...reservation, diskBytes: 0 })
  return { table, instancesOn: (hostId: string) => on.get(hostId) ?? [] }
}

function plan(world: ReturnType<typeof cluster>, boundPercent = 20, maxMoves = 10) {
  const before = world.table.hosts()
  const found = planRebalance({ ...world, boundPercent, maxMoves })
  expect(world.table.hosts(), 'a plan changes nothing').toEqual(before)
  const moves = found.moves.map(
    ({ instanceUuid, fromHostId, toHostId }) => `${instanceUuid} ${fromHostId} ${toHostId}`,
  )
  return { ...found, moves, whole: found.moves }
}

const some = (count: number, guest: Guest) =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [`vm${i + 1}`, guest]))

describe('a plan', () => {
  test('moves nothing where the spread is within the bound', () => {
    const found = plan(cluster([some(2, { memoryMib: 100 }), {}]))
    expect(found).toMatchObject({
      spreadBeforePercent: 20,
      spreadAfterPercent: 20,
      moves: [],
      isBalanced: true,
    })
    expect(found.explanation).toBe('the spread of 20.0 % is within 20 %: nothing needs to move')
  })

  test('spreads what is all on one host, with no more moves than the bound needs', () => {
    const found = plan(cluster([some(6, { memoryMib: 100 }), {}, {}]))
    expect(found.moves).toEqual(['vm1 h1 h2', 'vm2 h1 h3', 'vm3 h1 h2'])
    expect(found.whole.map(({ spreadPercent }) => spreadPercent)).toEqual([50, 30, 20])
    expect(found.whole[0]?.reason).toBe('takes h1 from 60.0 to 50.0 %, h2 from 0.0 to 10.0 %')
    expect(found.explanation).toBe('3 moves take the spread from 60.0 to 20.0 %, within 20 %')
  })

  test('takes the cheapest move of those that suffice', () => {
    const guests = {
      big: { memoryMib: 300 },
      small: { memoryMib: 200 },
      off: { memoryMib: 300, copiedMib: 0 },
    }
    expect(plan(cluster([guests, some(1, { memoryMib: 300 })])).moves).toEqual(['off h1 h2'])
    const { off: _, ...on } = guests
    expect(
      plan(cluster([{ ...on, third: { memoryMib: 300 } }, { there: { memoryMib: 350 } }])).moves,
    ).toEqual(['small h1 h2'])
  })

  test('finds two moves where step by step takes three', () => {
    const guests = {
      a: { memoryMib: 260 },
      b: { memoryMib: 220 },
      c: { memoryMib: 220 },
      d: { memoryMib: 100 },
    }
    const found = plan(cluster([guests, {}, {}]), 15)
    expect(found.isBalanced).toBe(true)
    expect(found.moves).toHaveLength(2)
  })

  test('goes by vCPUs where these are scarcer', () => {
    const found = plan(cluster([some(4, { memoryMib: 10, vcpus: 8 }), {}]), 10)
    expect(found).toMatchObject({ spreadBeforePercent: 25, spreadAfterPercent: 0 })
    expect(found.moves).toHaveLength(2)
  })

  test('ends at the most moves it may make, and says so', () => {
    const found = plan(cluster([some(8, { memoryMib: 100 }), {}]), 20, 2)
    expect(found).toMatchObject({ isBalanced: false, spreadAfterPercent: 40 })
    expect(found.moves).toHaveLength(2)
    expect(found.explanation).toContain('at most 2 moves')
  })

  test('leaves what cannot move, and says how many and why', () => {
    const guests = {
      local: { memoryMib: 300, stays: 'with disks in a local pool' },
      paused: { memoryMib: 200, stays: 'paused' },
      named: { memoryMib: 100, hostIds: ['h1'] },
    }
    const found = plan(cluster([guests, {}]))
    expect(found.moves).toEqual([])
    expect(found.explanation).toBe(
      'the spread is 60.0 % then, over 20 %: h1 has the most load, 60.0 %; its instances: 1 paused, 1 that may go to no host with less load, 1 with disks in a local pool',
    )
  })

  test('does not make it worse to look busy', () => {
    const found = plan(cluster([{ huge: { memoryMib: 900 } }, { small: { memoryMib: 100 } }]))
    expect(found.moves).toEqual([])
    expect(found.explanation).toContain('1 that would make it no smaller')
  })

  test('counts no host that is down or cordoned, and moves nothing there', () => {
    const guests = [some(4, { memoryMib: 100 }), {}, {}]
    expect(plan(cluster(guests, { h2: { schedulable: false }, h3: { state: 'down' } }))).toMatchObject({
      spreadBeforePercent: 0,
      moves: [],
    })
    expect(plan(cluster(guests, { h2: { schedulable: false } })).moves).toEqual(['vm1 h1 h3'])
  })

  test('promises room on both hosts for as long as anything of it may be under way', () => {
    // h2 has 150 MiB free for the one that fits only once another has left: not in one plan.
    const world = cluster([{ a: { memoryMib: 900 } }, { b: { memoryMib: 850, hostIds: ['h2'] } }, {}])
    expect(plan(world).moves).toEqual([])
    expect(plan(cluster([some(3, { memoryMib: 300 }), {}], { h2: { memoryMib: 250 } })).moves).toEqual([])
  })
})

describe('groups', () => {
  test('anti-affinity: members never meet', () => {
    const tags = ['anti-affinity:db']
    const guests = [
      { a: { memoryMib: 500, tags }, b: { memoryMib: 400 } },
      { c: { memoryMib: 100, tags } },
      {},
    ]
    expect(plan(cluster(guests)).moves).toEqual(['b h1 h3'])
    expect(plan(cluster([{ a: { memoryMib: 500, tags } }, { c: { memoryMib: 100, tags } }])).moves).toEqual(
      [],
    )
  })

  test('affinity: members stay together', () => {
    const tags = ['affinity:web']
    const guests = { a: { memoryMib: 300, tags }, b: { memoryMib: 300, tags }, c: { memoryMib: 300 } }
    expect(plan(cluster([guests, {}]), 40).moves).toEqual(['c h1 h2'])
  })

  test('soft ones are not made unhappier', () => {
    const apart = ['prefer-anti-affinity:x']
    const guests = [{ a: { memoryMib: 400, tags: apart } }, { b: { memoryMib: 100, tags: apart } }, {}]
    expect(plan(cluster([...guests, {}]), 35).moves).toEqual([])
    const together = ['prefer-affinity:x']
    const pair = { a: { memoryMib: 300, tags: together }, b: { memoryMib: 300, tags: together } }
    expect(plan(cluster([pair, {}])).moves).toEqual([])
  })
})

describe('a planned move, when its turn comes', () => {
  const world = (
    here: Record<string, Guest> = some(6, { memoryMib: 100 }),
    there: Record<string, Guest> = {},
  ) => cluster([here, there, {}])

  function check(on: ReturnType<typeof world>, more: Partial<Parameters<typeof checkMove>[0]> = {}) {
    const before = on.table.hosts()
    const [guest] = on.instancesOn('h1')
    if (!guest) throw new Error('h1 has nothing')
    const wish = { underWay: [], fromHostId: 'h1', toHostId: 'h2', boundPercent: 20, spreadMaxPercent: 60 }
    const verdict = checkMove({ table: on.table, instance: guest, ...wish, ...more })
    expect(on.table.hosts(), 'looking changes nothing').toEqual(before)
    return verdict
  }

  test('is made while it helps', () => {
    expect(check(world())).toEqual({ kind: 'go' })
  })

  test('is needless once the spread is within the bound; what is under way has left its old host', () => {
    expect(check(world(some(2, { memoryMib: 100 })))).toEqual({
      kind: 'needless',
      why: 'the spread of 20 % is within 20 %',
    })
    const on = world(some(3, { memoryMib: 100 }))
    expect(check(on).kind).toBe('go')
    const underWay = [{ load: { vcpus: 1, memoryMib: 100 }, fromHostId: 'h1' }]
    expect(check(on, { underWay }).kind).toBe('needless')
  })

  test('is refused where it is not allowed any more, or would make things worse', () => {
    const cordoned = world()
    cordoned.table.setHost({
      ...aHost({ id: 'h2', name: 'h2', memoryMib: 1_000, cpus: 8 }),
      schedulable: false,
    })
    expect(check(cordoned)).toEqual({ kind: 'refused', why: 'host h2 does not fit any more' })
    const only = world({ vm1: { memoryMib: 300, hostIds: ['h1'] } })
    expect(check(only)).toEqual({ kind: 'refused', why: 'host h2 does not fit any more' })
    const paused = world({ vm1: { memoryMib: 300, stays: 'paused' } })
    expect(check(paused)).toEqual({ kind: 'refused', why: 'it is left where it is: paused' })
    const full = world({ vm1: { memoryMib: 100 } }, { there: { memoryMib: 600 } })
    expect(check(full)).toEqual({ kind: 'refused', why: 'it would make the spread 70 % now, over 60 %' })
    expect(check(world(), { toHostId: 'gone' })).toMatchObject({ kind: 'refused' })
  })
})

test('where there is more to do than a plan has moves, those that make it more even are made', () => {
  const found = plan(
    cluster([
      ...Array(4)
        .fill(null)
        .map((_, i) =>
          Object.fromEntries(
            Object.entries(some(6, { memoryMib: 100 })).map(([name, guest]) => [`${i}-${name}`, guest]),
          ),
        ),
      {},
      {},
    ]),
    10,
    2,
  )
  expect(found).toMatchObject({ isBalanced: false, spreadAfterPercent: 50 })
  expect(found.moves).toHaveLength(2)
})
