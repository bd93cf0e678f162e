// The OpenAPI document falls out of the schemas that validate; this holds it to the routes.

import { expect, test } from 'vitest'
import { createTestBed } from './test-bed.ts'

test('/openapi.json describes every endpoint', async () => {
  const bed = await createTestBed()
  const { status, body } = await bed.send('GET', '/openapi.json')
  expect(status).toBe(200)
  expect(body.openapi).toBe('3.1.0')
  const described = Object.entries<object>(body.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  )
  const aside = [
    '/healthz',
    '/readyz',
    '/metrics',
    '/openapi.json',
    '/vnc',
    '/serial',
    '/console/*',
    '/docs',
    '/docs/*',
  ]
  const served = bed.app.routes
    .filter((route) => route.method !== 'ALL' && !aside.includes(route.path))
    .map((route) => `${route.method} ${route.path.replaceAll(/:(\w+)/g, '{$1}')}`)
  expect(described.sort()).toEqual(served.sort())
  expect(described.length).toBeGreaterThan(25)
})

test('bodies carry their rules', async () => {
  const bed = await createTestBed()
  const { components, paths } = (await bed.send('GET', '/openapi.json')).body
  expect(components.schemas.CreateFlavor).toMatchObject({
    type: 'object',
    required: ['flavor'],
    additionalProperties: false,
    properties: {
      flavor: {
        required: ['name', 'vcpus', 'memory_mib'],
        properties: { vcpus: { type: 'integer', minimum: 1, maximum: 1024 }, name: { maxLength: 128 } },
      },
    },
  })
  const create = paths['/instances'].post
  expect(create.requestBody.required).toBe(true)
  expect(Object.keys(create.responses)).toEqual([
    '200',
    '400',
    '403',
    '409',
    '413',
    '415',
    '422',
    '500',
    '503',
  ])
  expect(create.responses[409]).toEqual({
    description: 'NAME_TAKEN, NO_HOST_FITS, NO_FAILOVER_ROOM, CONFLICT',
    content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
  })
  const refused = paths['/api/v1/instance'].post.responses[500]
  expect(refused.description).toBe('STALE_EPOCH, NO_HOST_FITS, INTERNAL, UNAVAILABLE')
  expect(refused.content['application/json'].schema).toEqual({ $ref: '#/components/schemas/EnvelopeFailure' })
  expect(create.parameters).toEqual([
    expect.objectContaining({ name: 'dry_run', in: 'query', required: false }),
    expect.objectContaining({ name: 'Idempotency-Key', in: 'header', required: false }),
  ])
  expect(paths['/instances/{uuid}/start'].post.requestBody.required).toBe(false)
  expect(paths['/operations/{uuid}'].get.parameters).toEqual([
    expect.objectContaining({ name: 'uuid', in: 'path', required: true }),
    expect.objectContaining({
      name: 'wait',
      in: 'query',
      required: false,
      schema: expect.objectContaining({ type: 'string' }),
    }),
  ])
})
