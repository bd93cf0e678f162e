// The HA machine against pretended hosts that share a storage: what becomes of instances whose host dies, is only cut off, or
// comes back, whatever their users want meanwhile. Each start says that its locks were free; two guests at once would be refused.

import { HA_PROFILES } from '@vpe/core/ha'
import {
  HaPhase,
  HoldUp,
  InstanceStatus,
  InstanceTask,
  MigrationMode,
  OperationStatus,
  Power,
} from '@vpe/proto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { FakeAgent } from '../testing/fake-agent.ts'
import { FakeGuard, FakeStorage } from '../testing/fake-guard.ts'
import { Harness, refusal, until } from '../testing/harness.ts'
import { MemoryPools } from '../testing/memory-pools.ts'

/** As little as ticks of a second allow; class E needs none of it for safety. */
const timings = { ...HA_PROFILES.fast, suspectMs: 3_000, tryMs: 500, deadMs: 3_000, settleMs: 1_500 }

let agents: FakeAgent[]
let harness: Harness
let storage: FakeStorage
let pools: MemoryPools

beforeEach(async () => {
  storage = new FakeStorage()
  storage.lockLeaseMs = 1_000
  agents = [await FakeAgent.start(), await FakeAgent.start(), await FakeAgent.start()]
  for (const agent of agents) {
    agent.markers = (agents[0] as FakeAgent).markers
    agent.guard = new FakeGuard(agent, storage, timings.tryMs)
  }
  harness = new Harness()
  pools = new MemoryPools(storage)
  harness.haPools = (store) => pools.of(store)
  harness.haTimings = timings
  await harness.start()
  harness.hear(agents)
  await harness.furnish(at(0))
  for (const [index, agent] of agents.slice(1).entries())
    await harness.client.createHost({ name: `h${index + 2}`, address: agent.address })
  const hosts = agents.map(({ hostId }) => hostId)
  await harness.client.createDiskPool({ name: 'shared', kind: 'dir', path: '/shared', shared: true, hosts })
  await until('every host is watched', () => [...harness.ha.hosts()].length === agents.length)
})
afterEach(async () => {
  await harness[Symbol.asyncDispose]()
  for (const agent of agents) agent.stop()
  expect(harness.fatal).toBe(null)
})

function at(index: number): FakeAgent {
  const agent = agents[index]
  if (!agent) throw new Error('no such host')
  return agent
}

async function create(name: string, on = at(0), change: { ha?: boolean; diskPool?: string } = {}) {
  const shared = { ha: true, diskPool: 'shared', shareStorage: change.diskPool === undefined }
  const request = { name, flavor: 'tiny', image: 'demo', hostIds: [on.hostId], ...shared, ...change }
  const { instance } = await harness.client.createInstance(request)
  const uuid = instance?.uuid ?? ''
  await harness.atRest(uuid)
  await harness.client.updateInstance({ uuid, hostIds: { values: [] } })
  return uuid
}

const owner = (uuid: string) => harness.ha.instance(uuid)
const running = (uuid: string) => until(`${uuid} is running`, () => owner(uuid)?.state === 'running')
const phase = (agent: FakeAgent, wanted: string) =>
  until(`the host is ${wanted}`, () => harness.ha.host(agent.hostId)?.phase === wanted)
/** Ids of the hosts on which it runs. */
const guests = (uuid: string) =>
  agents.filter(({ domains }) => domains.get(uuid)?.report.power === Power.ON).map(({ hostId }) => hostId)

/** Power, network and storage are gone. */
function die(agent: FakeAgent): void {
  agent.stop()
  storage.cut(agent.hostId)
  agent.reboot()
}

async function comeBack(agent: FakeAgent): Promise<void> {
  storage.mend(agent.hostId)
  await agent.listen()
}

describe('a host dies', () => {
  test('and what it had runs elsewhere, as the next generation, once the locks are free', async () => {
    const uuid = await create('vm1')
    await running(uuid)
    const before = harness.store.instances.get(uuid)
    expect(at(0).domains.get(uuid)?.spec.ownership).toMatchObject({
      bootId: at(0).bootId,
      pools: [{ canUnmount: false }],
    })
    die(at(0))
    await until('it runs elsewhere', () => owner(uuid)?.hostId !== at(0).hostId && guests(uuid).length === 1)
    await running(uuid)
    const after = await harness.atRest(uuid)
    expect(after).toMatchObject({ status: InstanceStatus.ACTIVE, fault: '' })
    const [there] = guests(uuid)
    expect(after.hostId).toBe(there)
    const agent = agents.find(({ hostId }) => hostId === there)
    expect(agent?.domains.get(uuid)?.spec.ownership?.generation).toBe(owner(uuid)?.generation)
    expect(owner(uuid)?.generation).toBeGreaterThan(before?.generation ?? 0)
    const [failover] = harness.ha.failovers()
    expect(failover).toMatchObject({ uuid, fromHostId: at(0).hostId, toHostId: there })
    expect(failover?.clock.runningMs).toBeGreaterThan(failover?.clock.placedMs ?? Infinity)
    const told = (await harness.store.backend.readOutbox(0, 1_000)).map(({ event }) => event.what)
    expect(told).toEqual(expect.arrayContaining(['suspect', 'stale', 'lost', 'recovering', 'recovered']))
    expect(failover?.answeredMs).toBeNull()
    agent?.addresses.set(uuid, ['192.0.2.7'])
    agent?.onChange()
    await until('its guest has answered', () => harness.ha.failovers()[0]?.answeredMs !== null)
    expect(harness.ha.failovers()[0]?.answeredMs).toBeGreaterThanOrEqual(
      failover?.clock.runningMs ?? Infinity,
    )

    await comeBack(at(0))
    await phase(at(0), 'up')
    expect(guests(uuid)).toEqual([there])
    expect(told).not.toContain('quarantined')
    await until('its definition is gone where it was', () => !at(0).domains.has(uuid))
  })

  test('and what an I/O error had paused before runs elsewhere, too', async () => {
    const uuid = await create('vm1')
    await running(uuid)
    const domain = at(0).domains.get(uuid)
    if (domain) domain.report = { ...domain.report, power: Power.PAUSED, holdUp: HoldUp.CLAIM_CHECK }
    at(0).onChange()
    await until('it shows', async () => (await harness.instance(uuid)).task === InstanceTask.RECOVERING)
    die(at(0))
    await until('it runs elsewhere', () => owner(uuid)?.hostId !== at(0).hostId && guests(uuid).length === 1)
    expect(await harness.atRest(uuid)).toMatchObject({ status: InstanceStatus.ACTIVE, fault: '' })
  })

  test('and the storage shuts it out, where it can', async () => {
    storage.lockLeaseMs = Number.POSITIVE_INFINITY
    pools.canRevoke = true
    const uuid = await create('vm1')
    await running(uuid)
    die(at(0))
    await until('it runs elsewhere', () => guests(uuid).length === 1)
    expect(pools.revoked).toContain(at(0).hostId)
  })

  test('and a controller that is started in the middle of it goes on', async () => {
    storage.lockLeaseMs = Number.POSITIVE_INFINITY
    const uuid = await create('vm1')
    await running(uuid)
    die(at(0))
    await until('it is lost', () => owner(uuid)?.state === 'lost')
    await harness.stop()
    storage.lockLeaseMs = 1_000
    await harness.start()
    expect(owner(uuid)?.state).toBe('lost')
    await running(uuid)
    expect(guests(uuid)).toHaveLength(1)
  })

  test('and what its user stops meanwhile is not started again, until its user does that', async () => {
    storage.lockLeaseMs = Number.POSITIVE_INFINITY
    const uuid = await create('vm1')
    await running(uuid)
    die(at(0))
    await until('it is lost', () => owner(uuid)?.state === 'lost')
    expect(await harness.instance(uuid)).toMatchObject({
      status: InstanceStatus.ERROR,
      task: InstanceTask.RECOVERING,
      fault: expect.stringContaining('h1'),
    })
    const { operationUuid } = await harness.client.stopInstance({ uuid })
    storage.lockLeaseMs = 1_000
    expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
    expect(await harness.atRest(uuid)).toMatchObject({ status: InstanceStatus.SHUTOFF })
    expect(owner(uuid)?.state).toBe('off')
    expect(guests(uuid)).toEqual([])

    await harness.client.startInstance({ uuid })
    await running(uuid)
    expect(guests(uuid)).toHaveLength(1)
    expect((await harness.atRest(uuid)).hostId).not.toBe(at(0).hostId)
  })

  test('and what its user deletes meanwhile is removed by another host', async () => {
    storage.lockLeaseMs = Number.POSITIVE_INFINITY
    const uuid = await create('vm1')
    await running(uuid)
    die(at(0))
    await until('it is lost', () => owner(uuid)?.state === 'lost')
    const { operationUuid } = await harness.client.deleteInstance({ uuid })
    storage.lockLeaseMs = 1_000
    expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
    expect(owner(uuid)).toBe(null)
    expect(harness.store.haInstances.size).toBe(0)
  })

  test('and what fits nowhere says so, until there is room', async () => {
    const uuid = await create('vm1')
    await running(uuid)
    for (const { uuid: host } of harness.store.hosts.values())
      if (host !== at(0).hostId) await harness.client.cordonHost({ uuid: host })
    die(at(0))
    await until('it says so', async () => (await harness.instance(uuid)).fault.includes('no host fits'))
    await harness.client.uncordonHost({ uuid: at(1).hostId })
    await running(uuid)
    expect(guests(uuid)).toEqual([at(1).hostId])
  })

  test('and nothing is restarted while a person has disarmed it', async () => {
    const uuid = await create('vm1')
    await running(uuid)
    const scope = { kind: 'host', hostId: at(0).hostId } as const
    await harness.ha.disarm({ scope, untilMs: Date.now() + 600_000, who: 'op', why: 'a new switch' })
    die(at(0))
    await phase(at(0), 'suspect')
    await until('its lease is stale', () =>
      (harness.ha.host(at(0).hostId)?.sightings ?? []).some(({ sighting }) => sighting.kind === 'stale'),
    )
    expect(owner(uuid)?.state).toBe('running')
    await harness.ha.arm(scope)
    await until('it runs elsewhere', () => guests(uuid).length === 1)
  })
})

test('a host that is only cut off from management keeps what it has', async () => {
  const uuid = await create('vm1')
  await running(uuid)
  at(0).stop()
  await phase(at(0), 'isolated')
  expect(owner(uuid)?.state).toBe('running')
  expect(await harness.instance(uuid)).toMatchObject({ status: InstanceStatus.ACTIVE, hostId: at(0).hostId })
  const error = await refusal(create('vm2'))
  expect(error.message).toMatch(/is down|isolated/)
  await at(0).listen()
  await phase(at(0), 'up')
  expect(guests(uuid)).toEqual([at(0).hostId])
})

test('a host that lost its storage and comes back ends what is elsewhere by then, and is let in', async () => {
  const uuid = await create('vm1')
  await running(uuid)
  // Its guest hangs on, and nobody can tell it to go.
  at(0).stop()
  storage.cut(at(0).hostId)
  await until('it runs elsewhere', () => owner(uuid)?.hostId !== at(0).hostId)
  await running(uuid)
  await comeBack(at(0))
  await phase(at(0), 'up')
  expect(at(0).guard?.orders).toContain('settle')
  expect(guests(uuid)).toHaveLength(1)
  expect(guests(uuid)).not.toContain(at(0).hostId)
})

test('what nobody guards says why it was not moved, and is started when its host is back', async () => {
  const plain = await create('plain', at(0), { ha: false, diskPool: 'local' })
  const local = await create('local', at(0), { diskPool: 'local' })
  die(at(0))
  await until('they say why', async () => {
    const faults = await Promise.all([plain, local].map(async (uuid) => (await harness.instance(uuid)).fault))
    return faults.every((fault) => fault !== '')
  })
  expect(await harness.instance(plain)).toMatchObject({
    status: InstanceStatus.ERROR,
    fault: expect.stringMatching(/^host h1 .*; it is not highly available$/),
  })
  expect((await harness.instance(local)).fault).toContain('its disk is in local pool local')
  await comeBack(at(0))
  await until('both run again', () => [plain, local].every((uuid) => guests(uuid).length === 1))
  expect(await harness.atRest(plain)).toMatchObject({ status: InstanceStatus.ACTIVE, fault: '' })
})

test('a user stops and starts what is owned: each start has an ownership of its own', async () => {
  const uuid = await create('vm1')
  await running(uuid)
  const first = owner(uuid)?.generation ?? 0
  await harness.ended((await harness.client.stopInstance({ uuid })).operationUuid)
  await until('nobody has it', () => owner(uuid)?.state === 'off')
  await harness.ended((await harness.client.startInstance({ uuid })).operationUuid)
  await running(uuid)
  expect(owner(uuid)?.generation).toBeGreaterThan(first)
  expect(at(0).domains.get(uuid)?.spec.ownership?.generation).toBe(owner(uuid)?.generation)
})

test('a live migration takes the ownership along', async () => {
  const uuid = await create('vm1')
  await running(uuid)
  const first = owner(uuid)?.generation ?? 0
  at(0).peers = agents
  at(1).onPrepare = async () => {}
  const { operationUuid } = await harness.client.migrateInstance({
    uuid,
    host: at(1).hostId,
    mode: MigrationMode.LIVE,
  })
  expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
  await until('the other host has it', () => owner(uuid)?.hostId === at(1).hostId)
  await running(uuid)
  expect(owner(uuid)?.generation).toBeGreaterThan(first)
  expect(at(1).domains.get(uuid)?.spec.ownership?.generation).toBe(owner(uuid)?.generation)
  die(at(1))
  await until('it runs on a third', () => owner(uuid)?.hostId !== at(1).hostId)
  await running(uuid)
  expect(guests(uuid)).toHaveLength(1)
})

test('a move in which it is off in between gives it to the other host when it is let go of', async () => {
  const uuid = await create('vm1')
  await running(uuid)
  const { operationUuid } = await harness.client.migrateInstance({
    uuid,
    host: at(1).hostId,
    mode: MigrationMode.COLD,
  })
  expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
  await running(uuid)
  expect(owner(uuid)?.hostId).toBe(at(1).hostId)
  expect(guests(uuid)).toEqual([at(1).hostId])
})

test('a person confirms that a host is off where nothing keeps its pool from two writers', async () => {
  pools.poolClass = 'N'
  const uuid = await create('vm1')
  await running(uuid)
  await expect(harness.ha.confirmFenced(at(0).hostId, 'op')).rejects.toMatchObject({ code: 'CONFLICT' })
  die(at(0))
  await until('it says why', async () => (await harness.instance(uuid)).fault.includes('a person confirms'))
  await harness.ha.confirmFenced(at(0).hostId, 'op')
  await running(uuid)
  await until('it runs elsewhere', () => guests(uuid).length === 1)
  expect(guests(uuid)).not.toContain(at(0).hostId)
})

test('a guest that keeps going off is tried elsewhere', async () => {
  const uuid = await create('vm1')
  await running(uuid)
  at(0).guard?.set(uuid, owner(uuid)?.generation ?? 0, HaPhase.GIVEN_UP, 'it went off too often')
  at(0).pull(uuid)
  await until('another host has it', () => owner(uuid)?.hostId !== at(0).hostId)
  await running(uuid)
  expect(owner(uuid)?.relocations).toBe(1)
  expect(guests(uuid)).toHaveLength(1)
})
