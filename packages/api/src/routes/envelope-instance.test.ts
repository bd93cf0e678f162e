// Dialect 2, one test per request and response of its document, to the letter: messages and error texts
// too, also the odd ones.

import { VpeError } from '@vpe/core'
import { beforeEach, describe, expect, test } from 'vitest'
import { createTestBed, type TestBed } from '../test-bed.ts'

const PATH = '/api/v1/instance'

let bed: TestBed

beforeEach(async () => {
  bed = await createTestBed()
})

async function create(name = 'test', more: object = {}): Promise<string> {
  const body = { name, namespace: 'test', spec: { image: bed.ids.image }, ...more }
  const answer = await bed.send('POST', PATH, body)
  expect(answer.status).toBe(200)
  return answer.body.data.name
}

describe('1. create', () => {
  const request = () => ({
    name: 'test',
    namespace: 'test',
    spec: { image: bed.ids.image },
    shareStorage: true,
    hostIDs: [bed.ids.host],
  })

  test('200', async () => {
    const answer = await bed.send('POST', PATH, request())
    expect(answer.status).toBe(200)
    expect(answer.headers.get('operation-id')).toMatch(/^[0-9a-f-]{36}$/)
    expect(answer.body).toEqual({
      code: 200,
      message: 'create succeed',
      data: { name: expect.stringMatching(/^[0-9a-v]{20}$/) },
    })
    expect(bed.controller.calls[0]?.request).toMatchObject({ shareStorage: true, hostIds: [bed.ids.host] })
  })

  test('409: the name is taken in its namespace', async () => {
    await bed.send('POST', PATH, request())
    const answer = await bed.send('POST', PATH, request())
    expect(answer.status).toBe(409)
    expect(answer.body).toEqual({ code: 409, message: 'create failed', data: { error: 'database conflict' } })
    expect((await bed.send('POST', PATH, { ...request(), namespace: 'other' })).status).toBe(200)
  })

  test.each([
    [
      new VpeError('NO_HOST_FITS', 'no host fits: 1 of 1 hosts has too little memory'),
      'no host fits: 1 of 1 hosts has too little memory',
    ],
    [new VpeError('NO_HOST_FITS', '1 host is down'), 'no host fits: 1 host is down'],
    [new VpeError('HYPERVISOR_FAILED', 'libvirt: no space left'), 'libvirt: no space left'],
    [new VpeError('INTERNAL', 'the disk is full'), 'the disk is full'],
  ])('500 with the cause: %s', async (error, text) => {
    bed.controller.failures.set('createInstance', error)
    const answer = await bed.send('POST', PATH, request())
    expect(answer.status).toBe(500)
    expect(answer.body).toEqual({ code: 500, message: 'create failed', data: { error: text } })
  })

  test('namespace, shareStorage and hostIDs have defaults', async () => {
    const { name } = (await bed.send('POST', PATH, { name: 'x', spec: { image: 'centos6.7' } })).body.data
    expect((await bed.send('GET', `${PATH}?name=${name}`)).body.data).toMatchObject({
      namespace: 'default',
      shareStorage: false,
      hostIDs: [],
    })
  })
})

describe('2. update', () => {
  test('200: by generated name or user name, and the document says "create"', async () => {
    const generated = await create()
    for (const name of ['test', generated]) {
      const answer = await bed.send('PUT', PATH, {
        name,
        spec: { image: 'centos6.7' },
        hostIDs: [bed.ids.host],
      })
      expect(answer.status).toBe(200)
      expect(answer.headers.get('operation-id')).toMatch(/^[0-9a-f-]{36}$/)
      expect(answer.body).toEqual({ code: 200, message: 'create succeed', data: { name: generated } })
    }
  })

  test('what is absent stays', async () => {
    await create('test', { hostIDs: [bed.ids.host] })
    await bed.send('PUT', PATH, { name: 'test', spec: { image: 'centos6.7' } })
    expect((await bed.send('GET', `${PATH}?name=test`)).body.data.hostIDs).toEqual([bed.ids.host])
    await bed.send('PUT', PATH, { name: 'test', hostIDs: [] })
    expect((await bed.send('GET', `${PATH}?name=test`)).body.data.hostIDs).toEqual([])
  })

  test('200: hosts that leave out the present one move it, which shows in both dialects', async () => {
    await create()
    const host = { name: 'h2', address: '127.0.0.1:7703' }
    const { uuid } = (await bed.send('POST', '/hosts', { host })).body.host
    const answer = await bed.send('PUT', PATH, { name: 'test', hostIDs: [uuid] })
    expect(answer).toMatchObject({ status: 200, body: { message: 'create succeed' } })
    const { data } = (await bed.send('GET', `${PATH}?name=test`)).body
    expect(data).toMatchObject({ task: 'migrating', hostID: uuid, hostIDs: [uuid] })
    const { instance } = (await bed.send('GET', `/instances/${data.uuid}`)).body
    expect(instance).toMatchObject({ task: 'migrating', host: 'h2', host_uuid: uuid })
    bed.controller.settle()
    expect((await bed.send('GET', `${PATH}?name=test`)).body.data).toMatchObject({ task: null, hostID: uuid })
  })

  test.each([
    ['NAME_TAKEN', 409, 'database conflict'],
    ['CONFLICT', 409, 'cause'],
    ['NO_HOST_FITS', 500, 'no host fits: cause'],
    ['INTERNAL', 500, 'cause'],
  ] as const)('%s: %i', async (code, status, error) => {
    await create()
    bed.controller.failures.set('updateInstance', new VpeError(code, 'cause'))
    const answer = await bed.send('PUT', PATH, { name: 'test', hostIDs: [] })
    expect(answer.status).toBe(status)
    expect(answer.body).toEqual({ code: status, message: 'create failed', data: { error } })
  })

  test('404: unknown', async () => {
    const answer = await bed.send('PUT', PATH, { name: 'nobody', hostIDs: [] })
    expect(answer.status).toBe(404)
    expect(answer.body).toEqual({
      code: 404,
      message: 'create failed',
      data: { error: 'instance not found' },
    })
  })
})

describe('3. get', () => {
  test('200: one, by either name', async () => {
    const generated = await create()
    for (const query of [`name=${generated}`, 'name=test', 'name=test&namespace=test']) {
      const answer = await bed.send('GET', `${PATH}?${query}`)
      expect(answer.status).toBe(200)
      expect(answer.body).toEqual({
        code: 200,
        message: 'get succeed',
        data: {
          name: generated,
          displayName: 'test',
          namespace: 'test',
          spec: { image: 'centos6.7', hostname: null, sshKeys: [], userDataSha256: null },
          shareStorage: false,
          hostIDs: [],
          status: 'shutoff',
          task: 'creating',
          fault: null,
          hostID: bed.ids.host,
          podIPs: [],
          imageID: bed.ids.image,
          uuid: expect.stringMatching(/^[0-9a-f-]{36}$/),
          createdAt: '2016-11-22T10:22:32.000Z',
          locked: false,
        },
      })
    }
  })

  test('200: all, or those of a namespace, without a name', async () => {
    await create('a')
    await create('b', { namespace: 'other' })
    const all = await bed.send('GET', PATH)
    expect(all.body).toMatchObject({ code: 200, message: 'get succeed' })
    expect(all.body.data.instances.map((it: { displayName: string }) => it.displayName)).toEqual(['a', 'b'])
    const some = await bed.send('GET', `${PATH}?namespace=other`)
    expect(some.body.data.instances.map((it: { displayName: string }) => it.displayName)).toEqual(['b'])
  })

  test('404: unknown', async () => {
    const answer = await bed.send('GET', `${PATH}?name=nobody`)
    expect(answer.status).toBe(404)
    expect(answer.body).toEqual({ code: 404, message: 'get failed', data: { error: 'instance not found' } })
  })

  test('409: the name is in more than one namespace', async () => {
    await create('a')
    await create('a', { namespace: 'other' })
    const answer = await bed.send('GET', `${PATH}?name=a`)
    expect(answer.status).toBe(409)
    expect(answer.body).toMatchObject({
      code: 409,
      message: 'get failed',
      data: { error: '2 instances are named a' },
    })
    expect((await bed.send('GET', `${PATH}?name=a&namespace=other`)).status).toBe(200)
  })
})

describe('4. delete', () => {
  test.each([
    ['the body', '', { name: 'test' }],
    ['the body, with namespace', '', { name: 'test', namespace: 'test' }],
    ['the query', '?name=test', undefined],
    ['the query, with the empty body of the document', '?name=test', {}],
    ['both', '?name=test', { name: 'test', namespace: 'test' }],
  ])('200: named in %s', async (_, query, body) => {
    const generated = await create()
    const answer = await bed.send('DELETE', `${PATH}${query}`, body)
    expect(answer.status).toBe(200)
    expect(answer.headers.get('operation-id')).toMatch(/^[0-9a-f-]{36}$/)
    expect(answer.body).toEqual({ code: 200, message: 'delete succeed', data: { name: generated } })
    bed.controller.settle()
    expect((await bed.send('GET', `${PATH}?name=test`)).status).toBe(404)
  })

  test('404: unknown, in the words of the document', async () => {
    const answer = await bed.send('DELETE', PATH, { name: 'nobody' })
    expect(answer.status).toBe(404)
    expect(answer.body).toEqual({
      code: 404,
      message: 'delete failed',
      data: { error: 'host id not fount', podIPs: [] },
    })
  })

  test('404: a host that is not there, with the addresses that its guest may still use', async () => {
    await create()
    for (const each of bed.controller.instances.values()) each.addresses = ['10.0.0.7', '10.0.0.8']
    bed.controller.failures.set('deleteInstance', new VpeError('HOST_UNREACHABLE', 'host h1 is down'))
    const answer = await bed.send('DELETE', PATH, { name: 'test' })
    expect(answer.status).toBe(404)
    expect(answer.body).toEqual({
      code: 404,
      message: 'delete failed',
      data: { error: 'host id not fount', podIPs: ['10.0.0.7', '10.0.0.8'] },
    })
    expect((await bed.send('GET', `${PATH}?name=test`)).body.data.podIPs).toEqual(['10.0.0.7', '10.0.0.8'])
  })

  test('500 with the cause', async () => {
    await create()
    bed.controller.failures.set('deleteInstance', new VpeError('INTERNAL', 'the disk is full'))
    const answer = await bed.send('DELETE', PATH, { name: 'test' })
    expect(answer.status).toBe(500)
    expect(answer.body).toEqual({ code: 500, message: 'delete failed', data: { error: 'the disk is full' } })
  })

  test.each([
    ['', undefined, 'name: is required, in the body or as ?name='],
    ['', {}, 'name: is required, in the body or as ?name='],
    ['?name=a', { name: 'b' }, 'name: is another one in the query than in the body'],
    ['?name=a&namespace=x', { namespace: 'y' }, 'namespace: is another one in the query than in the body'],
  ])('400: %s %j', async (query, body, error) => {
    const answer = await bed.send('DELETE', `${PATH}${query}`, body)
    expect(answer.status).toBe(400)
    expect(answer.body).toEqual({ code: 400, message: 'delete failed', data: { error } })
  })
})

test('a change by name is one call, so that its idempotency key covers the look-up, too', async () => {
  await create()
  bed.controller.calls.length = 0
  await bed.send('PUT', PATH, { name: 'test', hostIDs: [] }, { 'idempotency-key': 'k' })
  expect(bed.controller.calls.map((call) => [call.method, call.idempotencyKey])).toEqual([
    ['updateInstance', 'k'],
  ])
})

test('an instance of dialect 1 shows in dialect 2', async () => {
  const { flavor, image } = bed.ids
  await bed.send('POST', '/instances', { instance: { name: 'x', flavor_uuid: flavor, image_uuid: image } })
  expect((await bed.send('GET', `${PATH}?name=x`)).body.data).toMatchObject({
    displayName: 'x',
    namespace: 'default',
  })
})
