// What would become of a host's instances: by example, and what holds of it whatever the hosts.

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { groupsOf, HostTable, type OvercommitPolicy } from '../placement/index.ts'
import { aHost, aPool, aRequest } from '../testing.ts'
import type { HostPool } from './host-watch.ts'
import { PRIORITIES, type Priority } from './recovery.ts'
import { HA_PROFILES } from './timings.ts'
import { fencingMs, judgeNPlusOne, type WhatIfInstance, whatIfLost } from './what-if.ts'

const EXACT: OvercommitPolicy = { vcpuRatio: 1, memoryRatio: 1, diskRatio: 1, hostReservedMib: 0 }
const SHARED = aPool({ uuid: 's1', name: 'nfs', shared: true })
const timings = HA_PROFILES.default

const pool = (over: Partial<HostPool> = {}): HostPool => ({
  pool: 's1',
  poolClass: 'E',
  canUnmount: true,
  canRevoke: false,
  ...over,
})

function anInstance(uuid: string, over: Partial<WhatIfInstance> & { memoryMib?: number } = {}) {
  const { memoryMib = 1_024, ...more } = over
  return {
    uuid,
    name: uuid,
    priority: 'medium',
    request: aRequest({ memoryMib, diskBytes: 0, sharedPoolOnly: true, diskPoolUuid: 's1', ha: true }),
    reservation: {
      vcpus: 1,
      memoryMib,
      diskBytes: 1024 ** 3,
      diskPoolUuid: 's1',
      ha: true,
      hasTask: false,
      groups: [],
    },
    pools: [pool()],
    stays: null,
    reservedOn: null,
    ...more,
  } satisfies WhatIfInstance
}

/** Hosts with so much memory each; the instances are on the first. */
function cluster(memory: readonly number[], instances: readonly WhatIfInstance[]): HostTable {
  const table = HostTable.of(
    memory.map((memoryMib, index) =>
      aHost({ id: `h${index}`, name: `h${index}`, cpus: 64, memoryMib, pools: [SHARED] }),
    ),
    EXACT,
  )
  for (const { reservation } of instances) table.reserve('h0', reservation)
  return table
}

const lose = (table: HostTable, instances: readonly WhatIfInstance[], canPowerOff = false) =>
  whatIfLost({ hostId: 'h0', table, instances, canPowerOff, timings })

describe('whatIfLost', () => {
  test('the last place goes to the one of higher priority, and the others are told why there is none', () => {
    const instances = [
      anInstance('a', { priority: 'low' }),
      anInstance('b', { priority: 'system' }),
      anInstance('c', { priority: 'high', memoryMib: 4_096 }),
    ]
    const table = cluster([8_192, 1_500, 1_024], instances)
    const fates = lose(table, instances)
    expect(fates.map(({ uuid, hostId }) => [uuid, hostId])).toEqual([
      ['b', 'h1'],
      ['c', null],
      ['a', 'h2'],
    ])
    expect(fates.map(({ outcome }) => outcome)).toEqual(['starts', 'no-room', 'starts'])
    expect(fates[1]?.why).toMatch(/^no host fits: .*needs 4096 MiB/)
  })

  test('what has disks of its host, or waits for a person, says so', () => {
    const instances = [
      anInstance('a', { stays: 'its disk root lies in a pool of this host alone', pools: [] }),
      anInstance('b', { pools: [pool({ poolClass: 'N' })] }),
    ]
    const [a, b] = lose(cluster([8_192, 8_192], instances), instances)
    expect(a).toMatchObject({
      outcome: 'stays',
      hostId: null,
      poolClass: null,
      why: expect.stringContaining('root'),
    })
    expect(b).toMatchObject({
      outcome: 'by-hand',
      hostId: 'h1',
      expectedMs: null,
      why: expect.stringContaining('confirm'),
    })
  })

  test('one that is on its way to a host has its place there', () => {
    const instances = [anInstance('a', { reservedOn: 'h1' })]
    expect(lose(cluster([8_192, 0], instances), instances)).toMatchObject([{ hostId: 'h1' }])
  })

  test('those that start on one host start one after another', () => {
    const instances = [anInstance('a'), anInstance('b'), anInstance('c')]
    const fates = lose(cluster([8_192, 8_192], instances), instances)
    expect(fates.map(({ expectedMs }) => expectedMs)).toEqual([25_000, 25_000, 26_000])
  })

  test('members of a group that were lost together keep nobody away from each other', () => {
    const groups = groupsOf('default', ['affinity:db'])
    const grouped = (uuid: string) => {
      const { request, reservation, ...rest } = anInstance(uuid)
      const keys = groups.map(({ key }) => key)
      return { ...rest, request: { ...request, groups }, reservation: { ...reservation, groups: keys } }
    }
    const instances = [grouped('a'), grouped('b')]
    const fates = lose(cluster([8_192, 4_096, 4_096], instances), instances)
    expect(new Set(fates.map(({ hostId }) => hostId)).size).toBe(1)
    expect(fates[0]?.hostId).not.toBeNull()
  })
})

test('the time is that of the quickest proof for the slowest pool', () => {
  const ms = (pools: HostPool[], canPowerOff = false) => fencingMs(pools, canPowerOff, timings)
  expect(ms([pool({ canRevoke: true })])).toBe(14_000)
  expect(ms([pool()])).toBe(25_000)
  expect(ms([pool({ poolClass: 'T' })])).toBe(58_000)
  expect(ms([pool({ poolClass: 'T' })], true)).toBe(25_000)
  expect(ms([pool({ canRevoke: true }), pool({ poolClass: 'T' })])).toBe(58_000)
  expect(ms([pool({ poolClass: 'N', canRevoke: true })])).toBeNull()
  expect(ms([pool({ poolClass: 'N' })], true)).toBe(25_000)
  expect(fencingMs([pool({ poolClass: 'T' })], false, HA_PROFILES.fast)).toBe(28_500)
})

test('the worst host is the one that would leave most', () => {
  const [fate] = lose(cluster([0, 0], []), [anInstance('a')])
  const left = fate ? [fate] : []
  expect(judgeNPlusOne([{ hostId: 'a', left: [] }])).toEqual({ survives: true, worst: null, hostsAtRisk: 0 })
  const hosts = [
    { hostId: 'c', left },
    { hostId: 'b', left },
    { hostId: 'd', left: [...left, ...left] },
  ]
  expect(judgeNPlusOne(hosts)).toMatchObject({ survives: false, worst: { hostId: 'd' }, hostsAtRisk: 3 })
  expect(judgeNPlusOne(hosts.slice(0, 2)).worst?.hostId).toBe('b')
})

describe('whatever the hosts', () => {
  const worlds = fc.record({
    memory: fc.array(fc.integer({ min: 0, max: 6_000 }), { minLength: 1, maxLength: 5 }),
    instances: fc
      .array(
        fc.record({
          memoryMib: fc.integer({ min: 64, max: 2_048 }),
          priority: fc.constantFrom<Priority>(...PRIORITIES),
          stays: fc.constantFrom(null, null, null, 'it stays'),
        }),
        { maxLength: 12 },
      )
      .map((some) => some.map((each, index) => anInstance(`i${index}`, each))),
  })

  test('nobody is placed over capacity, or on the lost host; the order is that of priority', () => {
    fc.assert(
      fc.property(worlds, ({ memory, instances }) => {
        const table = cluster(memory, instances)
        const fates = lose(table, instances)
        expect(fates.map(({ uuid }) => uuid).sort()).toEqual(instances.map(({ uuid }) => uuid).sort())
        const ranks = fates.map(({ priority }) => PRIORITIES.indexOf(priority))
        expect(ranks).toEqual([...ranks].sort((a, b) => a - b))
        for (const [index, total] of memory.entries()) {
          const taken = fates
            .filter(({ hostId }) => hostId === `h${index}`)
            .map(({ uuid }) => instances.find((each) => each.uuid === uuid)?.reservation.memoryMib ?? 0)
          if (index === 0) expect(taken).toEqual([])
          else expect(taken.reduce((sum, each) => sum + each, 0)).toBeLessThanOrEqual(total)
        }
        for (const { hostId, why } of fates) expect(hostId === null ? why : '-').not.toBe('')
      }),
    )
  })

  test('the table is as it was, and to ask again gives the same', () => {
    fc.assert(
      fc.property(worlds, ({ memory, instances }) => {
        const table = cluster(memory, instances)
        const before = table.hosts()
        const fates = lose(table, instances)
        expect(table.hosts()).toEqual(before)
        expect(lose(table, instances)).toEqual(fates)
      }),
    )
  })

  test('one of higher priority never goes without because of one of lower', () => {
    fc.assert(
      fc.property(worlds, ({ memory, instances }) => {
        const table = cluster(memory, instances)
        const highest = instances.filter(({ priority }) => priority === 'system')
        const alone = lose(table, highest)
        const among = lose(table, instances).filter(({ priority }) => priority === 'system')
        const placed = (fates: typeof among) => fates.map(({ uuid, hostId }) => [uuid, hostId !== null])
        expect(placed(among)).toEqual(placed(alone))
      }),
    )
  })
})
