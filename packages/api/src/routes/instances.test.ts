// Dialect 1, one test per request and response of its document: the same fields, no others than the
// extensions that docs/api.md names, the same types and the same status.

import { createHash } from 'node:crypto'
import { beforeEach, describe, expect, test } from 'vitest'
import { createTestBed, type TestBed } from '../test-bed.ts'

let bed: TestBed

beforeEach(async () => {
  bed = await createTestBed()
})

const EXTENSIONS = [
  'fault',
  'host',
  'host_uuid',
  'namespace',
  'addresses',
  'locked',
  'hostname',
  'ssh_keys',
  'user_data_sha256',
  'unprotected',
  'ha_priority',
  'ha_isolation',
]

async function create(name: string, more: object = {}) {
  const { flavor, image } = bed.ids
  const answer = await bed.send('POST', '/instances', {
    instance: { name, flavor_uuid: flavor, image_uuid: image, ...more },
  })
  expect(answer.status).toBe(200)
  return answer
}

describe('List instances', () => {
  test('GET /instances: every field of the document, in its order, then the extensions', async () => {
    await create('vm1', { tags: ['private', 'production'] })
    const answer = await bed.send('GET', '/instances')
    expect(answer.status).toBe(200)
    expect(answer.headers.get('content-type')).toBe('application/json')
    expect(answer.body).toEqual({
      instances: [
        {
          uuid: expect.stringMatching(/^[0-9a-f-]{36}$/),
          name: 'vm1',
          image: 'centos6.7',
          image_uuid: bed.ids.image,
          disk_pool: 'pool2',
          disk_pool_uuid: bed.ids.pool,
          status: 'shutoff',
          task: 'creating',
          flavor_uuid: bed.ids.flavor,
          flavor: 'default',
          ha: false,
          tags: ['private', 'production'],
          created_at: '2016-11-22 10:22:32',
          disks: [],
          fault: null,
          host: 'h1',
          host_uuid: bed.ids.host,
          namespace: 'default',
          addresses: [],
          locked: false,
          hostname: null,
          ssh_keys: [],
          user_data_sha256: null,
          unprotected: null,
          ha_priority: 'medium',
          ha_isolation: 'leave',
        },
      ],
    })
    expect(Object.keys(answer.body.instances[0]).slice(-EXTENSIONS.length)).toEqual(EXTENSIONS)
  })

  test('?name= searches by substring', async () => {
    await create('frontend')
    await create('backend')
    await create('database')
    const answer = await bed.send('GET', '/instances?name=en')
    expect(answer.body.instances.map((it: { name: string }) => it.name)).toEqual(['frontend', 'backend'])
    expect((await bed.send('GET', '/instances?name=')).body.instances).toHaveLength(3)
    expect((await bed.send('GET', '/instances?name=nothing')).body).toEqual({ instances: [] })
  })
})

describe('What a guest is told', () => {
  const KEY =
    'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKn9buq4Eq3mpX6qf8jKpEdY+CK9uTzLfLT6JTRvJijf ada@example.org'

  test('goes to the controller, and is shown but for its user data', async () => {
    const userData = '#!/bin/sh\necho secret\n'
    const { body } = await create('vm1', { hostname: 'web', ssh_keys: [KEY], user_data: userData })
    expect(bed.controller.calls.at(-1)?.request).toMatchObject({ hostname: 'web', sshKeys: [KEY], userData })
    const answer = await bed.send('GET', `/instances/${body.instance.uuid}`)
    expect(answer.body.instance).toMatchObject({
      hostname: 'web',
      ssh_keys: [KEY],
      user_data_sha256: createHash('sha256').update(userData).digest('hex'),
    })
    expect(JSON.stringify(answer.body)).not.toContain('secret')
  })

  test('is the same in dialect 2', async () => {
    const spec = { image: 'centos6.7', hostname: 'web', sshKeys: [KEY], userData: '#cloud-config\n' }
    await bed.send('POST', '/api/v1/instance', { name: 'test', spec })
    const { data } = (await bed.send('GET', '/api/v1/instance?name=test')).body
    const { userData, ...shown } = spec
    expect(data.spec).toEqual({
      ...shown,
      userDataSha256: createHash('sha256').update(userData).digest('hex'),
    })
  })

  test('is refused by field and index where no guest could be told so, and is not repeated', async () => {
    const more = { hostname: 'a b', ssh_keys: [KEY, 'secret'], user_data: 'x'.repeat(65_537) }
    const instance = { name: 'vm1', flavor_uuid: bed.ids.flavor, image_uuid: bed.ids.image, ...more }
    const answer = await bed.send('POST', '/instances', { instance })
    expect(answer.status).toBe(400)
    const fields = answer.body.errors.map(({ field }: { field: string }) => field)
    expect(fields).toEqual(['instance.hostname', 'instance.ssh_keys[1]', 'instance.user_data'])
    expect(JSON.stringify(answer.body)).not.toContain('secret')
  })
})

describe('List instances, filtered', () => {
  const names = async (query: string) => {
    const answer = await bed.send('GET', `/instances?${query}`)
    expect(answer.status).toBe(200)
    return answer.body.instances.map((it: { name: string }) => it.name)
  }

  test('by status, by every one of the tags given, by host', async () => {
    await create('vm1', { tags: ['a', 'b'] })
    await create('vm2', { tags: ['a'] })
    bed.controller.settle()
    await create('vm3', { tags: ['b'] })
    expect(await names('status=active')).toEqual(['vm1', 'vm2'])
    expect(await names('status=shutoff')).toEqual(['vm3'])
    expect(await names('tag=a')).toEqual(['vm1', 'vm2'])
    expect(await names('tag=a&tag=b')).toEqual(['vm1'])
    expect(await names(`host=${bed.ids.host}`)).toEqual(['vm1', 'vm2', 'vm3'])
    expect(await names('host=h1&tag=b&status=active&name=vm')).toEqual(['vm1'])
  })

  test('by a host that does not exist is a mistake, and no empty list', async () => {
    const answer = await bed.send('GET', '/instances?host=h9')
    expect(answer.status).toBe(400)
    expect(answer.body.errors).toEqual([{ field: 'host', message: 'there is no host h9' }])
  })
})

describe('List instances, in pages', () => {
  test('?limit= gives so many, and next_marker until there are no more', async () => {
    for (const name of ['vm1', 'vm2', 'vm3']) await create(name)
    const first = (await bed.send('GET', '/instances?limit=2')).body
    expect(first).toEqual({
      instances: [expect.anything(), expect.anything()],
      next_marker: expect.any(String),
    })
    const second = (await bed.send('GET', `/instances?limit=2&marker=${first.next_marker}`)).body
    expect(second).toEqual({ instances: [expect.objectContaining({ name: 'vm3' })], next_marker: null })
    const byUuid = await bed.send('GET', `/instances?marker=${first.instances[1].uuid}`)
    expect(byUuid.body).toEqual({ instances: second.instances })
  })

  test('a marker that is none is refused', async () => {
    const answer = await bed.send('GET', '/instances?marker=x')
    expect(answer.status).toBe(400)
    expect(answer.body.errors[0].field).toBe('marker')
  })

  test('without a limit all of them come, in as many pages as the controller makes of them', async () => {
    const { uuid } = (await create('vm')).body.instance
    const instance = bed.controller.instances.get(uuid)
    if (!instance) throw new Error('it was just created')
    for (let number = 0; number < 2_000; number++) {
      const copy = `a1000000-0000-4000-8000-${String(number).padStart(12, '0')}`
      bed.controller.instances.set(copy, { ...instance, uuid: copy })
    }
    bed.controller.calls.length = 0
    const { body } = await bed.send('GET', '/instances')
    expect(Object.keys(body)).toEqual(['instances'])
    expect(new Set(body.instances.map((it: { uuid: string }) => it.uuid)).size).toBe(2_001)
    expect(bed.controller.calls).toHaveLength(3)
    expect((await bed.send('GET', '/api/v1/instance')).body.data.instances).toHaveLength(2_001)
  })
})

describe('Show instance detail', () => {
  test('GET /instances/{uuid}: the same object, wrapped, and what is too lively for lists', async () => {
    const { uuid } = (await create('vm1')).body.instance
    const [listed] = (await bed.send('GET', '/instances')).body.instances
    expect((await bed.send('GET', `/instances/${uuid}`)).body).toEqual({
      instance: { ...listed, recovery: null },
    })
    expect((await bed.send('GET', `/instances/${uuid.toUpperCase()}`)).status).toBe(200)
  })

  test('task is null once nothing is being done, and status what is observed', async () => {
    const { uuid } = (await create('vm1')).body.instance
    bed.controller.settle()
    const { instance } = (await bed.send('GET', `/instances/${uuid}`)).body
    expect(instance).toMatchObject({ status: 'active', task: null, fault: null })
  })

  test('an instance in error says why', async () => {
    const { uuid } = (await create('vm1')).body.instance
    const instance = bed.controller.instances.get(uuid)
    if (instance)
      Object.assign(instance, {
        status: 'INSTANCE_STATUS_ERROR',
        task: 'INSTANCE_TASK_UNSPECIFIED',
        fault: 'the image is gone',
      })
    expect((await bed.send('GET', `/instances/${uuid}`)).body.instance).toMatchObject({
      status: 'error',
      task: null,
      fault: 'the image is gone',
    })
  })
})

describe('Create instance', () => {
  test('POST /instances: exactly the fields of the document, and fault', async () => {
    const answer = await create('vm2', { disk_pool: bed.ids.pool, ha: true, tags: ['tag1', 'tag2', 'tag3'] })
    expect(answer.headers.get('content-type')).toBe('application/json')
    expect(answer.headers.get('operation-id')).toMatch(/^[0-9a-f-]{36}$/)
    expect(answer.body).toEqual({
      instance: {
        uuid: expect.stringMatching(/^[0-9a-f-]{36}$/),
        name: 'vm2',
        created_at: '2016-11-22 10:22:32',
        status: 'shutoff',
        task: 'creating',
        flavor_uuid: bed.ids.flavor,
        image_uuid: bed.ids.image,
        disk_pool: bed.ids.pool,
        ha: true,
        tags: ['tag1', 'tag2', 'tag3'],
        disks: [],
        fault: null,
      },
    })
    expect(Object.keys(answer.body.instance).slice(0, 11)).toEqual(
      'uuid name created_at status task flavor_uuid image_uuid disk_pool ha tags disks'.split(' '),
    )
  })

  test('ha, tags and disks have defaults; the Content-Type may be missing', async () => {
    const { flavor, image } = bed.ids
    const body = new TextEncoder().encode(
      JSON.stringify({ instance: { name: 'vm2', flavor_uuid: flavor, image_uuid: image } }),
    )
    const answer = await bed.send('POST', '/instances', body)
    expect(answer.status).toBe(200)
    expect(answer.body.instance).toMatchObject({ ha: false, tags: [], disks: [] })
  })

  test('flavor, image and pool may be given by name', async () => {
    const answer = await bed.send('POST', '/instances', {
      instance: { name: 'vm2', flavor_uuid: 'default', image_uuid: 'centos6.7', disk_pool: 'pool2' },
    })
    expect(answer.body.instance).toMatchObject({
      flavor_uuid: bed.ids.flavor,
      image_uuid: bed.ids.image,
      disk_pool: bed.ids.pool,
    })
  })

  test('names may be in any script, and 128 characters long', async () => {
    for (const name of ['虚拟机 1', 'é'.repeat(128), '🐧'.repeat(128)]) {
      expect((await create(name)).body.instance.name).toBe(name)
    }
  })
})

describe('Update instance', () => {
  test('PUT /instances/{uuid}: changes what is given, leaves the rest', async () => {
    const created = (await create('vm2', { tags: ['a'] })).body.instance
    const path = `/instances/${created.uuid}`
    const answer = await bed.send('PUT', path, { instance: { name: 'vm3', ha: true, tags: ['b', 'c'] } })
    expect(answer.status).toBe(200)
    expect(answer.headers.get('operation-id')).toMatch(/^[0-9a-f-]{36}$/)
    expect(answer.body.instance).toEqual({
      ...created,
      name: 'vm3',
      ha: true,
      tags: ['b', 'c'],
      task: 'updating',
    })
    const second = await bed.send('PUT', path, { instance: { tags: [] } })
    expect(second.body.instance).toMatchObject({ name: 'vm3', ha: true, tags: [] })
    const third = await bed.send('PUT', path, { instance: { ha: false } })
    expect(third.body.instance).toMatchObject({ name: 'vm3', ha: false, tags: [] })
  })
})

describe('Delete, stop and start', () => {
  test.each([
    ['DELETE', '', 'deleting'],
    ['POST', '/stop', 'stopping'],
    ['POST', '/start', 'starting'],
  ])('%s /instances/{uuid}%s answers the uuid', async (method, action, task) => {
    const { uuid } = (await create('vm1')).body.instance
    for (const body of method === 'DELETE' ? [undefined] : [{}, undefined]) {
      const answer = await bed.send(method, `/instances/${uuid}${action}`, body, {
        'content-type': 'application/json',
      })
      expect(answer.status).toBe(200)
      expect(answer.body).toEqual({ instance: { uuid } })
      expect(answer.headers.get('operation-id')).toMatch(/^[0-9a-f-]{36}$/)
    }
    expect((await bed.send('GET', `/instances/${uuid}`)).body.instance.task).toBe(task)
  })
})

describe('Idempotency-Key', () => {
  test('the same POST five times makes one instance and gives one answer', async () => {
    const { flavor, image } = bed.ids
    const body = { instance: { name: 'vm1', flavor_uuid: flavor, image_uuid: image } }
    const answers = []
    for (let round = 0; round < 5; round++) {
      answers.push(await bed.send('POST', '/instances', body, { 'idempotency-key': 'key 1, of mine' }))
    }
    for (const answer of answers) {
      expect(answer.status).toBe(200)
      expect(answer.body).toEqual(answers[0]?.body)
      expect(answer.headers.get('operation-id')).toBe(answers[0]?.headers.get('operation-id'))
    }
    expect((await bed.send('GET', '/instances')).body.instances).toHaveLength(1)
    expect(bed.controller.calls.filter((call) => call.idempotencyKey === 'key 1, of mine')).toHaveLength(5)
  })

  test('the key of another request is refused with 422', async () => {
    await create('vm1')
    const { uuid } = (await create('vm2')).body.instance
    const headers = { 'idempotency-key': 'k' }
    expect((await bed.send('POST', `/instances/${uuid}/stop`, {}, headers)).status).toBe(200)
    const answer = await bed.send('POST', `/instances/${uuid}/start`, {}, headers)
    expect(answer.status).toBe(422)
    expect(answer.body.code).toBe('IDEMPOTENCY_KEY_REUSED')
  })

  test.each(['', 'é', 'x'.repeat(256)])('%j is no key', async (key) => {
    const answer = await bed.send(
      'POST',
      '/flavors',
      { flavor: { name: 'f', vcpus: 1, memory_mib: 64 } },
      {
        'idempotency-key': key,
      },
    )
    expect(answer.status).toBe(400)
    expect(answer.body.errors[0].field).toBe('Idempotency-Key')
    expect(bed.controller.calls).toEqual([])
  })
})

test('an instance of dialect 2 shows in dialect 1', async () => {
  await bed.send('POST', '/api/v1/instance', { name: 'x', namespace: 'test', spec: { image: 'centos6.7' } })
  expect((await bed.send('GET', '/instances?name=x')).body.instances[0]).toMatchObject({
    name: 'x',
    namespace: 'test',
    image: 'centos6.7',
  })
})
