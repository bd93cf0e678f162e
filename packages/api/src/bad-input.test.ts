// Every bad input gets its own clear error, in the dialect of the path that was called, and reaches no
// controller.

import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createTestBed, type TestBed } from './test-bed.ts'

let bed: TestBed

beforeEach(async () => {
  bed = await createTestBed()
})

afterEach(() => {
  expect(bed.controller.calls).toEqual([])
})

const UUID = '22c91117-08de-4894-9aa9-6ef382400985'
const INSTANCE = { name: 'vm1', flavor_uuid: UUID, image_uuid: UUID }
const FLAVOR = { name: 'f', vcpus: 1, memory_mib: 64, disk_gib: 1 }
const IMAGE = { name: 'i', url: 'https://example.org/i.qcow2' }
const POOL = { name: 'p', path: '/srv/p' }
const HOST = { name: 'h', address: '127.0.0.1:7702' }
const ENVELOPE = { name: 'test', spec: { image: UUID } }

/** [path, key that wraps the body, a good body, what is changed in it, the field named, the words said] */
const FIELDS: [string, string, object, object, string, string][] = [
  [
    '/instances',
    'instance',
    INSTANCE,
    { name: undefined },
    'instance.name',
    'is required: expected a string',
  ],
  ['/instances', 'instance', INSTANCE, { name: '' }, 'instance.name', 'must not be empty'],
  ['/instances', 'instance', INSTANCE, { name: '   ' }, 'instance.name', 'must not be blank'],
  ['/instances', 'instance', INSTANCE, { name: ' a' }, 'instance.name', 'must not begin or end with a blank'],
  [
    '/instances',
    'instance',
    INSTANCE,
    { name: 'a\n' },
    'instance.name',
    'must not contain control characters or line breaks',
  ],
  [
    '/instances',
    'instance',
    INSTANCE,
    { name: 'a\u0000b' },
    'instance.name',
    'must not contain control characters or line breaks',
  ],
  [
    '/instances',
    'instance',
    INSTANCE,
    { name: 'a\ud800' },
    'instance.name',
    'must not contain control characters or line breaks',
  ],
  [
    '/instances',
    'instance',
    INSTANCE,
    { name: 'x'.repeat(10_240) },
    'instance.name',
    'is 10240 characters long; at most 128 are allowed',
  ],
  [
    '/instances',
    'instance',
    INSTANCE,
    { name: '🐧'.repeat(129) },
    'instance.name',
    'is 129 characters long; at most 128 are allowed',
  ],
  ['/instances', 'instance', INSTANCE, { name: 7 }, 'instance.name', 'expected a string, got 7'],
  [
    '/instances',
    'instance',
    INSTANCE,
    { flavor_uuid: undefined },
    'instance.flavor_uuid',
    'is required: expected a string',
  ],
  [
    '/instances',
    'instance',
    INSTANCE,
    { image_uuid: null },
    'instance.image_uuid',
    'expected a string, got null',
  ],
  ['/instances', 'instance', INSTANCE, { image_uuid: '' }, 'instance.image_uuid', 'must not be empty'],
  [
    '/instances',
    'instance',
    INSTANCE,
    { disk_pool: [] },
    'instance.disk_pool',
    'expected a string, got a list',
  ],
  [
    '/instances',
    'instance',
    INSTANCE,
    { ha: 'yes' },
    'instance.ha',
    'expected true or false, got the string "yes"',
  ],
  ['/instances', 'instance', INSTANCE, { tags: 'a' }, 'instance.tags', 'expected a list, got the string "a"'],
  ['/instances', 'instance', INSTANCE, { tags: ['a', 1] }, 'instance.tags[1]', 'expected a string, got 1'],
  ['/instances', 'instance', INSTANCE, { tags: [''] }, 'instance.tags[0]', 'must not be empty'],
  [
    '/instances',
    'instance',
    INSTANCE,
    { tags: Array(65).fill('a') },
    'instance.tags',
    'must be at most 64 entries, got 65',
  ],
  ['/instances', 'instance', INSTANCE, { disks: {} }, 'instance.disks', 'expected a list, got an object'],
  [
    '/instances',
    'instance',
    INSTANCE,
    { size: 1 },
    'instance.size',
    'unknown field; known here: name, flavor_uuid, image_uuid, disk_pool, ha, ha_priority, ha_isolation, tags, disks, hostname, ssh_keys, user_data',
  ],
  ['/flavors', 'flavor', FLAVOR, { vcpus: 0 }, 'flavor.vcpus', 'must be at least 1, got 0'],
  ['/flavors', 'flavor', FLAVOR, { vcpus: -4 }, 'flavor.vcpus', 'must be at least 1, got -4'],
  ['/flavors', 'flavor', FLAVOR, { vcpus: 1025 }, 'flavor.vcpus', 'must be at most 1024, got 1025'],
  ['/flavors', 'flavor', FLAVOR, { vcpus: 1.5 }, 'flavor.vcpus', 'expected a whole number, got 1.5'],
  ['/flavors', 'flavor', FLAVOR, { vcpus: '2' }, 'flavor.vcpus', 'expected a number, got the string "2"'],
  ['/flavors', 'flavor', FLAVOR, { memory_mib: -1 }, 'flavor.memory_mib', 'must be at least 16, got -1'],
  [
    '/flavors',
    'flavor',
    FLAVOR,
    { memory_mib: 1e9 },
    'flavor.memory_mib',
    'must be at most 16777216, got 1000000000',
  ],
  ['/flavors', 'flavor', FLAVOR, { disk_gib: -1 }, 'flavor.disk_gib', 'must be at least 0, got -1'],
  ['/flavors', 'flavor', FLAVOR, { disk_gib: 65_537 }, 'flavor.disk_gib', 'must be at most 65536, got 65537'],
  [
    '/images',
    'image',
    IMAGE,
    { url: 'ftp://example.org/i' },
    'image.url',
    'expected an http://, https:// or file:// URL',
  ],
  [
    '/images',
    'image',
    IMAGE,
    { url: '/etc/passwd' },
    'image.url',
    'expected an http://, https:// or file:// URL',
  ],
  [
    '/images',
    'image',
    IMAGE,
    { url: 'https://u:p@example.org/i' },
    'image.url',
    'must not carry a user name or a password: it is shown to every user',
  ],
  ['/images', 'image', IMAGE, { sha256: 'abc' }, 'image.sha256', 'expected 64 hexadecimal digits'],
  [
    '/disk_pools',
    'disk_pool',
    POOL,
    { path: 'srv' },
    'disk_pool.path',
    'expected an absolute path, such as /var/lib/vpe/pool',
  ],
  [
    '/disk_pools',
    'disk_pool',
    POOL,
    { path: '/srv/../etc' },
    'disk_pool.path',
    'must not contain . or .. as a folder',
  ],
  [
    '/disk_pools',
    'disk_pool',
    POOL,
    { kind: 'lvm' },
    'disk_pool.kind',
    'expected one of "dir", "nfs", "rbd", got the string "lvm"',
  ],
  [
    '/disk_pools',
    'disk_pool',
    POOL,
    { system_disks: 'thin' },
    'disk_pool.system_disks',
    'expected one of "overlay", "copy", got the string "thin"',
  ],
  [
    '/hosts',
    'host',
    HOST,
    { address: 'nowhere' },
    'host.address',
    'expected host:port, such as 127.0.0.1:7702',
  ],
  [
    '/hosts',
    'host',
    HOST,
    { address: '127.0.0.1:70000' },
    'host.address',
    'expected host:port, such as 127.0.0.1:7702',
  ],
]

describe('dialect 1: fields', () => {
  test.each(FIELDS)('POST %s {%s: …} %j %j: %s', async (path, key, good, change, field, message) => {
    const answer = await bed.send('POST', path, { [key]: { ...good, ...change } })
    expect(answer.status).toBe(400)
    expect(answer.headers.get('content-type')).toBe('application/problem+json')
    expect(answer.body).toEqual({
      type: 'urn:vpe:error:invalid-argument',
      title: 'The request is not valid',
      status: 400,
      detail: `${field}: ${message}`,
      instance: path,
      code: 'INVALID_ARGUMENT',
      errors: [{ field, message }],
      request_id: answer.headers.get('x-request-id'),
    })
  })

  test('several faults are all listed, up to a bound', async () => {
    const answer = await bed.send('POST', '/instances', { instance: { tags: Array(64).fill(0) } })
    expect(answer.body.errors).toHaveLength(20)
    expect(answer.body.detail).toMatch(/; and 64 more$/)
  })

  test.each([
    [undefined, 'body', 'is required: expected an object'],
    [[], 'body', 'expected an object, got a list'],
    [null, 'body', 'expected an object, got null'],
    [INSTANCE, 'instance', 'is required: expected an object'],
    [{ instance: [] }, 'instance', 'expected an object, got a list'],
  ])('a body %j', async (body, field, message) => {
    const answer = await bed.send('POST', '/instances', body)
    expect(answer.status).toBe(400)
    expect(answer.body.errors[0]).toEqual({ field, message })
  })

  test('what cannot be changed is not taken by PUT', async () => {
    const answer = await bed.send('PUT', `/instances/${UUID}`, { instance: { flavor_uuid: UUID } })
    expect(answer.body.errors).toEqual([
      {
        field: 'instance.flavor_uuid',
        message: 'unknown field; known here: name, ha, ha_priority, ha_isolation, tags',
      },
    ])
  })

  test('start and stop take no fields', async () => {
    const answer = await bed.send('POST', `/instances/${UUID}/stop`, { force: true })
    expect(answer.status).toBe(400)
    expect(answer.body.errors).toEqual([{ field: 'force', message: 'unknown field; none is expected here' }])
  })

  test.each([
    [
      '/instances?stauts=active',
      'stauts',
      'unknown field; known here: name, status, tag, host, limit, marker',
    ],
    [
      '/instances?status=creating',
      'status',
      'expected one of "active", "shutoff", "paused", "error", got the string "creating"',
    ],
    ['/instances?tag=', 'tag[0]', 'must not be empty'],
    ['/instances?tag=a&tag=%20', 'tag[1]', 'must not be blank'],
    ['/instances?host=', 'host', 'must not be empty'],
    ['/instances?limit=0', 'limit', 'expected a whole number from 1 to 1000'],
    ['/instances?limit=1001', 'limit', 'expected a whole number from 1 to 1000'],
    ['/instances?limit=ten', 'limit', 'expected a whole number from 1 to 1000'],
    ['/instances?name=a&name=b', 'name', 'is given more than once'],
    [`/instances?name=${'x'.repeat(129)}`, 'name', 'must be at most 128 characters, got 129'],
    [`/instances/${UUID}?verbose=1`, 'verbose', 'unknown field; none is expected here'],
  ])('GET %s', async (path, field, message) => {
    const answer = await bed.send('GET', path)
    expect(answer.status).toBe(400)
    expect(answer.body.errors).toEqual([{ field, message }])
  })
})

describe('dialect 1: ids', () => {
  const paths = ['/instances', '/flavors', '/images', '/disk_pools', '/hosts', '/operations', '/placements']

  test.each(paths)('GET %s/{no uuid} is 404', async (path) => {
    for (const id of ['abc', `${UUID}0`, '%00', '%ff', encodeURIComponent('../etc'), 'x'.repeat(5_000)]) {
      const answer = await bed.send('GET', `${path}/${id}`)
      expect(answer.status).toBe(404)
      expect(answer.body).toMatchObject({
        code: 'NOT_FOUND',
        detail: expect.stringContaining('ids are UUIDs'),
      })
      expect(answer.body.detail.length).toBeLessThan(200)
    }
  })
})

describe('dialect 2: fields', () => {
  const cases: [string, object | undefined, string][] = [
    ['POST', { name: undefined }, 'name: is required: expected a string'],
    ['POST', { name: 'x'.repeat(10_240) }, 'name: is 10240 characters long; at most 128 are allowed'],
    ['POST', { name: 3 }, 'name: expected a string, got 3'],
    ['POST', { namespace: '' }, 'namespace: must not be empty'],
    ['POST', { spec: undefined }, 'spec: is required: expected an object'],
    ['POST', { spec: {} }, 'spec.image: is required: expected a string'],
    ['POST', { spec: { image: '' } }, 'spec.image: must not be empty'],
    [
      'POST',
      { spec: { image: 'a', cpu: 1 } },
      'spec.cpu: unknown field; known here: image, hostname, sshKeys, userData',
    ],
    ['POST', { shareStorage: 'true' }, 'shareStorage: expected true or false, got the string "true"'],
    ['POST', { hostIDs: 'h1' }, 'hostIDs: expected a list, got the string "h1"'],
    ['POST', { hostIDs: [1] }, 'hostIDs[0]: expected a string, got 1'],
    [
      'POST',
      { flavor: 'big' },
      'flavor: unknown field; known here: name, namespace, spec, shareStorage, hostIDs',
    ],
    ['PUT', { name: undefined }, 'name: is required: expected a string'],
    ['PUT', { hostIDs: [-1] }, 'hostIDs[0]: expected a string, got -1'],
    ['DELETE', { name: [], spec: undefined }, 'name: expected a string, got a list'],
  ]

  test.each(cases)('%s %j: %s', async (method, change, error) => {
    const answer = await bed.send(method, '/api/v1/instance', { ...ENVELOPE, ...change })
    expect(answer.status).toBe(400)
    expect(answer.headers.get('content-type')).toBe('application/json')
    const message = method === 'DELETE' ? 'delete failed' : 'create failed'
    expect(answer.body).toEqual({ code: 400, message, data: { error } })
  })

  test.each([
    ['?name=', 'name: must not be empty'],
    ['?name=a&name=b', 'name: is given more than once'],
    ['?hostID=a', 'hostID: unknown field; known here: name, namespace'],
  ])('GET %s', async (query, error) => {
    const answer = await bed.send('GET', `/api/v1/instance${query}`)
    expect(answer.status).toBe(400)
    expect(answer.body).toEqual({ code: 400, message: 'get failed', data: { error } })
  })
})

const BODIES = [
  ['POST', '/instances'],
  ['PUT', `/instances/${UUID}`],
  ['POST', `/instances/${UUID}/start`],
  ['POST', '/flavors'],
  ['POST', '/images'],
  ['POST', '/disk_pools'],
  ['POST', '/hosts'],
  ['POST', '/webhooks'],
  ['POST', '/api/v1/instance'],
  ['PUT', '/api/v1/instance'],
  ['DELETE', '/api/v1/instance'],
] as const

describe.each(BODIES)('bodies: %s %s', (method, path) => {
  /** The code and text of a failure, in the dialect of the path. */
  async function fail(body: string | Uint8Array, headers: Record<string, string>, status: number) {
    const answer = await bed.send(method, path, body, headers)
    expect(answer.status).toBe(status)
    if (!path.startsWith('/api/v1/')) {
      expect(answer.headers.get('content-type')).toBe('application/problem+json')
      expect(answer.body).toMatchObject({ status, instance: path })
      return answer.body.detail
    }
    expect(answer.body).toEqual({
      code: status,
      message: method === 'DELETE' ? 'delete failed' : 'create failed',
      data: { error: expect.any(String) },
    })
    return answer.body.data.error
  }

  const json = { 'content-type': 'application/json' }

  test('malformed JSON: 400 with the position', async () => {
    expect(await fail('{\n  "instance": {"ha": true,  # optional\n}', json, 400)).toBe(
      'malformed JSON at line 2, column 29: expected a field name in double quotes, found "#"',
    )
    expect(await fail('{"instance": ', json, 400)).toBe(
      'malformed JSON at line 1, column 14: expected a value, found the end',
    )
    expect(await fail(new Uint8Array([0x7b, 0xff, 0x7d]), json, 400)).toBe(
      'malformed JSON: the body is not valid UTF-8',
    )
  })

  test('what curl -d declares by itself is taken as JSON', async () => {
    const type = { 'content-type': 'application/x-www-form-urlencoded' }
    expect(await fail('{"instance": ', type, 400)).toContain('malformed JSON at line 1')
  })

  test('another declared type: 415', async () => {
    for (const type of ['text/plain', 'multipart/form-data; boundary=x', 'application/jsonx']) {
      expect(await fail('{}', { 'content-type': type }, 415)).toContain('Content-Type: application/json')
    }
    expect(await fail('{}', { 'content-type': 'application/json; charset=gbk' }, 415)).toContain('UTF-8')
  })

  test('more than 1 MiB: 413', async () => {
    const body = JSON.stringify({ instance: 'x'.repeat(1024 * 1024) })
    expect(await fail(body, json, 413)).toContain('larger than 1048576 bytes')
    expect(await fail('{}', { ...json, 'content-length': '52428800' }, 413)).toContain(
      'larger than 1048576 bytes',
    )
  })

  test('nesting as deep as a body allows', async () => {
    await fail('['.repeat(1_000_000), json, 400)
    await fail(`${'['.repeat(500_000)}${']'.repeat(500_000)}`, json, 400)
    await fail(`{"name":${'['.repeat(400_000)}${']'.repeat(400_000)}}`, json, 400)
  })
})

describe('routes', () => {
  test.each(['/', '/instance', '/instances/', `/instances/${UUID}/fly`, '/flavours'])(
    'GET %s: 404',
    async (path) => {
      const answer = await bed.send('GET', path)
      expect(answer.status).toBe(404)
      expect(answer.headers.get('content-type')).toBe('application/problem+json')
      expect(answer.body).toMatchObject({ code: 'UNKNOWN_ROUTE', instance: path })
    },
  )

  test('below /api/v1 in the envelope', async () => {
    const answer = await bed.send('GET', '/api/v1/instances')
    expect(answer.status).toBe(404)
    expect(answer.body).toEqual({ code: 404, message: 'get failed', data: { error: expect.any(String) } })
  })

  test.each([
    ['PATCH', '/instances', 'GET, HEAD, POST'],
    ['POST', `/instances/${UUID}`, 'GET, HEAD, PUT, DELETE'],
    ['GET', `/instances/${UUID}/start`, 'POST'],
    ['OPTIONS', '/flavors', 'GET, HEAD, POST'],
    ['DELETE', '/operations', 'GET, HEAD'],
    ['PATCH', '/api/v1/instance', 'POST, PUT, GET, HEAD, DELETE'],
  ])('%s %s: 405 with Allow', async (method, path, allow) => {
    const answer = await bed.send(method, path)
    expect(answer.status).toBe(405)
    expect(answer.headers.get('allow')).toBe(allow)
    expect(answer.body).toMatchObject(
      path.startsWith('/api/v1/') ? { code: 405, message: 'request failed' } : { code: 'METHOD_NOT_ALLOWED' },
    )
  })
})
