// Uploads, captures and copies of images, as dialect 1 has them.

import { randomBytes } from 'node:crypto'
import { VpeError } from '@vpe/core'
import { beforeEach, describe, expect, test } from 'vitest'
import { createTestBed, type TestBed } from '../test-bed.ts'
import { uploadPieces } from '../upload-body.ts'

const MIB = 1024 ** 2

let bed: TestBed
beforeEach(async () => {
  bed = await createTestBed()
})

async function register(more: object = {}): Promise<string> {
  const { status, body } = await bed.send('POST', '/images', { image: { name: 'up', ...more } })
  expect(status).toBe(200)
  return body.image.uuid
}

const kept = (uuid: string) => bed.controller.uploads.get(uuid)?.bytes
const bytes = randomBytes(2.5 * MIB)

describe('an upload', () => {
  test('is registered without a URL, and then sent, however large', async () => {
    const uuid = await register({ size_bytes: bytes.length })
    expect((await bed.send('GET', `/images/${uuid}`)).body.image).toMatchObject({
      url: null,
      status: 'uploading',
    })
    expect((await bed.send('GET', `/images/${uuid}/data`)).body).toEqual({
      upload: { image_uuid: uuid, offset: 0, size_bytes: bytes.length },
    })
    const answer = await bed.send('PUT', `/images/${uuid}/data`, bytes, {
      'content-type': 'application/octet-stream',
    })
    expect(answer.status).toBe(200)
    expect(answer.headers.get('operation-id')).toMatch(/^[0-9a-f-]{36}$/)
    expect(answer.body.image).toMatchObject({ uuid, status: 'importing' })
    expect(kept(uuid)?.equals(bytes)).toBe(true)
    const pieces = bed.controller.calls.filter(({ method }) => method === 'writeImageUpload')
    expect(pieces).toHaveLength(3)
  })

  test('goes on at ?offset=, and at no other place', async () => {
    const uuid = await register()
    bed.controller.failures.set('finishImageUpload', new VpeError('CONFLICT', 'there is more to come'))
    const first = await bed.send('PUT', `/images/${uuid}/data`, bytes.subarray(0, MIB))
    expect(first).toMatchObject({ status: 409, body: { detail: 'there is more to come' } })
    bed.controller.failures.clear()
    expect((await bed.send('PUT', `/images/${uuid}/data?offset=7`, bytes)).status).toBe(409)
    const rest = await bed.send('PUT', `/images/${uuid}/data?offset=${MIB}`, bytes.subarray(MIB))
    expect(rest.status).toBe(200)
    expect(kept(uuid)?.equals(bytes)).toBe(true)
  })

  test.each([
    ['?offset=-1', 'offset'],
    ['?offset=1e3', 'offset'],
    ['?offset=99999999999999999', 'offset'],
    ['?from=1', 'from'],
  ])('%s is refused by its name', async (query, field) => {
    const uuid = await register()
    const answer = await bed.send('PUT', `/images/${uuid}/data${query}`, bytes)
    expect(answer).toMatchObject({ status: 400, body: { errors: [{ field }] } })
  })

  test('declared as JSON is a mistake', async () => {
    const uuid = await register()
    const answer = await bed.send('PUT', `/images/${uuid}/data`, '{}', { 'content-type': 'application/json' })
    expect(answer).toMatchObject({ status: 415 })
  })

  test('of an image that takes none, or that is not there, is refused before a byte is read', async () => {
    const { image } = bed.ids
    for (const [uuid, status] of [
      [image, 409],
      ['22c91117-08de-4894-9aa9-6ef382400985', 404],
    ] as const) {
      expect((await bed.send('PUT', `/images/${uuid}/data`, bytes)).status).toBe(status)
    }
    expect(bed.controller.calls.some(({ method }) => method === 'writeImageUpload')).toBe(false)
  })

  test('that does not move any more is ended', async () => {
    const body = new ReadableStream({ start: (controller) => controller.enqueue(new Uint8Array(3)) })
    const request = new Request('http://localhost/', { method: 'PUT', body, duplex: 'half' } as RequestInit)
    await expect(uploadPieces(request, 20).next()).rejects.toMatchObject({ code: 'UNREADABLE_BODY' })
  })

  test('reads on only when a piece was taken', async () => {
    let pulled = 0
    const pull = (controller: ReadableStreamDefaultController) => {
      pulled++
      controller.enqueue(new Uint8Array(MIB))
    }
    const body = new ReadableStream({ pull }, { highWaterMark: 0 })
    const pieces = uploadPieces(
      new Request('http://localhost/', { method: 'PUT', body, duplex: 'half' } as RequestInit),
    )
    for (const expected of [1, 2, 3]) {
      expect((await pieces.next()).value).toHaveLength(MIB)
      expect(pulled).toBeLessThanOrEqual(expected + 1)
    }
  })
})

describe('where an image comes from', () => {
  const refused = async (image: object) => {
    const { status, body } = await bed.send('POST', '/images', { image: { name: 'x', ...image } })
    expect(status).toBe(400)
    return body.errors.map(({ field }: { field: string }) => field)
  }
  const instance_uuid = '22c91117-08de-4894-9aa9-6ef382400985'

  test('is one place', async () => {
    const url = 'http://images/a'
    expect(await refused({ url, instance_uuid })).toEqual(['image.instance_uuid'])
    expect(await refused({ url, size_bytes: 1 })).toEqual(['image.size_bytes'])
    expect(await refused({ instance_uuid, sha256: 'ab'.repeat(32) })).toEqual(['image.sha256'])
    expect(await refused({ instance_uuid: 'vm1' })).toEqual(['image.instance_uuid'])
  })

  test('may be an instance', async () => {
    const uuid = await register({ instance_uuid })
    expect(bed.controller.calls.at(-1)?.request).toMatchObject({ url: '', instanceUuid: instance_uuid })
    expect((await bed.send('GET', `/images/${uuid}`)).body.image).toMatchObject({ url: null, instance_uuid })
  })
})

describe('copies', () => {
  test('are shown with their users, and removed one by one', async () => {
    const { image, pool, host } = bed.ids
    expect((await bed.send('GET', `/images/${image}/copies`)).body).toEqual({
      copies: [
        {
          disk_pool_uuid: pool,
          disk_pool: 'pool2',
          host_uuid: host,
          host: 'h1',
          size_bytes: 1,
          instances: 0,
        },
      ],
      silent_hosts: [],
    })
    const answer = await bed.send('DELETE', `/images/${image}/copies/${pool}`)
    expect(answer).toMatchObject({ status: 200, body: { image: { uuid: image } } })
    expect(bed.controller.calls.at(-1)?.request).toEqual({ uuid: image, diskPoolUuid: pool })
    expect((await bed.send('DELETE', `/images/${image}/copies/${image}`)).status).toBe(404)
  })
})
