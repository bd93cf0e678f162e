// Snapshots and clones through the real protocol on both sides, with the controller killed in the middle.

import { randomUUID } from 'node:crypto'
import { VpeError } from '@vpe/core'
import {
  fromClientError,
  InstanceTask,
  OperationStatus,
  Power,
  type Snapshot,
  SnapshotStatus,
} from '@vpe/proto'
import { Metadata } from 'nice-grpc'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { FakeAgent } from './testing/fake-agent.ts'
import { Harness, until } from './testing/harness.ts'

let agent: FakeAgent
let harness: Harness
let instanceUuid: string

beforeEach(async () => {
  agent = await FakeAgent.start()
  harness = new Harness()
  await harness.start()
  await harness.furnish(agent)
  const { instance } = await harness.create('vm1')
  instanceUuid = instance?.uuid ?? ''
  await harness.atRest(instanceUuid)
})
afterEach(async () => {
  await harness[Symbol.asyncDispose]()
  agent.stop()
})

const refusal = (call: Promise<unknown>) =>
  call.then(
    () => null,
    (cause: unknown) => fromClientError(cause),
  )

async function snapshot(name: string): Promise<string> {
  const { snapshot, operationUuid } = await harness.client.createSnapshot({ instanceUuid, name })
  expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
  return snapshot?.uuid ?? ''
}

async function shown(uuid: string): Promise<Snapshot | undefined> {
  return (await harness.client.getSnapshot({ instanceUuid, uuid })).snapshot
}

/** Lets the host be asked for a snapshot, and go on only when it is told to. */
function hold(): { asked: Promise<void>; letGo: () => void } {
  const [asked, released] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  agent.onSnapshot = () => {
    asked.resolve()
    return released.promise
  }
  return {
    asked: asked.promise,
    letGo: () => {
      agent.onSnapshot = async () => {}
      released.resolve()
    },
  }
}

const reservedBytes = () => {
  const { diskPoolUuid, hostId } = harness.store.instances.get(instanceUuid) ?? {
    diskPoolUuid: '',
    hostId: '',
  }
  return harness.store.usage.reservedBytes(diskPoolUuid, hostId, false)
}

describe('a snapshot', () => {
  test('is there when its host has made it, and gone when that has removed it', async () => {
    const held = hold()
    const before = reservedBytes()
    const made = await harness.client.createSnapshot({ instanceUuid, name: 'a' })
    const uuid = made.snapshot?.uuid ?? ''
    await held.asked
    expect(made.snapshot).toMatchObject({ name: 'a', instanceUuid, status: SnapshotStatus.CREATING })
    const { operation } = await harness.client.getOperation({ uuid: made.operationUuid })
    expect(operation).toMatchObject({
      kind: 'snapshot.create',
      resourceUuid: uuid,
      step: 'making the snapshot',
    })
    held.letGo()
    expect(await harness.ended(made.operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
    expect(await shown(uuid)).toMatchObject({ status: SnapshotStatus.AVAILABLE, sizeBytes: 2 ** 30 })
    expect([...agent.snapshots]).toEqual([uuid])
    expect(reservedBytes() - before).toBe(2 ** 30)

    const { operationUuid } = await harness.client.deleteSnapshot({ instanceUuid, uuid })
    expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
    expect((await harness.client.listSnapshots({ instanceUuid })).snapshots).toEqual([])
    expect([...agent.snapshots]).toEqual([])
    expect(reservedBytes()).toBe(before)
  })

  test.each(['before the host has heard of it', 'before its answer has come'])(
    'is made once, though the controller dies %s',
    async (when) => {
      const held = hold()
      const metadata = Metadata({ 'idempotency-key': randomUUID() })
      const request = { instanceUuid, name: 'a' }
      const { operationUuid } = await harness.client.createSnapshot(request, { metadata })
      await held.asked
      if (when.startsWith('before its')) agent.onSnapshot = async () => {}
      await harness.stop()
      held.letGo()
      await harness.start()
      expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
      const again = await harness.client.createSnapshot(request, { metadata })
      expect(again.operationUuid).toBe(operationUuid)
      expect(agent.snapshots.size).toBe(1)
    },
  )

  test('waits for its host, and fails with the reason when that cannot make it', async () => {
    agent.stop()
    const made = await harness.client.createSnapshot({ instanceUuid, name: 'a' })
    agent.onSnapshot = async () => {
      throw new VpeError('NOT_FOUND', 'there is no disk')
    }
    await agent.listen()
    const fault = expect.stringContaining('there is no disk')
    expect(await harness.ended(made.operationUuid)).toMatchObject({ status: OperationStatus.FAILED, fault })
    expect(await shown(made.snapshot?.uuid ?? '')).toMatchObject({ status: SnapshotStatus.ERROR, fault })
  })

  test('that is being made can be given up', async () => {
    agent.onSnapshot = async (change) => {
      if (change === 'make') throw new VpeError('UNAVAILABLE', 'somebody is at work on it')
    }
    const made = await harness.client.createSnapshot({ instanceUuid, name: 'a' })
    const going = await harness.client.deleteSnapshot({ instanceUuid, uuid: made.snapshot?.uuid ?? '' })
    expect(await harness.ended(made.operationUuid)).toMatchObject({ status: OperationStatus.CANCELLED })
    expect(await harness.ended(going.operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
  })

  test('goes with its instance, whatever is being done to it', async () => {
    const kept = await snapshot('kept')
    agent.onSnapshot = async () => {
      throw new VpeError('UNAVAILABLE', 'not now')
    }
    const going = await harness.client.deleteSnapshot({ instanceUuid, uuid: kept })
    const made = await harness.client.createSnapshot({ instanceUuid, name: 'new' })
    const { operationUuid } = await harness.client.deleteInstance({ uuid: instanceUuid })
    expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
    expect(await harness.ended(going.operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
    expect(await harness.ended(made.operationUuid)).toMatchObject({ status: OperationStatus.CANCELLED })
    expect(harness.store.snapshots.size).toBe(0)
    expect(reservedBytes()).toBe(0)
    await harness.stop()
    await harness.start()
    expect(harness.store.snapshots.size).toBe(0)
  })

  test('has one name in its instance, and needs room for what it may hold back', async () => {
    await snapshot('a')
    expect(await refusal(harness.client.createSnapshot({ instanceUuid, name: 'a' }))).toMatchObject({
      code: 'NAME_TAKEN',
    })
    for (const pool of harness.store.diskPools.values()) {
      const hosts = pool.hosts.map((host) => ({ ...host, capacityBytes: 2 ** 31 }))
      await harness.store.commit([{ table: 'diskPools', key: pool.uuid, row: { ...pool, hosts } }])
    }
    expect(await refusal(harness.client.createSnapshot({ instanceUuid, name: 'b' }))).toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining('needs 1.0 GiB of disk'),
    })
  })

  test('is of one instance, and not to be had by way of another', async () => {
    const uuid = await snapshot('a')
    const { instance } = await harness.create('vm2')
    const other = { instanceUuid: instance?.uuid ?? '', uuid }
    expect(await refusal(harness.client.getSnapshot(other))).toMatchObject({ code: 'NOT_FOUND' })
    expect(await refusal(harness.client.deleteSnapshot(other))).toMatchObject({ code: 'NOT_FOUND' })
  })
})

describe('a revert', () => {
  test.each(['before the host has heard of it', 'before its answer has come'])(
    'happens once, though the controller dies %s',
    async (when) => {
      const snapshotUuid = await snapshot('a')
      const [asked, released] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
      agent.onApply = (_spec, signal) => {
        asked.resolve()
        signal.addEventListener('abort', () => released.reject(signal.reason))
        return released.promise
      }
      const { operationUuid, instance } = await harness.client.revertInstance({
        uuid: instanceUuid,
        snapshotUuid,
      })
      expect(instance).toMatchObject({ task: InstanceTask.REVERTING })
      await asked.promise
      if (when.startsWith('before its')) agent.onApply = async () => {}
      await harness.stop()
      agent.onApply = async () => {}
      released.resolve()
      await harness.start()
      expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
      await harness.client.stopInstance({ uuid: instanceUuid })
      await harness.atRest(instanceUuid)
      expect(agent.reverts).toEqual([snapshotUuid])
      expect(agent.rebuilds).toEqual([])
    },
  )

  test('of a disk whose snapshots a rebuild would lose is possible, and the rebuild is not', async () => {
    const snapshotUuid = await snapshot('a')
    const message = expect.stringContaining('it has a snapshot')
    await harness.client.createImage({ name: 'other', url: 'file:///other.qcow2' })
    await until('the image is active', () =>
      [...harness.store.images.values()].every(({ status }) => status === 'active'),
    )
    const uuid = instanceUuid
    const refused = { code: 'CONFLICT', message }
    expect(await refusal(harness.client.rebuildInstance({ uuid }))).toMatchObject(refused)
    expect(await refusal(harness.client.updateInstance({ uuid, image: 'other' }))).toMatchObject(refused)
    await harness.client.updateInstance({ uuid: instanceUuid, image: 'demo', name: 'same' })
    await harness.atRest(instanceUuid)
    const { operationUuid } = await harness.client.revertInstance({ uuid: instanceUuid, snapshotUuid })
    expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
  })
})

describe('a clone', () => {
  const clone = (name: string, more: Parameters<typeof harness.client.createInstance>[0] = {}) =>
    harness.client.createInstance({ name, sourceUuid: instanceUuid, ...more })

  async function stopped(): Promise<void> {
    await harness.client.stopInstance({ uuid: instanceUuid })
    await harness.atRest(instanceUuid)
  }

  test('is an instance of its own, of the same size and in the same place, with another’s disk', async () => {
    const snapshotUuid = await snapshot('a')
    await stopped()
    const { instance, operationUuid } = await clone('copy', { sourceSnapshotUuid: snapshotUuid, tags: ['x'] })
    expect(await harness.ended(operationUuid)).toMatchObject({
      kind: 'instance.create',
      status: OperationStatus.SUCCEEDED,
    })
    const source = await harness.instance(instanceUuid)
    const { uuid = '' } = instance ?? {}
    expect(uuid).not.toBe(instanceUuid)
    expect(await harness.instance(uuid)).toMatchObject({
      name: 'copy',
      tags: ['x'],
      power: Power.ON,
      flavorUuid: source.flavorUuid,
      imageUuid: source.imageUuid,
      hostId: source.hostId,
      diskPoolUuid: source.diskPoolUuid,
    })
    expect(agent.domains.get(uuid)?.spec).toMatchObject({
      diskSource: { instanceUuid, snapshotUuid },
      hasDisk: false,
      diskBytes: 2 ** 30,
      vcpus: 1,
      memoryMib: 256,
    })
    // Its own from now on: later calls say that it has been made.
    await harness.client.stopInstance({ uuid })
    await harness.atRest(uuid)
    expect(agent.domains.get(uuid)?.spec.hasDisk).toBe(true)
  })

  test('may be larger than what it is of, and not smaller', async () => {
    await stopped()
    await harness.client.createFlavor({ name: 'big', vcpus: 2, memoryMib: 512, diskGib: 2 })
    const { instance } = await clone('copy', { flavor: 'big' })
    await harness.atRest(instance?.uuid ?? '')
    expect(agent.domains.get(instance?.uuid ?? '')?.spec).toMatchObject({ vcpus: 2, diskBytes: 2 ** 31 })
    await harness.client.stopInstance({ uuid: instance?.uuid ?? '' })
    await harness.atRest(instance?.uuid ?? '')
    const smaller = harness.client.createInstance({
      name: 'c',
      sourceUuid: instance?.uuid ?? '',
      flavor: 'tiny',
    })
    expect(await refusal(smaller)).toMatchObject({ code: 'INVALID_ARGUMENT', fields: [{ field: 'flavor' }] })
  })

  test('is refused while its source runs, of what is not its, without room, and under a name that is taken', async () => {
    expect(await refusal(clone('copy'))).toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining('stop it'),
    })
    await stopped()
    expect(await refusal(clone('vm1'))).toMatchObject({ code: 'NAME_TAKEN' })
    expect(await refusal(clone('copy', { sourceUuid: randomUUID() }))).toMatchObject({ code: 'NOT_FOUND' })
    expect(await refusal(clone('copy', { sourceSnapshotUuid: randomUUID() }))).toMatchObject({
      code: 'INVALID_ARGUMENT',
      fields: [{ field: 'source_snapshot_uuid' }],
    })
    await harness.client.createFlavor({ name: 'huge', vcpus: 1, memoryMib: 10 ** 6, diskGib: 1 })
    expect(await refusal(clone('copy', { flavor: 'huge' }))).toMatchObject({
      code: 'NO_HOST_FITS',
      message: expect.stringContaining('1 of 1'),
    })
  })

  test('of a guest that was told who it is is told its own name, and the same keys', async () => {
    const told = {
      name: 'told',
      flavor: 'tiny',
      image: 'demo',
      hostname: 'told',
      sshKeys: [
        'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKn9buq4Eq3mpX6qf8jKpEdY+CK9uTzLfLT6JTRvJijf ada@example.org',
      ],
    }
    const { instance } = await harness.client.createInstance(told)
    const sourceUuid = instance?.uuid ?? ''
    await harness.atRest(sourceUuid)
    await harness.client.stopInstance({ uuid: sourceUuid })
    await harness.atRest(sourceUuid)
    const made = await harness.client.createInstance({ name: 'copy', sourceUuid })
    await harness.atRest(made.instance?.uuid ?? '')
    expect(agent.domains.get(made.instance?.uuid ?? '')?.spec.seed).toMatchObject({
      hostname: 'copy',
      sshKeys: told.sshKeys,
    })
  })
})
