// Hosts, as their agents tell of them: facts, conditions, what keeps a host from being removed.

import { randomUUID } from 'node:crypto'
import { jetstreamManager } from '@nats-io/jetstream'
import type { NatsConnection } from '@nats-io/nats-core'
import { type CloudEvent, connectBus, EVENTS_STREAM, encodeHeartbeat, heartbeatSubject } from '@vpe/bus'
import { TestNatsServer } from '@vpe/bus/testing'
import { ConditionStatus, type Host, type HostCondition, HostState } from '@vpe/proto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { FakeAgent } from './testing/fake-agent.ts'
import { Harness, refusal, until } from './testing/harness.ts'

const OK = ConditionStatus.OK
const FAILED = ConditionStatus.FAILED

let nats: TestNatsServer
let bus: NatsConnection
let agent: FakeAgent
let harness: Harness
const others: FakeAgent[] = []

beforeEach(async () => {
  nats = await TestNatsServer.start()
  bus = await connectBus(nats.url, 'test')
  agent = await FakeAgent.start()
  agent.findings = [finding('KvmUsable', OK)]
  harness = new Harness(nats.url)
  await harness.start()
  await harness.furnish(agent)
  await until('it has been looked at', async () => (await host()).conditions.length > 0)
})
afterEach(async () => {
  await harness[Symbol.asyncDispose]()
  for (const each of [agent, ...others.splice(0)]) each.stop()
  await bus.close()
  await nats[Symbol.asyncDispose]()
})

function finding(type: string, status: ConditionStatus, message = 'as found') {
  return { type, status, message, cure: status === OK ? '' : 'mend it' }
}

async function host(uuid = agent.hostId): Promise<Host> {
  const { host: shown } = await harness.client.getHost({ uuid })
  if (!shown) throw new Error('an answer without a host')
  return shown
}

async function condition(type: string): Promise<HostCondition | undefined> {
  return (await host()).conditions.find((each) => each.type === type)
}

function beat(hostId = agent.hostId): void {
  const heartbeat = {
    hostId,
    bootId: agent.bootId,
    epoch: 1,
    digest: 'd',
    load1: 0,
    hostDigest: agent.digest,
  }
  bus.publish(heartbeatSubject(hostId), encodeHeartbeat(heartbeat))
}

/** Another look of the agent's, and its controller has read what it found. */
async function lookAgain(): Promise<void> {
  const before = (await condition('KvmUsable'))?.checkedAtMs ?? 0
  // Times are told apart by the millisecond.
  await until('time has passed', () => Date.now() > before)
  agent.look()
  await until('the look is read', async () => {
    beat()
    return ((await condition('KvmUsable'))?.checkedAtMs ?? 0) > before
  })
}

/** Events of this host so far, of some kinds. */
async function eventsOf(...whats: string[]): Promise<CloudEvent[]> {
  await harness.store.durable()
  const stream = await jetstreamManager(bus)
  const found: CloudEvent[] = []
  const { state } = await stream.streams.info(EVENTS_STREAM)
  for (let seq = state.first_seq; seq <= state.last_seq; seq++) {
    const message = await stream.streams.getMessage(EVENTS_STREAM, { seq })
    const event = message?.json<CloudEvent>()
    if (event?.subject === `host/${agent.hostId}` && whats.includes(event.type.split('.')[2] ?? ''))
      found.push(event)
  }
  return found
}

async function waitForEvents(count: number, ...whats: string[]): Promise<CloudEvent[]> {
  let found: CloudEvent[] = []
  await until(`${count} events ${whats}`, async () => {
    found = await eventsOf(...whats)
    return found.length >= count
  })
  return found
}

describe('facts', () => {
  test('are read anew when a heartbeat says so, and told when they matter', async () => {
    agent.facts = { kernel: '6.2.0', cpuFeatures: ['avx2', 'aes'] }
    await lookAgain()
    expect((await host()).facts).toMatchObject({ kernel: '6.2.0', cpuFeatures: ['aes', 'avx2'] })
    const [event] = await waitForEvents(1, 'facts_changed')
    expect(event?.data).toMatchObject({ name: 'h1', changed: ['kernel', 'cpu_features'] })

    await lookAgain()
    expect(await eventsOf('facts_changed')).toHaveLength(1)
  })

  test('of another boot are told as a boot', async () => {
    agent.bootId = randomUUID()
    await lookAgain()
    await waitForEvents(1, 'booted')
    expect((await host()).facts?.bootId).toBe(agent.bootId)
    expect(await eventsOf('facts_changed')).toEqual([])
  })

  test('are asked for once for each look, and not at each heartbeat', async () => {
    await lookAgain()
    const before = agent.descriptions
    for (let count = 0; count < 20; count++) beat()
    await bus.flush()
    // What comes after all of them has been heard after all of them.
    await lookAgain()
    expect(agent.descriptions).toBe(before + 1)
  })
})

describe('conditions', () => {
  test('are told of once, worse at once, better when it lasts', async () => {
    agent.findings = [finding('KvmUsable', FAILED, 'it is off')]
    await lookAgain()
    expect(await condition('KvmUsable')).toMatchObject({
      status: FAILED,
      message: 'it is off',
      cure: 'mend it',
    })

    agent.findings = [finding('KvmUsable', OK)]
    await lookAgain()
    expect(await condition('KvmUsable')).toMatchObject({ status: FAILED })
    await lookAgain()
    expect(await condition('KvmUsable')).toMatchObject({ status: OK, cure: '' })

    const events = await waitForEvents(2, 'condition_changed')
    expect(events.map(({ data }) => data)).toMatchObject([
      { type: 'KvmUsable', status: 'failed', previous: 'ok', message: 'it is off', cure: 'mend it' },
      { type: 'KvmUsable', status: 'ok', previous: 'failed', cure: null },
    ])
  })

  test('are looked at on demand, and then believed at once', async () => {
    agent.findings = [finding('KvmUsable', FAILED)]
    const { host: bad } = await harness.client.preflightHost({ uuid: agent.hostId })
    expect(bad?.conditions).toMatchObject(
      expect.arrayContaining([expect.objectContaining({ type: 'KvmUsable', status: FAILED })]),
    )
    agent.findings = [finding('KvmUsable', OK)]
    await harness.client.preflightHost({ uuid: agent.hostId })
    expect(await condition('KvmUsable')).toMatchObject({ status: OK })
    await waitForEvents(2, 'condition_changed')
  })

  test('of a host that does not answer cannot be looked at', async () => {
    agent.stop()
    const call = harness.client.preflightHost({ uuid: agent.hostId })
    expect(await refusal(call)).toMatchObject({
      code: 'HOST_UNREACHABLE',
      message: expect.stringContaining('host h1 does not answer'),
    })
  })

  test('are there after a restart of the controller, and asked for anew', async () => {
    agent.findings = [finding('KvmUsable', FAILED)]
    await lookAgain()
    const before = await condition('KvmUsable')
    await harness.stop()
    agent.stop()
    await harness.start()
    expect(await condition('KvmUsable')).toMatchObject({ status: FAILED, sinceMs: before?.sinceMs })

    await agent.listen()
    const asked = agent.descriptions
    await until('it is asked', () => {
      beat()
      return agent.descriptions > asked
    })
    await until('its word is read', async () => {
      const { checkedAtMs = 0 } = (await condition('KvmUsable')) ?? {}
      return checkedAtMs > (before?.checkedAtMs ?? 0)
    })
    expect(await condition('KvmUsable')).toMatchObject({ status: FAILED, sinceMs: before?.sinceMs })
    expect(await eventsOf('condition_changed')).toHaveLength(1)
  })

  test('say that its clock is wrong, by the way there and back', async () => {
    expect(await condition('ClockInSync')).toMatchObject({ status: OK })
    agent.clockOffsetMs = -3_600_000
    await lookAgain()
    expect(await condition('ClockInSync')).toMatchObject({
      status: FAILED,
      message: expect.stringContaining('behind'),
      cure: expect.stringContaining('chrony'),
    })
  })

  test('of pools go by their name and are shown with the pool; those of no pool of the host are not taken', async () => {
    const [pool] = harness.store.diskPools.values()
    const type = `PoolWorks:${pool?.uuid}`
    agent.findings = [
      finding('KvmUsable', OK),
      { ...finding(type, OK), latencyMs: 2.5 },
      finding('PoolWorks:0a1b2c3d-0000-4000-8000-00000000000c', FAILED),
    ]
    await lookAgain()
    const shown = await host()
    expect(shown.conditions.map((each) => each.type)).toEqual([
      'AgentReachable',
      'ClockInSync',
      'KvmUsable',
      'PoolWorks:local',
    ])
    expect(shown.diskPools).toMatchObject([
      { name: 'local', state: 'DISK_POOL_HOST_STATE_READY', latencyMs: 2.5 },
    ])

    // An agent that has just started does not know its pools yet.
    agent.findings = [finding('KvmUsable', OK)]
    await lookAgain()
    expect((await host()).diskPools).toMatchObject([{ name: 'local', latencyMs: 2.5 }])
  })

  test('of an agent that has not looked yet change nothing', async () => {
    const before = (await host()).conditions
    agent.findings = []
    Object.defineProperty(agent, 'digest', { value: '', configurable: true })
    const asked = agent.descriptions
    await harness.stop()
    await harness.start()
    await until('it is asked', () => agent.descriptions > asked)
    expect((await host()).conditions.map(({ type, status }) => [type, status])).toEqual(
      before.map(({ type, status }) => [type, status]),
    )
  })

  test('say when a host does not answer, together with its state', async () => {
    const { stateSinceMs } = await host()
    agent.stop()
    await until('it is down', async () => (await host()).state === HostState.DOWN)
    expect(await condition('AgentReachable')).toMatchObject({ status: FAILED })
    expect((await host()).stateSinceMs).toBeGreaterThan(stateSinceMs)
    const states = async (state: HostState) =>
      (await harness.client.listHosts({ name: '', state })).hosts.map(({ name }) => name)
    expect(await states(HostState.DOWN)).toEqual(['h1'])
    expect(await states(HostState.UP)).toEqual([])
    expect(await states(HostState.UNSPECIFIED)).toEqual(['h1'])

    await agent.listen()
    await until('it is up', async () => (await host()).state === HostState.UP)
    expect(await condition('AgentReachable')).toMatchObject({ status: OK })
    expect(await eventsOf('condition_changed')).toEqual([])
  })
})

describe('capacity', () => {
  test('is what may be promised, and what is', async () => {
    await harness.ended((await harness.create('vm1')).operationUuid)
    expect(await host()).toMatchObject({
      vcpusAllocatable: 128,
      memoryMibAllocatable: 15_872,
      vcpusUsed: 1,
      memoryMibUsed: 256,
      instances: 1,
      tasks: 0,
    })
  })
})

describe('a host', () => {
  test('is renamed, and found at another address only when it is the same', async () => {
    const other = await FakeAgent.start()
    others.push(other)
    const { uuid, address } = await host()
    await harness.client.updateHost({ uuid, name: 'east-1' })
    expect(await host()).toMatchObject({ name: 'east-1', address })

    const refused = await refusal(harness.client.updateHost({ uuid, address: other.address }))
    expect(refused).toMatchObject({ code: 'CONFLICT', message: expect.stringContaining(other.hostId) })
    await harness.client.createHost({ name: 'h2', address: other.address })
    const known = await refusal(harness.client.updateHost({ uuid, address: other.address }))
    expect(known.message).toContain('is host h2, not east-1')
    expect((await refusal(harness.client.updateHost({ uuid, name: 'h2' }))).code).toBe('NAME_TAKEN')
    const silent = await refusal(harness.client.updateHost({ uuid, address: '127.0.0.1:1' }))
    expect(silent.code).toBe('HOST_UNREACHABLE')

    agent.stop()
    agent.address = '127.0.0.1:0'
    await agent.listen()
    expect(agent.address).not.toBe(address)
    await harness.client.updateHost({ uuid, address: agent.address })
    await harness.client.preflightHost({ uuid })
    const wish = { name: 'vm1', flavor: 'tiny', image: 'demo', hostIds: [uuid] }
    await harness.ended((await harness.client.createInstance(wish)).operationUuid)
    expect(agent.domains.size).toBe(1)
    expect((await waitForEvents(2, 'updated')).map(({ data }) => data)).toMatchObject([
      { name: 'east-1', address },
      { name: 'east-1', address: agent.address },
    ])
  })

  test('is not removed while it has instances, and the way out is named', async () => {
    await harness.ended((await harness.create('vm1')).operationUuid)
    const refused = await refusal(harness.client.deleteHost({ uuid: agent.hostId }))
    expect(refused).toMatchObject({ code: 'IN_USE' })
    expect(refused.message).toBe(
      `host h1 has 1 instance(s): drain it first (POST /hosts/${agent.hostId}/drain), or delete them`,
    )
  })

  test('that is down and has nothing is removed, is not taken in again by itself, and keeps its domains', async () => {
    const { instance, operationUuid } = await harness.create('vm1')
    await harness.ended(operationUuid)
    const domain = agent.domains.get(instance?.uuid ?? '')
    if (!domain) throw new Error('it was just made')
    await harness.ended((await harness.client.deleteInstance({ uuid: domain.spec.uuid })).operationUuid)
    // One that nobody knows of: it has its mark, and no record.
    agent.domains.set(domain.spec.uuid, domain)
    agent.stop()
    await until('it is down', async () => (await host()).state === HostState.DOWN)
    await harness.client.deleteHost({ uuid: agent.hostId })

    await agent.listen()
    const asked = agent.descriptions
    const other = await FakeAgent.start()
    others.push(other)
    await harness.client.createHost({ name: 'h2', address: other.address })
    beat()
    bus.publish(`vpe.host.${agent.hostId}.changed`, '')
    // What comes after has been heard after.
    bus.publish(`vpe.host.${other.hostId}.changed`, '')
    await bus.flush()
    await harness.client.preflightHost({ uuid: other.hostId })
    expect((await harness.client.listHosts({})).hosts.map(({ name }) => name)).toEqual(['h2'])
    expect(agent.descriptions).toBe(asked)
    expect([...agent.domains.keys()]).toEqual([domain.spec.uuid])
  })
})
