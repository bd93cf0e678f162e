import { expect, test } from 'vitest'
import { createTestBed } from '../test-bed.ts'

test('POST /hosts/rebalance?dry_run=true shows the plan, makes nothing and takes no key', async () => {
  const bed = await createTestBed()
  const { flavor, image, host } = bed.ids
  await bed.send('POST', '/instances', { instance: { name: 'vm', flavor_uuid: flavor, image_uuid: image } })
  const { host: other } = await bed.controller.createHost({ name: 'h2', address: '127.0.0.1:7703' })
  const [instance] = bed.controller.instances.values()
  const answer = await bed.send('POST', '/hosts/rebalance?dry_run=true', undefined, {
    'idempotency-key': 'k1',
  })
  expect(answer.status).toBe(200)
  expect(answer.headers.get('operation-id')).toBeNull()
  expect(answer.body).toEqual({
    rebalance: {
      bound_percent: 20,
      spread_before_percent: 60,
      spread_after_percent: 10.5,
      balanced: true,
      explanation: '1 move takes the spread from 60.0 to 10.5 %, within 20 %',
      moves: [
        {
          instance_uuid: instance?.uuid,
          instance: 'vm',
          from_host_uuid: host,
          from_host: 'h1',
          to_host_uuid: other?.uuid,
          to_host: 'h2',
          copied_mib: 256,
          reason: 'takes h1 from 60.0 to 35.0 %',
          spread_percent: 10.5,
        },
      ],
      operation_uuid: null,
    },
  })
  expect(bed.controller.calls.at(-1)).toEqual({
    method: 'rebalanceHosts',
    request: { boundPercent: 20, maxMoves: 10, parallel: 2, dryRun: true },
    idempotencyKey: undefined,
  })
})

test('POST /hosts/rebalance takes a bound, a number of moves, and how many at once', async () => {
  const bed = await createTestBed()
  const send = (query: string, rebalance: object) =>
    bed.send('POST', `/hosts/rebalance${query}`, { rebalance })
  await send('?dry_run=true', { bound_percent: 7.5, max_moves: 3, parallel: 4 })
  const wanted = { boundPercent: 7.5, maxMoves: 3, parallel: 4, dryRun: true }
  expect(bed.controller.calls.at(-1)?.request).toEqual(wanted)
  for (const [wrong, field] of [
    [{ bound_percent: 0.5 }, 'rebalance.bound_percent'],
    [{ bound_percent: 101 }, 'rebalance.bound_percent'],
    [{ max_moves: 0 }, 'rebalance.max_moves'],
    [{ max_moves: 101 }, 'rebalance.max_moves'],
    [{ parallel: 51 }, 'rebalance.parallel'],
  ] as const) {
    const { status, body } = await send('?dry_run=true', wrong)
    expect([status, body.errors?.[0]?.field]).toEqual([400, field])
  }
})

test('without dry_run it is an operation, which can be seen and cancelled', async () => {
  const bed = await createTestBed()
  const { flavor, image } = bed.ids
  await bed.send('POST', '/instances', { instance: { name: 'vm', flavor_uuid: flavor, image_uuid: image } })
  expect(await bed.send('GET', '/hosts/rebalance')).toMatchObject({
    status: 404,
    body: { code: 'NOT_FOUND' },
  })
  expect(await bed.send('DELETE', '/hosts/rebalance')).toMatchObject({ status: 404 })
  const begun = await bed.send('POST', '/hosts/rebalance', undefined, { 'idempotency-key': 'k1' })
  const operation = begun.headers.get('operation-id')
  expect(begun).toMatchObject({ status: 200, body: { rebalance: { operation_uuid: operation } } })
  expect(bed.controller.calls.at(-1)).toMatchObject({ method: 'rebalanceHosts', idempotencyKey: 'k1' })
  const seen = await bed.send('GET', '/hosts/rebalance')
  expect(seen.body.rebalance).toMatchObject({
    operation_uuid: operation,
    state: 'running',
    parallel: 2,
    ended_at: null,
    moves: [{ instance: 'vm', state: 'moving' }],
  })
  const cancelled = await bed.send('DELETE', '/hosts/rebalance')
  expect(cancelled).toMatchObject({ status: 200, body: { rebalance: { state: 'cancelling' } } })
  expect(cancelled.headers.get('operation-id')).toBe(operation)
})
