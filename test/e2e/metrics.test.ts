// Metrics and pages of a real cluster: what a guest does shows where users and Prometheus look.

import { existsSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Cluster, until } from './cluster.ts'

const cluster = new Cluster()
let isUp = false
let uuid = ''

beforeAll(async () => {
  await cluster.quickstart()
  isUp = true
  uuid = (await cluster.instances())[0]?.uuid ?? ''
})
afterAll(async () => {
  if (isUp || existsSync(cluster.home)) await cluster[Symbol.asyncDispose]()
})

const metrics = async (query = '') =>
  (await cluster.ok('GET', `/instances/${uuid}/metrics${query}`)).body.metrics

test('a guest shows its CPU, its memory and its disk, now and lately', async () => {
  await until('there is a series', async () => (await metrics()).series.length >= 3)
  const { current, series, interval_seconds } = await metrics()
  expect(interval_seconds).toBe(5)
  // It has booted, and in software emulation that takes a while.
  expect(current.cpu_seconds).toBeGreaterThan(0.5)
  expect(Math.max(...series.map((point: { cpu_percent: number }) => point.cpu_percent))).toBeGreaterThan(0)
  expect(current.memory_assigned_bytes).toBe(256 * 1024 ** 2)
  expect(current.memory_resident_bytes).toBeGreaterThan(1024 ** 2)
  expect(current.disks).toEqual([expect.objectContaining({ name: 'vda', read_bytes: expect.any(Number) })])
  expect(current.disks[0].read_bytes).toBeGreaterThan(1024)
  expect((await metrics('?since=1h&step=1h')).series.length).toBeLessThanOrEqual(2)
  expect((await metrics(`?since=${new Date(Date.now() + 60_000).toISOString()}`)).series).toEqual([])
})

test('Prometheus sees the same at the agent, and the whole at the API node', async () => {
  const agent = await (await fetch(cluster.setting('VPE_AGENT_METRICS_URL'))).text()
  expect(agent).toContain(`vpe_instance_running{uuid="${uuid}"`)
  expect(agent).toMatch(
    new RegExp(`vpe_instance_disk_read_bytes_total\\{uuid="${uuid}",.*disk="vda"\\} [1-9]`),
  )
  const api = await (await fetch(`${cluster.apiUrl}/metrics`)).text()
  expect(api).toContain('vpe_controller_up 1\n')
  expect(api).toContain('vpe_instances{status="active"} 1\n')
  expect(api).toMatch(
    /vpe_http_request_duration_seconds_count\{.*route="\/instances\/:uuid\/metrics".*\} [1-9]/,
  )
})

test('an instance that is off keeps its series, and has nothing current', async () => {
  const stop = await cluster.ok('POST', `/instances/${uuid}/stop`)
  expect(await cluster.ended(stop.headers.get('operation-id') ?? '')).toMatchObject({ status: 'succeeded' })
  await until('it is seen to be off', async () => (await metrics()).current === null)
  expect((await metrics()).series.length).toBeGreaterThanOrEqual(3)
  await until('it is counted as shut off', async () =>
    (await (await fetch(`${cluster.apiUrl}/metrics`)).text()).includes('vpe_instances{status="shutoff"} 1\n'),
  )
})

test('lists take filters and come in pages', async () => {
  const made: string[] = []
  for (const name of ['page-1', 'page-2', 'page-3']) {
    const instance = { name, ...(await cluster.ingredients()), tags: ['paged', name] }
    const { body, headers } = await cluster.ok('POST', '/instances', { instance })
    made.push(body.instance.uuid)
    await cluster.ended(headers.get('operation-id') ?? '')
  }
  const list = async (query: string) => (await cluster.ok('GET', `/instances?${query}`)).body
  const first = await list('tag=paged&limit=2')
  expect(first.instances.map((it: { uuid: string }) => it.uuid)).toEqual(made.slice(0, 2))
  const gone = await cluster.ok('DELETE', `/instances/${made[1]}`)
  await cluster.ended(gone.headers.get('operation-id') ?? '')
  const second = await list(`tag=paged&limit=2&marker=${first.next_marker}`)
  expect(second).toEqual({ instances: [expect.objectContaining({ uuid: made[2] })], next_marker: null })
  expect((await list('status=active&tag=paged&tag=page-1')).instances).toHaveLength(1)
  expect((await list('status=shutoff')).instances.map((it: { uuid: string }) => it.uuid)).toEqual([uuid])
})
