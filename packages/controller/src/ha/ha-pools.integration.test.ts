// Slots, leases, classes and readiness, through the real protocol, with fake agents and a storage that they share.

import { afterEach, expect, test } from 'vitest'
import { FakeAgent } from '../testing/fake-agent.ts'
import { FakeLeaseStorage, FakePoolGuard } from '../testing/fake-pool-guard.ts'
import { Harness, refusal, until } from '../testing/harness.ts'

const agents: FakeAgent[] = []
afterEach(() => {
  for (const agent of agents.splice(0)) agent.stop()
})

interface Cluster {
  readonly harness: Harness
  readonly storage: FakeLeaseStorage
  readonly agents: readonly (FakeAgent & { poolGuard: FakePoolGuard })[]
  readonly poolUuid: string
}

/** Hosts h1, h2, … with guards and a shared pool. */
async function cluster(
  hosts: number,
  pool: Parameters<Harness['client']['createDiskPool']>[0] = {},
): Promise<Cluster> {
  const harness = new Harness()
  await harness.start()
  const storage = new FakeLeaseStorage()
  const markers = new Map<string, string>()
  const started: (FakeAgent & { poolGuard: FakePoolGuard })[] = []
  for (let index = 1; index <= hosts; index++) {
    const agent = await FakeAgent.start()
    agents.push(agent)
    agent.markers = markers
    started.push(Object.assign(agent, { poolGuard: new FakePoolGuard(agent.hostId, storage) }))
    await harness.client.createHost({ name: `h${index}`, address: agent.address })
  }
  const nfs = { server: 'filer', export: '/vpe', options: '' }
  const { diskPool } = await harness.client.createDiskPool({ name: 'nfs', kind: 'nfs', nfs, ...pool })
  return { harness, storage, agents: started, poolUuid: diskPool?.uuid ?? '' }
}

async function protection({ harness, poolUuid }: Cluster) {
  const { diskPool } = await harness.client.getDiskPool({ uuid: poolUuid })
  return diskPool?.protection
}

const becomes = (it: Cluster, poolClass: string) =>
  until(`the pool is of class ${poolClass}`, async () => (await protection(it))?.poolClass === poolClass)

async function readiness({ harness, agents }: Cluster, index = 0) {
  const { host } = await harness.client.getHost({ uuid: agents[index]?.hostId ?? '' })
  const condition = host?.conditions.find(({ type }) => type === 'HaReady')
  return condition && { status: condition.status, message: condition.message }
}

const lookAtAll = ({ harness, agents }: Cluster) =>
  Promise.all(agents.map(({ hostId }) => harness.client.preflightHost({ uuid: hostId })))

const saysReady = (it: Cluster, index: number, message: RegExp) =>
  until(`HaReady says ${message}`, async () => {
    await it.harness.client.preflightHost({ uuid: it.agents[index]?.hostId ?? '' })
    return message.test((await readiness(it, index))?.message ?? '')
  })

test('two hosts that find sound locks make a pool of class E, and get leases in blocks of their own', async () => {
  const it = await cluster(3)
  await using _ = it.harness
  await becomes(it, 'E')
  expect(await protection(it)).toMatchObject({
    why: 'the storage refuses writes of a host that has lost its locks',
    slots: 64,
    slotsTaken: 3,
  })
  for (const { poolGuard: guard } of it.agents) await until('it has a lease', () => guard.leases.length === 1)
  expect(it.agents.map(({ poolGuard: guard }) => guard.leases[0]?.slot)).toEqual([0, 1, 2])
  expect(it.agents[0]?.poolGuard.leases[0]).toMatchObject({
    ...{ poolUuid: it.poolUuid, clusterUuid: it.harness.store.storeId, slots: 64, canUnmount: true },
    poolClass: 'POOL_CLASS_ENFORCED',
  })
  await saysReady(it, 0, /leases in nfs \(E\)/)

  // A controller that starts anew knows it, and tells everyone again.
  const told = it.agents.map(({ poolGuard: guard }) => guard.told)
  await it.harness.stop()
  await it.harness.start()
  expect((await protection(it))?.poolClass).toBe('E')
  await until('all were told', () =>
    it.agents.every(({ poolGuard: guard }, at) => guard.told > (told[at] ?? 0)),
  )
  expect(it.agents.map(({ poolGuard: guard }) => guard.leases[0]?.slot)).toEqual([0, 1, 2])
})

test('a pool of one host, and one that each host has for itself, are of class N, and say why', async () => {
  const it = await cluster(1)
  await using _ = it.harness
  await until('it says why', async () => (await protection(it))?.why.startsWith('one host only') ?? false)
  await saysReady(it, 0, /nothing to fail over to/)
  const { diskPool } = await it.harness.client.createDiskPool({ name: 'own', kind: 'dir', path: '/own' })
  expect(diskPool?.protection).toMatchObject({ poolClass: 'N', slots: 0 })
  expect(diskPool?.protection?.why).toMatch(/^it is local/)
})

test('on a single host without a guard, highly available means that its agent keeps it on, and it says so', async () => {
  const agent = await FakeAgent.start()
  agents.push(agent)
  await using harness = new Harness()
  await harness.start()
  await harness.furnish(agent)
  const { instance } = await harness.client.createInstance({
    name: 'i',
    flavor: 'tiny',
    image: 'demo',
    ha: true,
  })
  expect(instance?.unprotected).toMatch(/^disk pool local: it is local/)
  const { uuid } = await harness.atRest(instance?.uuid ?? '')
  const stop = await harness.client.stopInstance({ uuid })
  await harness.ended(stop.operationUuid)
  const start = await harness.client.startInstance({ uuid })
  expect((await harness.ended(start.operationUuid)).fault).toBe('')
  const { host } = await harness.client.getHost({ uuid: agent.hostId })
  expect(host?.conditions.map(({ type }) => type)).not.toContain('HaReady')
})

test('what breaks between two trials counts at once, and is told', async () => {
  const it = await cluster(2)
  await using _ = it.harness
  await becomes(it, 'E')
  const [first, second] = it.agents
  if (!first || !second) throw new Error('there are')
  it.storage.areLocksLocal = true
  for (const { poolGuard: guard } of it.agents) guard.says = { ...guard.says, hasWatchdog: false }
  // Another kernel: the locks are tried again.
  first.facts = { kernel: '6.99' }
  await lookAtAll(it)
  const why = /two hosts got the same lock; no watchdog on h1, h2/
  await until('both count', async () => why.test((await protection(it))?.why ?? ''))
  expect((await protection(it))?.poolClass).toBe('N')
  for (const { poolGuard: guard } of it.agents)
    await until('its lease is taken back', () => guard.leases.length === 0)
  await saysReady(it, 1, /none of its pools is protected/)
  for (const { poolGuard: guard } of it.agents) guard.says = { ...guard.says, hasWatchdog: true }
  first.poolGuard.says = { ...first.poolGuard.says, pausable: 'it can suspend' }
  await lookAtAll(it)
  const mayWake = /same lock; these may be paused, and would write when woken: h1 \(it can suspend\)/
  await until('one that can suspend counts', async () => mayWake.test((await protection(it))?.why ?? ''))
  first.poolGuard.says = { ...first.poolGuard.says, pausable: '' }
  await lookAtAll(it)
  await becomes(it, 'T')
  await it.harness.store.durable()
  const told = (await it.harness.store.backend.readOutbox(0, 1_000))
    .filter(({ event }) => event.what === 'class_changed')
    .map(({ event }) => event.data)
  expect(told.at(0)).toMatchObject({ name: 'nfs', class: 'E', previous: 'N' })
  expect(told.at(-1)).toMatchObject({ class: 'T', why: expect.stringMatching(/every host has a watchdog/) })
})

test('what vpe does not recognise may be vouched for, and E is not to be had by word alone', async () => {
  const it = await cluster(2, { kind: 'dir', path: '/pool/shared', shared: true, nfs: undefined as never })
  await using _ = it.harness
  for (const { poolGuard: guard } of it.agents) guard.fileSystem = 'fuse.glusterfs'
  await becomes(it, 'T')
  const update = (protection: object) => it.harness.client.updateDiskPool({ uuid: it.poolUuid, protection })
  await update({ lostLocks: 'fenced' })
  await becomes(it, 'E')
  await update({ wantedClass: 'T' })
  await becomes(it, 'T')
  await update({ wantedClass: 'N' })
  await becomes(it, 'N')
  expect((await refusal(update({ wantedClass: 'E' }))).message).toMatch(/must be auto, T, N/)
})

test('a trial that cannot be carried out says nothing of the class', async () => {
  const it = await cluster(2)
  await using _ = it.harness
  await becomes(it, 'E')
  const [first] = it.agents
  if (!first) throw new Error('there is')
  first.poolGuard.lockFault = 'the pool does not answer'
  const tried = (await protection(it))?.probedAtMs
  first.facts = { kernel: '6.99' }
  await it.harness.client.preflightHost({ uuid: first.hostId })
  const { told } = first.poolGuard
  await until('it was looked at again', () => first.poolGuard.told > told)
  expect(await protection(it)).toMatchObject({ poolClass: 'E', probedAtMs: tried })
})

test('pools are tried when guards are there, and not only after ever longer waits', async () => {
  const it = await cluster(2)
  await using _ = it.harness
  const guards = it.agents.map(({ poolGuard: guard }) => guard)
  for (const agent of it.agents) Object.assign(agent, { poolGuard: null })
  await until('it says what is missing', async () => /has no guard/.test((await protection(it))?.why ?? ''))
  expect((await readiness(it))?.status).toBe('CONDITION_STATUS_FAILED')
  for (const [at, agent] of it.agents.entries()) Object.assign(agent, { poolGuard: guards[at] })
  await lookAtAll(it)
  await becomes(it, 'E')
})

test('a block is free again when its host says that it has no lease there, and not when it was merely removed', async () => {
  const it = await cluster(3, { slots: 3 })
  await using _ = it.harness
  await becomes(it, 'E')
  const [, second, third] = it.agents
  if (!second || !third) throw new Error('there are')
  const slots = () => it.harness.store.poolLeases.get(it.poolUuid)?.taken.map(({ hostId }) => hostId)
  await until('it has a lease', () => second.poolGuard.leases.length === 1)
  // It is asked to let go of the pool, but not to be heard on that.
  second.poolGuard.says = {
    ...second.poolGuard.says,
    leases: second.poolGuard.leases.map((lease) => ({ ...lease, isLost: false, ageMs: 1 })),
  }
  await it.harness.client.detachDiskPoolHost({ uuid: it.poolUuid, hostUuid: second.hostId })
  await until('it has left', () => !it.harness.store.poolHosts.find(it.poolUuid, second.hostId))
  expect(slots()).toContain(second.hostId)
  const { leases: _held, ...quiet } = second.poolGuard.says
  second.poolGuard.says = quiet
  await until('its block is free', () => !slots()?.includes(second.hostId))

  await it.harness.client.deleteHost({ uuid: third.hostId })
  expect(slots()).toContain(third.hostId)
  await it.harness.client.attachDiskPoolHost({ uuid: it.poolUuid, host: 'h2' })
  expect(it.harness.store.poolLeases.get(it.poolUuid)?.taken).toMatchObject([
    { slot: 0 },
    { slot: 1, hostId: second.hostId, state: 'kept' },
    { slot: 2, hostId: third.hostId, state: 'unconfirmed' },
  ])
  const release = (hostId: string) =>
    it.harness.client.updateDiskPool({ uuid: it.poolUuid, releaseSlotsOf: [hostId] })
  expect((await refusal(release(second.hostId))).code).toBe('CONFLICT')
  await release(third.hostId)
  expect(slots()).not.toContain(third.hostId)
})

test('a host for which no block is left says so', async () => {
  const it = await cluster(3, { slots: 2 })
  await using _ = it.harness
  await becomes(it, 'E')
  await saysReady(it, 2, /all blocks of leases in nfs are taken/)
  expect(it.agents[2]?.poolGuard.leases).toEqual([])
})

test('a host is red while its guard is away, keeps to other times, or has lost a lease', async () => {
  const it = await cluster(2)
  await using _ = it.harness
  await saysReady(it, 0, /leases in nfs/)
  const [first] = it.agents
  if (!first) throw new Error('there is')
  first.poolGuard.lostPools.add(it.poolUuid)
  await saysReady(it, 0, /lease in nfs is lost/)
  first.poolGuard.says = { profile: 'fast', hasWatchdog: true }
  await saysReady(it, 0, /"fast".*"default"/)
  first.poolGuard.says = { guardFault: 'no socket' }
  await saysReady(it, 0, /guard nothing: no socket/)
})

test('what is highly available is refused where no host could keep that promise, and says where nobody makes it', async () => {
  const it = await cluster(2)
  await using _ = it.harness
  const { client } = it.harness
  await becomes(it, 'E')
  await saysReady(it, 0, /leases in nfs/)
  await saysReady(it, 1, /leases in nfs/)
  await client.createFlavor({ name: 'tiny', vcpus: 1, memoryMib: 256, diskGib: 1 })
  await client.createImage({ name: 'demo', url: 'file:///demo.qcow2' })
  await until('the image is active', () =>
    [...it.harness.store.images.values()].every(({ status }) => status === 'active'),
  )
  const create = (name: string) => client.createInstance({ name, flavor: 'tiny', image: 'demo', ha: true })
  const { instance: safe } = await create('safe')
  expect(safe?.unprotected).toBe('')
  const { instance: plain } = await client.createInstance({ name: 'plain', flavor: 'tiny', image: 'demo' })
  await it.harness.atRest(plain?.uuid ?? '')

  const [first, second] = it.agents
  if (!first || !second) throw new Error('there are')
  first.poolGuard.says = { guardFault: 'no socket' }
  await saysReady(it, 0, /no socket/)
  await create('one host is enough')
  second.poolGuard.says = { guardFault: 'no socket' }
  await saysReady(it, 1, /no socket/)
  for (const call of [create('b'), client.updateInstance({ uuid: plain?.uuid ?? '', ha: true })]) {
    const refused = await refusal(call)
    expect(refused.code).toBe('CONFLICT')
    expect(refused.message).toMatch(/no host .* ready for high availability: h1: .*no socket; h2: /)
  }

  await client.updateDiskPool({ uuid: it.poolUuid, protection: { wantedClass: 'N' } })
  await becomes(it, 'N')
  const { instance: bare } = await create('bare')
  expect(bare?.unprotected).toBe('disk pool nfs: it was set to N')
  expect((await it.harness.instance(safe?.uuid ?? '')).unprotected).toBe('disk pool nfs: it was set to N')
})
