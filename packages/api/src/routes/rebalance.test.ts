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
    },
  })
  expect(bed.controller.calls.at(-1)).toEqual({
    method: 'rebalanceHosts',
    request: { boundPercent: 20, maxMoves: 10, dryRun: true },
    idempotencyKey: undefined,
  })
})

test('POST /hosts/rebalance takes a bound and a number of moves, and refuses to carry a plan out', async () => {
  const bed = await createTestBed()
  const send = (query: string, rebalance: object) =>
    bed.send('POST', `/hosts/rebalance${query}`, { rebalance })
  await send('?dry_run=true', { bound_percent: 7.5, max_moves: 3 })
  expect(bed.controller.calls.at(-1)?.request).toEqual({ boundPercent: 7.5, maxMoves: 3, dryRun: true })
  for (const query of ['', '?dry_run=false']) {
    expect(await send(query, {})).toMatchObject({ status: 409, body: { code: 'CONFLICT' } })
  }
  for (const [wrong, field] of [
    [{ bound_percent: 0.5 }, 'rebalance.bound_percent'],
    [{ bound_percent: 101 }, 'rebalance.bound_percent'],
    [{ max_moves: 0 }, 'rebalance.max_moves'],
    [{ max_moves: 101 }, 'rebalance.max_moves'],
  ] as const) {
    const { status, body } = await send('?dry_run=true', wrong)
    expect([status, body.errors?.[0]?.field]).toEqual([400, field])
  }
})
