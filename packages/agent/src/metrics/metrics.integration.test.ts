// What libvirt and QEMU really count. The guest's disk is one boot sector that does nothing but run in a
// circle: as busy as a guest can be. Its network card is on a bridge of the test's own.

import { randomUUID } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  DiskPoolSpec,
  type InstanceMetrics,
  type InstanceSpec,
  Power,
  RebootKind,
  SystemDiskKind,
} from '@vpe/proto'
import { execa } from 'execa'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { freePorts } from '../../../../deploy/src/ports.ts'
import { macAddress } from '../domain-xml.ts'
import { AgentProcess } from '../testing/agent-process.ts'
import { TestLab, until } from '../testing/lab.ts'
import { markedPool } from '../testing/marked-pool.ts'

const bridge = `vpet${process.pid}`
const spec: InstanceSpec = {
  uuid: randomUUID(),
  name: 'busy',
  generation: 1,
  power: Power.ON,
  ha: false,
  vcpus: 1,
  memoryMib: 64,
  diskBytes: 0,
  image: { uuid: randomUUID(), url: '', sha256: '' },
  diskPool: DiskPoolSpec.fromPartial({
    uuid: randomUUID(),
    kind: 'dir',
    systemDisks: SystemDiskKind.OVERLAY,
  }),
  stopGraceMs: 1,
  rebootGeneration: 0,
  rebootKind: RebootKind.UNSPECIFIED,
  diskGeneration: 0,
  seed: undefined,
  disks: [],
  hasDisk: false,
  ownership: undefined,
  diskSnapshotUuid: '',
  diskSource: undefined,
}

let lab: TestLab
let agent: AgentProcess
let metricsUrl = ''

beforeAll(async () => {
  lab = await TestLab.start()
  await execa('ip', ['link', 'add', bridge, 'type', 'bridge'])
  const [port] = await freePorts(1)
  metricsUrl = `http://127.0.0.1:${port}/metrics`
  const disk = Buffer.alloc(1024 ** 2)
  // jmp $, and the mark of a boot sector.
  disk.set([0xeb, 0xfe])
  disk.set([0x55, 0xaa], 510)
  const file = join(lab.folder('images'), 'busy.raw')
  writeFileSync(file, disk)
  Object.assign(spec.image ?? {}, { url: `file://${file}` })
  Object.assign(spec.diskPool ?? {}, markedPool(join(lab.dir, 'pool')))
  agent = await new AgentProcess({
    VPE_AGENT_STATE_DIR: lab.folder('state'),
    VPE_LIBVIRT_URI: lab.libvirtUri,
    // Nobody is there, and nobody is needed.
    VPE_NATS_URL: 'nats://127.0.0.1:9',
    VPE_AGENT_IMAGE_DIRS: lab.folder('images'),
    VPE_AGENT_BRIDGE: bridge,
    VPE_AGENT_METRICS_LISTEN: `127.0.0.1:${port}`,
  }).ready()
  await agent.apply(spec)
})
afterAll(async () => {
  await agent?.end('SIGTERM')
  await lab?.[Symbol.asyncDispose]()
  await execa('ip', ['link', 'delete', bridge])
})

async function metrics(sinceMs = 0, stepMs = 0): Promise<InstanceMetrics> {
  const answer = await agent.client.getMetrics({ uuid: spec.uuid, sinceMs, stepMs })
  if (!answer.metrics) throw new Error('an answer without metrics')
  return answer.metrics
}

test('a busy guest shows as busy, with its disk, its network card and its memory', async () => {
  let seen = await metrics()
  await until(
    'three points are there',
    async () => {
      seen = await metrics()
      return seen.series.length >= 3
    },
    40_000,
  )
  const { totals, latest } = seen
  expect(latest).toEqual(seen.series.at(-1))
  expect(latest?.cpuPercent).toBeGreaterThan(10)
  expect(latest?.seconds).toBeGreaterThan(4.9)
  const [before, last] = seen.series.slice(-2)
  expect(latest?.seconds).toBeCloseTo(((last?.atMs ?? 0) - (before?.atMs ?? 0)) / 1000, 0)
  expect(totals).toMatchObject({ vcpus: 1, cpuSeconds: expect.any(Number) })
  expect(totals?.cpuSeconds).toBeGreaterThan(1)
  expect(totals?.memory?.assignedBytes).toBe(64 * 1024 ** 2)
  expect(totals?.memory?.residentBytes).toBeGreaterThan(1024 ** 2)
  // It has no system that would tell.
  expect(totals?.memory?.usedBytes).toBeUndefined()
  expect(totals?.disks).toEqual([expect.objectContaining({ name: 'vda' })])
  // Its firmware has read the boot sector.
  expect(totals?.disks[0]?.readBytes).toBeGreaterThanOrEqual(512)
  expect(totals?.nics).toEqual([
    expect.objectContaining({ name: expect.stringMatching(/^vnet\d+$/), rxBytes: expect.any(Number) }),
  ])
  expect(await metrics(0, 3_600_000)).toMatchObject({ series: { length: expect.any(Number) } })
})

test('its address is known once the host has heard of it', async () => {
  expect((await agent.client.getInventory({})).addresses).toEqual([])
  const lladdr = macAddress(spec.uuid)
  await execa('ip', ['link', 'set', bridge, 'up'])
  await execa('ip', ['neigh', 'add', '10.77.66.55', 'lladdr', lladdr, 'dev', bridge, 'nud', 'reachable'])
  await until('the agent has looked', async () => {
    const { addresses } = await agent.client.getInventory({})
    return JSON.stringify(addresses) === JSON.stringify([{ uuid: spec.uuid, addresses: ['10.77.66.55'] }])
  })
})

test('Prometheus sees the same', async () => {
  const response = await fetch(metricsUrl)
  expect(response.headers.get('content-type')).toContain('version=0.0.4')
  const text = await response.text()
  const labels = `uuid="${spec.uuid}",name="busy"`
  expect(text).toContain(`vpe_instance_running{${labels}} 1\n`)
  expect(text).toContain(`vpe_instance_memory_assigned_bytes{${labels}} ${64 * 1024 ** 2}\n`)
  const seconds = Number(/vpe_instance_vcpu_seconds_total\{.*\} (.*)/.exec(text)?.[1])
  expect(seconds).toBeGreaterThan(1)
  expect(text).toContain('process_cpu_seconds_total')
  expect((await fetch(`${metricsUrl}/x`)).status).toBe(404)
})

test('a guest that is off has nothing current, and keeps its series; on again, it begins anew', async () => {
  const before = (await metrics()).series.length
  await agent.apply({ ...spec, generation: 2, power: Power.OFF })
  await until('it is seen to be off', async () => (await metrics()).totals === undefined)
  const offAtMs = Date.now()
  expect((await metrics()).series.length).toBeGreaterThanOrEqual(before)
  await agent.apply({ ...spec, generation: 3 })
  const onAtMs = Date.now()
  await until('it is measured again', async () => (await metrics(onAtMs)).latest !== undefined, 30_000)
  const { totals, series } = await metrics(onAtMs)
  expect(totals?.cpuSeconds).toBeLessThan(30)
  // Nothing is an average over the time that it was off.
  expect(series.every(({ atMs, seconds }) => atMs - seconds * 1000 > offAtMs)).toBe(true)
})
