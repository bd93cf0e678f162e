// Data disks, in the style of dialect 1.

import { beforeEach, expect, test } from 'vitest'
import { createTestBed, type TestBed } from '../test-bed.ts'

const GIB = 1024 ** 3

let bed: TestBed
let vm: string
beforeEach(async () => {
  bed = await createTestBed()
  vm = await createInstance('vm1')
})

async function createInstance(name: string, more: object = {}): Promise<string> {
  const { body } = await bed.send('POST', '/instances', {
    instance: { name, flavor_uuid: bed.ids.flavor, image_uuid: bed.ids.image, ...more },
  })
  return body.instance.uuid
}

async function createDisk(name = 'vol1'): Promise<string> {
  const answer = await bed.send('POST', '/disks', { disk: { name, size_gib: 10 } })
  expect(answer.status).toBe(200)
  bed.controller.settle()
  return answer.body.disk.uuid
}

test('create answers with the whole disk, and with its operation', async () => {
  const answer = await bed.send('POST', '/disks', {
    disk: { name: 'vol1', size_gib: 10, disk_pool: 'pool2', host: 'h1' },
  })
  expect(answer.headers.get('operation-id')).toMatch(/^[0-9a-f-]{36}$/)
  const { uuid } = answer.body.disk
  expect(answer.body).toEqual({
    disk: {
      uuid,
      name: 'vol1',
      disk_pool: 'pool2',
      disk_pool_uuid: bed.ids.pool,
      host: 'h1',
      host_uuid: bed.ids.host,
      size_gib: 10,
      size_bytes: 10 * GIB,
      status: 'creating',
      fault: null,
      instance: null,
      instance_uuid: null,
      serial: uuid.slice(0, 20),
      created_at: '2016-11-22 10:22:32',
    },
  })
  expect((await bed.send('GET', `/disks/${uuid}`)).body).toEqual(answer.body)
  expect((await bed.send('GET', '/disks?name=vol1')).body).toEqual({ disks: [answer.body.disk] })
  expect((await bed.send('GET', '/disks?name=vol')).body).toEqual({ disks: [] })
})

test('attached, it is shown with its instance, in list, show and creation', async () => {
  const uuid = await createDisk()
  const answer = await bed.send('POST', `/instances/${vm}/disks`, { disk: { uuid } })
  expect(answer.status).toBe(200)
  expect(answer.headers.get('operation-id')).toMatch(/^[0-9a-f-]{36}$/)
  expect(answer.body.disk).toMatchObject({ uuid, status: 'attaching', instance: 'vm1', instance_uuid: vm })
  const shown = [{ uuid, name: 'vol1' }]
  expect((await bed.send('GET', `/instances/${vm}`)).body.instance.disks).toEqual(shown)
  expect((await bed.send('GET', '/instances')).body.instances[0].disks).toEqual(shown)

  const detached = await bed.send('DELETE', `/instances/${vm}/disks/${uuid}`)
  expect(detached.body.disk).toMatchObject({ uuid, status: 'available', instance: null })
  expect((await bed.send('GET', `/instances/${vm}`)).body.instance.disks).toEqual([])

  const other = await createInstance('vm2', { disks: [uuid] })
  expect((await bed.send('GET', `/instances/${other}`)).body.instance.disks).toEqual(shown)
})

test('deleting an instance names the disks that it leaves, where it has some', async () => {
  const uuid = await createDisk()
  await bed.send('POST', `/instances/${vm}/disks`, { disk: { uuid } })
  const answer = await bed.send('DELETE', `/instances/${vm}`)
  expect(answer.body).toEqual({ instance: { uuid: vm, kept_disks: [{ uuid, name: 'vol1' }] } })
  const bare = await createInstance('vm2')
  expect((await bed.send('DELETE', `/instances/${bare}`)).body).toEqual({ instance: { uuid: bare } })
})

test('it grows and gets another name; what is absent stays', async () => {
  const uuid = await createDisk()
  const grown = await bed.send('PUT', `/disks/${uuid}`, { disk: { size_gib: 20 } })
  expect(grown.body.disk).toMatchObject({ name: 'vol1', size_gib: 20 })
  const renamed = await bed.send('PUT', `/disks/${uuid}`, { disk: { name: 'vol2' } })
  expect(renamed.body.disk).toMatchObject({ name: 'vol2', size_gib: 20 })
  expect((await bed.send('DELETE', `/disks/${uuid}`)).body).toEqual({ disk: { uuid } })
  expect((await bed.send('GET', `/disks/${uuid}`)).status).toBe(404)
})

test('what it refuses, it refuses with the field or the holder', async () => {
  const uuid = await createDisk()
  const shrink = await bed.send('PUT', `/disks/${uuid}`, { disk: { size_gib: 1 } })
  expect(shrink).toMatchObject({ status: 400, body: { errors: [{ field: 'disk.size_gib' }] } })

  const unknown = await bed.send('POST', `/instances/${vm}/disks`, { disk: { uuid: 'none' } })
  expect(unknown).toMatchObject({ status: 400, body: { errors: [{ field: 'disk.uuid' }] } })
  const nowhere = await bed.send('POST', `/instances/${uuid}/disks`, { disk: { uuid } })
  expect(nowhere.status).toBe(404)
  expect((await bed.send('DELETE', `/instances/${vm}/disks/${uuid}`)).status).toBe(404)
  expect((await bed.send('DELETE', `/instances/${vm}/disks/none`)).status).toBe(404)

  await bed.send('POST', `/instances/${vm}/disks`, { disk: { uuid } })
  const other = await createInstance('vm2')
  const held = await bed.send('POST', `/instances/${other}/disks`, { disk: { uuid } })
  expect(held).toMatchObject({ status: 409, body: { code: 'CONFLICT' } })
  expect(held.body.detail).toContain('vm1')
  expect((await bed.send('DELETE', `/disks/${uuid}`)).status).toBe(409)
})

test.each([
  [{}, 'disk.name'],
  [{ name: 'a' }, 'disk.size_gib'],
  [{ name: 'a', size_gib: 0 }, 'disk.size_gib'],
  [{ name: 'a', size_gib: 1.5 }, 'disk.size_gib'],
  [{ name: 'a', size_gib: '1' }, 'disk.size_gib'],
  [{ name: 'a', size_gib: 65_537 }, 'disk.size_gib'],
  [{ name: 'a', size_gib: 1, format: 'raw' }, 'disk.format'],
  [{ name: 'a', size_gib: 1, disk_pool: 'none' }, 'disk.disk_pool'],
  [{ name: 'a', size_gib: 1, host: 'none' }, 'disk.host'],
])('POST /disks with %j is refused at %s', async (disk, field) => {
  const answer = await bed.send('POST', '/disks', { disk })
  expect(answer.status).toBe(400)
  expect(answer.body.errors.map((each: { field: string }) => each.field)).toContain(field)
})
