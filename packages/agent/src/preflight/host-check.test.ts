// The look of a whole agent at its host, in memory.

import { randomUUID } from 'node:crypto'
import { decodeHeartbeat } from '@vpe/bus'
import { afterEach, expect, test } from 'vitest'
import type { Agent } from '../agent.ts'
import { FakeHost } from '../testing/fake-host.ts'
import { settle } from '../testing/manual-clock.ts'
import { tableOf } from './command.ts'

const host = () => new FakeHost()
const running: Agent[] = []
afterEach(async () => {
  for (const agent of running.splice(0)) await agent.stop()
})

async function start(on: FakeHost): Promise<Agent> {
  const agent = await on.startAgent()
  running.push(agent)
  await settle()
  return agent
}

const statusOf = (agent: Agent, type: string) =>
  agent.check.findings.find((finding) => finding.type.startsWith(type))?.status

function digestHeard(on: FakeHost): string | undefined {
  const beats = on.published.filter(({ subject }) => subject.endsWith('.heartbeat'))
  const decoded = decodeHeartbeat(beats.at(-1)?.payload ?? '')
  return 'heartbeat' in decoded ? decoded.heartbeat.hostDigest : undefined
}

test('heartbeats carry the digest of what is known, and that changes with it', async () => {
  const on = host()
  const agent = await start(on)
  await on.clock.advance(1_000)
  const first = digestHeard(on)
  expect(first).toBe((await agent.describe(false)).digest)
  on.machine = { ...on.machine, kernel: '6.2.0' }
  await on.clock.advance(121_000)
  const { facts, digest } = await agent.describe(false)
  expect(facts).toMatchObject({ kernel: '6.2.0', cpuModel: 'EPYC', cpuFeatures: ['aes', 'avx2'] })
  expect(digest).not.toBe(first)
  expect(digestHeard(on)).toBe(digest)
})

test('a look on demand sees what is so now', async () => {
  const on = host()
  const agent = await start(on)
  on.machine = { ...on.machine, missingPrograms: ['genisoimage'] }
  const { findings } = await agent.describe(true)
  expect(findings).toContainEqual(expect.objectContaining({ type: 'ProgramsPresent', status: 'warning' }))
})

test('libvirt that is away is found, and the facts stay', async () => {
  const on = host()
  const agent = await start(on)
  on.hypervisor.knobs.isAway = true
  const { facts, findings } = await agent.describe(true)
  expect(facts.hypervisorVersion).toBe('7.2.0')
  expect(findings).toContainEqual(expect.objectContaining({ type: 'LibvirtReady', status: 'failed' }))
  expect(findings.map(({ type }) => type)).not.toContain('QemuPresent')
})

test('a pool that hangs is found after five seconds, asked once, and well again when it answers', async () => {
  const on = host()
  const agent = await start(on)
  const answers = Promise.withResolvers<void>()
  let probes = 0
  on.files.beforeCall = async (operation) => {
    if (operation !== 'probe') return
    probes++
    await answers.promise
  }
  await agent.diskPools.ensure({ uuid: randomUUID(), path: '/pool' })
  await on.clock.advance(4_000)
  expect(statusOf(agent, 'PoolWorks')).toBe(undefined)
  await on.clock.advance(2_000)
  expect(agent.check.findings.at(-1)).toMatchObject({
    status: 'failed',
    message: '/pool: it did not answer within 5 s',
  })
  await on.clock.advance(120_000)
  expect(probes).toBe(1)
  expect(agent.check.findings.at(-1)?.message).toMatch(/asked \d+ s before/)

  answers.resolve()
  await agent.describe(true)
  expect(statusOf(agent, 'PoolWorks')).toBe('ok')
})

test('NATS that is away is found', async () => {
  const on = host()
  on.natsRoundTrip = () => Promise.reject(new Error('it is not connected'))
  const agent = await start(on)
  expect(statusOf(agent, 'NatsReachable')).toBe('failed')
})

test('findings for people are a line each, and their cure', () => {
  const ok = { type: 'KvmUsable', status: 'ok', message: 'fine', cure: '', latencyMs: null } as const
  const bad = { ...ok, type: 'LibvirtReady', status: 'failed', message: 'away', cure: 'Start it' } as const
  expect(tableOf([ok, bad])).toBe(
    'ok       KvmUsable     fine\nfailed   LibvirtReady  away\n                       → Start it\n',
  )
})
