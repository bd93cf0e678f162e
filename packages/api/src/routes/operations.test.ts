import { Placement } from '@vpe/proto'
import { beforeEach, expect, test } from 'vitest'
import { createTestBed, type TestBed } from '../test-bed.ts'

let bed: TestBed

beforeEach(async () => {
  bed = await createTestBed()
})

async function createInstance(): Promise<{ uuid: string; operation: string }> {
  const { flavor, image } = bed.ids
  const answer = await bed.send('POST', '/instances', {
    instance: { name: 'vm', flavor_uuid: flavor, image_uuid: image },
  })
  return { uuid: answer.body.instance.uuid, operation: answer.headers.get('operation-id') ?? '' }
}

test('GET /operations/{uuid} shows an operation', async () => {
  const { uuid, operation } = await createInstance()
  const running = await bed.send('GET', `/operations/${operation}`)
  expect(running.status).toBe(200)
  expect(running.body).toEqual({
    operation: {
      uuid: operation,
      kind: 'instance.create',
      resource_uuid: uuid,
      status: 'running',
      step: null,
      fault: null,
      created_at: '2016-11-22 10:22:32',
      ended_at: null,
      placement_uuid: null,
      note: null,
    },
  })
  bed.controller.settle()
  expect((await bed.send('GET', `/operations/${operation}`)).body.operation).toMatchObject({
    status: 'succeeded',
    ended_at: '2016-11-22 10:22:36',
  })
})

test('?wait= answers when the operation ends', async () => {
  const { operation } = await createInstance()
  const waiting = bed.send('GET', `/operations/${operation}?wait=30s`)
  await expect
    .poll(() => bed.controller.calls.at(-1))
    .toMatchObject({ method: 'getOperation', request: { waitMs: 30_000 } })
  bed.controller.settle()
  expect((await waiting).body.operation.status).toBe('succeeded')
})

test('a wait that runs out shows the operation as it is; it may be longer than the deadline of a call', async () => {
  bed = await createTestBed({ deadlineMs: 40 })
  const { operation } = await createInstance()
  const answer = await bed.send('GET', `/operations/${operation}?wait=80ms`)
  expect(answer.body.operation.status).toBe('running')
})

test('a wait ends with 503 when the node stops', async () => {
  const stopping = new AbortController()
  bed = await createTestBed({ stopping: stopping.signal })
  const { operation } = await createInstance()
  const waiting = bed.send('GET', `/operations/${operation}?wait=60s`)
  await expect.poll(() => bed.controller.calls.at(-1)?.method).toBe('getOperation')
  stopping.abort()
  const answer = await waiting
  expect(answer.status).toBe(503)
  expect(answer.headers.get('retry-after')).toBe('1')
})

test.each([
  ['30', 30_000],
  ['60s', 60_000],
  ['500ms', 500],
  ['0', 0],
])('?wait=%s is %i ms', async (wait, waitMs) => {
  const { operation } = await createInstance()
  bed.controller.settle()
  expect((await bed.send('GET', `/operations/${operation}?wait=${wait}`)).status).toBe(200)
  expect(bed.controller.calls.at(-1)?.request).toMatchObject({ waitMs })
})

test.each(['61s', '60001ms', '-1s', '1m', '1.5s', 's', '', '1e3', '99999999999'])(
  '?wait=%s is refused',
  async (wait) => {
    const answer = await bed.send('GET', `/operations/${bed.ids.host}?wait=${wait}`)
    expect(answer.status).toBe(400)
    expect(answer.body.errors).toEqual([
      { field: 'wait', message: 'expected a time up to 60s, such as 30s or 500ms' },
    ])
  },
)

test('GET /operations lists them, newest first, of one resource and up to a limit', async () => {
  const { uuid } = await createInstance()
  await bed.send('POST', `/instances/${uuid}/stop`)
  const kinds = async (query: string) =>
    (await bed.send('GET', `/operations?${query}`)).body.operations.map((it: { kind: string }) => it.kind)
  expect(await kinds(`resource=${uuid}`)).toEqual(['instance.stop', 'instance.create'])
  expect(await kinds(`resource=${uuid.toUpperCase()}&limit=1`)).toEqual(['instance.stop'])
  expect((await bed.send('GET', '/operations?resource=nothing')).status).toBe(400)
  expect((await bed.send('GET', '/operations?limit=0')).status).toBe(400)
  expect((await bed.send('GET', '/operations?limit=1001')).status).toBe(400)
})

test('GET /placements/{uuid} shows the verdict on every host', async () => {
  const uuid = '50000000-0000-4000-8000-000000000000'
  const placement = Placement.fromPartial({
    uuid,
    instanceUuid: bed.ids.host,
    hostId: bed.ids.host,
    diskPoolUuid: bed.ids.pool,
    createdAtMs: Date.UTC(2026, 0, 2, 3, 4, 5),
    hosts: [
      { hostId: bed.ids.host, hostName: 'h1', passed: true, score: 0.75 },
      {
        hostId: bed.ids.pool,
        hostName: 'h2',
        passed: false,
        rule: 'memory',
        reason: 'needs 256 MiB, 64 MiB are free',
      },
    ],
    hostsTotal: 900,
    hostsPassed: 800,
    byRule: [{ rule: 'memory', hosts: 100 }],
    isSummary: true,
  })
  bed.controller.placements.set(uuid, { ...placement })
  const answer = await bed.send('GET', `/placements/${uuid}`)
  expect(answer.body).toEqual({
    placement: {
      uuid,
      instance_uuid: bed.ids.host,
      host_uuid: bed.ids.host,
      disk_pool_uuid: bed.ids.pool,
      refusal: null,
      hosts_total: 900,
      hosts_passed: 800,
      by_rule: { memory: 100 },
      is_summary: true,
      hosts: [
        { host_uuid: bed.ids.host, host: 'h1', passed: true, rule: null, reason: null, score: 0.75 },
        {
          host_uuid: bed.ids.pool,
          host: 'h2',
          passed: false,
          rule: 'memory',
          reason: 'needs 256 MiB, 64 MiB are free',
          score: null,
        },
      ],
      created_at: '2026-01-02 03:04:05',
    },
  })
})

test('POST /instances?dry_run=true tells where it would go, makes nothing and takes no key', async () => {
  const { flavor, image, host, pool } = bed.ids
  const body = { instance: { name: 'vm', flavor_uuid: flavor, image_uuid: image } }
  const send = () => bed.send('POST', '/instances?dry_run=true', body, { 'idempotency-key': 'k1' })
  const answer = await send()
  expect(answer.status).toBe(200)
  expect(answer.headers.get('operation-id')).toBeNull()
  expect(answer.body).toEqual({
    placement: {
      uuid: null,
      instance_uuid: null,
      host_uuid: host,
      disk_pool_uuid: pool,
      refusal: null,
      hosts_total: 1,
      hosts_passed: 1,
      by_rule: {},
      is_summary: false,
      hosts: [{ host_uuid: host, host: 'h1', passed: true, rule: null, reason: null, score: 3.25 }],
      created_at: '2016-11-22 10:22:32',
    },
  })
  expect(bed.controller.calls.at(-1)).toMatchObject({ method: 'explainPlacement', idempotencyKey: undefined })
  expect(bed.controller.instances.size).toBe(0)

  await bed.send('POST', `/hosts/${host}/cordon`)
  expect((await send()).body.placement).toMatchObject({
    host_uuid: null,
    disk_pool_uuid: null,
    refusal: 'no host fits: 1 of 1 are cordoned (h1: the host is cordoned)',
    by_rule: { maintenance: 1 },
  })
  expect((await bed.send('POST', '/instances?dry_run=false', body)).body.instance.name).toBe('vm')
  expect((await bed.send('POST', '/instances?dry_run=1', body)).status).toBe(400)
})

test('POST /hosts/{uuid}/cordon and /uncordon show the host as it is then', async () => {
  const { host } = bed.ids
  for (const [verb, schedulable] of [
    ['cordon', false],
    ['cordon', false],
    ['uncordon', true],
  ] as const) {
    const answer = await bed.send('POST', `/hosts/${host}/${verb}`)
    expect(answer.status).toBe(200)
    expect(answer.headers.get('operation-id')).not.toBeNull()
    expect(answer.body.host).toMatchObject({ uuid: host, schedulable })
  }
})

test('POST /hosts/{uuid}/drain shows how far it is, until the host is uncordoned', async () => {
  const { host } = bed.ids
  const drained = await bed.send('POST', `/hosts/${host}/drain`, { parallel: 4, copy_disks: true })
  expect(drained.status).toBe(200)
  const operation = drained.headers.get('operation-id')
  expect(drained.body.host).toMatchObject({
    schedulable: false,
    drain: {
      state: 'draining',
      operation_uuid: operation,
      parallel: 4,
      copy_disks: true,
      started_at: '2016-11-22 10:22:32',
      ended_at: null,
      total: 1,
      remaining: 1,
      stuck: [{ uuid: host, name: 'db-1', why: 'no host fits' }],
    },
  })
  expect((await bed.send('POST', `/hosts/${host}/drain`)).body.host.drain.parallel).toBe(2)
  for (const parallel of [0, 65, 'all']) {
    const refused = await bed.send('POST', `/hosts/${host}/drain`, { parallel })
    expect(refused).toMatchObject({ status: 400, body: { errors: [{ field: 'parallel' }] } })
  }
  const uncordoned = await bed.send('POST', `/hosts/${host}/uncordon`)
  expect(uncordoned.body.host).toMatchObject({ schedulable: true, drain: null })
})
