// Plans to even out hosts, over the records that calls have made, and plans that are carried out.

import { Departure, OperationStatus, Power, RebalanceMoveState } from '@vpe/proto'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { FakeAgent } from './testing/fake-agent.ts'
import { Harness, refusal, until } from './testing/harness.ts'

let agents: FakeAgent[]
let harness: Harness

beforeEach(async () => {
  agents = [await FakeAgent.start(), await FakeAgent.start(), await FakeAgent.start()]
  harness = new Harness()
  await harness.start()
  const [first, ...others] = agents
  if (!first) throw new Error('no agent')
  for (const other of others) other.markers = first.markers
  await harness.furnish(first)
  await harness.client.createDiskPool({ name: 'shared', kind: 'dir', path: '/shared', shared: true })
  await harness.client.createFlavor({ name: 'large', vcpus: 1, memoryMib: 1_024, diskGib: 1 })
})
afterEach(async () => {
  await harness[Symbol.asyncDispose]()
  for (const agent of agents) agent.stop()
})

async function create(name: string, diskPool = 'shared', tags: string[] = []): Promise<string> {
  const { instance } = await harness.client.createInstance({
    name,
    flavor: 'large',
    image: 'demo',
    diskPool,
    tags,
  })
  await harness.atRest(instance?.uuid ?? '')
  return instance?.uuid ?? ''
}

async function addHosts(): Promise<void> {
  for (const [index, agent] of agents.entries()) {
    if (index > 0) await harness.client.createHost({ name: `h${index + 1}`, address: agent.address })
  }
  await until('the pools are ready everywhere', () =>
    [...harness.store.diskPools.values()].every(
      ({ hosts }) => hosts.length === agents.length && hosts.every(({ state }) => state === 'ready'),
    ),
  )
}

const plan = (more: object = {}) => harness.client.rebalanceHosts({ dryRun: true, ...more })

test('a plan spreads what is all on one host, and nothing changes by it', async () => {
  for (const name of ['vm1', 'vm2', 'vm3', 'vm4', 'vm5', 'vm6']) await create(name)
  const local = await create('local', 'local')
  const paused = await create('paused')
  const { operationUuid } = await harness.client.pauseInstance({ uuid: paused })
  expect((await harness.ended(operationUuid)).status).toBe(OperationStatus.SUCCEEDED)
  const off = await create('off')
  await harness.ended((await harness.client.stopInstance({ uuid: off })).operationUuid)
  await harness.atRest(off)
  await addHosts()
  const before = JSON.stringify([...harness.store.instances])
  const operations = (await harness.client.listOperations({})).operations.length

  const found = await plan({ boundPercent: 5 })
  expect(found).toMatchObject({ boundPercent: 5, balanced: true })
  expect(found.spreadAfterPercent).toBeLessThanOrEqual(5)
  expect(found.spreadBeforePercent).toBeGreaterThan(40)
  const moved = found.moves.map(({ instanceUuid }) => instanceUuid)
  expect(moved).toHaveLength(6)
  expect(moved).not.toContain(local)
  expect(moved).not.toContain(paused)
  expect(found.moves.find(({ instanceUuid }) => instanceUuid === off)?.copiedMib ?? 0).toBe(0)
  expect(new Set(found.moves.map(({ fromHostName }) => fromHostName))).toEqual(new Set(['h1']))
  const targets = found.moves.map(({ toHostName }) => toHostName).sort()
  expect(targets).toEqual(['h2', 'h2', 'h2', 'h3', 'h3', 'h3'])

  expect(await plan({ boundPercent: 5 })).toEqual(found)
  expect(JSON.stringify([...harness.store.instances])).toBe(before)
  expect((await harness.client.listOperations({})).operations).toHaveLength(operations)
})

test('a plan leaves cordoned hosts and groups as they are, and ends at so many moves', async () => {
  const tags = ['anti-affinity:db']
  await create('db1', 'shared', tags)
  for (const name of ['vm1', 'vm2', 'vm3']) await create(name)
  await addHosts()
  await harness.client.cordonHost({ uuid: agents[2]?.hostId ?? '' })
  const { instance: db2 } = await harness.client.createInstance({
    name: 'db2',
    flavor: 'tiny',
    image: 'demo',
    diskPool: 'shared',
    tags,
  })
  expect(db2?.hostName).toBe('h2')
  await harness.atRest(db2?.uuid ?? '')

  const found = await plan({ boundPercent: 2, maxMoves: 1 })
  expect(found.moves.map(({ instanceName, toHostName }) => [instanceName.slice(0, 2), toHostName])).toEqual([
    ['vm', 'h2'],
  ])
  expect(found.balanced).toBe(false)
  expect(found.explanation).toContain('at most 1 moves')
})

test('bounds out of range are refused', async () => {
  expect(await refusal(plan({ boundPercent: 101 }))).toMatchObject({ code: 'INVALID_ARGUMENT' })
  expect(await refusal(plan({ maxMoves: -1 }))).toMatchObject({ code: 'INVALID_ARGUMENT' })
  expect(await refusal(plan({ parallel: 51 }))).toMatchObject({ code: 'INVALID_ARGUMENT' })
})

/** Has the first host hand guests over only when it is told so. */
function holdMoves() {
  const held: PromiseWithResolvers<Departure>[] = []
  let isOpen = false
  for (const agent of agents) {
    agent.peers = agents
    agent.onPrepare = async () => {}
  }
  const [first] = agents
  if (!first) throw new Error('no agent')
  first.onMigrate = async () => {
    const outcome = Promise.withResolvers<Departure>()
    held.push(outcome)
    if (isOpen) outcome.resolve(Departure.GONE)
    return outcome.promise
  }
  return {
    held,
    open(departure: Departure = Departure.GONE) {
      isOpen = true
      for (const { resolve } of held) resolve(departure)
    },
  }
}

const rebalance = async (more: object = {}) =>
  (await harness.client.rebalanceHosts({ dryRun: false, boundPercent: 5, ...more })).operationUuid
const latest = async () => {
  const { rebalance } = await harness.client.getRebalance({})
  if (!rebalance) throw new Error('no rebalance')
  return rebalance
}
const states = async () => (await latest()).moves.map(({ state }) => state)

async function makeSix(): Promise<string[]> {
  const uuids: string[] = []
  for (const name of ['vm1', 'vm2', 'vm3', 'vm4', 'vm5', 'vm6']) uuids.push(await create(name))
  await addHosts()
  return uuids
}

async function expectEachOnce(uuids: readonly string[]): Promise<void> {
  for (const uuid of uuids) {
    const { hostId } = await harness.atRest(uuid)
    const running = agents.filter((agent) => agent.domains.get(uuid)?.report.power === Power.ON)
    expect(running.map((agent) => agent.hostId)).toEqual([hostId])
  }
}

test('a plan is carried out, a few moves at a time, and is then within its bound', async () => {
  const uuids = await makeSix()
  const moves = holdMoves()
  expect(await refusal(harness.client.getRebalance({}))).toMatchObject({ code: 'NOT_FOUND' })
  const operationUuid = await rebalance()
  await until('two move', () => moves.held.length === 2)
  const { operation } = await harness.client.getOperation({ uuid: operationUuid })
  expect(operation).toMatchObject({ kind: 'host.rebalance', status: OperationStatus.RUNNING })
  expect(operation?.step).toMatch(/^0 of 4 moved; 2 move: .*; 2 wait$/)
  expect(await refusal(rebalance())).toMatchObject({
    code: 'CONFLICT',
    message: expect.stringContaining(operationUuid),
  })
  moves.open()
  expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED, fault: '' })
  expect(await states()).toEqual(Array(4).fill(RebalanceMoveState.MOVED))
  await expectEachOnce(uuids)
  expect(await plan({ boundPercent: 5 })).toMatchObject({ balanced: true, moves: [] })
  const again = await harness.ended(await rebalance())
  expect(again).toMatchObject({ status: OperationStatus.SUCCEEDED })
})

test('cancelled, what moves goes on, and nothing more begins', async () => {
  const uuids = await makeSix()
  const moves = holdMoves()
  const operationUuid = await rebalance({ parallel: 1 })
  await until('one moves', () => moves.held.length === 1)
  const { rebalance: cancelled } = await harness.client.cancelRebalance({})
  expect(cancelled).toMatchObject({ cancelled: true, endedAtMs: 0 })
  moves.open()
  expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.CANCELLED })
  const { MOVED, NEEDLESS } = RebalanceMoveState
  expect(await states()).toEqual([MOVED, NEEDLESS, NEEDLESS, NEEDLESS])
  expect(moves.held).toHaveLength(1)
  await expectEachOnce(uuids)
  const { rebalance: over } = await harness.client.cancelRebalance({})
  expect(over).toEqual(await latest())
})

test('what cannot move any more is told, and all else moves', async () => {
  const uuids = await makeSix()
  const moves = holdMoves()
  const operationUuid = await rebalance({ parallel: 1 })
  await until('one moves', () => moves.held.length === 1)
  const [, second, third] = (await latest()).moves
  await harness.client.updateInstance({
    uuid: second?.instanceUuid ?? '',
    hostIds: { values: [agents[0]?.hostId ?? ''] },
  })
  await harness.client.deleteInstance({ uuid: third?.instanceUuid ?? '' })
  await until('it is gone', () => !harness.store.instances.has(third?.instanceUuid ?? ''))
  moves.open()
  expect(await harness.ended(operationUuid)).toMatchObject({
    status: OperationStatus.FAILED,
    fault: expect.stringMatching(/^2 of 4 could not move: .*does not fit any more.*the instance is gone/),
  })
  const { MOVED, REFUSED } = RebalanceMoveState
  expect(await states()).toEqual([MOVED, REFUSED, REFUSED, MOVED])
  await expectEachOnce(uuids.filter((uuid) => uuid !== third?.instanceUuid))
})

test('a move that fails is told, and nothing is lost', async () => {
  const uuids = await makeSix()
  const moves = holdMoves()
  const operationUuid = await rebalance({ maxMoves: 2 })
  await until('two move', () => moves.held.length === 2)
  moves.open(Departure.RUNNING)
  const ended = await harness.ended(operationUuid)
  expect(ended).toMatchObject({
    status: OperationStatus.FAILED,
    fault: expect.stringMatching(/^2 of 2 could not move: /),
  })
  expect(await states()).toEqual(Array(2).fill(RebalanceMoveState.FAILED))
  await expectEachOnce(uuids)
})

test('a controller that is started anew in the middle goes on', async () => {
  const uuids = await makeSix()
  const moves = holdMoves()
  const operationUuid = await rebalance()
  await until('two move', () => moves.held.length === 2)
  await harness.stop()
  moves.open()
  await harness.start()
  expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
  expect(await states()).toEqual(Array(4).fill(RebalanceMoveState.MOVED))
  await expectEachOnce(uuids)
})

test('where it is set, a rebalance begins by itself', async () => {
  const uuids = await makeSix()
  const moves = holdMoves()
  moves.open()
  await harness.stop()
  harness.rebalancePolicy = { everyMs: 50, boundPercent: 5 }
  await harness.start()
  await until('it is within the bound', async () => {
    const { balanced, moves: planned } = await plan({ boundPercent: 5 })
    return balanced && planned.length === 0
  })
  expect((await latest()).periodic).toBe(true)
  await expectEachOnce(uuids)
})
