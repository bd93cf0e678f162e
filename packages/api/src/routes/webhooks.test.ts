import { expect, test } from 'vitest'
import { createTestBed } from '../test-bed.ts'

const SHOWN = {
  uuid: expect.stringMatching(/^[0-9a-f-]{36}$/),
  url: 'http://127.0.0.1:9000/hook',
  events: ['instance.*', 'host.down'],
  enabled: true,
  position: null,
  behind: null,
  failures: 0,
  last_success_at: null,
  last_error: null,
  next_attempt_at: null,
  last_gap: null,
  created_at: '2016-11-22 10:22:32',
}
const { url, events } = SHOWN

test('create, show, list, change, delete; the secret is in the first answer and in no other', async () => {
  const bed = await createTestBed()
  const created = await bed.send('POST', '/webhooks', { webhook: { url, events } })
  expect(created.status).toBe(200)
  expect(created.headers.get('operation-id')).toMatch(/^[0-9a-f-]{36}$/)
  expect(created.headers.get('cache-control')).toBe('no-store')
  expect(created.body).toEqual({ webhook: { ...SHOWN, secret: expect.stringMatching(/^whsec_/) } })

  const path = `/webhooks/${created.body.webhook.uuid}`
  expect((await bed.send('GET', path)).body).toEqual({ webhook: SHOWN })
  expect((await bed.send('GET', '/webhooks')).body).toEqual({ webhooks: [SHOWN] })
  const secret = `whsec_${'B'.repeat(32)}`
  const changed = await bed.send('PUT', path, { webhook: { enabled: false, events: ['*'], secret } })
  expect(changed.body).toEqual({ webhook: { ...SHOWN, enabled: false, events: ['*'] } })
  expect((await bed.send('DELETE', path)).body).toEqual({ webhook: { uuid: created.body.webhook.uuid } })
  expect((await bed.send('GET', path)).status).toBe(404)
  expect(JSON.stringify(bed.logLines)).not.toMatch(/whsec_/)
})

test.each([
  [{}, 'webhook.url'],
  [{ url: 'file:///etc/passwd' }, 'webhook.url'],
  [{ url: 'http://me:pw@localhost/' }, 'webhook.url'],
  [{ url, secret: 'hunter2' }, 'webhook.secret'],
  [{ url, events: [] }, 'webhook.events'],
  [{ url, events: ['instance.*', 'instnace.*'] }, 'webhook.events[1]'],
  [{ url, enabled: 'yes' }, 'webhook.enabled'],
  [{ url, name: 'x' }, 'webhook.name'],
])('%j is refused', async (webhook, field) => {
  const bed = await createTestBed()
  const answer = await bed.send('POST', '/webhooks', { webhook })
  expect(answer.status).toBe(400)
  expect(answer.body.errors).toMatchObject([{ field }])
  expect(JSON.stringify(answer.body)).not.toContain('hunter2')
  expect(bed.controller.calls).toEqual([])
})
