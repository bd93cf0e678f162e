import { InstanceMetrics } from '@vpe/proto'
import { beforeEach, describe, expect, test } from 'vitest'
import { MetricsAnswer } from '../schemas/metrics.ts'
import { createTestBed, type TestBed } from '../test-bed.ts'

let bed: TestBed
let uuid: string

beforeEach(async () => {
  bed = await createTestBed()
  const { flavor, image } = bed.ids
  const instance = { name: 'vm1', flavor_uuid: flavor, image_uuid: image }
  uuid = (await bed.send('POST', '/instances', { instance })).body.instance.uuid
  bed.controller.calls.length = 0
})

const AT_MS = Date.UTC(2016, 10, 22, 10, 22, 32)
const POINT = {
  atMs: AT_MS,
  seconds: 5.0004,
  cpuPercent: 33.3333,
  memory: { assignedBytes: 2 ** 28, usedBytes: 2 ** 26 },
  disks: [{ name: 'vda', readBytes: 4096, readRequests: 0.2, writeBytes: 0, writeRequests: 0 }],
  nics: [{ name: 'vnet0', rxBytes: 100, rxPackets: 1, txBytes: 50, txPackets: 0.5 }],
}
const TOTALS = {
  atMs: AT_MS,
  vcpus: 2,
  cpuSeconds: 12.5,
  memory: POINT.memory,
  disks: [
    { name: 'vda', readBytes: 1e12, readRequests: 7, writeBytes: 1, writeRequests: 1 },
    { name: 'vdb' },
  ],
  nics: [{ name: 'vnet0', rxBytes: 1_000, rxPackets: 10, txBytes: 500, txPackets: 5 }],
}

describe('GET /instances/{uuid}/metrics', () => {
  test('shows current values and the series, with units in the names', async () => {
    const metrics = { intervalMs: 5_000, totals: TOTALS, latest: POINT, series: [POINT] }
    bed.controller.metrics.set(uuid, InstanceMetrics.fromPartial(metrics))
    const { status, body } = await bed.send('GET', `/instances/${uuid}/metrics`)
    expect(status).toBe(200)
    expect(body).toEqual({
      metrics: {
        instance_uuid: uuid,
        interval_seconds: 5,
        current: {
          at: '2016-11-22 10:22:32',
          vcpus: 2,
          cpu_percent: 33.33,
          cpu_seconds: 12.5,
          memory_assigned_bytes: 2 ** 28,
          memory_used_bytes: 2 ** 26,
          memory_resident_bytes: null,
          disks: [
            {
              name: 'vda',
              read_bytes: 1e12,
              read_requests: 7,
              write_bytes: 1,
              write_requests: 1,
              read_bytes_per_second: 4096,
              read_requests_per_second: 0.2,
              write_bytes_per_second: 0,
              write_requests_per_second: 0,
            },
            expect.objectContaining({ name: 'vdb', read_bytes: 0, read_bytes_per_second: null }),
          ],
          nics: [
            {
              name: 'vnet0',
              rx_bytes: 1_000,
              rx_packets: 10,
              tx_bytes: 500,
              tx_packets: 5,
              rx_bytes_per_second: 100,
              rx_packets_per_second: 1,
              tx_bytes_per_second: 50,
              tx_packets_per_second: 0.5,
            },
          ],
        },
        series: [
          {
            at: '2016-11-22 10:22:32',
            seconds: 5,
            cpu_percent: 33.33,
            memory_assigned_bytes: 2 ** 28,
            memory_used_bytes: 2 ** 26,
            memory_resident_bytes: null,
            disks: [expect.objectContaining({ name: 'vda', read_bytes_per_second: 4096 })],
            nics: [expect.objectContaining({ name: 'vnet0', rx_bytes_per_second: 100 })],
          },
        ],
      },
    })
    expect(MetricsAnswer.safeParse(body).success).toBe(true)
  })

  test('of an instance that is off has nothing current', async () => {
    const { body } = await bed.send('GET', `/instances/${uuid}/metrics`)
    expect(body).toEqual({
      metrics: { instance_uuid: uuid, interval_seconds: 5, current: null, series: [] },
    })
  })

  const asked = async (query: string) => {
    await bed.send('GET', `/instances/${uuid}/metrics?${query}`)
    return bed.controller.calls.at(-1)?.request as { sinceMs: number; stepMs: number }
  }

  test.each([
    ['since=2016-11-22T10:22:32Z', AT_MS],
    ['since=2016-11-22T10:22:32.500Z', AT_MS + 500],
    ['since=2016-11-22%2010:22:32', AT_MS],
    ['since=2016-11-22T10:22:32', AT_MS],
  ])('?%s', async (query, sinceMs) => {
    expect(await asked(query)).toMatchObject({ sinceMs, stepMs: 0 })
  })

  test.each([
    ['', 600_000, 0],
    ['since=90', 90_000, 0],
    ['since=15m&step=1m', 900_000, 60_000],
    ['since=1h&step=30s', 3_600_000, 30_000],
  ])('?%s is counted back from now', async (query, agoMs, stepMs) => {
    const beforeMs = Date.now()
    const request = await asked(query)
    expect(request.stepMs).toBe(stepMs)
    expect(request.sinceMs + agoMs).toBeGreaterThanOrEqual(beforeMs)
    expect(request.sinceMs + agoMs).toBeLessThanOrEqual(Date.now())
  })

  test.each([
    ['since=yesterday', 'since', 'expected how long ago'],
    ['since=2016-13-22T10:22:32Z', 'since', 'expected how long ago'],
    ['step=0', 'step', 'expected a time from 1s to 3600s'],
    ['step=2h', 'step', 'expected a time from 1s to 3600s'],
    ['until=5', 'until', 'known here: since, step'],
  ])('?%s is refused', async (query, field, words) => {
    const { status, body } = await bed.send('GET', `/instances/${uuid}/metrics?${query}`)
    expect(status).toBe(400)
    expect(body.errors).toEqual([{ field, message: expect.stringContaining(words) }])
  })

  test('of an unknown instance is 404', async () => {
    const { status } = await bed.send('GET', '/instances/22c91117-08de-4894-9aa9-6ef382400985/metrics')
    expect(status).toBe(404)
  })
})

describe('GET /metrics', () => {
  const scrape = async () => {
    const response = await bed.app.request('/metrics')
    expect(response.status).toBe(200)
    expect(response.headers.get('content-type')).toContain('text/plain; version=0.0.4')
    return await response.text()
  }

  test('counts requests by route and status, and instances by status', async () => {
    await bed.send('GET', `/instances/${uuid}`)
    await bed.send('GET', '/instances/22c91117-08de-4894-9aa9-6ef382400985')
    await bed.send('GET', '/no/such/path')
    await bed.send('DELETE', '/instances')
    const text = await scrape()
    const count = 'vpe_http_request_duration_seconds_count'
    expect(text).toContain(`${count}{method="GET",route="/instances/:uuid",status="200"} 1\n`)
    expect(text).toContain(`${count}{method="GET",route="/instances/:uuid",status="404"} 1\n`)
    expect(text).toContain(`${count}{method="GET",route="none",status="404"} 1\n`)
    expect(text).toMatch(/_count\{method="DELETE",route="[^"]*",status="405"\} 1\n/)
    expect(text).toContain('vpe_controller_up 1\n')
    expect(text).toContain('vpe_instances{status="shutoff"} 1\n')
  })

  test('goes on without the controller, and says so', async () => {
    expect(await scrape()).toContain('vpe_instances{')
    bed.controller.failures.set('countInstances', new Error('gone'))
    const text = await scrape()
    expect(text).toContain('vpe_controller_up 0\n')
    expect(text).toContain('vpe_ha_armed 1\n')
    expect(text).not.toContain('vpe_instances{')
  })
})
