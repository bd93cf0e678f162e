// Snapshots, in the manner of dialect 1.

import { VpeError } from '@vpe/core'
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
})

const at = (rest = '') => `/instances/${uuid}/snapshots${rest}`
const make = (name: unknown, headers?: Record<string, string>) =>
  bed.send('POST', at(), { snapshot: { name } }, headers)
const NOBODY = 'a0000000-0000-4000-8000-00000000ffff'

async function made(name: string): Promise<string> {
  const { body } = await make(name)
  bed.controller.settle()
  return body.snapshot.uuid
}

describe('a snapshot', () => {
  test('is made, once for one Idempotency-Key', async () => {
    const headers = { 'idempotency-key': 'once' }
    const first = await make('before the upgrade', headers)
    expect(first).toMatchObject({
      status: 200,
      body: {
        snapshot: {
          uuid: expect.any(String),
          name: 'before the upgrade',
          instance_uuid: uuid,
          status: 'creating',
          size_bytes: 2 ** 30,
          fault: null,
          created_at: '2016-11-22 10:22:32',
        },
      },
    })
    const again = await make('before the upgrade', headers)
    expect(again.body).toEqual(first.body)
    const operation = await bed.send('GET', `/operations/${first.headers.get('operation-id')}`)
    expect(operation.body.operation).toMatchObject({
      kind: 'snapshot.create',
      resource_uuid: first.body.snapshot.uuid,
    })
    expect((await bed.send('GET', at())).body.snapshots).toHaveLength(1)
  })

  test.each([[''], [' a'], ['a\nb'], ['x'.repeat(129)], [7], [undefined]])(
    'named %j is 400',
    async (name) => {
      const answer = await make(name)
      expect(answer).toMatchObject({ status: 400, body: { errors: [{ field: 'snapshot.name' }] } })
    },
  )

  test('is shown, listed by name, and deleted', async () => {
    const [one] = [await made('one'), await made('two')]
    expect((await bed.send('GET', at(`/${one}`))).body.snapshot).toMatchObject({
      name: 'one',
      status: 'available',
    })
    expect((await bed.send('GET', at('?name=two'))).body.snapshots).toMatchObject([{ name: 'two' }])
    const gone = await bed.send('DELETE', at(`/${one}`))
    expect(gone).toMatchObject({ status: 200, body: { snapshot: { uuid: one } } })
    expect(gone.headers.get('operation-id')).toMatch(/^[0-9a-f-]{36}$/)
    bed.controller.settle()
    expect(await bed.send('GET', at(`/${one}`))).toMatchObject({ status: 404, body: { code: 'NOT_FOUND' } })
  })

  test('is reverted to, which shows as a task', async () => {
    const snapshot = await made('one')
    const answer = await bed.send('POST', at(`/${snapshot}/revert`))
    expect(answer).toMatchObject({ status: 200, body: { instance: { uuid } } })
    const { body } = await bed.send('GET', `/instances/${uuid}`)
    expect(body.instance).toMatchObject({ task: 'reverting', status: 'active' })
  })

  test.each([
    ['POST', '/revert'],
    ['DELETE', ''],
    ['GET', ''],
  ])('that is not there, or another instance’s, is 404: %s %s', async (method, action) => {
    expect(await bed.send(method, at(`/${NOBODY}${action}`))).toMatchObject({ status: 404 })
    const snapshot = await made('one')
    const { flavor, image } = bed.ids
    const instance = { name: 'vm2', flavor_uuid: flavor, image_uuid: image }
    const other = (await bed.send('POST', '/instances', { instance })).body.instance.uuid
    const path = `/instances/${other}/snapshots/${snapshot}${action}`
    expect(await bed.send(method, path)).toMatchObject({ status: 404, body: { code: 'NOT_FOUND' } })
  })

  test('whose name is taken, or that is refused, is 409 with the reason', async () => {
    const snapshot = await made('one')
    expect(await make('one')).toMatchObject({ status: 409, body: { code: 'NAME_TAKEN' } })
    bed.controller.failures.set('revertInstance', new VpeError('CONFLICT', 'it is locked'))
    expect(await bed.send('POST', at(`/${snapshot}/revert`))).toMatchObject({
      status: 409,
      body: { code: 'CONFLICT', detail: 'it is locked' },
    })
  })
})

describe('a clone', () => {
  const clone = (body: object) => bed.send('POST', `/instances/${uuid}/clone`, { instance: body })
  async function stop(): Promise<void> {
    await bed.send('POST', `/instances/${uuid}/stop`)
    bed.controller.settle()
  }

  test('is answered like an instance that is created, and tells the controller what it is of', async () => {
    const snapshot = await made('one')
    await stop()
    const answer = await clone({ name: 'copy', snapshot_uuid: snapshot, tags: ['x'] })
    expect(answer).toMatchObject({
      status: 200,
      body: { instance: { name: 'copy', task: 'creating', tags: ['x'], image_uuid: bed.ids.image } },
    })
    expect(answer.headers.get('operation-id')).toMatch(/^[0-9a-f-]{36}$/)
    expect(bed.controller.calls.at(-1)).toMatchObject({
      method: 'createInstance',
      request: { sourceUuid: uuid, sourceSnapshotUuid: snapshot, flavor: '' },
    })
  })

  test('of one that runs is 409; of nothing 404; with a bad body 400', async () => {
    expect(await clone({ name: 'copy' })).toMatchObject({ status: 409, body: { code: 'CONFLICT' } })
    const nobody = await bed.send('POST', `/instances/${NOBODY}/clone`, { instance: { name: 'copy' } })
    expect(nobody).toMatchObject({ status: 404, body: { code: 'NOT_FOUND' } })
    for (const [body, field] of [
      [{}, 'instance.name'],
      [{ name: 'copy', snapshot_uuid: 'one' }, 'instance.snapshot_uuid'],
      [{ name: 'copy', image_uuid: 'centos' }, 'instance.image_uuid'],
    ] as const) {
      expect(await clone(body)).toMatchObject({ status: 400, body: { errors: [{ field }] } })
    }
  })
})
