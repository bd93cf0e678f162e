// Many instances on libvirt's mock driver: a real libvirt, guests that cost nothing. What takes the time is
// the agent itself.

import { pino } from 'pino'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Agent } from './agent.ts'
import { systemClock } from './clock.ts'
import type { Hypervisor } from './hypervisor/hypervisor.ts'
import { openLibvirt } from './hypervisor/libvirt.ts'
import { choosePlatform } from './platform.ts'
import { desiredInstance, FAKE_MACHINE, reportFrom } from './testing/fake-host.ts'
import { FakePoolFiles } from './testing/fake-pool-files.ts'
import { until } from './testing/lab.ts'

const INSTANCES = 200

let hypervisor: Hypervisor
beforeAll(async () => {
  hypervisor = await openLibvirt('test:///default')
})
afterAll(() => hypervisor.close())

async function startAgent(files: FakePoolFiles): Promise<Agent> {
  const { capabilities } = await hypervisor.facts()
  const agent = new Agent({
    hostId: '0a1b2c3d-0000-4000-8000-00000000000a',
    bootId: 'boot-1',
    version: '0.0.0',
    hypervisor,
    files,
    publisher: { publish: () => {} },
    settings: {
      platform: choosePlatform(capabilities, false),
      consoleDir: '/nowhere',
      bridge: undefined,
      migration: { receive: undefined, tls: false, ports: { from: 49_152, to: 49_215 } },
    },
    stateDir: '/nowhere',
    readMachine: async () => FAKE_MACHINE,
    bus: { url: 'nats://nowhere', roundTripMs: async () => 1 },
    epoch: () => 1,
    migrationTls: async () => null,
    postCopyFault: async () => null,
    pausable: '',
    guard: null,
    haRecord: { epoch: 0, closed: new Map() },
    upMs: () => performance.now(),
    neighbours: async () => new Map(),
    clock: systemClock,
    log: pino({ level: 'silent' }),
  })
  await agent.start()
  return agent
}

test('two hundred instances are made, known again after a restart, kept, and removed', async () => {
  const files = new FakePoolFiles()
  let agent = await startAgent(files)
  const wishes = Array.from({ length: INSTANCES }, (_, index) => desiredInstance({ ha: index % 2 === 0 }))
  const reports = await Promise.all(wishes.map((desired) => agent.apply(desired).result))
  expect(new Set(reports.map(({ power }) => power))).toEqual(new Set(['on']))

  const before = await agent.inventory()
  await agent.stop()
  agent = await startAgent(files)
  const after = await agent.inventory()
  expect(after.digest).toBe(before.digest)
  expect(after.reports).toHaveLength(INSTANCES)

  const [kept] = wishes
  if (!kept) throw new Error('there are some')
  await hypervisor.destroyDomain(kept.uuid)
  await until('it is back', async () => {
    const report = await reportFrom(agent, kept.uuid)
    return report?.power === 'on' && !report.converging
  })

  const removals = wishes.map(({ uuid, diskPool }) => agent.remove({ uuid, generation: 2, diskPool }).result)
  await Promise.all(removals)
  expect((await agent.inventory()).reports).toEqual([])
  expect(files.disks.size).toBe(0)
  await agent.stop()
})
