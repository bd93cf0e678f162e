// What users do to an instance beyond start and stop, through the real protocol on both sides, with the
// controller killed in the middle.

import { randomUUID } from 'node:crypto'
import { VpeError } from '@vpe/core'
import {
  fromClientError,
  type Instance,
  InstanceStatus,
  InstanceTask,
  OperationStatus,
  Power,
  RebootKind,
  StopCause,
} from '@vpe/proto'
import { Metadata } from 'nice-grpc'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { FakeAgent } from './testing/fake-agent.ts'
import { Harness, until } from './testing/harness.ts'

let agent: FakeAgent
let harness: Harness
let uuid: string

beforeEach(async () => {
  agent = await FakeAgent.start()
  harness = new Harness()
  await harness.start()
  await harness.furnish(agent)
  const { instance } = await harness.create('vm1')
  uuid = instance?.uuid ?? ''
  await harness.atRest(uuid)
})
afterEach(async () => {
  await harness[Symbol.asyncDispose]()
  agent.stop()
})

type Answer = { instance?: Instance | undefined; operationUuid: string }

async function succeed(call: Promise<Answer>): Promise<Instance> {
  expect(await harness.ended((await call).operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
  return harness.instance(uuid)
}

async function refusal(call: Promise<unknown>): Promise<string> {
  const error = await call.then(
    () => null,
    (cause: unknown) => fromClientError(cause),
  )
  expect(error).toMatchObject({ code: 'CONFLICT' })
  return error?.message ?? ''
}

/** Lets the agent be asked, and go on only when it is told to. */
function hold(): { asked: Promise<void>; letGo: () => void } {
  const asked = Promise.withResolvers<void>()
  const released = Promise.withResolvers<void>()
  agent.onApply = (_spec, signal) => {
    asked.resolve()
    signal.addEventListener('abort', () => released.reject(signal.reason))
    return released.promise
  }
  return {
    asked: asked.promise,
    letGo: () => {
      agent.onApply = async () => {}
      released.resolve()
    },
  }
}

describe('a reboot', () => {
  test('succeeds when the host has reported it, and happens once', async () => {
    const held = hold()
    const { operationUuid, instance } = await harness.client.rebootInstance({ uuid })
    expect(instance).toMatchObject({ status: InstanceStatus.ACTIVE, task: InstanceTask.REBOOTING })
    await held.asked
    const { operation } = await harness.client.getOperation({ uuid: operationUuid })
    expect(operation).toMatchObject({ kind: 'instance.reboot', status: OperationStatus.RUNNING })
    held.letGo()
    expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
    expect(agent.reboots).toEqual([uuid])
    expect(agent.domains.get(uuid)?.spec.rebootKind).toBe(RebootKind.SOFT)
    expect(agent.starts).toEqual([uuid])
  })

  test.each(['before the host has heard of it', 'before its answer has come'])(
    'happens once though the controller dies %s',
    async (when) => {
      const held = hold()
      const key = randomUUID()
      const metadata = Metadata({ 'idempotency-key': key })
      const { operationUuid } = await harness.client.rebootInstance(
        { uuid, kind: RebootKind.HARD },
        { metadata },
      )
      await held.asked
      if (when.startsWith('before its')) agent.onApply = async () => {}
      await harness.stop()
      held.letGo()
      await harness.start()
      expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
      const again = await harness.client.rebootInstance({ uuid, kind: RebootKind.HARD }, { metadata })
      expect(again.operationUuid).toBe(operationUuid)
      await harness.atRest(uuid)
      expect(agent.reboots).toEqual([uuid])
    },
  )

  test('that a stop overtakes is cancelled, and does not come back with the next start', async () => {
    const held = hold()
    const { operationUuid } = await harness.client.rebootInstance({ uuid })
    await held.asked
    agent.onApply = async () => {}
    await succeed(harness.client.stopInstance({ uuid }))
    expect(await harness.ended(operationUuid)).toMatchObject({
      status: OperationStatus.CANCELLED,
      fault: 'the instance was wanted off before it ran',
    })
    expect(await refusal(harness.client.rebootInstance({ uuid }))).toContain('it is shutoff; start it')
  })
})

describe('a pause', () => {
  test('and a resume', async () => {
    expect(await succeed(harness.client.pauseInstance({ uuid }))).toMatchObject({
      status: InstanceStatus.PAUSED,
      power: Power.PAUSED,
    })
    expect((await harness.client.countInstances({})).counts).toContainEqual({
      status: InstanceStatus.PAUSED,
      count: 1,
    })
    expect(await refusal(harness.client.rebootInstance({ uuid }))).toContain('resume or stop it')
    expect(await refusal(harness.client.rebuildInstance({ uuid }))).toContain('resume or stop it')
    expect(await succeed(harness.client.resumeInstance({ uuid }))).toMatchObject({
      status: InstanceStatus.ACTIVE,
    })
    expect(agent.starts).toEqual([uuid])
  })

  test('lasts over a restart of the controller, and over a change of its name', async () => {
    await succeed(harness.client.pauseInstance({ uuid }))
    await harness.stop()
    await harness.start()
    await succeed(harness.client.updateInstance({ uuid, name: 'vm2' }))
    expect(await harness.instance(uuid)).toMatchObject({ status: InstanceStatus.PAUSED, name: 'vm2' })
    expect(agent.domains.get(uuid)?.spec.power).toBe(Power.PAUSED)
  })

  test('by somebody else is found when the controller comes back, and kept', async () => {
    await harness.stop()
    agent.disturb(uuid, { power: Power.PAUSED })
    await harness.start()
    await until('it shows', async () => (await harness.instance(uuid)).status === InstanceStatus.PAUSED)
    await harness.atRest(uuid)
    expect(agent.domains.get(uuid)?.spec.power).toBe(Power.PAUSED)
  })

  test('in which the guest dies leaves it off', async () => {
    await succeed(harness.client.updateInstance({ uuid, ha: true }))
    await succeed(harness.client.pauseInstance({ uuid }))
    await harness.stop()
    agent.disturb(uuid, { power: Power.OFF, stopCause: StopCause.CRASH })
    await harness.start()
    await until('it shows', async () => (await harness.instance(uuid)).status === InstanceStatus.SHUTOFF)
    expect(agent.starts).toEqual([uuid])
  })
})

describe('a rebuild', () => {
  test('of the same image makes the disk anew, once, though the controller dies', async () => {
    const held = hold()
    const { operationUuid } = await harness.client.rebuildInstance({ uuid })
    await held.asked
    await harness.stop()
    held.letGo()
    await harness.start()
    expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
    expect(agent.rebuilds).toEqual([uuid])
  })

  test('of another image lets the one before be deleted', async () => {
    const { image } = await harness.client.createImage({ name: 'other', url: 'file:///other.qcow2' })
    await until('it is active', () => harness.store.images.get(image?.uuid ?? '')?.status === 'active')
    const rebuilt = await succeed(harness.client.rebuildInstance({ uuid, image: 'other' }))
    expect(rebuilt).toMatchObject({ imageName: 'other', status: InstanceStatus.ACTIVE })
    const demo = [...harness.store.images.values()].find(({ name }) => name === 'demo')
    await harness.client.deleteImage({ uuid: demo?.uuid ?? '' })
  })

  test('of an image that does not exist says so', async () => {
    const error = await harness.client.rebuildInstance({ uuid, image: 'none' }).catch(fromClientError)
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', fields: [{ field: 'image' }] })
  })
})

describe('a resize', () => {
  const flavor = (name: string, over: object = {}) =>
    harness.client.createFlavor({ name, vcpus: 2, memoryMib: 512, diskGib: 2, ...over })

  test('of one that is off is done without it; the flavor before can then be deleted', async () => {
    await flavor('larger')
    expect(await refusal(harness.client.resizeInstance({ uuid, flavor: 'larger' }))).toContain(
      '"restart": true',
    )
    await succeed(harness.client.stopInstance({ uuid }))
    const resized = await succeed(harness.client.resizeInstance({ uuid, flavor: 'larger' }))
    expect(resized).toMatchObject({ flavorName: 'larger', status: InstanceStatus.SHUTOFF })
    expect(agent.domains.get(uuid)?.spec).toMatchObject({
      vcpus: 2,
      memoryMib: 512,
      diskBytes: 2 * 1024 ** 3,
      rebootGeneration: 0,
    })
    const { host } = await harness.client.getHost({ uuid: agent.hostId })
    expect(host).toMatchObject({ vcpusUsed: 2, memoryMibUsed: 512 })
    const tiny = [...harness.store.flavors.values()].find(({ name }) => name === 'tiny')
    await harness.client.deleteFlavor({ uuid: tiny?.uuid ?? '' })
  })

  test('of one that runs is one reboot with its new size', async () => {
    await flavor('larger')
    await succeed(harness.client.resizeInstance({ uuid, flavor: 'larger', restart: true }))
    expect(agent.reboots).toEqual([uuid])
    expect(agent.domains.get(uuid)?.spec.vcpus).toBe(2)
  })

  test('that its host has no room for is refused with figures, its own size not counted', async () => {
    await succeed(harness.client.stopInstance({ uuid }))
    await flavor('most', { vcpus: 1, memoryMib: 16_384 - 512 })
    await flavor('too-much', { vcpus: 1, memoryMib: 16_384 })
    await flavor('too-many', { vcpus: 9 })
    const resize = (name: string) => harness.client.resizeInstance({ uuid, flavor: name })
    expect(await refusal(resize('too-much'))).toContain('on host h1: needs 16384 MiB, 15872 MiB are free')
    expect(await refusal(resize('too-many'))).toContain('needs 9 vCPUs, the host has 8 CPUs')
    await succeed(resize('most'))
  })

  test('that would shrink the disk is refused with figures; a flavor without a disk size leaves it', async () => {
    await succeed(harness.client.stopInstance({ uuid }))
    await flavor('larger')
    await succeed(harness.client.resizeInstance({ uuid, flavor: 'larger' }))
    expect(await refusal(harness.client.resizeInstance({ uuid, flavor: 'tiny' }))).toContain(
      'has a system disk of 2.0 GiB, which cannot shrink to 1.0 GiB',
    )
    await flavor('any-disk', { diskGib: 0 })
    await succeed(harness.client.resizeInstance({ uuid, flavor: 'any-disk' }))
    expect(agent.domains.get(uuid)?.spec.diskBytes).toBe(2 * 1024 ** 3)
  })

  test('that its host cannot carry out is an error, and another resize mends it', async () => {
    await flavor('larger')
    agent.onApply = async () => {
      throw new VpeError('HYPERVISOR_FAILED', 'cannot set up guest memory')
    }
    const { operationUuid } = await harness.client.resizeInstance({ uuid, flavor: 'larger', restart: true })
    expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.FAILED })
    agent.onApply = async () => {}
    await flavor('larger2', { memoryMib: 300 })
    const mended = await succeed(harness.client.resizeInstance({ uuid, flavor: 'larger2', restart: true }))
    expect(mended).toMatchObject({ status: InstanceStatus.ACTIVE, fault: '' })
  })
})

describe('a lock', () => {
  test('refuses deletion and rebuild until it is taken off, also after a restart', async () => {
    expect(await succeed(harness.client.lockInstance({ uuid }))).toMatchObject({ locked: true })
    await succeed(harness.client.lockInstance({ uuid }))
    await harness.stop()
    await harness.start()
    const called = { name: 'vm1', namespace: 'default' }
    const reason = `/instances/${uuid}/unlock`
    expect(await refusal(harness.client.deleteInstance({ uuid }))).toContain(reason)
    expect(await refusal(harness.client.deleteInstance({ called }))).toContain(reason)
    expect(await refusal(harness.client.rebuildInstance({ uuid }))).toContain(reason)
    await succeed(harness.client.stopInstance({ uuid }))
    await succeed(harness.client.unlockInstance({ uuid }))
    const { operationUuid } = await harness.client.deleteInstance({ uuid })
    expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
  })

  test('is no work for the host', async () => {
    const { generation } = await harness.instance(uuid)
    await succeed(harness.client.lockInstance({ uuid }))
    await succeed(harness.client.unlockInstance({ uuid }))
    expect((await harness.instance(uuid)).generation).toBe(generation)
  })
})
