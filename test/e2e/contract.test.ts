// Each pair of request and response of the two documents, on the live cluster: the same fields, of the same
// types, with the same status and the same messages. The tests share one cluster and go in order.

import { existsSync } from 'node:fs'
import { accepted } from '@vpe/client'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Browser } from './browser.ts'
import { Cluster, until } from './cluster.ts'

const cluster = new Cluster()
let ids: { flavor_uuid: string; image_uuid: string; disk_pool: string }
/** Two data disks, as instances show them. */
const disks: { uuid: string; name: string }[] = []

beforeAll(async () => {
  await cluster.quickstart()
  const { client } = cluster
  const [{ flavors }, { images }, { disk_pools }] = await Promise.all([
    accepted(client.GET('/flavors')),
    accepted(client.GET('/images')),
    accepted(client.GET('/disk_pools')),
  ])
  ids = {
    flavor_uuid: flavors[0]?.uuid ?? '',
    image_uuid: images[0]?.uuid ?? '',
    disk_pool: disk_pools[0]?.uuid ?? '',
  }
  for (const name of ['vol1', 'vol2']) {
    const body = { disk: { name, disk_pool: ids.disk_pool, size_gib: 1 } }
    const { disk } = await accepted(client.POST('/disks', { body }))
    disks.push({ uuid: disk.uuid, name })
  }
  await until('the disks are made', async () => {
    const made = await accepted(client.GET('/disks'))
    return made.disks.every(({ status }) => status === 'available')
  })
})
afterAll(async () => {
  if (existsSync(cluster.home)) await cluster[Symbol.asyncDispose]()
})

const uuidText = expect.stringMatching(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
const momentText = expect.stringMatching(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/)

/** What the document has, in its order; what vpe has beside it may come after. */
function firstFields(thing: object, count: number): string[] {
  return Object.keys(thing).slice(0, count)
}

async function settled(headers: Headers): Promise<void> {
  expect(await cluster.ended(headers.get('operation-id') ?? '')).toMatchObject({ status: 'succeeded' })
}

describe('dialect 1', () => {
  let uuid: string

  test('create instance', async () => {
    const answer = await cluster.ok('POST', '/instances', {
      instance: {
        name: 'vm2',
        ...ids,
        ha: true,
        tags: ['tag1', 'tag2', 'tag3'],
        disks: disks.map(({ uuid }) => uuid),
      },
    })
    expect(answer.body).toEqual({
      instance: {
        uuid: uuidText,
        name: 'vm2',
        created_at: momentText,
        status: 'shutoff',
        task: 'creating',
        ...ids,
        ha: true,
        tags: ['tag1', 'tag2', 'tag3'],
        disks,
        fault: null,
      },
    })
    expect(firstFields(answer.body.instance, 11)).toEqual(
      'uuid name created_at status task flavor_uuid image_uuid disk_pool ha tags disks'.split(' '),
    )
    uuid = answer.body.instance.uuid
    await settled(answer.headers)
  })

  const shown = () => ({
    uuid,
    name: 'vm2',
    image: 'demo',
    image_uuid: ids.image_uuid,
    disk_pool: 'local',
    disk_pool_uuid: ids.disk_pool,
    status: 'active',
    task: null,
    flavor_uuid: ids.flavor_uuid,
    flavor: expect.any(String),
    ha: true,
    tags: ['tag1', 'tag2', 'tag3'],
    created_at: momentText,
    disks,
  })
  const FIELDS =
    'uuid name image image_uuid disk_pool disk_pool_uuid status task flavor_uuid flavor ha tags created_at disks'

  test('list instances, by a part of the name', async () => {
    const { body } = await cluster.ok('GET', '/instances?name=m2')
    expect(body).toEqual({ instances: [expect.objectContaining(shown())] })
    expect(firstFields(body.instances[0], 14)).toEqual(FIELDS.split(' '))
    expect((await cluster.ok('GET', '/instances?name=nobody')).body).toEqual({ instances: [] })
  })

  test('show instance detail', async () => {
    const { body } = await cluster.ok('GET', `/instances/${uuid}`)
    expect(body).toEqual({ instance: expect.objectContaining(shown()) })
    expect(firstFields(body.instance, 14)).toEqual(FIELDS.split(' '))
  })

  test('update instance', async () => {
    const { body, headers } = await cluster.ok('PUT', `/instances/${uuid}`, {
      instance: { name: 'vm3', ha: false, tags: ['tag4'] },
    })
    await settled(headers)
    expect(body.instance).toMatchObject({ uuid, name: 'vm3', ha: false, tags: ['tag4'], ...ids, disks })
    expect(firstFields(body.instance, 11)).toEqual(
      'uuid name created_at status task flavor_uuid image_uuid disk_pool ha tags disks'.split(' '),
    )
    expect((await cluster.ok('GET', `/instances/${uuid}`)).body.instance).toMatchObject({
      name: 'vm3',
      ha: false,
      tags: ['tag4'],
      status: 'active',
    })
  })

  test('stop and start instance', async () => {
    const stop = await cluster.ok('POST', `/instances/${uuid}/stop`, {})
    expect(stop.body).toEqual({ instance: { uuid } })
    await settled(stop.headers)
    expect(await cluster.instance(uuid)).toMatchObject({ status: 'shutoff', task: null })
    const start = await cluster.ok('POST', `/instances/${uuid}/start`, {})
    expect(start.body).toEqual({ instance: { uuid } })
    await settled(start.headers)
    const again = await cluster.ok('POST', `/instances/${uuid}/start`, {})
    expect(again.body).toEqual({ instance: { uuid } })
    await settled(again.headers)
  })

  test('get VNC', async () => {
    const { body } = await cluster.ok('GET', `/instances/${uuid}/vnc`)
    expect(body).toEqual({ instance: { uuid, vnc_url: expect.any(String) } })
    expect(body.instance.vnc_url.replace(/#.*/, '')).toBe(`${cluster.apiUrl}/vnc?instance-uuid=${uuid}`)
  })

  test('get instance metrics', async () => {
    await until('it was measured', async () => {
      const { metrics } = (await cluster.ok('GET', `/instances/${uuid}/metrics`)).body
      // The first sample may be of a guest whose devices are still being made.
      return metrics.current !== null && metrics.current.disks.length > 0
    })
    const { metrics } = (await cluster.ok('GET', `/instances/${uuid}/metrics`)).body
    expect(metrics).toMatchObject({
      instance_uuid: uuid,
      current: { disks: [{ name: 'vda' }, { name: 'vdb' }, { name: 'vdc' }] },
    })
  })

  test('delete instance', async () => {
    const { body, headers } = await cluster.ok('DELETE', `/instances/${uuid}`)
    expect(body).toEqual({ instance: { uuid, kept_disks: disks } })
    await settled(headers)
    expect(await cluster.request('GET', `/instances/${uuid}`)).toMatchObject({ status: 404 })
  })
})

describe('dialect 2', () => {
  const PATH = '/api/v1/instance'
  let name: string
  let host: string

  beforeAll(async () => {
    const { hosts } = await accepted(cluster.client.GET('/hosts'))
    host = hosts[0]?.uuid ?? ''
  })

  function wish(over: object = {}) {
    const spec = { image: ids.image_uuid }
    return { name: 'test', namespace: 'test', spec, shareStorage: false, hostIDs: [host], ...over }
  }

  test('create: 200, and the name that vpe made', async () => {
    const answer = await cluster.request('POST', PATH, wish())
    expect(answer).toMatchObject({ status: 200 })
    expect(answer.body).toEqual({
      code: 200,
      message: 'create succeed',
      data: { name: expect.stringMatching(/^[0-9a-v]{20}$/) },
    })
    name = answer.body.data.name
    await settled(answer.headers)
  })

  test('create: 409, when the name is taken', async () => {
    const { status, body } = await cluster.request('POST', PATH, wish())
    expect(status).toBe(409)
    expect(body).toEqual({ code: 409, message: 'create failed', data: { error: 'database conflict' } })
  })

  test('create: 500, with the cause', async () => {
    // No pool is shared on a cluster of one.
    const { status, body } = await cluster.request('POST', PATH, wish({ name: 'shared', shareStorage: true }))
    expect(status).toBe(500)
    expect(body).toEqual({
      code: 500,
      message: 'create failed',
      data: { error: expect.stringMatching(/^no host fits: .*shared/) },
    })
  })

  test('update: 200, and both the hosts and the image change', async () => {
    const answer = await cluster.request('PUT', PATH, {
      name: 'test',
      spec: { image: 'demo' },
      hostIDs: [],
    })
    expect(answer.status).toBe(200)
    expect(answer.body).toEqual({ code: 200, message: 'create succeed', data: { name } })
    await settled(answer.headers)
    const { body } = await cluster.ok('GET', `${PATH}?name=test`)
    expect(body.data).toMatchObject({ hostIDs: [], spec: { image: 'demo' }, imageID: ids.image_uuid })
  })

  test('get: 200', async () => {
    const { status, body } = await cluster.request('GET', `${PATH}?name=${name}`)
    expect(status).toBe(200)
    expect(body).toEqual({
      code: 200,
      message: 'get succeed',
      data: expect.objectContaining({ name, displayName: 'test', namespace: 'test', status: 'active' }),
    })
    const all = await cluster.ok('GET', `${PATH}?namespace=test`)
    expect(all.body.data).toEqual({ instances: [body.data] })
    expect((await cluster.ok('GET', `${PATH}?namespace=other`)).body.data).toEqual({ instances: [] })
  })

  test('update and delete: 500 with the cause, when the controller does not answer', async () => {
    process.kill(cluster.pidOf('controller'), 'SIGKILL')
    const data = { error: expect.stringMatching(/controller/) }
    const update = { name: 'test', hostIDs: [host] }
    await until('it does not', async () => (await cluster.request('PUT', PATH, update)).status === 500)
    expect((await cluster.request('PUT', PATH, update)).body).toEqual({
      code: 500,
      message: 'create failed',
      data,
    })
    const { status, body } = await cluster.request('DELETE', PATH, { name: 'test' })
    expect(status).toBe(500)
    expect(body).toEqual({ code: 500, message: 'delete failed', data })
    await cluster.quickstart()
  })

  test('delete: 200', async () => {
    const answer = await cluster.request('DELETE', PATH, { name: 'test', namespace: 'test' })
    expect(answer.status).toBe(200)
    expect(answer.body).toEqual({ code: 200, message: 'delete succeed', data: { name } })
    await settled(answer.headers)
  })

  test('delete: 404, when there is no such instance', async () => {
    const { status, body } = await cluster.request('DELETE', PATH, { name: 'test' })
    expect(status).toBe(404)
    expect(body).toEqual({
      code: 404,
      message: 'delete failed',
      data: { error: 'host id not fount', podIPs: [] },
    })
  })
})

test('the reference page shows every operation, and can send one', async () => {
  await using browser = await Browser.start()
  const docs = await browser.open(`${cluster.apiUrl}/docs`)
  const { page, errors } = docs
  const { paths } = (await cluster.ok('GET', '/openapi.json')).body
  const operations = Object.values<object>(paths).flatMap((methods) => Object.keys(methods))
  await until('all of them are there', async () => {
    return (await page.locator('.opblock').count()) === operations.length
  })
  const flavors = page.locator('.opblock-get', { has: page.locator('[data-path="/flavors"]') })
  await flavors.locator('.opblock-summary-control').click()
  await flavors.locator('.execute').click()
  await flavors.locator('.live-responses-table .response-col_status', { hasText: '200' }).waitFor()
  await docs.screenshot('api-reference')
  expect(errors).toEqual([])
})
