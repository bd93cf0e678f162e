// Goal: what the agent measures is true, and where it knows nothing it says nothing. Method: the real agent
// on a fake host, with counters and time moved by hand.

import type { GuestSample } from '@vpe/core'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Agent } from '../agent.ts'
import { desiredInstance, FakeHost } from '../testing/fake-host.ts'
import { METRICS_INTERVAL_MS } from './guest-metrics.ts'
import { instanceRegistry } from './prometheus.ts'

let host: FakeHost
let agent: Agent
const desired = desiredInstance({ name: 'a "b"' })
const { uuid } = desired

beforeEach(async () => {
  host = new FakeHost()
  agent = await host.startAgent()
  await agent.apply(desired).result
})
afterEach(() => agent.stop())

/** The guest counts so much, then the next sample is taken. */
async function count(changes: Partial<GuestSample>): Promise<void> {
  host.hypervisor.samples.set(uuid, changes)
  await host.clock.advance(METRICS_INTERVAL_MS)
}

const busy = (seconds: number): Partial<GuestSample> => ({
  cpuTimeNs: seconds * 1.2e9,
  vcpuTimeNs: seconds * 1e9,
  memory: { assignedBytes: 2 ** 28, usedBytes: null, residentBytes: 2 ** 27 },
  disks: [{ name: 'vda', readBytes: seconds * 100, readRequests: seconds, writeBytes: 0, writeRequests: 0 }],
})
const percents = () => agent.metrics.of(uuid, 0, 0).series.map(({ cpuPercent }) => cpuPercent)

describe('the metrics of an instance', () => {
  test('are its counters, and the rates between them', async () => {
    await count(busy(10))
    await count(busy(14))
    const { current, series } = agent.metrics.of(uuid, 0, 0)
    expect(current).toMatchObject({
      atMs: host.clock.dateMs(),
      sample: { cpuTimeNs: 16.8e9 },
      point: { cpuPercent: 80, disks: [{ name: 'vda', readBytes: 80 }] },
    })
    expect(series.at(-1)).toEqual(current?.point)
  })

  test('are of an hour at most', async () => {
    for (let seconds = 0; seconds < 730; seconds++) await count(busy(seconds))
    const { series } = agent.metrics.of(uuid, 0, 0)
    expect(series).toHaveLength(720)
    expect(series.at(-1)?.atMs).toBe(host.clock.dateMs())
    expect(agent.metrics.of(uuid, host.clock.dateMs() - 60_000, 0).series).toHaveLength(12)
    expect(agent.metrics.of(uuid, 0, 600_000).series.length).toBeLessThanOrEqual(7)
  })

  test('of one that is off are its last series, and nothing current', async () => {
    await count(busy(1))
    await count(busy(2))
    host.hypervisor.goOff(uuid, 'guest-shutdown')
    await count(busy(2))
    expect(agent.metrics.of(uuid, 0, 0)).toMatchObject({ current: null, series: [{ cpuPercent: 20 }] })
  })

  test('have a gap where it was off, or where libvirt was away', async () => {
    await count(busy(100))
    host.hypervisor.goOff(uuid, 'guest-shutdown')
    await host.clock.advance(METRICS_INTERVAL_MS)
    await host.hypervisor.startDomain(uuid)
    await count(busy(1))
    const before = percents().length
    await count(busy(2))
    expect(percents().slice(before)).toEqual([20])
    host.hypervisor.setAway(true)
    await count(busy(3))
    expect(agent.metrics.of(uuid, 0, 0).current).toBeNull()
    host.hypervisor.setAway(false)
    await count(busy(50))
    await count(busy(51))
    expect(percents().slice(before)).toEqual([20, 20])
    expect(host.logs.some(({ msg }) => msg === 'instances cannot be measured')).toBe(false)
  })

  test('go with it, and are none of a domain that is not ours', async () => {
    host.hypervisor.addForeign('0a1b2c3d-0000-4000-8000-0000000000ff')
    await count(busy(1))
    await count(busy(2))
    expect(agent.metrics.of('0a1b2c3d-0000-4000-8000-0000000000ff', 0, 0)).toMatchObject({
      current: null,
      series: [],
    })
    await agent.remove({ uuid, generation: 2, diskPool: desired.diskPool }).result
    await host.clock.advance(METRICS_INTERVAL_MS)
    expect(agent.metrics.of(uuid, 0, 0)).toMatchObject({ current: null, series: [] })
  })

  test('that libvirt refuses are complained of once', async () => {
    for (let time = 0; time < 3; time++) host.hypervisor.knobs.failures.push({ call: 'sample', words: 'no' })
    await host.clock.advance(3 * METRICS_INTERVAL_MS)
    expect(host.logs.filter(({ msg }) => msg === 'instances cannot be measured')).toHaveLength(1)
  })
})

test('Prometheus gets the counters as they are, each time anew', async () => {
  const registry = instanceRegistry(agent.metrics)
  await count(busy(10))
  await registry.metrics()
  const text = await registry.metrics()
  const labels = `uuid="${uuid}",name="a \\"b\\""`
  expect(text).toContain(`vpe_instance_running{${labels}} 1\n`)
  expect(text).toContain(`vpe_instance_cpu_seconds_total{${labels}} 12\n`)
  expect(text).toContain(`vpe_instance_memory_resident_bytes{${labels}} ${2 ** 27}\n`)
  expect(text).toContain(`vpe_instance_disk_read_bytes_total{${labels},disk="vda"} 1000\n`)
  expect(text).not.toContain(`vpe_instance_memory_used_bytes{`)
  host.hypervisor.goOff(uuid, 'guest-shutdown')
  await host.clock.advance(METRICS_INTERVAL_MS)
  const off = await registry.metrics()
  expect(off).toContain(`vpe_instance_running{${labels}} 0\n`)
  expect(off).not.toContain('vpe_instance_cpu_seconds_total{')
})
