// Hosts that are emptied, through the real protocol: all that can leave leaves, once, and what cannot is told.

import { Departure, InstanceStatus, OperationStatus, Power } from '@vpe/proto'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { change } from './store/tables.ts'
import { FakeAgent } from './testing/fake-agent.ts'
import { Harness, refusal, until } from './testing/harness.ts'

let agents: FakeAgent[]
let harness: Harness
let uuids: string[]

/** The one that is drained. */
const from = () => agents[0] as FakeAgent
const others = () => agents.slice(1)

beforeEach(async () => {
  agents = await Promise.all([FakeAgent.start(), FakeAgent.start(), FakeAgent.start()])
  harness = new Harness()
  await harness.start()
  await harness.furnish(from())
  await harness.client.createHost({ name: 'h2', address: agents[1]?.address ?? '' })
  await harness.client.createHost({ name: 'h3', address: agents[2]?.address ?? '' })
  const hosts = agents.map(({ hostId }) => hostId)
  for (const agent of agents) {
    agent.markers = from().markers
    agent.peers = agents
    agent.onPrepare = async () => {}
  }
  await harness.client.createDiskPool({ name: 'shared', kind: 'dir', path: '/shared', shared: true, hosts })
  await until('the pool works everywhere', () =>
    [...harness.store.diskPools.values()].every((pool) => pool.hosts.every(({ state }) => state === 'ready')),
  )
  uuids = []
})
afterEach(async () => {
  await harness[Symbol.asyncDispose]()
  for (const agent of agents) agent.stop()
})

/** Makes instances on the host that is to be drained; later they may go anywhere. */
async function make(count: number, diskPool = 'shared'): Promise<string[]> {
  const made: string[] = []
  for (let index = 1; index <= count; index++) {
    const name = `${diskPool}-${index}`
    const request = { name, flavor: 'tiny', image: 'demo', diskPool, hostIds: [from().hostId] }
    const { instance } = await harness.client.createInstance(request)
    made.push(instance?.uuid ?? '')
  }
  for (const uuid of made) {
    await harness.atRest(uuid)
    await harness.client.updateInstance({ uuid, hostIds: { values: [] } })
  }
  uuids.push(...made)
  return made
}

const drain = async (parallel = 0) =>
  (await harness.client.drainHost({ uuid: from().hostId, parallel })).operationUuid
const operation = async (uuid: string) => (await harness.client.getOperation({ uuid })).operation
const host = async () => (await harness.client.getHost({ uuid: from().hostId })).host

/** Every instance runs on one host, the one of its record, and was started once. */
async function expectEachOnce(): Promise<void> {
  for (const uuid of uuids) {
    const { hostId, status } = await harness.atRest(uuid)
    expect(status).toBe(InstanceStatus.ACTIVE)
    const running = agents.filter((agent) => agent.domains.get(uuid)?.report.power === Power.ON)
    expect(running.map((agent) => agent.hostId)).toEqual([hostId])
    expect(agents.flatMap(({ starts }) => starts).filter((each) => each === uuid)).toHaveLength(1)
  }
}

/** Has the drained host hand guests over only when it is told so. */
function holdMoves() {
  const held: PromiseWithResolvers<Departure>[] = []
  let isOpen = false
  let most = 0
  let now = 0
  from().onMigrate = async () => {
    most = Math.max(most, ++now)
    const outcome = Promise.withResolvers<Departure>()
    held.push(outcome)
    if (isOpen) outcome.resolve(Departure.GONE)
    const departure = await outcome.promise
    now--
    return departure
  }
  return {
    held,
    most: () => most,
    open() {
      isOpen = true
      for (const { resolve } of held) resolve(Departure.GONE)
    },
  }
}

test('all leave, a few at a time, none is lost and none doubled; then the host can be removed', async () => {
  await make(6)
  const moves = holdMoves()
  const operationUuid = await drain()
  await until('two move', () => moves.held.length === 2)
  expect(await drain()).toBe(operationUuid)
  expect(await host()).toMatchObject({ schedulable: false, drain: { total: 6, remaining: 6, endedAtMs: 0 } })
  const told = (await operation(operationUuid))?.step
  expect(told).toMatch(/^0 of 6 have left; 2 move: .*61 %.*; 4 wait: /)
  moves.open()
  expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
  expect(moves.most()).toBe(2)
  await expectEachOnce()
  expect(from().domains.size).toBe(0)
  expect(others().every(({ domains }) => domains.size > 0)).toBe(true)
  expect(await host()).toMatchObject({ schedulable: false, drain: { remaining: 0, stuck: [] } })
  await harness.client.deleteHost({ uuid: from().hostId })
})

test('what cannot leave is told, and all else leaves', async () => {
  await make(2)
  const [local] = await make(1, 'local')
  const operationUuid = await drain()
  const why = expect.stringContaining('its disks lie in local pool local')
  expect(await harness.ended(operationUuid)).toMatchObject({
    status: OperationStatus.FAILED,
    fault: expect.stringMatching(/^1 cannot: local-1 \(.*its disks lie in local pool local/),
  })
  expect(await host()).toMatchObject({
    schedulable: false,
    drain: { remaining: 1, stuck: [{ uuid: local, name: 'local-1', why }] },
  })
  await expectEachOnce()
  const { message } = await refusal(harness.client.deleteHost({ uuid: from().hostId }))
  expect(message).toContain(`POST /hosts/${from().hostId}/drain`)
})

test('where no other host takes anything, it ends with the reasons; a host that is down is refused', async () => {
  await make(2)
  for (const { hostId } of others()) await harness.client.cordonHost({ uuid: hostId })
  const ended = await harness.ended(await drain())
  expect(ended).toMatchObject({
    status: OperationStatus.FAILED,
    fault: expect.stringMatching(/^2 cannot: .*no host fits/),
  })
  await harness.client.uncordonHost({ uuid: others()[0]?.hostId ?? '' })
  expect(await harness.ended(await drain())).toMatchObject({ status: OperationStatus.SUCCEEDED })
  await expectEachOnce()

  others()[1]?.stop()
  const uuid = others()[1]?.hostId ?? ''
  const record = harness.store.hosts.get(uuid)
  if (!record) throw new Error('there is no host')
  await harness.store.commit([change.host({ ...record, state: 'down' })])
  expect(await refusal(harness.client.drainHost({ uuid }))).toMatchObject({
    code: 'CONFLICT',
    message: expect.stringContaining('is down'),
  })
})

test('one that becomes movable while others move goes, too', async () => {
  await make(2)
  const [uuid = ''] = uuids
  await harness.client.updateInstance({ uuid, hostIds: { values: [from().hostId] } })
  const moves = holdMoves()
  const operationUuid = await drain()
  await until('it is stuck', async () => (await host())?.drain?.stuck.length === 1)
  await harness.client.updateInstance({ uuid, hostIds: { values: [] } })
  await until('it moves', () => moves.held.length === 2)
  moves.open()
  expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
  await expectEachOnce()
})

test('uncordoned in the middle, what is under way goes on and nothing else begins', async () => {
  await make(3)
  const moves = holdMoves()
  const operationUuid = await drain(1)
  await until('one moves', () => moves.held.length === 1)
  await harness.client.uncordonHost({ uuid: from().hostId })
  expect(await harness.ended(operationUuid)).toMatchObject({
    status: OperationStatus.CANCELLED,
    fault: 'the host was uncordoned',
  })
  moves.open()
  await until('it has left', () => from().domains.size === 2)
  await expectEachOnce()
  expect(await host()).toMatchObject({ schedulable: true, drain: undefined, instances: 2 })
  expect(moves.held).toHaveLength(1)
})

test('a controller that is started anew in the middle goes on', async () => {
  await make(4)
  const moves = holdMoves()
  const operationUuid = await drain()
  await until('two move', () => moves.held.length === 2)
  await harness.stop()
  moves.open()
  await harness.start()
  expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
  expect(await host()).toMatchObject({ drain: { total: 4, remaining: 0 } })
  await expectEachOnce()
})

test('a move that fails is tried again, elsewhere; one that always fails is told', async () => {
  await make(2)
  const [always = ''] = uuids
  const targets: string[] = []
  for (const agent of others()) {
    agent.onPrepare = async (uuid) => {
      if (uuid === always) {
        targets.push(agent.hostId)
        throw new Error('no memory is left here')
      }
    }
  }
  let isBroken = true
  from().onMigrate = async () => {
    const departure = isBroken ? Departure.RUNNING : Departure.GONE
    isBroken = false
    return departure
  }
  expect(await harness.ended(await drain())).toMatchObject({
    status: OperationStatus.FAILED,
    fault: expect.stringMatching(
      /^1 cannot: \S+ \(it was moved 3 times and came back: .*no memory is left here/,
    ),
  })
  expect(new Set(targets).size).toBe(2)
  expect(from().domains.has(always)).toBe(true)
  await expectEachOnce()
})
