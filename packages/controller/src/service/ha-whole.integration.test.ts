// What people see and say of high availability where a real keeper watches over pretended hosts: the whole of one failover.

import { HA_PROFILES } from '@vpe/core/ha'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { FakeAgent } from '../testing/fake-agent.ts'
import { FakeGuard, FakeStorage } from '../testing/fake-guard.ts'
import { Harness, refusal, until } from '../testing/harness.ts'
import { MemoryPools } from '../testing/memory-pools.ts'

/** As little as ticks of a second allow; class E needs none of it for safety. */
const timings = { ...HA_PROFILES.fast, suspectMs: 3_000, tryMs: 500, deadMs: 3_000, settleMs: 1_500 }

let agents: FakeAgent[]
let harness: Harness
let storage: FakeStorage

beforeEach(async () => {
  storage = new FakeStorage()
  storage.lockLeaseMs = 1_000
  agents = [await FakeAgent.start(), await FakeAgent.start(), await FakeAgent.start()]
  const [first, ...others] = agents as [FakeAgent, FakeAgent, FakeAgent]
  for (const agent of agents) {
    agent.markers = first.markers
    agent.guard = new FakeGuard(agent, storage, timings.tryMs)
  }
  harness = new Harness()
  const pools = new MemoryPools(storage)
  harness.haPools = (store) => pools.of(store)
  harness.haTimings = timings
  await harness.start()
  harness.hear(agents)
  await harness.furnish(first)
  for (const [index, { address }] of others.entries())
    await harness.client.createHost({ name: `h${index + 2}`, address })
  const hosts = agents.map(({ hostId }) => hostId)
  await harness.client.createDiskPool({ name: 'shared', kind: 'dir', path: '/shared', shared: true, hosts })
  await until('every host is watched', () => [...harness.ha.hosts()].length === agents.length)
})
afterEach(async () => {
  await harness[Symbol.asyncDispose]()
  for (const agent of agents) agent.stop()
  expect(harness.fatal).toBe(null)
})

test('a failover goes where what-if said, and is shown, confirmed and counted', async () => {
  const wish = { name: 'vm1', flavor: 'tiny', image: 'demo', diskPool: 'shared', ha: true }
  const uuid = (await harness.client.createInstance(wish)).instance?.uuid ?? ''
  await harness.atRest(uuid)
  await until('it is looked after', () => harness.ha.instance(uuid)?.state === 'running')
  const lost = agents.find(({ hostId }) => hostId === harness.ha.instance(uuid)?.hostId)
  if (!lost) throw new Error('it runs nowhere')
  const { hostId } = lost

  const { generation } = await harness.instance(uuid)
  await harness.client.updateInstance({ uuid, haPriority: 'system', haIsolation: 'restart' })
  expect(harness.ha.instance(uuid)).toMatchObject({ priority: 'system', isolation: 'restart', generation })

  const foretold = await harness.client.whatIfHostLost({ uuid: hostId })
  expect(foretold).toMatchObject({
    survives: true,
    instances: [{ uuid, poolClass: 'E', priority: 'system' }],
  })
  expect((await refusal(harness.client.confirmFenced({ uuid: hostId, who: 'ann' }))).code).toBe('CONFLICT')

  // Power, network and storage are gone.
  lost.stop()
  storage.cut(hostId)
  lost.reboot()
  await until('it runs elsewhere', () => {
    const now = harness.ha.instance(uuid)
    return now?.hostId !== hostId && now?.state === 'running'
  })
  const { failovers } = await harness.client.listFailovers({ instanceUuid: uuid })
  expect(failovers).toMatchObject([
    { fromHostId: hostId, toHostId: foretold.instances[0]?.hostId, proofs: [{ kind: 'lock-gate' }] },
  ])
  const { suspectedMs, provenMs, runningMs } = failovers[0] ?? { suspectedMs: 0, provenMs: 0, runningMs: 0 }
  expect(suspectedMs).toBeLessThan(provenMs)
  expect(provenMs).toBeLessThan(runningMs)
  expect(Math.abs(runningMs - Date.now())).toBeLessThan(60_000)

  await harness.client.confirmFenced({ uuid: hostId, who: 'ann' })
  const { host } = await harness.client.getHost({ uuid: hostId })
  const confirmed = host?.recovery?.proofs.find(({ kind }) => kind === 'confirmed')
  expect(confirmed?.why).toContain('ann')
  const { text } = await harness.client.getControllerMetrics({})
  expect(text).toContain('vpe_ha_failover_seconds_count{phase="total",proof="lock-gate",pool_class="E"} 1')
  expect(text).toContain('vpe_ha_verdicts_total 1')
})
