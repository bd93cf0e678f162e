import { expect, test } from 'vitest'
import { createTestBed } from '../test-bed.ts'

test('/members lists who has joined, and removes one by its id', async () => {
  const bed = await createTestBed()
  const { status, body } = await bed.send('GET', '/members')
  expect(status).toBe(200)
  expect(body.members).toEqual([
    { id: 'agent/h', role: 'agent', name: 'h1', host_uuid: 'h', joined_at: expect.any(String) },
    { id: 'api/web1', role: 'api', name: 'web1', host_uuid: null, joined_at: expect.any(String) },
  ])
  const removed = await bed.send('DELETE', '/members/api/web1', undefined, { 'idempotency-key': 'k1' })
  expect(removed).toMatchObject({ status: 200, body: { member: { id: 'api/web1' } } })
  expect(removed.headers.get('operation-id')).not.toBeNull()
  const call = { method: 'deleteMember', request: { id: 'api/web1' }, idempotencyKey: 'k1' }
  expect(bed.controller.calls.at(-1)).toEqual(call)
  expect((await bed.send('GET', '/members')).body.members).toHaveLength(1)
  expect(await bed.send('DELETE', '/members/api/nobody')).toMatchObject({ status: 404 })
})
