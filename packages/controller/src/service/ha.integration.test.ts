// What people see and say of high availability, over gRPC and real records, with a keeper in memory.

import { Metadata } from 'nice-grpc'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Failover } from '../ha/ports.ts'
import { FakeAgent } from '../testing/fake-agent.ts'
import { Harness, refusal, until } from '../testing/harness.ts'
import { aHostPool, aKeptInstance, aWatchedHost, MemoryHa } from '../testing/memory-ha.ts'

let agents: FakeAgent[]
let harness: Harness
let ha: MemoryHa

beforeEach(async () => {
  agents = [await FakeAgent.start(), await FakeAgent.start()]
  ha = new MemoryHa()
  harness = new Harness()
  harness.haView = ha
  await harness.start()
  const [first, second] = agents as [FakeAgent, FakeAgent]
  second.markers = first.markers
  await harness.furnish(first)
  await harness.client.createDiskPool({ name: 'shared', kind: 'dir', path: '/shared', shared: true })
})
afterEach(async () => {
  await harness[Symbol.asyncDispose]()
  for (const agent of agents) agent.stop()
})

/** What the outbox says has happened, newest last: without a bus nothing leaves it. */
async function events(what: string) {
  const all = await harness.store.backend.readOutbox(0, 1_000)
  return all.map(({ event }) => event).filter((event) => event.what === what)
}

async function addHost(): Promise<string> {
  const { host } = await harness.client.createHost({ name: 'h2', address: agents[1]?.address ?? '' })
  await until('the pools are ready everywhere', () =>
    [...harness.store.diskPools.values()].every(
      ({ hosts }) => hosts.length === 2 && hosts.every(({ state }) => state === 'ready'),
    ),
  )
  return host?.uuid ?? ''
}

async function create(name: string, more: object = {}): Promise<string> {
  const wish = { name, flavor: 'tiny', image: 'demo', diskPool: 'shared', ha: true, ...more }
  const { instance } = await harness.client.createInstance(wish)
  await harness.atRest(instance?.uuid ?? '')
  return instance?.uuid ?? ''
}

const firstHost = () => harness.store.hosts.findByName('h1')?.uuid ?? ''
const sharedPool = () => harness.store.diskPools.findByName('shared')?.uuid ?? ''

test('wishes for recovery are kept, changed without a new generation, and refused where they are none', async () => {
  const uuid = await create('vm1', { haPriority: 'system' })
  const before = await harness.instance(uuid)
  expect(before).toMatchObject({ haPriority: 'system', haIsolation: 'leave' })
  await harness.client.updateInstance({ uuid, haPriority: 'low', haIsolation: 'restart' })
  const after = await harness.instance(uuid)
  expect(after).toMatchObject({ haPriority: 'low', haIsolation: 'restart', generation: before.generation })
  const wrong = await refusal(harness.client.updateInstance({ uuid, haPriority: 'urgent' }))
  expect(wrong).toMatchObject({ code: 'INVALID_ARGUMENT', fields: [{ field: 'ha_priority' }] })
  await harness.stop()
  await harness.start()
  expect(await harness.instance(uuid)).toMatchObject({ haPriority: 'low', haIsolation: 'restart' })
})

describe('what people say', () => {
  test('a confirmation reaches the keeper once, and is an event with who gave it', async () => {
    const uuid = firstHost()
    ha.watched.set(uuid, aWatchedHost(uuid, { phase: 'stale' }))
    const metadata = Metadata({ 'idempotency-key': 'k1' })
    const first = await harness.client.confirmFenced({ uuid, who: 'ann' }, { metadata })
    expect(await harness.client.confirmFenced({ uuid, who: 'ann' }, { metadata })).toEqual(first)
    expect(ha.confirmed).toEqual([{ hostId: uuid, who: 'ann' }])
    expect(await events('fence_confirmed')).toMatchObject([
      { kind: 'host', id: uuid, data: { name: 'h1', who: 'ann', operation_uuid: first.operationUuid } },
    ])
  })

  test('what the keeper refuses leaves no event behind', async () => {
    const uuid = firstHost()
    ha.watched.set(uuid, aWatchedHost(uuid))
    expect((await refusal(harness.client.confirmFenced({ uuid, who: 'ann' }))).code).toBe('CONFLICT')
    expect((await refusal(harness.client.confirmFenced({ uuid, who: '' }))).code).toBe('INVALID_ARGUMENT')
    expect((await refusal(harness.client.confirmFenced({ uuid: 'x', who: 'ann' }))).code).toBe('NOT_FOUND')
    expect(await events('fence_confirmed')).toEqual([])
  })

  test('cluster, host and instance are disarmed for a while, and armed again', async () => {
    const instanceUuid = await create('vm1')
    const hostId = firstHost()
    ha.watched.set(hostId, aWatchedHost(hostId))
    ha.kept.set(instanceUuid, aKeptInstance(instanceUuid, hostId))
    const more = { minutes: 30, who: 'ann', why: 'new switch' }
    const scopes = [
      { hostId: '', instanceUuid: '' },
      { hostId, instanceUuid: '' },
      { hostId: '', instanceUuid },
    ]
    for (const scope of scopes) await harness.client.disarmHa({ scope, ...more })
    const shown = await harness.client.getHa({})
    expect(shown.armed).toBe(false)
    expect(shown.disarms).toMatchObject([
      { hostId: '', instanceUuid: '', who: 'ann', why: 'new switch' },
      { hostId, hostName: 'h1' },
      { instanceUuid, instanceName: 'vm1' },
    ])
    const { host } = await harness.client.getHost({ uuid: hostId })
    expect(host?.recovery?.disarmedUntilMs).toBeGreaterThan(Date.now())
    expect((await harness.instance(instanceUuid)).recovery?.disarmedUntilMs).toBeGreaterThan(Date.now())
    for (const scope of scopes) await harness.client.armHa({ scope, who: 'ann' })
    await harness.client.armHa({ who: 'ann' })
    expect(await harness.client.getHa({})).toMatchObject({ armed: true, disarms: [] })
    expect((await events('disarmed')).map(({ kind }) => kind)).toEqual(['ha'])
    expect((await events('ha_disarmed')).map(({ kind, id }) => [kind, id])).toEqual([
      ['host', hostId],
      ['instance', instanceUuid],
    ])
    expect(await events('armed')).toHaveLength(1)
    expect(await events('ha_armed')).toHaveLength(2)
    const { text } = await harness.client.getControllerMetrics({})
    expect(text).toContain('vpe_ha_disarms_total{scope="host"} 1')
  })

  test('a disarm names its end, who, why, and one thing', async () => {
    const good = { minutes: 1, who: 'ann', why: 'x' }
    for (const [wrong, field] of [
      [{ ...good, minutes: 0 }, 'minutes'],
      [{ ...good, minutes: 1_441 }, 'minutes'],
      [{ ...good, who: '' }, 'who'],
      [{ ...good, why: '' }, 'why'],
      [{ ...good, scope: { hostId: 'a', instanceUuid: 'b' } }, 'scope'],
    ] as const)
      expect((await refusal(harness.client.disarmHa(wrong))).fields).toMatchObject([{ field }])
    expect(ha.disarms()).toEqual([])
  })
})

test('hosts and instances show what the keeper believes of them, and why', async () => {
  const uuid = await create('vm1')
  const hostId = firstHost()
  const heardMs = performance.now() - 60_000
  const proof = { kind: 'revoked', hostId, bootId: 'boot', pool: sharedPool() } as const
  const proofs = [{ ...proof, uuid: null, generation: null, atMs: performance.now(), why: 'confirmed' }]
  const sighting = { kind: 'unknown', why: 'it was restarted', isPoolHealthy: true } as const
  const sightings = [{ observer: hostId, pool: sharedPool(), sighting, atMs: performance.now() }]
  const pools = [aHostPool(sharedPool())]
  ha.watched.set(
    hostId,
    aWatchedHost(hostId, { phase: 'stale', why: 'not heard', heardMs, pools, proofs, sightings }),
  )
  ha.kept.set(uuid, aKeptInstance(uuid, hostId, { state: 'lost', why: 'its host', generation: 3, pools }))
  const { hosts } = await harness.client.listHosts({})
  expect(hosts[0]?.recovery).toMatchObject({
    ...{ phase: 'stale', why: 'not heard', pools: [{ name: 'shared', poolClass: 'E', canRevoke: true }] },
    sightings: [{ observerName: 'h1', diskPoolName: 'shared', kind: 'unknown', why: 'it was restarted' }],
    proofs: [{ kind: 'revoked', diskPoolName: 'shared', why: 'confirmed' }],
  })
  expect(Math.abs((hosts[0]?.recovery?.heardMs ?? 0) - (Date.now() - 60_000))).toBeLessThan(10_000)
  expect((await harness.instance(uuid)).recovery).toMatchObject({
    ...{ state: 'lost', why: 'its host', generation: 3, hostName: 'h1' },
  })
  expect(await harness.client.getHa({})).toMatchObject({
    hosts: expect.arrayContaining([{ word: 'stale', count: 1 }]),
    instances: expect.arrayContaining([{ word: 'lost', count: 1 }]),
    profile: 'default',
  })
})

test('failovers are listed, of all or of one instance, and counted once they have ended', async () => {
  const uuid = await create('vm1')
  const hostId = firstHost()
  ha.kept.set(uuid, aKeptInstance(uuid, hostId, { pools: [aHostPool(sharedPool())] }))
  const times = {
    lastHeardMs: 1_000,
    suspectedMs: 11_000,
    provenMs: 15_000,
    placedMs: 15_000,
    runningMs: null,
  }
  const failover: Failover = {
    ...{ uuid, instanceName: 'vm1', generation: 2, fromHostId: 'gone', toHostId: hostId, why: 'lost' },
    clock: { ...times, provenBy: ['revoked'] },
    proofs: [{ kind: 'revoked', why: 'the storage confirmed it' }],
    answeredMs: null,
  }
  ha.ended.push(failover)
  const text = async () => (await harness.client.getControllerMetrics({})).text
  expect(await text()).not.toContain('vpe_ha_failover_seconds_count')
  ha.ended[0] = { ...failover, clock: { ...failover.clock, runningMs: 18_500 } }
  for (let time = 0; time < 2; time++)
    expect(await text()).toContain(
      'vpe_ha_failover_seconds_sum{phase="total",proof="revoked",pool_class="E"} 17.5\n',
    )
  const { failovers } = await harness.client.listFailovers({ instanceUuid: uuid })
  expect(failovers).toMatchObject([
    { instanceUuid: uuid, toHostName: 'h1', runningMs: 18_500, answeredMs: 0, proofs: [{ kind: 'revoked' }] },
  ])
  const nobody = await refusal(harness.client.listFailovers({ instanceUuid: 'x' }))
  expect(nobody.code).toBe('NOT_FOUND')
})

test('verdicts and holds are counted once each', async () => {
  const uuid = firstHost()
  const text = async () => (await harness.client.getControllerMetrics({})).text
  const verdict = { bootId: 'boot', madeMs: 1, pools: [], evidence: [] }
  for (const host of [
    aWatchedHost(uuid, { phase: 'hold' }),
    aWatchedHost(uuid, { phase: 'hold', why: 'still' }),
    aWatchedHost(uuid, { phase: 'stale', verdict }),
    aWatchedHost(uuid, { phase: 'fenced', verdict: { ...verdict } }),
  ]) {
    ha.watched.set(uuid, host)
    await text()
  }
  expect(await text()).toContain('vpe_ha_verdicts_total 1\n')
  expect(await text()).toContain('vpe_ha_holds_total 1\n')
  expect(await text()).toContain('vpe_ha_hosts{phase="fenced"} 1')
})

test('what if a host were lost: each of its instances with where, when, or why not', async () => {
  const [plain, local] = [
    await create('vm1', { haPriority: 'low' }),
    await create('vm2', { diskPool: 'local' }),
  ]
  await create('not-ha', { ha: false })
  const hostId = firstHost()
  const alone = await harness.client.whatIfHostLost({ uuid: hostId })
  expect(alone.instances.map(({ outcome }) => outcome)).toEqual(['stays', 'no-room'])
  const other = await addHost()
  ha.watched.set(hostId, aWatchedHost(hostId, { pools: [aHostPool(sharedPool())] }))
  const before = JSON.stringify(harness.store.usage.ofHost(other))
  const found = await harness.client.whatIfHostLost({ uuid: hostId })
  expect(found).toMatchObject({
    survives: false,
    instances: [
      { uuid: local, outcome: 'stays', hostId: '', why: expect.stringContaining('disk pool local') },
      { uuid: plain, outcome: 'starts', hostName: 'h2', expectedMs: 14_000, poolClass: 'E', priority: 'low' },
    ],
  })
  expect(await harness.client.whatIfHostLost({ uuid: hostId })).toEqual(found)
  expect(JSON.stringify(harness.store.usage.ofHost(other))).toBe(before)
})

test('N+1 is looked at again when something changes, and told of when it turns', async () => {
  await create('vm1')
  const survives = (wanted: boolean) =>
    until(`n+1 is ${wanted}`, async () => {
      const { nPlusOne } = await harness.client.getHa({})
      return nPlusOne?.known === true && nPlusOne.survives === wanted
    })
  await survives(false)
  expect((await harness.client.getHa({})).nPlusOne).toMatchObject({
    ...{ worstHostName: 'h1', hostsAtRisk: 1, left: [{ name: 'vm1', outcome: 'no-room' }] },
    why: expect.stringContaining('without host h1, 1 highly available instance(s) would have no room'),
  })
  // Of one host alone that is no news.
  expect(await events('n_plus_one_lost')).toEqual([])
  const other = await addHost()
  await survives(true)
  await harness.client.cordonHost({ uuid: other })
  await survives(false)
  await harness.client.uncordonHost({ uuid: other })
  await survives(true)
  expect(await events('n_plus_one_lost')).toMatchObject([
    { kind: 'ha', data: { host: 'h1', left_total: 1, left: [{ name: 'vm1' }] } },
  ])
  expect(await events('n_plus_one_regained')).toHaveLength(1)
  expect((await harness.client.getControllerMetrics({})).text).toContain('vpe_ha_n_plus_one 1')
})

test('where it is enforced, what would not fit without the largest host is refused', async () => {
  await addHost()
  await harness.stop()
  harness.failoverPolicy = { hosts: 1, mode: 'enforce' }
  await harness.start()
  const { memoryMibAllocatable } = (await harness.client.listHosts({ name: 'h1' })).hosts[0] ?? {
    memoryMibAllocatable: 0,
  }
  const memoryMib = Math.floor(memoryMibAllocatable * 0.6)
  await harness.client.createFlavor({ name: 'big', vcpus: 1, memoryMib, diskGib: 1 })
  const first = await create('vm1', { flavor: 'big' })
  const wish = { name: 'vm2', flavor: 'big', image: 'demo', diskPool: 'shared', ha: true }
  const refused = await refusal(harness.client.createInstance(wish))
  expect(refused.code).toBe('NO_FAILOVER_ROOM')
  expect(refused.message).toContain('VPE_HA_ADMISSION=advise')
  const second = await create('vm2', { flavor: 'big', ha: false })
  const made = await refusal(harness.client.updateInstance({ uuid: second, ha: true }))
  expect(made.code).toBe('NO_FAILOVER_ROOM')
  // Off, it holds nothing; to power it on needs room again.
  await harness.ended((await harness.client.stopInstance({ uuid: second })).operationUuid)
  await harness.client.updateInstance({ uuid: second, ha: true })
  await harness.atRest(second)
  expect((await refusal(harness.client.startInstance({ uuid: second }))).code).toBe('NO_FAILOVER_ROOM')
  await harness.ended((await harness.client.deleteInstance({ uuid: first })).operationUuid)
  await harness.ended((await harness.client.startInstance({ uuid: second })).operationUuid)
})
