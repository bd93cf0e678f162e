// Images over the real protocol, with a pretended agent: uploads, captures, copies.

import { VpeError } from '@vpe/core'
import { ImageStatus, InstanceStatus, OperationStatus } from '@vpe/proto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { FakeAgent } from '../testing/fake-agent.ts'
import { Harness, refusal, until } from '../testing/harness.ts'

let agent: FakeAgent
let harness: Harness
beforeEach(async () => {
  agent = await FakeAgent.start()
  harness = new Harness()
  await harness.start()
  await harness.furnish(agent)
  await until('the pool is ready', () =>
    [...harness.store.diskPools.values()].every(({ hosts }) => hosts.every(({ state }) => state === 'ready')),
  )
})
afterEach(async () => {
  await harness[Symbol.asyncDispose]()
  agent.stop()
})

async function image(uuid: string) {
  const found = (await harness.client.getImage({ uuid })).image
  if (!found) throw new Error('an answer without an image')
  return found
}

async function register(
  name: string,
  more: { sizeBytes?: number; instanceUuid?: string; sha256?: string } = {},
) {
  const answer = await harness.client.createImage({ name, ...more })
  return { uuid: answer.image?.uuid ?? '', operationUuid: answer.operationUuid, image: answer.image }
}

describe('an upload', () => {
  const data = Buffer.from('0123456789')
  const begin = async (uuid: string, offset = 0) =>
    (await harness.client.beginImageUpload({ uuid, offset })).upload

  test('waits for its bytes, takes them in pieces, and becomes an image', async () => {
    const { uuid, operationUuid, image: registered } = await register('up', { sizeBytes: 10 })
    expect(registered).toMatchObject({ status: ImageStatus.UPLOADING, url: '', hostId: agent.hostId })
    expect(
      await refusal(harness.client.createInstance({ name: 'vm', flavor: 'tiny', image: 'up' })),
    ).toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: 'image up waits for its upload',
    })
    const upload = await begin(uuid)
    await harness.client.writeImageUpload({ uuid, upload, offset: 0, data: data.subarray(0, 4) })
    expect((await image(uuid)).progressPercent).toBe(40)
    await harness.client.writeImageUpload({ uuid, upload, offset: 4, data: data.subarray(4) })
    const finished = await harness.client.finishImageUpload({ uuid, upload, sizeBytes: 10 })
    expect(finished).toMatchObject({ operationUuid, image: { status: ImageStatus.IMPORTING } })
    expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
    expect(await image(uuid)).toMatchObject({ status: ImageStatus.ACTIVE, sizeBytes: 1e6 })
    expect(agent.parts.get(uuid)).toEqual(data)
    expect(await refusal(begin(uuid))).toMatchObject({ code: 'CONFLICT' })
  })

  test('goes on where it was interrupted, also over a restart of the controller', async () => {
    const { uuid, operationUuid } = await register('up')
    const before = await begin(uuid)
    await harness.client.writeImageUpload({ uuid, upload: before, offset: 0, data: data.subarray(0, 4) })
    await harness.stop()
    await harness.start()
    const late = { uuid, upload: before, offset: 4, data }
    expect(await refusal(harness.client.writeImageUpload(late))).toMatchObject({
      code: 'SUPERSEDED',
      message: expect.stringContaining('was interrupted'),
    })
    expect(await harness.client.getImageUpload({ uuid })).toEqual({ receivedBytes: 4, sizeBytes: 0 })
    expect(await refusal(begin(uuid, 3))).toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining('4 bytes'),
    })
    const upload = await begin(uuid, 4)
    expect(upload).toBeGreaterThan(before)
    await harness.client.writeImageUpload({ uuid, upload, offset: 4, data: data.subarray(4) })
    await harness.client.finishImageUpload({ uuid, upload, sizeBytes: 10 })
    expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
    expect(agent.parts.get(uuid)).toEqual(data)
  })

  test('of two at once, the later has it', async () => {
    const { uuid } = await register('up')
    const [first, second] = [await begin(uuid), await begin(uuid)]
    const write = (upload: number) => harness.client.writeImageUpload({ uuid, upload, offset: 0, data })
    await write(second)
    expect(await refusal(write(first))).toMatchObject({ code: 'SUPERSEDED' })
    const finish = { uuid, upload: first, sizeBytes: 10 }
    expect(await refusal(harness.client.finishImageUpload(finish))).toMatchObject({ code: 'SUPERSEDED' })
  })

  test('goes on undisturbed when another would go on from the wrong place', async () => {
    const { uuid } = await register('up')
    const upload = await begin(uuid)
    const write = (offset: number, end: number) =>
      harness.client.writeImageUpload({ uuid, upload, offset, data: data.subarray(offset, end) })
    await write(0, 4)
    expect(await refusal(begin(uuid, 3))).toMatchObject({ code: 'CONFLICT' })
    await write(4, 10)
    await harness.client.finishImageUpload({ uuid, upload, sizeBytes: 10 })
    expect(agent.parts.get(uuid)).toEqual(data)
  })

  test('is held to the length that was announced, and to what has arrived', async () => {
    const { uuid } = await register('up', { sizeBytes: 12 })
    const upload = await begin(uuid)
    const write = (offset: number) => harness.client.writeImageUpload({ uuid, upload, offset, data })
    const finish = (sizeBytes: number) => harness.client.finishImageUpload({ uuid, upload, sizeBytes })
    await write(0)
    expect(await refusal(write(10))).toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining('12 bytes'),
    })
    expect(await refusal(finish(10))).toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining('?offset=10'),
    })
    expect(await refusal(finish(12))).toMatchObject({ code: 'CONFLICT' })
    expect(await image(uuid)).toMatchObject({ status: ImageStatus.UPLOADING })
  })

  test('ends when its image is deleted, with nothing left', async () => {
    const { uuid, operationUuid } = await register('up')
    const upload = await begin(uuid)
    const mayWrite = Promise.withResolvers<void>()
    const writes = Promise.withResolvers<void>()
    agent.onWrite = () => {
      writes.resolve()
      return mayWrite.promise
    }
    const written = harness.client.writeImageUpload({ uuid, upload, offset: 0, data })
    await writes.promise
    const deleted = harness.client.deleteImage({ uuid })
    mayWrite.resolve()
    await written
    await deleted
    expect(agent.parts.size).toBe(0)
    expect(await refusal(harness.client.writeImageUpload({ uuid, upload, offset: 10, data }))).toMatchObject({
      code: 'NOT_FOUND',
    })
    expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.CANCELLED })
  })

  test('says that its host is away, and goes on when it is back', async () => {
    const { uuid } = await register('up')
    const upload = await begin(uuid)
    agent.stop()
    const write = () => harness.client.writeImageUpload({ uuid, upload, offset: 0, data })
    expect(await refusal(write())).toMatchObject({ code: 'HOST_UNREACHABLE' })
    await agent.listen()
    await until('it goes on', () =>
      write().then(
        () => true,
        () => false,
      ),
    )
    expect(agent.parts.get(uuid)).toEqual(data)
  })
})

describe('a capture', () => {
  async function stopped(): Promise<string> {
    const { instance, operationUuid } = await harness.create('vm1')
    const uuid = instance?.uuid ?? ''
    await harness.ended(operationUuid)
    expect(await refusal(register('snap', { instanceUuid: uuid }))).toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining('stop it first'),
    })
    await harness.ended((await harness.client.stopInstance({ uuid })).operationUuid)
    return uuid
  }

  test('of an instance that is off becomes an image; meanwhile its host is asked for nothing else', async () => {
    const uuid = await stopped()
    const mayEnd = Promise.withResolvers<void>()
    agent.onCapture = () => mayEnd.promise
    const { uuid: imageUuid, operationUuid } = await register('snap', { instanceUuid: uuid })
    for (const call of [
      harness.client.startInstance({ uuid }),
      harness.client.deleteInstance({ uuid }),
      harness.client.rebuildInstance({ uuid }),
      harness.client.updateInstance({ uuid, ha: true }),
    ]) {
      expect(await refusal(call)).toMatchObject({
        code: 'CONFLICT',
        message: expect.stringContaining('is being captured as image snap'),
      })
    }
    mayEnd.resolve()
    expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
    expect(await image(imageUuid)).toMatchObject({ status: ImageStatus.ACTIVE, instanceUuid: uuid, url: '' })
    const again = await harness.client.startInstance({ uuid })
    expect(await harness.ended(again.operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
    const made = await harness.client.createInstance({ name: 'vm2', flavor: 'tiny', image: 'snap' })
    expect(await harness.ended(made.operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
  })

  test('is given up with its image, and frees the instance', async () => {
    const uuid = await stopped()
    agent.onCapture = (signal) =>
      new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
    const { uuid: imageUuid } = await register('snap', { instanceUuid: uuid })
    await harness.client.deleteImage({ uuid: imageUuid })
    await harness.ended((await harness.client.startInstance({ uuid })).operationUuid)
    expect(await harness.instance(uuid)).toMatchObject({ status: InstanceStatus.ACTIVE })
  })

  test('that fails says why on the image', async () => {
    const uuid = await stopped()
    agent.onCapture = async () => {
      throw new VpeError('IMAGE_INVALID', 'the disk is no disk')
    }
    const { uuid: imageUuid, operationUuid } = await register('snap', { instanceUuid: uuid })
    expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.FAILED })
    expect(await image(imageUuid)).toMatchObject({ status: ImageStatus.ERROR, fault: 'the disk is no disk' })
  })
})

describe('copies', () => {
  test('are what hosts say, with their users; one that is used, or the only one, stays', async () => {
    const [demo] = (await harness.client.listImages({ name: 'demo' })).images
    const uuid = demo?.uuid ?? ''
    const diskPoolUuid = demo?.diskPoolUuid ?? ''
    const { instance, operationUuid } = await harness.create('vm1')
    await harness.ended(operationUuid)
    const copy = { diskPoolUuid, diskPoolName: 'local', hostId: agent.hostId, hostName: 'h1', sizeBytes: 1e6 }
    expect(await harness.client.listImageCopies({ uuid })).toEqual({
      copies: [{ ...copy, instances: 1 }],
      silentHosts: [],
    })
    expect(await image(uuid)).toMatchObject({ instances: 1 })
    const evict = (imageUuid: string) => harness.client.deleteImageCopy({ uuid: imageUuid, diskPoolUuid })
    expect(await refusal(evict(uuid))).toMatchObject({ code: 'IN_USE' })

    await harness.ended((await harness.client.deleteInstance({ uuid: instance?.uuid ?? '' })).operationUuid)
    await evict(uuid)
    expect(agent.images.has(uuid)).toBe(false)
    expect(await harness.client.listImageCopies({ uuid })).toEqual({ copies: [], silentHosts: [] })

    const up = await register('up')
    const { upload } = await harness.client.beginImageUpload({ uuid: up.uuid, offset: 0 })
    await harness.client.writeImageUpload({ uuid: up.uuid, upload, offset: 0, data: Buffer.from('x') })
    await harness.client.finishImageUpload({ uuid: up.uuid, upload, sizeBytes: 1 })
    await harness.ended(up.operationUuid)
    expect(await refusal(evict(up.uuid))).toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining('nowhere else'),
    })
    agent.stop()
    expect(await harness.client.listImageCopies({ uuid: up.uuid })).toEqual({
      copies: [],
      silentHosts: ['h1'],
    })
  })

  test('an image without a URL is used where it is, and keeps its host', async () => {
    const other = await FakeAgent.start()
    try {
      await harness.client.createHost({ name: 'h2', address: other.address })
      await until('the pool is ready there, too', () =>
        [...harness.store.diskPools.values()].every(
          ({ hosts }) => hosts.length === 2 && hosts.every(({ state }) => state === 'ready'),
        ),
      )
      const up = await register('up')
      const { hostId } = await image(up.uuid)
      const { upload } = await harness.client.beginImageUpload({ uuid: up.uuid, offset: 0 })
      await harness.client.writeImageUpload({ uuid: up.uuid, upload, offset: 0, data: Buffer.from('x') })
      await harness.client.finishImageUpload({ uuid: up.uuid, upload, sizeBytes: 1 })
      await harness.ended(up.operationUuid)
      for (const name of ['a', 'b', 'c', 'd']) {
        const { instance } = await harness.client.createInstance({ name, flavor: 'tiny', image: 'up' })
        expect(instance?.hostId).toBe(hostId)
      }
      const hostIds = [hostId === agent.hostId ? other.hostId : agent.hostId]
      const elsewhere = harness.client.createInstance({ name: 'e', flavor: 'tiny', image: 'up', hostIds })
      expect(await refusal(elsewhere)).toMatchObject({ code: 'NO_HOST_FITS' })
    } finally {
      other.stop()
    }
  })
})
