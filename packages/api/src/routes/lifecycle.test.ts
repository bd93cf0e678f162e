// The actions of dialect 1 that its document does not have, in its manner; and what they refuse in dialect 2.

import { beforeEach, describe, expect, test } from 'vitest'
import { createTestBed, type TestBed } from '../test-bed.ts'

let bed: TestBed
let uuid: string

beforeEach(async () => {
  bed = await createTestBed()
  const { flavor, image } = bed.ids
  const instance = { name: 'vm1', flavor_uuid: flavor, image_uuid: image }
  uuid = (await bed.send('POST', '/instances', { instance })).body.instance.uuid
  bed.controller.settle()
  bed.controller.calls.length = 0
})

const act = (action: string, body?: unknown, headers?: Record<string, string>) =>
  bed.send('POST', `/instances/${uuid}/${action}`, body, headers)
const shown = async () => (await bed.send('GET', `/instances/${uuid}`)).body.instance

describe('every action', () => {
  const actions = ['reboot', 'pause', 'resume', 'rebuild', 'resize', 'migrate', 'lock', 'unlock']

  test.each(actions)('%s answers like start, and once for one Idempotency-Key', async (action) => {
    const body = action === 'resize' ? { resize: { flavor_uuid: 'default', restart: true } } : undefined
    const headers = { 'idempotency-key': `once-${action}` }
    const first = await act(action, body, headers)
    expect(first).toMatchObject({ status: 200, body: { instance: { uuid } } })
    const again = await act(action, body, headers)
    const operation = first.headers.get('operation-id')
    expect(operation).toMatch(/^[0-9a-f-]{36}$/)
    expect(again.headers.get('operation-id')).toBe(operation)
    const { body: shown } = await bed.send('GET', `/operations/${operation}`)
    expect(shown.operation).toMatchObject({ kind: `instance.${action}`, resource_uuid: uuid })
  })

  test.each(actions)('%s of an instance that is not there is 404', async (action) => {
    const body = action === 'resize' ? { resize: { flavor_uuid: 'default' } } : undefined
    const answer = await bed.send('POST', `/instances/a0000000-0000-4000-8000-00000000ffff/${action}`, body)
    expect(answer).toMatchObject({ status: 404, body: { code: 'NOT_FOUND' } })
  })

  test.each([
    ['pause', 'pausing', 'paused'],
    ['reboot', 'rebooting', 'active'],
    ['rebuild', 'rebuilding', 'active'],
  ])('%s shows as the task %s, and ends %s', async (action, task, status) => {
    await act(action)
    expect(await shown()).toMatchObject({ status: 'active', task })
    bed.controller.settle()
    expect(await shown()).toMatchObject({ status, task: null })
  })
})

describe('reboot', () => {
  test.each([
    [undefined, 'REBOOT_KIND_SOFT'],
    [{}, 'REBOOT_KIND_SOFT'],
    [{ reboot: {} }, 'REBOOT_KIND_SOFT'],
    [{ reboot: { type: 'soft' } }, 'REBOOT_KIND_SOFT'],
    [{ reboot: { type: 'hard' } }, 'REBOOT_KIND_HARD'],
  ])('%j', async (body, kind) => {
    expect(await act('reboot', body)).toMatchObject({ status: 200 })
    expect(bed.controller.calls.at(-1)).toMatchObject({ method: 'rebootInstance', request: { uuid, kind } })
  })

  test.each([[{ reboot: { type: 'warm' } }], [{ reboot: 'hard' }], [{ type: 'hard' }], [null]])(
    '%j is refused',
    async (body) => {
      expect(await act('reboot', body)).toMatchObject({ status: 400, body: { code: 'INVALID_ARGUMENT' } })
    },
  )

  test('of what does not run is 409 with the reason', async () => {
    await act('pause')
    bed.controller.settle()
    expect(await act('reboot')).toMatchObject({
      status: 409,
      body: { code: 'CONFLICT', detail: expect.stringContaining('cannot reboot') },
    })
  })
})

describe('migrate', () => {
  test('says where, how, and within which limits; fields are named as they were written', async () => {
    const migrate = { mode: 'live', bandwidth_mib_s: 200, downtime_ms: 300, copy_disks: true }
    await act('migrate', { migrate })
    const [call] = bed.controller.calls
    expect(call?.request).toMatchObject({
      mode: 'MIGRATION_MODE_LIVE',
      host: '',
      bandwidthMibS: 200,
      downtimeMs: 300,
      copyDisks: true,
      postCopy: false,
    })
    expect(await act('migrate', { migrate: { host_uuid: 'none' } })).toMatchObject({
      status: 400,
      body: { errors: [{ field: 'migrate.host_uuid' }] },
    })
    expect(await act('migrate', { migrate: { postcopy: true } })).toMatchObject({ status: 400 })
  })

  test('is called off while it is under way', async () => {
    const cancel = () => bed.send('DELETE', `/instances/${uuid}/migrate`)
    expect(await cancel()).toMatchObject({ status: 409, body: { code: 'CONFLICT' } })
    await act('migrate')
    expect(await cancel()).toMatchObject({ status: 200, body: { instance: { uuid } } })
  })
})

describe('rebuild and resize', () => {
  test('name the field that is at fault as the client wrote it', async () => {
    expect(await act('rebuild', { rebuild: { image_uuid: 'none' } })).toMatchObject({
      status: 400,
      body: { errors: [{ field: 'rebuild.image_uuid' }] },
    })
    expect(await act('resize', { resize: { flavor_uuid: 'none' } })).toMatchObject({
      status: 400,
      body: { errors: [{ field: 'resize.flavor_uuid' }] },
    })
    expect(await act('resize')).toMatchObject({ status: 400 })
  })

  test('pass on what was chosen', async () => {
    await act('rebuild')
    expect(bed.controller.calls.at(-1)?.request).toEqual({ uuid, image: undefined })
    await act('rebuild', { rebuild: { image_uuid: 'centos6.7' } })
    expect(bed.controller.calls.at(-1)?.request).toEqual({ uuid, image: 'centos6.7' })
    expect(await act('resize', { resize: { flavor_uuid: 'default' } })).toMatchObject({ status: 409 })
    await act('resize', { resize: { flavor_uuid: 'default', restart: true } })
    expect(bed.controller.calls.at(-1)?.request).toEqual({ uuid, flavor: 'default', restart: true })
  })
})

describe('a locked instance', () => {
  beforeEach(async () => {
    await act('lock')
    bed.controller.settle()
  })

  test('shows it in both dialects', async () => {
    expect(await shown()).toMatchObject({ locked: true })
    const { body } = await bed.send('GET', '/api/v1/instance?name=vm1')
    expect(body.data).toMatchObject({ locked: true, status: 'active' })
  })

  test('refuses deletion and rebuild in dialect 1', async () => {
    const refused = { status: 409, body: { code: 'CONFLICT', detail: expect.stringContaining('unlock it') } }
    expect(await bed.send('DELETE', `/instances/${uuid}`)).toMatchObject(refused)
    expect(await act('rebuild')).toMatchObject(refused)
    await act('unlock')
    expect(await bed.send('DELETE', `/instances/${uuid}`)).toMatchObject({ status: 200 })
  })

  test('refuses deletion and another image in dialect 2, in its envelope', async () => {
    await bed.controller.createImage({ name: 'other', url: 'file:///images/other.qcow2' })
    const refused = (message: string) => ({
      status: 409,
      body: { code: 409, message, data: { error: expect.stringContaining('unlock it') } },
    })
    expect(await bed.send('DELETE', '/api/v1/instance?name=vm1')).toMatchObject(refused('delete failed'))
    const update = { name: 'vm1', spec: { image: 'other' } }
    expect(await bed.send('PUT', '/api/v1/instance', update)).toMatchObject(refused('create failed'))
  })
})
