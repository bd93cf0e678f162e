// What protects disk pools and fences hosts.

import { expect, test } from 'vitest'
import { createTestBed } from '../test-bed.ts'

test('a disk pool takes what is known of its storage, when it is made and later', async () => {
  const bed = await createTestBed()
  const body = { name: 'san', path: '/san', shared: true, lost_locks: 'fenced', ha_slots: 128 }
  const made = await bed.send('POST', '/disk_pools', { disk_pool: body })
  expect(made.body.disk_pool).toMatchObject({ lost_locks: 'fenced', ha_class: 'auto', ha: { slots: 128 } })
  const path = `/disk_pools/${made.body.disk_pool.uuid}`
  const changed = await bed.send('PUT', path, { disk_pool: { ha_class: 'T', linearizable: false } })
  expect(changed.headers.get('operation-id')).not.toBeNull()
  expect(changed.body.disk_pool).toMatchObject({
    ...{ ha_class: 'T', lost_locks: 'fenced', linearizable: false, ha: { class: 'N', slots: 128 } },
  })
  expect(bed.controller.calls.at(-1)?.request).toEqual({
    uuid: made.body.disk_pool.uuid,
    protection: { wantedClass: 'T', isLinearizable: false },
    releaseSlotsOf: [],
  })
  for (const [wrong, field] of [
    [{ ha_class: 'E' }, 'disk_pool.ha_class'],
    [{ lost_locks: 'maybe' }, 'disk_pool.lost_locks'],
    [{ release_slots_of: ['h1'] }, 'disk_pool.release_slots_of[0]'],
    [{ ha_slots: 8 }, 'disk_pool.ha_slots'],
  ] as const) {
    const { status, body } = await bed.send('PUT', path, { disk_pool: wrong })
    expect([status, body.errors?.[0]?.field]).toEqual([400, field])
  }
})

test('PUT /hosts/{uuid}/power takes secrets, and shows their names alone', async () => {
  const bed = await createTestBed()
  const path = `/hosts/${bed.ids.host}/power`
  const power = { agent: 'fence_ipmilan', options: { ip: '10.0.0.1' }, secrets: { password: 'hunter2' } }
  const set = await bed.send('PUT', path, { power })
  expect(set.status).toBe(200)
  expect(set.body.host.power).toEqual({ ...power, secrets: ['password'] })
  expect(JSON.stringify(set.body)).not.toContain('hunter2')
  expect(bed.controller.calls.at(-1)?.request).toEqual({ uuid: bed.ids.host, power })
  expect((await bed.send('PUT', path, { power: null })).body.host.power).toBeNull()
  expect((await bed.send('PUT', path, {})).status).toBe(400)
})

test('POST /hosts/{uuid}/drill shows what was found', async () => {
  const bed = await createTestBed()
  const answer = await bed.send('POST', `/hosts/${bed.ids.host}/drill`)
  expect(answer.status).toBe(200)
  expect(answer.body.host.drill).toEqual({
    at: '2016-11-22 10:22:32',
    ok: true,
    steps: [{ what: 'lease', disk_pool_uuid: bed.ids.pool, ok: true, message: 'renewed' }],
  })
})
