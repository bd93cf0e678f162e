import { VpeError } from '@vpe/core'
import { expect, test } from 'vitest'
import { createTestBed } from '../test-bed.ts'

test('/healthz says that the process answers, whatever the controller does', async () => {
  const bed = await createTestBed()
  bed.controller.failures.set('getReadiness', new VpeError('UNAVAILABLE', 'gone'))
  expect((await bed.send('GET', '/healthz')).status).toBe(200)
})

test('/readyz says whether the controller can work, and why not', async () => {
  const bed = await createTestBed()
  const ready = await bed.send('GET', '/readyz')
  expect([ready.status, ready.body]).toEqual([200, { ready: true, reasons: [] }])

  bed.controller.readiness = { ready: false, reasons: ['NATS is away'] }
  const unready = await bed.send('GET', '/readyz')
  expect([unready.status, unready.body]).toEqual([503, { ready: false, reasons: ['NATS is away'] }])

  bed.controller.failures.set('getReadiness', new VpeError('UNAVAILABLE', 'no connection'))
  const silent = await bed.send('GET', '/readyz')
  expect([silent.status, silent.body]).toEqual([503, { ready: false, reasons: ['no connection'] }])
})
