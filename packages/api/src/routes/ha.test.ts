import { Host, Instance } from '@vpe/proto'
import { beforeEach, describe, expect, test } from 'vitest'
import { FailoversAnswer, HaAnswer, WhatIfAnswer } from '../schemas/ha.ts'
import { HostAnswer } from '../schemas/host.ts'
import { InstanceAnswer } from '../schemas/instance.ts'
import { createTestBed, type TestBed } from '../test-bed.ts'

let bed: TestBed
let uuid: string

const UNKNOWN = '22c91117-08de-4894-9aa9-6ef382400985'
const BREAK = { minutes: 30, why: 'new switch' }

beforeEach(async () => {
  bed = await createTestBed()
  const { flavor, image } = bed.ids
  const instance = { name: 'vm1', flavor_uuid: flavor, image_uuid: image, ha: true }
  uuid = (await bed.send('POST', '/instances', { instance })).body.instance.uuid
})

/** As the last call had it. */
const lastRequest = () => bed.controller.calls.at(-1)?.request

describe('Wishes for recovery', () => {
  test('are given, changed and shown', async () => {
    const { flavor, image } = bed.ids
    const wish = { ha_priority: 'system', ha_isolation: 'restart' }
    const instance = { name: 'vm2', flavor_uuid: flavor, image_uuid: image, ...wish }
    const created = await bed.send('POST', '/instances', { instance })
    const path = `/instances/${created.body.instance.uuid}`
    expect((await bed.send('GET', path)).body.instance).toMatchObject(wish)
    await bed.send('PUT', path, { instance: { ha_priority: 'low' } })
    const shown = (await bed.send('GET', path)).body
    expect(shown.instance).toMatchObject({ ha_priority: 'low', ha_isolation: 'restart', recovery: null })
  })

  test('that are none are refused by name', async () => {
    const put = (instance: object) => bed.send('PUT', `/instances/${uuid}`, { instance })
    for (const [wrong, field] of [
      [{ ha_priority: 'urgent' }, 'instance.ha_priority'],
      [{ ha_isolation: true }, 'instance.ha_isolation'],
    ] as const) {
      const { status, body } = await put(wrong)
      expect([status, body.errors[0].field]).toEqual([400, field])
    }
  })
})

describe('POST /hosts/{uuid}/confirm-fenced', () => {
  const confirm = (body: unknown, headers = {}, host = bed.ids.host) =>
    bed.send('POST', `/hosts/${host}/confirm-fenced`, body, headers)

  test('takes the word of whoever is named, and nothing less than the whole sentence', async () => {
    const { host } = await bed.controller.getHost({ uuid: bed.ids.host })
    for (const wrong of [undefined, {}, { i_have_powered_it_off: false }, { i_have_powered_it_off: 'yes' }])
      expect((await confirm(wrong)).status).toBe(400)
    const yes = { i_have_powered_it_off: true }
    expect(await confirm(yes)).toMatchObject({ status: 409, body: { code: 'CONFLICT' } })
    expect(bed.controller.confirmed).toEqual([])
    bed.controller.hosts.set(bed.ids.host, Host.fromPartial({ ...host, state: 'HOST_STATE_DOWN' }))
    const taken = await confirm(yes, { 'x-forwarded-user': 'ann' })
    expect(taken).toMatchObject({ status: 200, body: { host: { uuid: bed.ids.host } } })
    expect(taken.headers.get('operation-id')).not.toBeNull()
    await confirm(yes)
    expect(bed.controller.confirmed.map(({ who }) => who)).toEqual(['ann', 'anonymous'])
    expect((await confirm(yes, {}, UNKNOWN)).status).toBe(404)
    const { status, body } = await confirm(yes, { 'x-forwarded-user': 'a'.repeat(129) })
    expect([status, body.errors[0].field]).toEqual([400, 'X-Forwarded-User'])
  })
})

describe('Disarm and arm', () => {
  test('the cluster, a host, an instance, each for a while', async () => {
    const { host } = bed.ids
    const who = { 'x-forwarded-user': 'ann' }
    const cluster = await bed.send('POST', '/ha/disarm', BREAK, who)
    expect(cluster).toMatchObject({
      status: 200,
      body: { disarm: { scope: 'cluster', uuid: null, name: null, who: 'ann', why: 'new switch' } },
    })
    expect(cluster.body.disarm.until).toBe('2016-11-22 10:52:32')
    expect(lastRequest()).toMatchObject({ minutes: 30, who: 'ann', why: 'new switch' })
    const ofHost = await bed.send('POST', `/hosts/${host}/disarm`, BREAK)
    expect(ofHost.body.disarm).toMatchObject({ scope: 'host', uuid: host, name: 'h1', who: 'anonymous' })
    const ofInstance = await bed.send('POST', `/instances/${uuid}/disarm`, BREAK)
    expect(ofInstance.body.disarm).toMatchObject({ scope: 'instance', uuid, name: 'vm1' })
    const shown = (await bed.send('GET', '/ha')).body.ha
    expect([shown.armed, shown.disarms.length]).toEqual([false, 3])
    expect((await bed.send('POST', '/ha/arm')).body).toEqual({ ha: { armed: true } })
    expect((await bed.send('POST', `/hosts/${host}/arm`, {})).body).toEqual({ host: { uuid: host } })
    expect((await bed.send('POST', `/instances/${uuid}/arm`)).body).toEqual({ instance: { uuid } })
    expect((await bed.send('GET', '/ha')).body.ha).toMatchObject({ armed: true, disarms: [] })
  })

  test('a disarm names its end and its reason', async () => {
    for (const [wrong, field] of [
      [{ why: 'x' }, 'minutes'],
      [{ minutes: 0, why: 'x' }, 'minutes'],
      [{ minutes: 1_441, why: 'x' }, 'minutes'],
      [{ minutes: 1.5, why: 'x' }, 'minutes'],
      [{ minutes: 5 }, 'why'],
      [{ minutes: 5, why: ' ' }, 'why'],
      [{ ...BREAK, who: 'me' }, 'who'],
    ] as const) {
      const { status, body } = await bed.send('POST', '/ha/disarm', wrong)
      expect([status, body.errors[0].field]).toEqual([400, field])
    }
    expect((await bed.send('POST', `/hosts/${UNKNOWN}/disarm`, BREAK)).status).toBe(404)
    expect((await bed.send('POST', `/instances/${UNKNOWN}/arm`)).status).toBe(404)
  })
})

test('GET /ha shows counts by every word, and what is not known as null', async () => {
  const { status, body } = await bed.send('GET', '/ha')
  expect(status).toBe(200)
  expect(HaAnswer.parse(body)).toEqual(body)
  expect(body.ha).toMatchObject({
    ...{ armed: true, why_no_verdicts: null, profile: 'default', n_plus_one: null },
    hosts: { up: 1, hold: 0, 'pool-outage': 0 },
    instances: { running: 1, lost: 0 },
    admission: { hosts: 1, mode: 'advise' },
  })
})

test('failovers are shown with their times, and how long each part took', async () => {
  const at = (seconds: number) => Date.UTC(2026, 0, 1, 12) + seconds * 1_000
  bed.controller.failovers.push({
    ...{ instanceUuid: uuid, instanceName: 'vm1', generation: 2, fromHostId: UNKNOWN, fromHostName: '' },
    ...{ toHostId: bed.ids.host, toHostName: 'h1', why: 'its host: not heard' },
    ...{ lastHeardMs: at(0), suspectedMs: at(10), provenMs: at(12), placedMs: at(12), runningMs: at(15.5) },
    answeredMs: 0,
    proofs: [
      { kind: 'revoked', why: 'the storage confirmed it', diskPoolUuid: '', diskPoolName: '', atMs: 0 },
    ],
  })
  const { body } = await bed.send('GET', '/ha/failovers')
  expect(FailoversAnswer.parse(body)).toEqual(body)
  expect(body.failovers).toMatchObject([
    {
      ...{ instance: 'vm1', from_host: null, to_host: 'h1', generation: 2 },
      proofs: [{ kind: 'revoked', why: 'the storage confirmed it' }],
      times: { last_heard: '2026-01-01 12:00:00', running: '2026-01-01 12:00:15', answered: null },
      durations: {
        ...{ suspicion_ms: 10_000, proof_ms: 2_000, placement_ms: 0, start_ms: 3_500 },
        ...{ answer_ms: null, total_ms: 15_500 },
      },
    },
  ])
  expect((await bed.send('GET', `/instances/${uuid}/failovers?limit=5`)).body).toEqual(body)
  expect(lastRequest()).toEqual({ instanceUuid: uuid, limit: 5 })
  for (const limit of ['0', '1001', 'x']) {
    const refused = await bed.send('GET', `/ha/failovers?limit=${limit}`)
    expect([refused.status, refused.body.errors[0].field]).toEqual([400, 'limit'])
  }
})

test('GET /hosts/{uuid}/what-if-lost tells where each would go, when, or why not', async () => {
  const { flavor, image, host } = bed.ids
  const instance = { name: 'vm2', flavor_uuid: flavor, image_uuid: image, ha: true }
  await bed.send('POST', '/instances', { instance })
  await bed.controller.createHost({ name: 'h2', address: '127.0.0.1:7703' })
  const { body } = await bed.send('GET', `/hosts/${host}/what-if-lost`)
  expect(WhatIfAnswer.parse(body)).toEqual(body)
  expect(body.what_if).toMatchObject({
    ...{ host: 'h1', survives: false },
    instances: [
      { uuid, outcome: 'starts', host: 'h2', expected_ms: 14_000, why: null, pool_class: 'E' },
      { name: 'vm2', outcome: 'no-room', host: null, expected_ms: null, why: 'no host fits' },
    ],
  })
})

test('a host and an instance show how high availability stands with them', async () => {
  const pool = { uuid: bed.ids.pool, name: 'pool2', poolClass: 'T', canRevoke: false }
  const proof = {
    kind: 'lease-expired',
    why: 'no renewal',
    diskPoolUuid: pool.uuid,
    diskPoolName: 'pool2',
    atMs: 5,
  }
  const seen = { observerId: UNKNOWN, observerName: 'h2', diskPoolUuid: pool.uuid, diskPoolName: 'pool2' }
  const sightings = [{ ...seen, kind: 'stale', staleForMs: 61_000, poolHealthy: true, atMs: 6 }]
  const phase = { phase: 'stale', why: 'not heard', sinceMs: 4, heardMs: 3, pools: [pool], proofs: [proof] }
  const { host } = await bed.controller.getHost({ uuid: bed.ids.host })
  bed.controller.hosts.set(
    bed.ids.host,
    Host.fromPartial({ ...host, recovery: { ...phase, sightings, disarmedUntilMs: 7 } }),
  )
  const shown = await bed.send('GET', `/hosts/${bed.ids.host}`)
  expect(HostAnswer.parse(shown.body)).toEqual(shown.body)
  expect(shown.body.host.recovery).toMatchObject({
    ...{ phase: 'stale', why: 'not heard', disarmed_until: '1970-01-01 00:00:00' },
    disk_pools: [{ name: 'pool2', pool_class: 'T', can_revoke: false }],
    leases: [{ observer: 'h2', kind: 'stale', stale_for_ms: 61_000, pool_healthy: true, why: null }],
    proofs: [{ kind: 'lease-expired', disk_pool: 'pool2' }],
  })
  const state = {
    state: 'lost',
    why: 'its host: not heard',
    generation: 3,
    hostId: bed.ids.host,
    hostName: 'h1',
  }
  bed.controller.instances.set(
    uuid,
    Instance.fromPartial({ ...bed.controller.instances.get(uuid), recovery: { ...state, pools: [pool] } }),
  )
  const { body } = await bed.send('GET', `/instances/${uuid}`)
  expect(InstanceAnswer.parse(body)).toEqual(body)
  expect(body.instance.recovery).toMatchObject({
    ...{ state: 'lost', why: 'its host: not heard', generation: 3, host: 'h1', disarmed_until: null },
  })
})
