import { describe, expect, test } from 'vitest'
import { aHost, aPool, aRequest } from '../testing.ts'
import {
  DEFAULT_OVERCOMMIT,
  explainMisfit,
  groupsOf,
  groupTagFault,
  type HostCandidate,
  HostTable,
  type PlacementRequest,
  place,
  WHOLE_VERDICT_MAX,
} from './index.ts'

const GIB = 1024 ** 3

const tableOf = (hosts: readonly HostCandidate[]) => HostTable.of(hosts, DEFAULT_OVERCOMMIT)

/** What is said of one host: the rule that refuses it and why, or nulls. */
function judged(
  request: Partial<PlacementRequest>,
  host: Partial<HostCandidate>,
  others: HostCandidate[] = [],
) {
  const { verdict } = place(aRequest(request), tableOf([aHost(host), ...others]))
  const { rule, reason } = verdict.hosts.find(({ hostId }) => hostId === 'host') ?? {}
  return { rule: rule || null, reason: reason || null }
}

const groupKey = (tag: string) => groupsOf('default', [tag])[0]?.key ?? ''

describe('filters', () => {
  test.each([
    ['host-state', {}, { state: 'down' }, 'the host is down'],
    ['maintenance', {}, { schedulable: false }, 'the host is cordoned'],
    [null, { hostIds: ['other', 'host'] }, {}, null],
    ['host-ids', { hostIds: ['other'] }, {}, 'the host is not among the 1 allowed'],
    ['host-ids', { hostIds: ['other'] }, { state: 'down' }, 'the host is not among the 1 allowed'],
    ['excluded', { excludeHostIds: ['host'] }, {}, 'it shall not come to this host'],
    [null, { excludeHostIds: ['other'] }, {}, null],
    [null, { cpuFeatures: ['avx2'] }, {}, null],
    [null, { cpuFeatures: ['avx2'] }, { cpuFeatures: ['sse', 'avx2'] }, null],
    [
      'cpu-features',
      { cpuFeatures: ['avx2', 'sse', 'vmx'] },
      { cpuFeatures: ['sse'] },
      'its CPU does not have avx2, vmx',
    ],
    [
      'cpu-features',
      { cpuFeatures: ['a', 'b', 'c', 'd', 'e', 'f', 'g'] },
      { cpuFeatures: ['z'] },
      'its CPU does not have a, b, c, d, e and 2 more',
    ],
    [null, { imageHome: { diskPoolUuid: 'pool', hostId: 'host' } }, {}, null],
    [
      'image',
      { imageHome: { diskPoolUuid: 'pool', hostId: 'h9' } },
      {},
      'only host h9 has the image, which has no URL',
    ],
    [
      'disk-pool',
      { imageHome: { diskPoolUuid: 'p2', hostId: null } },
      {},
      'the host does not reach disk pool p2',
    ],
    [null, { dataDisks: [{ name: 'vol1', hostIds: ['host'], home: 'host h1' }] }, {}, null],
    [
      'data-disks',
      { dataDisks: [{ name: 'vol1', hostIds: ['other'], home: 'host h2' }] },
      {},
      'data disk vol1 lies on host h2',
    ],
    [null, { memoryMib: 7680 }, {}, null],
    ['memory', { memoryMib: 7681 }, {}, 'needs 7681 MiB, 7680 MiB are free'],
    ['memory', {}, { memoryMibUsed: 9000 }, 'needs 512 MiB, 0 MiB are free'],
    [null, { vcpus: 4 }, { vcpusUsed: 60 }, null],
    ['vcpus', { vcpus: 4 }, { vcpusUsed: 61 }, 'needs 4 vCPUs, 3 are free'],
    ['vcpus', { vcpus: 5 }, {}, 'needs 5 vCPUs, the host has 4 CPUs'],
    ['disk-pool', {}, { pools: [] }, 'the host has no disk pool'],
    ['disk-pool', { sharedPoolOnly: true }, {}, 'the host reaches no shared disk pool'],
    [null, { sharedPoolOnly: true }, { pools: [aPool({ shared: true })] }, null],
    ['disk-pool', { diskPoolUuid: 'p2' }, {}, 'the host does not reach disk pool p2'],
    [
      'disk-pool',
      { diskPoolUuid: 'pool' },
      { pools: [aPool({ state: 'error', fault: 'gone' })] },
      'disk pool local does not work there: gone',
    ],
    [
      'disk-pool',
      { sharedPoolOnly: true },
      { pools: [aPool({ shared: true, state: 'error', fault: 'gone' })] },
      'disk pool local does not work there: gone',
    ],
    [
      'disk-pool',
      { sharedPoolOnly: true },
      { pools: [aPool({ state: 'error', fault: 'gone' })] },
      'the host reaches no shared disk pool',
    ],
    [null, {}, { pools: [aPool({ state: 'pending', capacityBytes: 0 })] }, null],
    [null, { diskBytes: 10 * GIB }, { pools: [aPool({ reservedBytes: 90 * GIB })] }, null],
    [
      'disk-space',
      { diskBytes: 11 * GIB },
      { pools: [aPool({ reservedBytes: 90 * GIB })] },
      'needs 11.0 GiB of disk, 10.0 GiB are free',
    ],
  ] as const)('%s, %o on %o: %s', (rule, request, host, reason) => {
    expect(judged(request, host)).toEqual({ rule, reason })
  })

  test('overcommit ratios count for each resource apart', () => {
    const policy = { vcpuRatio: 1, memoryRatio: 2, diskRatio: 3, hostReservedMib: 192 }
    const host = aHost({ pools: [aPool({ reservedBytes: 290 * GIB })] })
    const fits = (request: Partial<PlacementRequest>) =>
      place(aRequest(request), HostTable.of([host], policy)).hostId !== null
    expect([fits({ vcpus: 4 }), fits({ vcpus: 5 })]).toEqual([true, false])
    expect([fits({ memoryMib: 16_000 }), fits({ memoryMib: 16_001 })]).toEqual([true, false])
    expect([fits({ diskBytes: 10 * GIB }), fits({ diskBytes: 11 * GIB })]).toEqual([true, false])
  })
})

describe('groups', () => {
  test('are the tags of four forms, of one namespace, each once', () => {
    const groups = groupsOf('default', [
      'web',
      'affinity:a',
      'anti-affinity:b',
      'prefer-affinity:c',
      'affinity:a',
    ])
    expect(groups.map(({ rule, tag }) => [rule, tag])).toEqual([
      ['affinity', 'affinity:a'],
      ['anti-affinity', 'anti-affinity:b'],
      ['prefer-affinity', 'prefer-affinity:c'],
    ])
    expect(groupsOf('other', ['affinity:a'])[0]?.key).not.toBe(groups[0]?.key)
  })

  test('a tag of their form without a name is refused', () => {
    expect(groupTagFault('anti-affinity:')).toBe(
      'tag "anti-affinity:" names no group: expected anti-affinity:<group>',
    )
    expect([groupTagFault('affinity:a'), groupTagFault('affinity'), groupTagFault('x-affinity:')]).toEqual([
      null,
      null,
      null,
    ])
  })

  const member = (tag: string, id: string) => aHost({ id, name: id, groups: { [groupKey(tag)]: 1 } })
  const among = (tag: string) => ({ groups: groupsOf('default', [tag]) })

  test('affinity is to the hosts that have a member, and to any while there is none', () => {
    expect(judged(among('affinity:a'), {})).toEqual({ rule: null, reason: null })
    expect(judged(among('affinity:a'), {}, [member('affinity:a', 'h2')])).toEqual({
      rule: 'affinity',
      reason: 'the others with tag affinity:a are elsewhere',
    })
    expect(judged(among('affinity:a'), {}, [member('affinity:b', 'h2')]).rule).toBeNull()
  })

  test('anti-affinity is to the hosts that have none', () => {
    const tag = 'anti-affinity:a'
    expect(judged(among(tag), { groups: { [groupKey(tag)]: 2 } })).toEqual({
      rule: 'anti-affinity',
      reason: 'it has an instance with tag anti-affinity:a',
    })
    expect(judged(among(tag), {}, [member(tag, 'h2')]).rule).toBeNull()
  })

  test('soft groups win against balance, and lose against room', () => {
    const near = (tag: string, host: Partial<HostCandidate>) =>
      place(aRequest(among(tag)), tableOf([{ ...member(tag, 'a'), ...host }, aHost({ id: 'b', name: 'b' })]))
        .hostId
    expect(near('prefer-affinity:a', { memoryMibUsed: 7000, vcpusUsed: 60, runningTasks: 5 })).toBe('a')
    expect(near('prefer-affinity:a', { memoryMibUsed: 7680 })).toBe('b')
    expect(near('prefer-anti-affinity:a', {})).toBe('b')
    expect(near('prefer-anti-affinity:a', { id: 'c' })).toBe('b')
  })
})

describe('placement', () => {
  test('explains a refusal by rule, with the numbers of the first host by id', () => {
    const hosts = [
      aHost({ id: 'a', name: 'h1', state: 'down' }),
      aHost({ id: 'c', name: 'h3', memoryMibUsed: 7600 }),
      aHost({ id: 'b', name: 'h2', state: 'down' }),
    ]
    expect(place(aRequest(), tableOf(hosts))).toMatchObject({
      hostId: null,
      refusal:
        'no host fits: 2 of 3 are down (h1: the host is down), 1 lack memory (h3: needs 512 MiB, 80 MiB are free)',
    })
    expect(place(aRequest(), tableOf([]))).toMatchObject({
      refusal: expect.stringContaining('no host is registered'),
    })
  })

  test('prefers the emptier host, and the roomier pool on it', () => {
    const hosts = [
      aHost({ id: 'a', memoryMibUsed: 4096 }),
      aHost({ id: 'b', pools: [aPool({ uuid: 'p1', reservedBytes: GIB }), aPool({ uuid: 'p2' })] }),
    ]
    expect(place(aRequest(), tableOf(hosts))).toMatchObject({ hostId: 'b', diskPoolUuid: 'p2' })
  })

  test('spreads HA instances, and only those', () => {
    const hosts = [
      aHost({ id: 'a', haInstances: 3, memoryMibUsed: 100 }),
      aHost({ id: 'b', memoryMibUsed: 200 }),
    ]
    expect(place(aRequest({ ha: true }), tableOf(hosts)).hostId).toBe('b')
    expect(place(aRequest(), tableOf(hosts)).hostId).toBe('a')
  })

  test('keeps the verdict on few hosts whole, the best first', () => {
    const { verdict } = place(
      aRequest(),
      tableOf([
        aHost({ id: 'a', memoryMibUsed: 4096 }),
        aHost({ id: 'b' }),
        aHost({ id: 'c', schedulable: false }),
      ]),
    )
    expect(verdict).toMatchObject({ hostsTotal: 3, hostsPassed: 2, isSummary: false })
    expect(verdict.byRule).toEqual([{ rule: 'maintenance', hosts: 1 }])
    expect(verdict.hosts.map(({ hostId, passed }) => [hostId, passed])).toEqual([
      ['b', true],
      ['a', true],
      ['c', false],
    ])
  })

  test('keeps of many hosts the counts, the best ten, and the first three that each rule refused', () => {
    const hosts = Array.from({ length: WHOLE_VERDICT_MAX + 1 }, (_, index) => {
      const id = `h${String(index).padStart(3, '0')}`
      if (index < 20) return aHost({ id, name: id, state: 'down' })
      return index < 25 ? aHost({ id, name: id, schedulable: false }) : aHost({ id, name: id })
    })
    const { verdict } = place(aRequest(), tableOf(hosts))
    expect(verdict).toMatchObject({ hostsTotal: 101, hostsPassed: 76, isSummary: true })
    expect(verdict.byRule).toEqual([
      { rule: 'host-state', hosts: 20 },
      { rule: 'maintenance', hosts: 5 },
    ])
    const ids = verdict.hosts.map(({ hostId }) => hostId)
    expect(ids.slice(0, 10)).toEqual(hosts.slice(25, 35).map(({ id }) => id))
    expect(ids.slice(10)).toEqual(['h000', 'h001', 'h002', 'h020', 'h021', 'h022'])
  })
})

describe('a size in place', () => {
  test('is judged without what the instance has, whether or not the host is cordoned', () => {
    const table = tableOf([aHost({ memoryMibUsed: 7680, schedulable: false })])
    const reservation = {
      vcpus: 0,
      memoryMib: 1000,
      diskBytes: 0,
      diskPoolUuid: 'pool',
      ha: false,
      hasTask: false,
      groups: [],
    }
    const misfit = (memoryMib: number) =>
      table.without(['host'], reservation, () => explainMisfit(aRequest({ memoryMib }), table, 'host'))
    expect(misfit(1000)).toBeNull()
    expect(misfit(1001)).toBe('needs 1001 MiB, 1000 MiB are free')
    expect(table.host('host')?.memoryMibUsed).toBe(7680)
  })

  test('may wait for a host that is down', () => {
    const table = tableOf([aHost({ state: 'down' })])
    expect(explainMisfit(aRequest(), table, 'host')).toBe('the host is down')
    expect(explainMisfit(aRequest(), table, 'host', true)).toBeNull()
  })
})
