// Flavors, images, disk pools and hosts: the same five requests on each, in the style of dialect 1.

import { randomUUID } from 'node:crypto'
import { VpeError } from '@vpe/core'
import { describe, expect, test } from 'vitest'
import { createTestBed } from '../test-bed.ts'

const UUID = expect.stringMatching(/^[0-9a-f-]{36}$/)
const CREATED_AT = '2016-11-22 10:22:32'

const COMPANIONS = [
  {
    path: '/flavors',
    key: 'flavor',
    body: { name: 'm1.tiny', vcpus: 2, memory_mib: 512, disk_gib: 10 },
    shown: { uuid: UUID, name: 'm1.tiny', vcpus: 2, memory_mib: 512, disk_gib: 10, created_at: CREATED_AT },
  },
  {
    path: '/images',
    key: 'image',
    body: {
      name: 'debian',
      url: 'https://example.org/debian.qcow2',
      sha256: 'AB'.repeat(32),
      disk_pool: 'pool2',
    },
    shown: {
      uuid: UUID,
      name: 'debian',
      url: 'https://example.org/debian.qcow2',
      instance_uuid: null,
      sha256: 'ab'.repeat(32),
      format: null,
      size_bytes: null,
      virtual_size_bytes: null,
      status: 'importing',
      progress: 40,
      fault: null,
      instances: 0,
      disk_pool_uuid: UUID,
      created_at: CREATED_AT,
    },
  },
  {
    path: '/disk_pools',
    key: 'disk_pool',
    body: { name: 'fast', kind: 'dir', path: '/srv/fast', shared: true, system_disks: 'copy', hosts: ['h1'] },
    shown: {
      uuid: UUID,
      name: 'fast',
      kind: 'dir',
      path: '/srv/fast',
      nfs: null,
      rbd: null,
      orphans: 0,
      deleting: false,
      shared: true,
      system_disks: 'copy',
      hosts: [
        { host_uuid: UUID, state: 'ready', fault: null, capacity_bytes: 2 ** 40, available_bytes: 2 ** 39 },
      ],
      ha: {
        class: 'N',
        reason: 'its locks have not been tried yet',
        probed_at: null,
        can_revoke: false,
        slots: 0,
        slots_taken: 0,
      },
      ha_class: 'auto',
      lost_locks: 'unknown',
      linearizable: true,
      created_at: CREATED_AT,
    },
  },
  {
    path: '/hosts',
    key: 'host',
    body: { name: 'h2', address: '127.0.0.1:7712' },
    shown: {
      uuid: UUID,
      name: 'h2',
      address: '127.0.0.1:7712',
      state: 'up',
      state_since: '1970-01-01 00:00:00',
      schedulable: true,
      drain: null,
      facts: {
        hostname: 'h2',
        cpus: 8,
        memory_mib: 16_384,
        cpu_model: '',
        cpu_features: [],
        arch: '',
        domain_type: 'kvm',
        libvirt_version: '',
        hypervisor_version: '',
        agent_version: '',
        kernel: '',
        bridges: [],
        boot_id: '',
      },
      capacity: { vcpus: 8, memory_mib: 16_384 },
      allocatable: { vcpus: 0, memory_mib: 0 },
      used: { vcpus: 0, memory_mib: 0, instances: 0, tasks: 0 },
      conditions: [],
      disk_pools: [],
      power: null,
      drill: null,
      unknown_instances: [],
      recovery: null,
      last_heartbeat_at: null,
      created_at: CREATED_AT,
    },
  },
] as const

test.each(COMPANIONS)('$path: create, show, list, refuse a second of the name, delete', async (companion) => {
  const { path, key, body, shown } = companion
  const bed = await createTestBed()
  const created = await bed.send('POST', path, { [key]: body })
  expect(created.status).toBe(200)
  expect(created.headers.get('operation-id')).toMatch(/^[0-9a-f-]{36}$/)
  expect(created.body).toEqual({ [key]: shown })

  const { uuid } = created.body[key]
  expect((await bed.send('GET', `${path}/${uuid}`)).body).toEqual(created.body)
  expect((await bed.send('GET', `${path}?name=${body.name}`)).body).toEqual({
    [`${key}s`]: [created.body[key]],
  })
  expect((await bed.send('GET', `${path}?name=${body.name.slice(1)}`)).body).toEqual({ [`${key}s`]: [] })
  expect((await bed.send('GET', path)).body[`${key}s`]).toHaveLength(2)

  const taken = await bed.send('POST', path, { [key]: body })
  expect(taken.status).toBe(409)
  expect(taken.body).toMatchObject({ code: 'NAME_TAKEN', type: 'urn:vpe:error:name-taken' })

  const deleted = await bed.send('DELETE', `${path}/${uuid}`)
  expect(deleted.status).toBe(200)
  expect(deleted.body).toEqual({ [key]: { uuid } })
  expect((await bed.send('GET', `${path}/${uuid}`)).status).toBe(404)
})

test('what is in use is not deleted, and the answer says by what', async () => {
  const bed = await createTestBed()
  bed.controller.failures.set('deleteFlavor', new VpeError('IN_USE', 'instance vm1 uses it'))
  const answer = await bed.send('DELETE', `/flavors/${bed.ids.flavor}`)
  expect(answer.status).toBe(409)
  expect(answer.body).toMatchObject({ code: 'IN_USE', detail: 'instance vm1 uses it' })
})

describe('a disk pool', () => {
  async function withPool() {
    const bed = await createTestBed()
    const pool = { name: 'nfs', kind: 'nfs', nfs: { server: 'nfs1', export: '/srv/vpe' } }
    const { body } = await bed.send('POST', '/disk_pools', { disk_pool: pool })
    return { bed, body, uuid: body.disk_pool.uuid as string }
  }

  test('of another kind says where it comes from', async () => {
    const { bed, body } = await withPool()
    expect(body.disk_pool).toMatchObject({
      kind: 'nfs',
      nfs: { server: 'nfs1', export: '/srv/vpe', options: '' },
    })
    const rbd = { monitors: ['ceph1'], pool: 'vpe', user: 'vpe', secret_uuid: randomUUID() }
    const made = await bed.send('POST', '/disk_pools', { disk_pool: { name: 'r', kind: 'rbd', rbd } })
    expect(made.body.disk_pool).toMatchObject({ kind: 'rbd', path: '', rbd })
  })

  test.each(['dir', 'nfs', 'rbd'])('of kind %s says what it lacks', async (kind) => {
    const bed = await createTestBed()
    const { status, body } = await bed.send('POST', '/disk_pools', { disk_pool: { name: 'p', kind } })
    const field = { dir: 'path', nfs: 'nfs', rbd: 'rbd' }[kind]
    expect([status, body]).toMatchObject([400, { errors: [{ field: `disk_pool.${field}` }] }])
  })

  test('is given to a host, and taken from it', async () => {
    const { bed, uuid } = await withPool()
    const { body } = await bed.send('POST', '/hosts', { host: { name: 'h9', address: '127.0.0.1:7719' } })
    const host = body.host.uuid
    const attached = await bed.send('POST', `/disk_pools/${uuid}/hosts`, { host: 'h9' })
    expect(attached.body.disk_pool.hosts).toContainEqual(expect.objectContaining({ host_uuid: host }))
    const detached = await bed.send('DELETE', `/disk_pools/${uuid}/hosts/${host}`)
    expect(detached.status).toBe(200)
    expect(detached.body.disk_pool.hosts).not.toContainEqual(expect.objectContaining({ host_uuid: host }))
  })

  test('shows what lies in it without an owner, and lets go of one file at a time', async () => {
    const { bed, uuid } = await withPool()
    const owner = randomUUID()
    const file = `disk-${owner}.raw`
    const orphan = { file, hostId: '', hostName: '', kind: 'data-disk', ownerUuid: owner, sizeBytes: 4096 }
    bed.controller.orphans.set(uuid, [{ ...orphan, modifiedAtMs: 0, sinceMs: 1_000 }])
    const { body } = await bed.send('GET', `/disk_pools/${uuid}/orphans`)
    expect(body).toMatchObject({
      orphans: [
        { file, host_uuid: null, kind: 'data-disk', owner_uuid: owner, since: '1970-01-01 00:00:01' },
      ],
      foreign: 2,
      silent_hosts: [],
    })
    expect(
      (await bed.send('DELETE', `/disk_pools/${uuid}/orphans/${encodeURIComponent('../x')}`)).status,
    ).toBe(404)
    expect((await bed.send('DELETE', `/disk_pools/${uuid}/orphans/${file}?host=h1`)).status).toBe(200)
    expect(bed.controller.calls.at(-1)?.request).toEqual({ uuid, file, host: 'h1' })
    expect((await bed.send('GET', `/disk_pools/${uuid}/orphans`)).body.orphans).toEqual([])
  })
})
