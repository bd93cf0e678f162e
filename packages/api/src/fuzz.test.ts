// Random requests to every route: whatever comes in, the answer comes soon, is of the path's dialect,
// and blames nobody but the client.

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createTestBed } from './test-bed.ts'

const UUID = '22c91117-08de-4894-9aa9-6ef382400985'

/** Values that are right or nearly so, at every depth, mixed with those that are not. */
const nearlyRight = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom(
      UUID,
      'default',
      'centos6.7',
      'pool2',
      'h1',
      'dir',
      '/srv',
      '127.0.0.1:1',
      'file:///i',
      '',
      ' ',
    ),
    fc.constantFrom(0, 1, -1, 64, 1.5, 1e308, 2 ** 53, null, true, false),
    fc.string({ unit: 'binary' }),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(
      fc.constantFrom(
        ...'instance flavor image disk_pool host name namespace spec hostIDs shareStorage tags disks ha'.split(
          ' ',
        ),
        ...'flavor_uuid image_uuid webhook events enabled secret vcpus memory_mib disk_gib url path kind address hosts __proto__ constructor'.split(
          ' ',
        ),
      ),
      tie('value'),
      { maxKeys: 7 },
    ),
  ),
})).value

const anyBody = fc.oneof(
  nearlyRight.map((value) => JSON.stringify(value)),
  fc.json(),
  fc.string(),
  fc.uint8Array({ maxLength: 64 }),
)

const anyQuery = fc.oneof(
  fc.constant(''),
  fc.webQueryParameters().map((query) => `?${query}`),
  fc.constantFrom(
    '?name=%ff',
    '?name=x',
    '?wait=1ms',
    '?name=&name=',
    '?__proto__=1',
    '?limit=9',
    '?tag=a&tag=b',
    '?marker=x',
    '?=',
  ),
)

const anyHeaders = fc.record(
  {
    'content-type': fc.constantFrom(
      'application/json',
      'text/plain',
      '',
      ';',
      'application/json;charset=utf-16',
    ),
    'idempotency-key': fc.string({
      minLength: 1,
      unit: fc.integer({ min: 0x20, max: 0xff }).map((it) => String.fromCharCode(it)),
    }),
  },
  { requiredKeys: [] },
)

test('no request to any route gives a 5xx or hangs', { timeout: 300_000 }, async () => {
  const bed = await createTestBed()
  const pages = ['/vnc', '/serial', '/console/*', '/docs', '/docs/*']
  const routes = bed.app.routes.filter((route) => route.method !== 'ALL' && !pages.includes(route.path))
  const targets = routes.map((route) => [route.method, route.path.replaceAll(/:\w+/g, UUID)] as const)
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...targets),
      anyQuery,
      anyBody,
      anyHeaders,
      async (target, query, body, headers) => {
        const [method, path] = target
        const answer = await bed.send(method, path + query, method === 'GET' ? undefined : body, headers)
        expect(answer.status).toBeLessThan(500)
        if (path === '/api/v1/instance') expect(answer.body).toMatchObject({ code: answer.status, data: {} })
        else if (answer.status >= 400)
          expect(answer.body).toMatchObject({ status: answer.status, instance: path })
      },
    ),
    { numRuns: 4_000 },
  )
})
