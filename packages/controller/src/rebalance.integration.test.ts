// Plans to even out hosts, over the records that calls have made.

import { OperationStatus } from '@vpe/proto'
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

test('bounds out of range, and a plan that is to be carried out, are refused', async () => {
  expect(await refusal(plan({ boundPercent: 101 }))).toMatchObject({ code: 'INVALID_ARGUMENT' })
  expect(await refusal(plan({ maxMoves: -1 }))).toMatchObject({ code: 'INVALID_ARGUMENT' })
  const refused = await refusal(harness.client.rebalanceHosts({ dryRun: false }))
  expect(refused).toMatchObject({ code: 'CONFLICT' })
  expect(refused.message).toContain('dry_run=true')
})
