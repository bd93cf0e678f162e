import { describe, expect, test } from 'vitest'
import { createTestBed } from './test-bed.ts'

const FLAVOR = { flavor: { name: 'f', vcpus: 1, memory_mib: 64 } }

describe('Host', () => {
  test.each(['localhost', 'localhost:8080', 'LOCALHOST', '127.0.0.1:8080', '127.1.2.3', '[::1]:8080'])(
    '%s is loopback',
    async (host) => {
      const bed = await createTestBed()
      expect((await bed.send('GET', '/flavors', undefined, { host })).status).toBe(200)
    },
  )

  test.each([
    'evil.example',
    'evil.example:8080',
    '127.0.0.1.evil.example',
    'localhost.evil.example',
    '10.0.0.1',
    '[::2]',
    '0.0.0.0:8080',
  ])('%s is refused, in both dialects', async (host) => {
    const bed = await createTestBed()
    const answer = await bed.send('GET', '/flavors', undefined, { host })
    expect(answer.status).toBe(403)
    expect(answer.body).toMatchObject({ code: 'FOREIGN_HOST', detail: expect.stringContaining('loopback') })
    const enveloped = await bed.send('GET', '/api/v1/instance', undefined, { host })
    expect(enveloped.body).toEqual({ code: 403, message: 'get failed', data: { error: answer.body.detail } })
    expect(bed.controller.calls).toEqual([])
  })

  test('a foreign host in the request line is refused too', async () => {
    const bed = await createTestBed()
    expect(
      (await bed.send('GET', 'http://evil.example/flavors', undefined, { host: 'localhost' })).status,
    ).toBe(403)
  })
})

describe('Origin', () => {
  test.each(['https://evil.example', 'null', 'http://localhost:3000', 'https://localhost'])(
    'a page of %s may not change anything',
    async (origin) => {
      const bed = await createTestBed()
      for (const method of ['POST', 'PUT', 'DELETE']) {
        const answer = await bed.send(method, '/flavors', FLAVOR, { origin })
        expect(answer.status).toBe(403)
        expect(answer.body).toMatchObject({ code: 'FOREIGN_ORIGIN', detail: expect.stringContaining(origin) })
      }
      expect(bed.controller.calls).toEqual([])
    },
  )

  test('programs send none, and a page of the node itself sends its own', async () => {
    const bed = await createTestBed()
    expect((await bed.send('POST', '/flavors', FLAVOR)).status).toBe(200)
    const own = { host: '127.0.0.1:8080', origin: 'http://127.0.0.1:8080' }
    expect(
      (await bed.send('POST', '/flavors', { flavor: { ...FLAVOR.flavor, name: 'g' } }, own)).status,
    ).toBe(200)
  })

  test('reading is not refused: the browser keeps the answer from a foreign page by itself', async () => {
    const bed = await createTestBed()
    const answer = await bed.send('GET', '/flavors', undefined, { origin: 'https://evil.example' })
    expect(answer.status).toBe(200)
    expect(answer.headers.get('access-control-allow-origin')).toBeNull()
  })
})
