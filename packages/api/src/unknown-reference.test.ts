// What a body names and does not exist: the request is at fault (400), not its path (404), and the
// field is named as its client wrote it.

import { expect, test } from 'vitest'
import { createTestBed } from './test-bed.ts'

const NOTHING = '99999999-9999-4999-8999-999999999999'

test.each([
  ['/instances', 'instance', { name: 'a', flavor_uuid: NOTHING, image_uuid: 'centos6.7' }, 'flavor_uuid'],
  ['/instances', 'instance', { name: 'a', flavor_uuid: 'default', image_uuid: NOTHING }, 'image_uuid'],
  [
    '/instances',
    'instance',
    { name: 'a', flavor_uuid: 'default', image_uuid: 'centos6.7', disk_pool: NOTHING },
    'disk_pool',
  ],
  [
    '/instances',
    'instance',
    { name: 'a', flavor_uuid: 'default', image_uuid: 'centos6.7', disks: [NOTHING] },
    'disks',
  ],
  ['/images', 'image', { name: 'a', url: 'file:///a', disk_pool: NOTHING }, 'disk_pool'],
  ['/disk_pools', 'disk_pool', { name: 'a', path: '/a', hosts: [NOTHING] }, 'hosts'],
])('POST %s {%s: %j}', async (path, key, body, field) => {
  const bed = await createTestBed()
  const answer = await bed.send('POST', path, { [key]: body })
  expect(answer.status).toBe(400)
  expect(answer.body).toMatchObject({
    code: 'INVALID_ARGUMENT',
    detail: expect.stringContaining(NOTHING),
    errors: [{ field: `${key}.${field}`, message: expect.stringContaining(NOTHING) }],
  })
  expect(bed.controller.instances.size).toBe(0)
})

test.each([
  ['POST', { name: 'a', spec: { image: NOTHING } }],
  ['POST', { name: 'a', spec: { image: 'centos6.7' }, hostIDs: [NOTHING] }],
  ['PUT', { name: 'there', spec: { image: NOTHING } }],
  ['PUT', { name: 'there', hostIDs: [NOTHING] }],
])('%s /api/v1/instance %j', async (method, body) => {
  const bed = await createTestBed()
  await bed.send('POST', '/api/v1/instance', { name: 'there', spec: { image: 'centos6.7' } })
  const answer = await bed.send(method, '/api/v1/instance', body)
  expect(answer.status).toBe(400)
  expect(answer.body).toEqual({
    code: 400,
    message: 'create failed',
    data: { error: expect.stringContaining(NOTHING) },
  })
  expect(bed.controller.instances.size).toBe(1)
})
