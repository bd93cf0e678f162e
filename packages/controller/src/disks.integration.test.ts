// Data disks over real gRPC and SQLite, with a pretended agent: races, refusals, mishaps, and a controller
// that dies in the middle.

import { VpeError } from '@vpe/core'
import { type Disk, DiskStatus, fromClientError, InstanceStatus, OperationStatus } from '@vpe/proto'
import { Metadata } from 'nice-grpc'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { FakeAgent } from './testing/fake-agent.ts'
import { Harness, until } from './testing/harness.ts'

const GIB = 1024 ** 3

let agent: FakeAgent
let harness: Harness
const agents: FakeAgent[] = []

beforeEach(async () => {
  agent = await startAgent()
  harness = new Harness()
  await harness.start()
  await harness.furnish(agent)
})
afterEach(async () => {
  await harness[Symbol.asyncDispose]()
  for (const each of agents.splice(0)) each.stop()
})

async function startAgent(): Promise<FakeAgent> {
  const started = await FakeAgent.start()
  agents.push(started)
  return started
}

async function refusal(call: Promise<unknown>): Promise<VpeError> {
  const error = await call.then(() => null, fromClientError)
  if (!error) throw new Error('it was not refused')
  return error
}

async function disk(uuid: string): Promise<Disk> {
  const answer = await harness.client.getDisk({ uuid })
  if (!answer.disk) throw new Error('an answer without a disk')
  return answer.disk
}

async function createDisk(name = 'vol1', more: { sizeBytes?: number; host?: string } = {}): Promise<string> {
  const answer = await harness.client.createDisk({ name, sizeBytes: GIB, ...more })
  expect(await harness.ended(answer.operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
  return answer.disk?.uuid ?? ''
}

async function createInstance(name: string, diskUuids: string[] = []): Promise<string> {
  const request = { name, flavor: 'tiny', image: 'demo', diskUuids }
  const { instance, operationUuid } = await harness.client.createInstance(request)
  expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
  return instance?.uuid ?? ''
}

const attach = (instanceUuid: string, uuid: string) => harness.client.attachDisk({ instanceUuid, disk: uuid })
const detach = (instanceUuid: string, diskUuid: string) =>
  harness.client.detachDisk({ instanceUuid, diskUuid })

async function attached(instanceUuid: string, uuid: string): Promise<void> {
  const { operationUuid } = await attach(instanceUuid, uuid)
  expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
}

/** The disks that the domain of an instance was last made to have. */
const inDomain = (uuid: string) => agent.domains.get(uuid)?.spec.disks.map((each) => each.disk?.uuid) ?? []

async function eventsOf(uuid: string): Promise<string[]> {
  await harness.store.durable()
  const entries = await harness.store.backend.readOutbox(0, 1_000)
  return entries.flatMap(({ event }) => (event.id === uuid ? [event.what] : []))
}

describe('a disk', () => {
  test('is made, attached, grown, detached and removed, with an event for each change', async () => {
    const vm = await createInstance('web')
    const uuid = await createDisk()
    expect(await disk(uuid)).toMatchObject({ status: DiskStatus.AVAILABLE, hostName: 'h1', sizeBytes: GIB })
    expect(agent.disks.get(uuid)).toBe(GIB)

    await attached(vm, uuid)
    expect(inDomain(vm)).toEqual([uuid])
    expect((await harness.instance(vm)).disks).toEqual([{ uuid, name: 'vol1' }])
    expect(await disk(uuid)).toMatchObject({ status: DiskStatus.IN_USE, instanceName: 'web' })

    const grown = await harness.client.updateDisk({ uuid, sizeBytes: 2 * GIB })
    expect(await harness.ended(grown.operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
    expect(agent.domains.get(vm)?.spec.disks[0]?.disk?.sizeBytes).toBe(2 * GIB)

    const freed = await detach(vm, uuid)
    expect(await harness.ended(freed.operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
    expect(inDomain(vm)).toEqual([])
    const more = await harness.client.updateDisk({ uuid, sizeBytes: 3 * GIB, name: 'vol2' })
    await harness.ended(more.operationUuid)
    expect(agent.disks.get(uuid)).toBe(3 * GIB)
    expect(await disk(uuid)).toMatchObject({ status: DiskStatus.AVAILABLE, name: 'vol2' })

    const { operationUuid } = await harness.client.deleteDisk({ uuid })
    expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
    expect(agent.disks.has(uuid)).toBe(false)
    expect(await refusal(disk(uuid))).toMatchObject({ code: 'NOT_FOUND' })
    expect(await eventsOf(uuid)).toEqual([
      ...['creating', 'created', 'attaching', 'attached', 'resizing', 'resized'],
      ...['detaching', 'detached', 'resizing', 'resized', 'deleting', 'deleted'],
    ])
  })

  test('that two instances want at once goes to one, and the other is told whose it is', async () => {
    const [one, other] = [await createInstance('one'), await createInstance('other')]
    const uuid = await createDisk()
    const outcomes = await Promise.allSettled([attach(one, uuid), attach(other, uuid)])
    const winner = outcomes[0]?.status === 'fulfilled' ? 'one' : 'other'
    const lost = outcomes.flatMap((each) => (each.status === 'rejected' ? fromClientError(each.reason) : []))
    expect(lost).toHaveLength(1)
    expect(lost[0]).toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining(`instance ${winner} (`),
    })
    await until('it is attached', async () => (await disk(uuid)).status === DiskStatus.IN_USE)
    expect([...inDomain(one), ...inDomain(other)]).toEqual([uuid])
  })

  test('that a guest does not let go of stays attached, its instance runs on, and the reason is told', async () => {
    const vm = await createInstance('web')
    const uuid = await createDisk()
    await attached(vm, uuid)
    agent.onApply = async (spec) => {
      if (spec.disks.length === 0) throw new VpeError('DEVICE_BUSY', 'the guest holds it; stop the instance')
    }
    const { operationUuid } = await detach(vm, uuid)
    expect(await harness.ended(operationUuid)).toMatchObject({
      status: OperationStatus.FAILED,
      fault: 'the guest holds it; stop the instance',
    })
    expect(await disk(uuid)).toMatchObject({ status: DiskStatus.IN_USE, instanceUuid: vm })
    expect(await harness.atRest(vm)).toMatchObject({ status: InstanceStatus.ACTIVE, disks: [{ uuid }] })
    expect(await refusal(harness.client.deleteDisk({ uuid }))).toMatchObject({ code: 'CONFLICT' })
  })

  test('that cannot be attached is taken back, and its instance runs on', async () => {
    const vm = await createInstance('web')
    const uuid = await createDisk()
    agent.onApply = async (spec) => {
      if (spec.disks.length > 0) throw new VpeError('NOT_FOUND', 'no such file')
    }
    const { operationUuid } = await attach(vm, uuid)
    expect(await harness.ended(operationUuid)).toMatchObject({
      status: OperationStatus.FAILED,
      fault: 'no such file',
    })
    await until('it is free', async () => (await disk(uuid)).status === DiskStatus.AVAILABLE)
    expect(await harness.atRest(vm)).toMatchObject({ status: InstanceStatus.ACTIVE, disks: [] })
    agent.onApply = async () => {}
    await attached(vm, uuid)
  })

  test('is free only when the host has said that the domain is without it', async () => {
    const vm = await createInstance('web')
    const uuid = await createDisk()
    await attached(vm, uuid)
    const gate = Promise.withResolvers<void>()
    agent.onApply = () => gate.promise
    const { operationUuid } = await detach(vm, uuid)
    expect(await disk(uuid)).toMatchObject({ status: DiskStatus.DETACHING, instanceUuid: vm })
    expect(await refusal(harness.client.deleteDisk({ uuid }))).toMatchObject({ code: 'CONFLICT' })
    expect(await refusal(attach(vm, uuid))).toMatchObject({ code: 'CONFLICT' })
    gate.resolve()
    await harness.ended(operationUuid)
    expect(await disk(uuid)).toMatchObject({ status: DiskStatus.AVAILABLE })
  })

  test('is not taken from a paused guest, which can let go of nothing; one is given to it', async () => {
    const vm = await createInstance('web')
    const [uuid, other] = [await createDisk('vol1'), await createDisk('vol2')]
    await attached(vm, uuid)
    await harness.ended((await harness.client.pauseInstance({ uuid: vm })).operationUuid)
    expect(await refusal(detach(vm, uuid))).toMatchObject({
      code: 'CONFLICT',
      message: 'instance web is paused: its guest can let go of nothing; resume or stop it first',
    })
    await attached(vm, other)
    expect(await harness.atRest(vm)).toMatchObject({ status: InstanceStatus.PAUSED })
    await harness.ended((await harness.client.resumeInstance({ uuid: vm })).operationUuid)
    await harness.ended((await detach(vm, uuid)).operationUuid)
    expect(inDomain(vm)).toEqual([other])
  })

  test('outlives its instance, which says that it is kept', async () => {
    const uuid = await createDisk()
    const vm = await createInstance('web', ['vol1'])
    expect(inDomain(vm)).toEqual([uuid])
    const gate = Promise.withResolvers<void>()
    agent.onRemove = () => gate.promise
    const { operationUuid, instance } = await harness.client.deleteInstance({ uuid: vm })
    expect(instance?.disks).toEqual([{ uuid, name: 'vol1' }])
    expect(await disk(uuid)).toMatchObject({ status: DiskStatus.IN_USE })
    gate.resolve()
    expect(await harness.ended(operationUuid)).toMatchObject({ note: expect.stringContaining('vol1') })
    expect(await disk(uuid)).toMatchObject({ status: DiskStatus.AVAILABLE, instanceUuid: '' })
    const entries = await harness.store.backend.readOutbox(0, 1_000)
    const deleted = entries.find(({ event }) => event.id === vm && event.what === 'deleted')
    expect(deleted?.event.data.disks).toEqual([{ uuid, name: 'vol1' }])
  })

  test('belongs to an instance that is in error, until that is stopped or deleted', async () => {
    const uuid = await createDisk()
    agent.onApply = () => Promise.reject(new VpeError('IMAGE_INVALID', 'no such image'))
    const { instance } = await harness.client.createInstance({
      name: 'web',
      flavor: 'tiny',
      image: 'demo',
      diskUuids: [uuid],
    })
    const vm = instance?.uuid ?? ''
    expect(await harness.atRest(vm)).toMatchObject({ status: InstanceStatus.ERROR, disks: [{ uuid }] })
    expect(await refusal(detach(vm, uuid))).toMatchObject({ message: expect.stringContaining('in error') })
    const { operationUuid } = await harness.client.deleteInstance({ uuid: vm })
    await harness.ended(operationUuid)
    expect(await disk(uuid)).toMatchObject({ status: DiskStatus.AVAILABLE })
  })

  test('that cannot be made is in error with the reason, and can be deleted', async () => {
    agent.onDisk = () => Promise.reject(new VpeError('DISK_POOL_FAILED', 'read-only file system'))
    const { disk: made, operationUuid } = await harness.client.createDisk({ name: 'vol1', sizeBytes: GIB })
    expect(await harness.ended(operationUuid)).toMatchObject({
      status: OperationStatus.FAILED,
      fault: 'disk pool local on h1: read-only file system',
    })
    const uuid = made?.uuid ?? ''
    expect(await disk(uuid)).toMatchObject({
      status: DiskStatus.ERROR,
      fault: expect.stringContaining('read-only file system'),
    })
    expect(await refusal(attach(await createInstance('web'), uuid))).toMatchObject({ code: 'CONFLICT' })
    agent.onDisk = async () => {}
    await harness.ended((await harness.client.deleteDisk({ uuid })).operationUuid)
    expect(harness.store.disks.size).toBe(0)
  })

  test('asked for twice with one key is made once', async () => {
    const options = { metadata: Metadata({ 'idempotency-key': 'k' }) }
    const request = { name: 'vol1', sizeBytes: GIB }
    const [one, two] = await Promise.all([
      harness.client.createDisk(request, options),
      harness.client.createDisk(request, options),
    ])
    expect(two).toEqual(one)
    expect(harness.store.disks.size).toBe(1)
  })
})

describe('a controller that dies', () => {
  async function restart(): Promise<void> {
    await harness.stop()
    await harness.start()
  }

  test('while a disk is made, grown or removed takes it up again', async () => {
    const { disk: made } = await (async () => {
      agent.onDisk = () => new Promise(() => {})
      return harness.client.createDisk({ name: 'vol1', sizeBytes: GIB })
    })()
    const uuid = made?.uuid ?? ''
    agent.onDisk = async () => {}
    await restart()
    await until('it is made', async () => (await disk(uuid)).status === DiskStatus.AVAILABLE)

    agent.onDisk = () => new Promise(() => {})
    await harness.client.updateDisk({ uuid, sizeBytes: 2 * GIB })
    agent.onDisk = async () => {}
    await restart()
    await until('it is grown', async () => (await disk(uuid)).status === DiskStatus.AVAILABLE)
    expect(agent.disks.get(uuid)).toBe(2 * GIB)

    agent.onDisk = () => new Promise(() => {})
    await harness.client.deleteDisk({ uuid })
    agent.onDisk = async () => {}
    await restart()
    await until('it is gone', () => harness.store.disks.size === 0)
  })

  test('while a disk is attached or detached takes it up again', async () => {
    const vm = await createInstance('web')
    const uuid = await createDisk()
    agent.onApply = () => new Promise(() => {})
    const attaching = await attach(vm, uuid)
    agent.onApply = async () => {}
    await restart()
    expect(await harness.ended(attaching.operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
    expect(await disk(uuid)).toMatchObject({ status: DiskStatus.IN_USE, instanceUuid: vm })

    agent.onApply = () => new Promise(() => {})
    const detaching = await detach(vm, uuid)
    agent.onApply = async () => {}
    await restart()
    expect(await harness.ended(detaching.operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
    expect(await disk(uuid)).toMatchObject({ status: DiskStatus.AVAILABLE, instanceUuid: '' })
    expect(inDomain(vm)).toEqual([])
  })

  test('while its host is away goes on when that is back', async () => {
    agent.stop()
    const { disk: made, operationUuid } = await harness.client.createDisk({ name: 'vol1', sizeBytes: GIB })
    await until('it waits', async () => {
      const { operation } = await harness.client.getOperation({ uuid: operationUuid })
      return operation?.step.startsWith('will try again') ?? false
    })
    await agent.listen()
    expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
    expect(agent.disks.has(made?.uuid ?? '')).toBe(true)
  })
})

describe('where a disk lies', () => {
  test('ties an instance to it from its creation', async () => {
    const second = await startAgent()
    await harness.client.createHost({ name: 'h2', address: second.address })
    await until('its pool is ready', () =>
      [...harness.store.diskPools.values()].every(({ hosts }) =>
        hosts.every(({ state }) => state === 'ready'),
      ),
    )
    await createDisk('there', { host: 'h2' })
    await createDisk('here', { host: 'h1' })
    const { instance, operationUuid } = await harness.client.createInstance({
      name: 'web',
      flavor: 'tiny',
      image: 'demo',
      diskUuids: ['there'],
    })
    const operation = await harness.ended(operationUuid)
    expect(instance).toMatchObject({ hostName: 'h2' })
    const { placement } = await harness.client.getPlacement({ uuid: operation.placementUuid })
    expect(placement?.hosts.find(({ hostName }) => hostName === 'h1')).toMatchObject({
      rule: 'data-disks',
      reason: 'data disk there lies on host h2',
    })
    expect(await refusal(attach(instance?.uuid ?? '', 'here'))).toMatchObject({
      code: 'CONFLICT',
      message: expect.stringMatching(/here lies on host h1, and instance web is on host h2/),
    })
    const both = { name: 'two', flavor: 'tiny', image: 'demo', diskUuids: ['here', 'there'] }
    expect(await refusal(harness.client.createInstance(both))).toMatchObject({ code: 'NO_HOST_FITS' })
  })

  test('has room for so much, and what is promised counts', async () => {
    const [pool] = harness.store.diskPools.values()
    if (!pool) throw new Error('no pool')
    const hosts = pool.hosts.map((host) => ({ ...host, capacityBytes: 10 * GIB }))
    await harness.store.commit([{ table: 'diskPools', key: pool.uuid, row: { ...pool, hosts } }])
    await createInstance('web')
    const uuid = await createDisk('vol1', { sizeBytes: 6 * GIB })
    const figures = /disk pool local on host h1 has 3.0 GiB of 10.0 GiB left, and 4.0 GiB are needed/
    const refused = { code: 'DISK_POOL_FULL', message: expect.stringMatching(figures) }
    expect(await refusal(harness.client.createDisk({ name: 'vol2', sizeBytes: 4 * GIB }))).toMatchObject(
      refused,
    )
    expect(await refusal(harness.client.updateDisk({ uuid, sizeBytes: 10 * GIB }))).toMatchObject(refused)
    await createInstance('two')
    await createInstance('three')
    await createInstance('four')
    expect(await refusal(createInstance('five'))).toMatchObject({ code: 'NO_HOST_FITS' })
    expect(harness.store.disks.size).toBe(1)
  })

  test('is not taken away under it', async () => {
    const uuid = await createDisk()
    const [host] = harness.store.hosts.keys()
    const [pool] = harness.store.diskPools.keys()
    const refused = { code: 'IN_USE', message: expect.stringContaining('1 data disk(s)') }
    expect(await refusal(harness.client.deleteDiskPool({ uuid: pool ?? '' }))).toMatchObject(refused)
    expect(await refusal(harness.client.deleteHost({ uuid: host ?? '' }))).toMatchObject(refused)
    await harness.ended((await harness.client.deleteDisk({ uuid })).operationUuid)
    await harness.client.deleteHost({ uuid: host ?? '' })
  })
})

describe('nonsense', () => {
  test.each([
    [{ name: '', sizeBytes: GIB }, 'name'],
    [{ name: 'a', sizeBytes: 0 }, 'size_bytes'],
    [{ name: 'a', sizeBytes: 2 ** 52 }, 'size_bytes'],
    [{ name: 'a', sizeBytes: GIB, diskPool: 'none' }, 'disk_pool'],
    [{ name: 'a', sizeBytes: GIB, host: 'none' }, 'host'],
  ])('%j is refused', async (request, field) => {
    const error = await refusal(harness.client.createDisk(request))
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', fields: [{ field }] })
  })

  test('a disk given twice, one that is not there, and one that is taken, at the creation of an instance', async () => {
    await createDisk()
    const request = { name: 'web', flavor: 'tiny', image: 'demo' }
    for (const diskUuids of [['vol1', 'vol1'], ['none']]) {
      const error = await refusal(harness.client.createInstance({ ...request, diskUuids }))
      expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', fields: [{ field: 'disks' }] })
    }
    await createInstance('holder', ['vol1'])
    expect(await refusal(harness.client.createInstance({ ...request, diskUuids: ['vol1'] }))).toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining('instance holder'),
    })
    expect(harness.store.instances.size).toBe(1)
  })

  test('detaching what is not attached there', async () => {
    const uuid = await createDisk()
    const vm = await createInstance('web')
    expect(await refusal(detach(vm, uuid))).toMatchObject({ code: 'NOT_FOUND' })
  })
})
