import { randomUUID } from 'node:crypto'
import { jetstreamManager } from '@nats-io/jetstream'
import { type CloudEvent, connectBus, EVENTS_STREAM } from '@vpe/bus'
import { TestNatsServer } from '@vpe/bus/testing'
import { VpeError } from '@vpe/core'
import {
  type CreateInstanceRequest,
  fromClientError,
  Instance,
  InstanceStatus,
  InstanceTask,
  type ListInstancesResponse,
  OperationStatus,
  Power,
  StopCause,
} from '@vpe/proto'
import { Metadata } from 'nice-grpc'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { SqliteBackend } from './store/sqlite-backend.ts'
import { change } from './store/tables.ts'
import { FakeAgent } from './testing/fake-agent.ts'
import { Harness, refusal, until } from './testing/harness.ts'

let agent: FakeAgent
let harness: Harness
const toDispose: AsyncDisposable[] = []

async function begin(natsUrl: string | null = null): Promise<void> {
  agent = await FakeAgent.start()
  harness = new Harness(natsUrl)
  toDispose.push(harness)
  await harness.start()
  await harness.furnish(agent)
}

afterEach(async () => {
  for (const each of toDispose.splice(0).reverse()) await each[Symbol.asyncDispose]()
  agent.stop()
})

function createTold(name: string, seed: Partial<CreateInstanceRequest>) {
  return harness.client.createInstance({ name, flavor: 'tiny', image: 'demo', ...seed })
}

function uuidOf(answer: { instance?: { uuid: string } | undefined }): string {
  if (!answer.instance) throw new Error('an answer without an instance')
  return answer.instance.uuid
}

function namesIn({ instances }: ListInstancesResponse): string[] {
  return instances.map(({ instance }) => Instance.decode(instance ?? new Uint8Array()).name)
}

describe('an instance', () => {
  beforeEach(() => begin())

  test('is created, and its operation succeeds only when its domain runs', async () => {
    const mayStart = Promise.withResolvers<void>()
    agent.onApply = () => mayStart.promise
    const answer = await harness.create('vm1')
    expect(answer.instance).toMatchObject({ status: InstanceStatus.SHUTOFF, hostName: 'h1' })
    await until('the agent says what it does', async () => {
      const { operation } = await harness.client.getOperation({ uuid: answer.operationUuid })
      return operation?.step === 'making the domain'
    })
    mayStart.resolve()
    expect(await harness.ended(answer.operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
    expect(await harness.instance(uuidOf(answer))).toMatchObject({ status: InstanceStatus.ACTIVE })
    expect(agent.domains.get(uuidOf(answer))?.report.power).toBe(Power.ON)
  })

  test('brings its seed to its host, also after a restart, and keeps it to itself', async () => {
    const userData = '#!/bin/sh\necho secret\n'
    const uuid = uuidOf(await createTold('Vm 1', { userData }))
    await until('it is active', async () => (await harness.instance(uuid)).status === InstanceStatus.ACTIVE)
    const told = { hostname: `vpe-${uuid.split('-')[0]}`, sshKeys: [], userData }
    expect(agent.domains.get(uuid)?.spec.seed).toEqual(told)
    const shown = await harness.instance(uuid)
    expect(shown).toMatchObject({
      hostname: told.hostname,
      userDataSha256: expect.stringMatching(/^[0-9a-f]{64}$/),
    })
    expect(JSON.stringify(shown)).not.toContain('secret')

    await harness.stop()
    await harness.start()
    await harness.client.updateInstance({ uuid, name: 'web', ha: true })
    await until('it has come to its host', () => agent.domains.get(uuid)?.spec.name === 'web')
    expect(agent.domains.get(uuid)?.spec.seed).toEqual(told)
  })

  test('has none where nothing is to be told', async () => {
    const { operationUuid, instance } = await harness.create('vm1')
    await harness.ended(operationUuid)
    expect(agent.domains.get(instance?.uuid ?? '')?.spec.seed).toBeUndefined()
  })

  test.each([
    [{ hostname: 'a b' }, 'hostname'],
    [{ sshKeys: ['ssh-ed25519 AAAA'] }, 'ssh_keys[0]'],
    [{ userData: 'x'.repeat(65_537) }, 'user_data'],
  ])('is refused with what no guest can be told', async (more, field) => {
    expect(await refusal(createTold('vm1', more))).toMatchObject({
      code: 'INVALID_ARGUMENT',
      fields: [{ field }],
    })
  })

  test('keeps the verdict of its placement', async () => {
    const { operationUuid } = await harness.create('vm1')
    const { placementUuid } = await harness.ended(operationUuid)
    const { placement } = await harness.client.getPlacement({ uuid: placementUuid })
    expect(placement).toMatchObject({ hostId: agent.hostId, hosts: [{ hostName: 'h1', passed: true }] })
  })

  test('stops, starts, changes and goes', async () => {
    const uuid = uuidOf(await harness.create('vm1'))
    await harness.atRest(uuid)
    await harness.ended((await harness.client.stopInstance({ uuid })).operationUuid)
    expect(await harness.instance(uuid)).toMatchObject({ status: InstanceStatus.SHUTOFF })
    await harness.ended((await harness.client.startInstance({ uuid })).operationUuid)
    expect(await harness.instance(uuid)).toMatchObject({ status: InstanceStatus.ACTIVE })
    await harness.ended(
      (await harness.client.updateInstance({ uuid, ha: true, tags: { values: ['a'] } })).operationUuid,
    )
    expect(agent.domains.get(uuid)?.spec.ha).toBe(true)
    const { operationUuid } = await harness.client.deleteInstance({ uuid })
    expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
    expect((await refusal(harness.client.getInstance({ uuid }))).code).toBe('NOT_FOUND')
    expect(agent.domains.size).toBe(0)
  })

  test('starting one that is active is a success that changes nothing', async () => {
    const uuid = uuidOf(await harness.create('vm1'))
    const { generation } = await harness.atRest(uuid)
    const { operationUuid } = await harness.client.startInstance({ uuid })
    expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
    expect((await harness.instance(uuid)).generation).toBe(generation)
  })

  test('has the metrics that its host measures, as long as that answers', async () => {
    const uuid = uuidOf(await harness.create('vm1'))
    await harness.atRest(uuid)
    const { metrics } = await harness.client.getInstanceMetrics({ uuid, sinceMs: 5, stepMs: 2 })
    expect(metrics).toMatchObject({ intervalMs: 5_000, totals: { atMs: 7, cpuSeconds: 7 }, series: [] })
    agent.stop()
    const error = await refusal(harness.client.getInstanceMetrics({ uuid }))
    expect(error).toMatchObject({ code: 'HOST_UNREACHABLE', message: expect.stringContaining('h1') })
    const unknown = '22c91117-08de-4894-9aa9-6ef382400985'
    expect(await refusal(harness.client.getInstanceMetrics({ uuid: unknown }))).toMatchObject({
      code: 'NOT_FOUND',
    })
  })

  test('is counted by its status, and listed in pages', async () => {
    for (const name of ['vm1', 'vm2', 'vm3']) await harness.atRest(uuidOf(await harness.create(name)))
    const [first] = [...harness.store.instances.keys()]
    await harness.ended((await harness.client.stopInstance({ uuid: first ?? '' })).operationUuid)
    expect((await harness.client.countInstances({})).counts).toEqual([
      { status: InstanceStatus.ACTIVE, count: 2 },
      { status: InstanceStatus.SHUTOFF, count: 1 },
      { status: InstanceStatus.PAUSED, count: 0 },
      { status: InstanceStatus.ERROR, count: 0 },
    ])
    const page = await harness.client.listInstances({ limit: 2 })
    expect(namesIn(page)).toEqual(['vm1', 'vm2'])
    const rest = await harness.client.listInstances({ limit: 2, marker: page.nextMarker })
    expect(namesIn(rest)).toEqual(['vm3'])
    expect(rest.nextMarker).toBe('')
    const off = await harness.client.listInstances({ status: InstanceStatus.SHUTOFF, host: 'h1' })
    expect(namesIn(off)).toEqual(['vm1'])
  })

  test('that is deleted while it is being created is never started', async () => {
    agent.onApply = (_spec, signal) =>
      new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
    const answer = await harness.create('vm1')
    const { operationUuid } = await harness.client.deleteInstance({ uuid: uuidOf(answer) })
    expect(await harness.ended(answer.operationUuid)).toMatchObject({ status: OperationStatus.CANCELLED })
    expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
    expect(agent.starts).toEqual([])
  })

  test('fails with the hypervisor’s reason after a few tries, and can be started when that is mended', async () => {
    agent.onApply = async () => {
      throw new VpeError('HYPERVISOR_FAILED', 'no such emulator')
    }
    const answer = await harness.create('vm1')
    expect(await harness.ended(answer.operationUuid)).toMatchObject({
      status: OperationStatus.FAILED,
      fault: 'no such emulator',
    })
    expect(await harness.instance(uuidOf(answer))).toMatchObject({
      status: InstanceStatus.ERROR,
      fault: 'no such emulator',
    })
    agent.onApply = async () => {}
    const { operationUuid } = await harness.client.startInstance({ uuid: uuidOf(answer) })
    expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
  })

  test('waits for a host that is away, and is made when it is back', async () => {
    agent.stop()
    const answer = await harness.create('vm1')
    await until('a try has failed', async () => {
      const { operation } = await harness.client.getOperation({ uuid: answer.operationUuid })
      return operation?.step.startsWith('will try again') ?? false
    })
    await agent.listen()
    expect(await harness.ended(answer.operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
  })
})

async function publishedEvents(url: string): Promise<CloudEvent[]> {
  const bus = await connectBus(url, 'watcher')
  const manager = await jetstreamManager(bus)
  const { state } = await manager.streams.info(EVENTS_STREAM)
  const events: CloudEvent[] = []
  for (let seq = 1; seq <= state.last_seq; seq++) {
    const message = await manager.streams.getMessage(EVENTS_STREAM, { seq })
    if (message) events.push(message.json<CloudEvent>())
  }
  await bus.close()
  return events
}

describe('what happens on the host', () => {
  let nats: TestNatsServer
  let uuid: string
  beforeEach(async () => {
    nats = await TestNatsServer.start()
    toDispose.push(nats)
    await begin(nats.url)
    uuid = uuidOf(await harness.create('vm1'))
    await harness.atRest(uuid)
  })

  /** What the agent does when something changed: it says so on the bus, and no more. */
  async function hint(of = agent): Promise<void> {
    const bus = await connectBus(harness.natsUrl ?? '', 'agent')
    bus.publish(`vpe.host.${of.hostId}.changed`)
    await bus.drain()
  }

  test('a guest that powers itself off stays off', async () => {
    agent.disturb(uuid, { power: Power.OFF, stopCause: StopCause.GUEST })
    await hint()
    await until('it is seen', async () => (await harness.instance(uuid)).status === InstanceStatus.SHUTOFF)
    expect(await harness.instance(uuid)).toMatchObject({
      power: Power.OFF,
      task: expect.stringContaining('UNSPECIFIED'),
    })
  })

  test('after a reboot of the host everything that is wanted on is started again', async () => {
    agent.bootId = randomUUID()
    agent.disturb(uuid, { power: Power.OFF, stopCause: StopCause.UNSPECIFIED })
    await hint()
    await until('it was started again', () => agent.starts.length === 2)
    expect(await harness.atRest(uuid)).toMatchObject({ status: InstanceStatus.ACTIVE })
    await until(
      'the new boot is known',
      () => harness.store.hosts.get(agent.hostId)?.facts.bootId === agent.bootId,
    )
  })

  test('a domain that vanished is made again; one that no record names is reported and left alone', async () => {
    const domain = agent.domains.get(uuid)
    agent.domains.clear()
    if (domain) agent.domains.set('stranger', { ...domain, report: { ...domain.report, uuid: 'stranger' } })
    await hint()
    await until('it was started again', () => agent.starts.length === 2)
    const { host } = await harness.client.getHost({ uuid: agent.hostId })
    expect(host?.unknownInstances).toEqual(['stranger'])
    expect(agent.domains.has('stranger')).toBe(true)
  })

  test('a guest that runs on a host that its record does not name is told once, and left alone', async () => {
    const other = await FakeAgent.start()
    toDispose.push({ [Symbol.asyncDispose]: async () => other.stop() })
    const domain = agent.domains.get(uuid)
    if (domain) other.domains.set(uuid, domain)
    await harness.client.createHost({ name: 'h2', address: other.address })
    const told = async () =>
      (await publishedEvents(nats.url)).filter(({ type }) => type === 'vpe.host.stray_guest')
    const readOnce = async () => {
      const before = other.inventoriesRead
      await hint(other)
      await until('it was read again', () => other.inventoriesRead > before)
    }
    await until('it is told', async () => {
      await readOnce()
      return (await told()).length > 0
    })
    await readOnce()
    await readOnce()
    expect(await told()).toMatchObject([{ data: { name: 'h2', instance_uuid: uuid, hosts: [agent.hostId] } }])
    const { host } = await harness.client.getHost({ uuid: other.hostId })
    expect(host?.unknownInstances).toEqual([uuid])
    expect([...other.domains.keys()]).toEqual([uuid])
    expect(await harness.instance(uuid)).toMatchObject({
      hostId: agent.hostId,
      status: InstanceStatus.ACTIVE,
    })
  })
})

describe('the addresses of a guest', () => {
  test('are those that its host says, and stay known when that is down', async () => {
    await begin()
    const uuid = uuidOf(await harness.create('vm1'))
    await harness.atRest(uuid)
    agent.addresses.set(uuid, ['10.0.0.7'])
    await harness.stop()
    await harness.start()
    await until('they are known', async () => (await harness.instance(uuid)).addresses[0] === '10.0.0.7')

    agent.stop()
    const host = [...harness.store.hosts.values()][0]
    if (!host) throw new Error('there is no host')
    await harness.store.commit([change.host({ ...host, state: 'down' })])
    expect(await refusal(harness.client.deleteInstance({ uuid, needsHost: true }))).toMatchObject({
      code: 'HOST_UNREACHABLE',
      message: 'host h1 of the instance is down',
    })
    expect(await harness.instance(uuid)).toMatchObject({
      addresses: ['10.0.0.7'],
      task: InstanceTask.RECOVERING,
    })
  })
})

describe('another host at a host’s address', () => {
  test('is asked for nothing: no guest runs twice, and no deletion succeeds on the wrong machine', async () => {
    await begin()
    const uuid = uuidOf(await harness.create('vm1'))
    await harness.atRest(uuid)
    await harness.stop()
    agent.stop()
    const other = await FakeAgent.start()
    other.stop()
    other.address = agent.address
    await other.listen()
    await harness.start()
    const { operationUuid } = await harness.client.deleteInstance({ uuid })
    await until('it was tried', async () => {
      const { operation } = await harness.client.getOperation({ uuid: operationUuid })
      return operation?.step.includes('is meant for') ?? false
    })
    expect(other.starts).toEqual([])
    expect(agent.domains.has(uuid)).toBe(true)
    other.stop()
    await agent.listen()
    expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
    expect(agent.domains.size).toBe(0)
  })
})

describe('requests', () => {
  beforeEach(() => begin())

  test('the same one five times with one key makes one instance, and gets one answer', async () => {
    const answers = await Promise.all([1, 2, 3, 4, 5].map(() => harness.create('vm1', 'key-1')))
    answers.push(await harness.create('vm1', 'key-1'))
    expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1)
    expect(harness.store.instances.size).toBe(1)
    await harness.stop()
    await harness.start()
    expect(await harness.create('vm1', 'key-1')).toEqual(answers[0])
  })

  test('another one with the same key is refused', async () => {
    await harness.create('vm1', 'key-1')
    expect((await refusal(harness.create('vm2', 'key-1'))).code).toBe('IDEMPOTENCY_KEY_REUSED')
  })

  test('a deletion by name gets its answer again when the name stands for nothing any more', async () => {
    const answer = await harness.create('vm1')
    const metadata = Metadata({ 'idempotency-key': 'key-1' })
    const request = { called: { name: 'vm1', namespace: 'default' } }
    const deleted = await harness.client.deleteInstance(request, { metadata })
    expect(uuidOf(deleted)).toBe(uuidOf(answer))
    await harness.ended(deleted.operationUuid)
    expect(await harness.client.deleteInstance(request, { metadata })).toEqual(deleted)
    expect((await refusal(harness.client.deleteInstance(request))).code).toBe('NOT_FOUND')
  })

  test('a name and its namespace are two things, whatever characters they hold', async () => {
    const request = { flavor: 'tiny', image: 'demo' }
    const one = await harness.client.createInstance({ ...request, namespace: 'a', name: 'b/c' })
    const other = await harness.client.createInstance({ ...request, namespace: 'a/b', name: 'c' })
    for (const { instance } of [one, other]) {
      const called = { name: instance?.name ?? '', namespace: instance?.namespace ?? '' }
      expect((await harness.client.findInstance({ called })).instance?.uuid).toBe(instance?.uuid)
    }
  })

  test('a refused one leaves no trace, and its key can be used again', async () => {
    await harness.create('vm1')
    expect((await refusal(harness.create('vm1', 'key-1'))).code).toBe('NAME_TAKEN')
    expect(await harness.create('vm2', 'key-1')).toMatchObject({ instance: { name: 'vm2' } })
  })

  test('a change that is no affair of the host’s succeeds at once, whatever state the instance is in', async () => {
    agent.onApply = async () => {
      throw new VpeError('IMAGE_INVALID', 'bad thing')
    }
    const { instance, operationUuid } = await harness.create('vm1')
    await harness.ended(operationUuid)
    const uuid = instance?.uuid ?? ''
    const changed = await harness.client.updateInstance({ uuid, tags: { values: ['a'] } })
    expect(await harness.ended(changed.operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
    const same = await harness.client.updateInstance({ uuid, tags: { values: ['a'] } })
    expect(await harness.ended(same.operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
    expect(await harness.instance(uuid)).toMatchObject({ status: InstanceStatus.ERROR, tags: ['a'] })
  })

  test('an image whose import hangs can be deleted, and its operation is cancelled', async () => {
    agent.onImport = () => new Promise(() => {})
    const { image, operationUuid } = await harness.client.createImage({ name: 'slow', url: 'file:///x' })
    await harness.client.deleteImage({ uuid: image?.uuid ?? '' })
    expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.CANCELLED })
  })

  test('two decisions in one turn see each other', async () => {
    const flavor = { name: 'twice', vcpus: 1, memoryMib: 64, diskGib: 1 }
    const results = await Promise.allSettled([
      harness.client.createFlavor(flavor),
      harness.client.createFlavor(flavor),
    ])
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
    expect(harness.fatal).toBeNull()
  })

  test('nonsense is refused by the controller itself, too', async () => {
    for (const [call, field] of [
      [harness.client.createFlavor({ name: '', vcpus: 1, memoryMib: 64 }), 'name'],
      [harness.client.createFlavor({ name: 'f', vcpus: 0, memoryMib: 64 }), 'vcpus'],
      [harness.client.createFlavor({ name: 'f', vcpus: 1, memoryMib: -1 }), 'memory_mib'],
      [harness.client.createFlavor({ name: 'f', vcpus: 1, memoryMib: 64, diskGib: -5 }), 'disk_gib'],
      [harness.client.createInstance({ name: 'x'.repeat(300), flavor: 'tiny', image: 'demo' }), 'name'],
      [harness.client.listOperations({ limit: -1 }), 'limit'],
    ] as const) {
      expect(await refusal(call)).toMatchObject({ code: 'INVALID_ARGUMENT', fields: [{ field }] })
    }
  })

  test('what names something that does not exist is refused with the field', async () => {
    for (const [field, request] of [
      ['flavor', { flavor: 'x' }],
      ['image', { image: 'x' }],
      ['disk_pool', { diskPool: 'x' }],
      ['host_ids', { hostIds: ['x'] }],
      ['disks', { diskUuids: ['x'] }],
    ] satisfies [string, object][]) {
      const whole = { name: 'vm1', flavor: 'tiny', image: 'demo', ...request }
      expect(await refusal(harness.client.createInstance(whole))).toMatchObject({
        code: 'INVALID_ARGUMENT',
        fields: [{ field, message: expect.stringContaining('"x"') }],
      })
    }
    expect(harness.store.instances.size).toBe(0)
  })

  test('never share the last slot, however many come at once', async () => {
    await harness.client.createFlavor({ name: 'half', vcpus: 1, memoryMib: 7_900, diskGib: 1 })
    const results = await Promise.allSettled(
      Array.from({ length: 20 }, (_none, index) =>
        harness.client.createInstance({ name: `vm${index}`, flavor: 'half', image: 'demo' }),
      ),
    )
    const refused = results.filter(({ status }) => status === 'rejected')
    expect(refused).toHaveLength(18)
    const [first] = refused
    const error = fromClientError(first?.status === 'rejected' ? first.reason : null)
    expect(error.message).toBe('no host fits: 1 of 1 lack memory (h1: needs 7900 MiB, 72 MiB are free)')
  })

  test('what is used cannot be deleted, and what is not can', async () => {
    const uuid = uuidOf(await harness.create('vm1'))
    await harness.atRest(uuid)
    const [flavor] = harness.store.flavors.keys()
    const [image] = harness.store.images.keys()
    const [pool] = harness.store.diskPools.keys()
    const calls = [
      () => harness.client.deleteFlavor({ uuid: flavor ?? '' }),
      () => harness.client.deleteImage({ uuid: image ?? '' }),
      () => harness.client.deleteDiskPool({ uuid: pool ?? '' }),
      () => harness.client.deleteHost({ uuid: agent.hostId }),
    ]
    for (const call of calls) expect((await refusal(call())).code).toBe('IN_USE')
    await harness.ended((await harness.client.deleteInstance({ uuid })).operationUuid)
    for (const call of calls) await call()
    expect([
      ...harness.store.flavors.keys(),
      ...harness.store.diskPools.keys(),
      ...harness.store.hosts.keys(),
    ]).toEqual([])
    expect(agent.images.size).toBe(0)
  })
})

describe('events', () => {
  test('each change is on the stream once and in order, also over restarts and an absent NATS', async () => {
    const nats = await TestNatsServer.start()
    toDispose.push(nats)
    await begin(nats.url)
    const first = uuidOf(await harness.create('vm1'))
    await harness.atRest(first)
    await nats.kill()
    const second = uuidOf(await harness.create('vm2'))
    await harness.atRest(second)
    await harness.stop()
    await nats.start()
    await harness.start()
    await harness.ended((await harness.client.deleteInstance({ uuid: first })).operationUuid)
    await until('all is published', async () =>
      (await publishedEvents(nats.url)).some(({ type }) => type === 'vpe.instance.deleted'),
    )
    const events = await publishedEvents(nats.url)
    const about = (uuid: string) =>
      events.filter(({ subject }) => subject === `instance/${uuid}`).map(({ type }) => type)
    expect(about(first)).toEqual([
      'vpe.instance.creating',
      'vpe.instance.started',
      'vpe.instance.deleting',
      'vpe.instance.deleted',
    ])
    expect(about(second)).toEqual(['vpe.instance.creating', 'vpe.instance.started'])
    expect(new Set(events.map(({ id }) => id)).size).toBe(events.length)
  })

  test('a store that is opened a second time ends the first, which writes nothing more', async () => {
    await begin()
    const usurper = new SqliteBackend(harness.storeFile)
    expect((await usurper.open()).epoch).toBe(harness.store.epoch + 1)
    await refusal(harness.create('vm1'))
    expect(harness.fatal).toMatchObject({ code: 'STALE_EPOCH' })
    await usurper.close()
  })
})
