// What an agent does for instances that are its host's, over a fake hypervisor and a fake guard.

import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type DesiredInstance, ROOM } from '@vpe/core'
import type { ArmedPool } from '@vpe/core/ha'
import { PoolClass } from '@vpe/proto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Agent } from '../agent.ts'
import { type FakeClaims, FakeGuard } from '../testing/fake-guard.ts'
import { desiredInstance, FakeHost, reportFrom } from '../testing/fake-host.ts'

const pool: ArmedPool = { pool: randomUUID(), poolClass: 'E', canUnmount: true }
let dir: string
let host: FakeHost
let claims: FakeClaims
let guard: FakeGuard
let agent: Agent

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'vpe-ha-'))
  claims = new Map()
  host = newHost('state')
  guard = guardOf(host)
  agent = await host.startAgent()
})
afterEach(async () => {
  await agent.stop()
  rmSync(dir, { recursive: true, force: true })
})

function newHost(name: string): FakeHost {
  const made = new FakeHost()
  made.stateDir = mkdtempSync(join(dir, name))
  made.guard = guardOf(made)
  return made
}

function guardOf(of: FakeHost): FakeGuard {
  of.guard ??= new FakeGuard(
    of.hostId,
    pool,
    claims,
    () => 1_000 + of.clock.nowMs(),
    (uuid) => of.hypervisor.goOff(uuid, 'crashed'),
  )
  return of.guard as FakeGuard
}

/** One that is given to this host. */
function owned(
  changes: Partial<DesiredInstance> = {},
  pools: readonly ArmedPool[] = [pool],
): DesiredInstance {
  const { generation = 1 } = changes
  return desiredInstance({ ha: true, ownership: { generation, bootId: host.bootId, pools }, ...changes })
}

/** Time goes on until it is so. */
async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  for (let second = 0; second < 200; second++) {
    if (await isSo()) return
    // What is written down takes real time, and a report waits for it.
    await agent.ha.report()
    await host.clock.advance(1_000)
  }
  throw new Error(`not in time: ${what}`)
}

/** The result of work that needs time to pass. */
async function after<T>({ result }: { readonly result: Promise<T> }): Promise<T> {
  let isOver = false
  result.then(
    () => (isOver = true),
    () => (isOver = true),
  )
  await until('the work is over', () => isOver)
  return result
}

const phaseOf = async ({ uuid }: DesiredInstance, of = agent) =>
  (await of.ha.report()).instances.find((each) => each.uuid === uuid)?.phase
const isRunning = async (desired: DesiredInstance) => (await phaseOf(desired)) === 'running'
const startsOf = ({ uuid }: DesiredInstance) =>
  host.hypervisor.calls.filter((call) => call === `start ${uuid}`).length

describe('an owned instance', () => {
  test('is claimed and armed before it is started, and reported', async () => {
    const seen: string[] = []
    host.hypervisor.knobs.beforeCall = (call) => {
      if (call === 'start') seen.push(...guard.calls)
    }
    const desired = owned()
    expect(await after(agent.apply(desired))).toMatchObject({ power: 'on', generation: 1 })
    expect(seen).toEqual(['take 1', 'arm 1'])
    const report = await agent.ha.report()
    expect(report).toMatchObject({
      ...{ hostId: host.hostId, bootId: host.bootId, guardFault: '', profile: 'default', hasWatchdog: true },
      instances: [{ uuid: desired.uuid, generation: 1, phase: 'running', why: '' }],
      leases: [{ poolId: pool.pool, isLost: false }],
      otherUuids: [],
    })
    expect(report.digest).toBe(agent.ha.digest)
    expect(host.hypervisor.domainXml(desired.uuid)).toContain('rerror_policy="stop"')
    await after(agent.apply(desired))
    expect(startsOf(desired)).toBe(1)
  })

  test('of another host is not started, and nothing of it is armed', async () => {
    const desired = owned()
    claims.set(desired.uuid, { hostId: 'other', generation: 5, state: 'running' })
    await expect(after(agent.apply(desired))).rejects.toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining('host other has it in generation 5'),
    })
    expect(startsOf(desired)).toBe(0)
    expect(guard.arms.size).toBe(0)
  })

  test('is refused where nothing guards, and for another boot', async () => {
    await expect(agent.apply(owned({ ownership: ownershipOf(randomUUID()) })).result).rejects.toThrow(
      /given to boot/,
    )
    await agent.stop()
    host.guard = null
    agent = await host.startAgent()
    await expect(agent.apply(owned()).result).rejects.toThrow(/VPE_AGENT_GUARD_SOCKET/)
    expect((await agent.ha.report()).guardFault).toContain('this host has no guard')
    expect(host.hypervisor.calls.filter((call) => call.startsWith('start'))).toEqual([])
  })

  test('that crashes is brought back by way of its claim, thrice, and then given up', async () => {
    const desired = owned()
    await after(agent.apply(desired))
    for (let times = 1; times <= 3; times++) {
      guard.calls.length = 0
      host.hypervisor.goOff(desired.uuid, 'crashed')
      await until('it runs again', async () => startsOf(desired) === 1 + times && isRunning(desired))
      expect([...new Set(guard.calls)]).toEqual(['check 1', 'arm 1'])
    }
    expect(await reportFrom(agent, desired.uuid)).toMatchObject({ restarts: 3, fault: '' })
    host.hypervisor.goOff(desired.uuid, 'guest-shutdown')
    await until('it is given up', async () => (await phaseOf(desired)) === 'given-up')
    expect(await reportFrom(agent, desired.uuid)).toMatchObject({ power: 'off', fault: '' })
    await expect(after(agent.apply(desired))).rejects.toThrow(/powered itself off; it went off again/)

    // A new wish is a new beginning.
    await after(agent.apply({ ...desired, generation: 2 }))
    expect(await phaseOf(desired)).toBe('running')
  })

  test('that is wanted off is let go of before that is reported, and not started by that ownership again', async () => {
    const desired = owned()
    await after(agent.apply(desired))
    guard.calls.length = 0
    const off = { ...desired, generation: 2, power: 'off' as const }
    expect(await after(agent.apply(off))).toMatchObject({ power: 'off', stopCause: 'requested' })
    expect(guard.calls).toEqual(['release 1', 'disarm 1'])
    expect(guard.arms.size).toBe(0)
    expect(claims.get(desired.uuid)?.state).toBe('released')
    expect(await phaseOf(desired)).toBe('closed')
    await expect(after(agent.apply({ ...desired, generation: 3 }))).rejects.toMatchObject({
      code: 'STALE_GENERATION',
    })
    const again = owned({ uuid: desired.uuid, generation: 4 })
    expect(await after(agent.apply(again))).toMatchObject({ power: 'on' })
    expect(claims.get(desired.uuid)).toMatchObject({ generation: 4, state: 'running' })
  })

  test('is rebooted within its ownership, which costs it no restart', async () => {
    const desired = owned()
    await after(agent.apply(desired))
    guard.calls.length = 0
    const reboot = { ...desired, generation: 2, rebootGeneration: 2, rebootKind: 'hard' as const }
    expect(await after(agent.apply(reboot))).toMatchObject({ power: 'on', restarts: 0 })
    expect(startsOf(desired)).toBe(2)
    expect(guard.calls).toEqual(['check 1', 'arm 1'])
  })

  test('that runs already is taken into ownership as it runs, and into the next', async () => {
    const desired = desiredInstance({ ha: true })
    await after(agent.apply(desired))
    await after(agent.apply({ ...desired, generation: 2, ownership: ownershipOf(host.bootId, 2) }))
    expect([...new Set(guard.calls)]).toEqual(['arm 2 running', 'take 2'])
    await after(agent.apply({ ...desired, generation: 3, ownership: ownershipOf(host.bootId, 3) }))
    expect(guard.arms.get(desired.uuid)?.generation).toBe(3)
    expect(claims.get(desired.uuid)).toMatchObject({ generation: 3 })
    expect(startsOf(desired)).toBe(1)
    expect(await phaseOf(desired)).toBe('running')
  })

  test('that is removed, or leaves, is let go of', async () => {
    const [removed, left] = [owned(), owned()]
    for (const desired of [removed, left]) await after(agent.apply(desired))
    await after(agent.remove({ uuid: removed.uuid, generation: 2, diskPool: removed.diskPool }))
    await after(agent.release({ uuid: left.uuid, generation: 2, stopGraceMs: 1_000 }))
    expect(guard.arms.size).toBe(0)
    expect([...claims.values()].map(({ state }) => state)).toEqual(['released', 'released'])
  })

  test('that its guard has ended is closed, and not brought back', async () => {
    const desired = owned()
    await after(agent.apply(desired))
    guard.fence(desired.uuid, 'lease-expired')
    await until('it is closed', async () => (await phaseOf(desired)) === 'closed')
    await host.clock.advance(60_000)
    expect(startsOf(desired)).toBe(1)
  })

  test('whose locks the storage has dropped starts again', async () => {
    const desired = owned()
    await after(agent.apply(desired))
    guard.fence(desired.uuid, 'locks-lost')
    await until('it runs again', async () => startsOf(desired) === 2 && isRunning(desired))
  })

  test('waits for a guard that is away, and comes back with it', async () => {
    const desired = owned()
    await after(agent.apply(desired))
    guard.isAway = true
    host.hypervisor.goOff(desired.uuid, 'crashed')
    await host.clock.advance(20_000)
    expect(startsOf(desired)).toBe(1)
    expect((await agent.ha.report()).guardFault).toContain('does not answer')
    guard.isAway = false
    await until('it runs again', async () => startsOf(desired) === 2 && isRunning(desired))
  })
})

function ownershipOf(bootId: string, generation = 1) {
  return { generation, bootId, pools: [pool] }
}

describe('the next agent', () => {
  async function restart(): Promise<void> {
    await agent.stop()
    agent = await host.startAgent()
  }

  test('has the guests of the last as they run, and keeps them on', async () => {
    const desired = owned()
    await after(agent.apply(desired))
    await restart()
    await until('it is taken up', () => isRunning(desired))
    expect(startsOf(desired)).toBe(1)
    host.hypervisor.goOff(desired.uuid, 'crashed')
    await until('it runs again', async () => startsOf(desired) === 2 && isRunning(desired))
  })

  test('brings back what went off meanwhile, and finishes what was begun to be let go of', async () => {
    const [crashed, stopped] = [owned(), owned()]
    for (const desired of [crashed, stopped]) await after(agent.apply(desired))
    const off = agent.apply({ ...stopped, generation: 2, power: 'off' })
    off.result.catch(() => {})
    guard.isAway = true
    await host.clock.advance(2_000)
    await agent.stop()
    host.hypervisor.goOffSilently(crashed.uuid, 'crashed')
    guard.isAway = false
    agent = await host.startAgent()
    await until('it runs again', async () => startsOf(crashed) === 2 && isRunning(crashed))
    await after(agent.apply({ ...stopped, generation: 2, power: 'off' }))
    expect([...guard.arms.keys()]).toEqual([crashed.uuid])
    expect(startsOf(stopped)).toBe(1)
  })

  test('starts nothing after a start of the host', async () => {
    const [guarded, unguarded] = [owned(), owned({}, [])]
    for (const desired of [guarded, unguarded]) await after(agent.apply(desired))
    await agent.stop()
    for (const { uuid } of [guarded, unguarded]) host.hypervisor.goOffSilently(uuid, 'unknown')
    guard.arms.clear()
    host.bootId = randomUUID()
    agent = await host.startAgent()
    await host.clock.advance(60_000)
    expect([startsOf(guarded), startsOf(unguarded)]).toEqual([1, 1])
    expect((await agent.ha.report()).otherUuids).toEqual([guarded.uuid, unguarded.uuid].sort())
  })
})

describe('without pools to guard', () => {
  test('needs no guard, and keeps its fault when it is given up', async () => {
    await agent.stop()
    host.guard = null
    agent = await host.startAgent()
    const desired = owned({}, [])
    await after(agent.apply(desired))
    expect(await phaseOf(desired)).toBe('running')
    for (let times = 1; times <= 3; times++) {
      host.hypervisor.goOff(desired.uuid, 'crashed')
      await until('it runs again', async () => startsOf(desired) === 1 + times && isRunning(desired))
    }
    host.hypervisor.goOff(desired.uuid, 'crashed')
    await until('it has a fault', async () => (await reportFrom(agent, desired.uuid))?.fault !== '')
    expect(await reportFrom(agent, desired.uuid)).toMatchObject({
      fault: expect.stringContaining('stays off until it is started again by hand'),
    })
  })
})

describe('orders', () => {
  const order = (kind: 'release', desired: DesiredInstance) =>
    agent.ha.order({
      ...{ kind, epoch: 1, pools: [pool] },
      instance: { uuid: desired.uuid, generation: desired.ownership?.generation ?? 0 },
    })

  test('to release end the guest, and are remembered over a start of the agent', async () => {
    const desired = owned()
    await after(agent.apply(desired))
    await order('release', desired)
    await until('it is closed', async () => (await phaseOf(desired)) === 'closed')
    expect(guard.calls).toContain('end')
    expect(guard.arms.size).toBe(0)
    await agent.stop()
    agent = await host.startAgent()
    await expect(after(agent.apply({ ...desired, generation: 2 }))).rejects.toMatchObject({
      code: 'STALE_GENERATION',
    })
    expect(startsOf(desired)).toBe(1)
  })

  test('to settle end and undefine what another host has, and nothing else', async () => {
    const [mine, theirs, foreign] = [owned(), owned(), desiredInstance()]
    for (const desired of [mine, theirs, foreign]) await after(agent.apply(desired))
    const owner = (desired: DesiredInstance, generation: number, hostId: string) => ({
      ...{ uuid: desired.uuid, generation, hostId },
    })
    const records = [owner(mine, 1, host.hostId), owner(theirs, 2, 'other'), owner(foreign, 2, 'other')]
    const settleOnce = () => agent.ha.order({ kind: 'settle', epoch: 1, records })
    await settleOnce()
    await until('it is closed', async () => (await phaseOf(theirs)) === 'closed')
    await settleOnce()
    expect(await reportFrom(agent, theirs.uuid)).toBeUndefined()
    expect(await reportFrom(agent, foreign.uuid)).toBeUndefined()
    expect(await reportFrom(agent, mine.uuid)).toMatchObject({ power: 'on' })
  })

  test('for leases attach and detach', async () => {
    const lease = {
      path: '/pool',
      clusterUuid: randomUUID(),
      slot: 0,
      slots: 4,
      poolClass: PoolClass.ENFORCED,
      canUnmount: true,
    }
    await agent.ha.setLeases([{ ...lease, poolUuid: pool.pool }])
    expect([...guard.attached.keys()]).toEqual([pool.pool])
    await agent.ha.setLeases([])
    await until('it is given up', () => guard.attached.size === 0)
  })
})

describe('a guest that runs', () => {
  test('and is paused by an I/O error goes on when the guard says so, and not before', async () => {
    const desired = owned()
    await after(agent.apply(desired))
    host.hypervisor.standStill(desired.uuid, 'io-error')
    await until('the guard is told', () => guard.calls.includes('io-error'))
    await host.clock.advance(20_000)
    expect(await reportFrom(agent, desired.uuid)).toMatchObject({ power: 'paused', holdUp: 'claim-check' })
    expect(guard.calls.filter((call) => call === 'io-error')).toHaveLength(1)
    guard.change(desired.uuid, { mayResume: true })
    await until('it goes on', async () => (await reportFrom(agent, desired.uuid))?.power === 'on')
  })

  test('and is paused since a pool is full goes on when there is room, and the guard is not asked', async () => {
    const desired = owned()
    await after(agent.apply(desired))
    host.hypervisor.standStill(desired.uuid, 'full')
    await host.clock.advance(ROOM.everyMs / 2)
    expect(await reportFrom(agent, desired.uuid)).toMatchObject({ power: 'paused', holdUp: 'full-pool' })
    await host.clock.advance(ROOM.everyMs / 2)
    await until('it goes on', async () => (await reportFrom(agent, desired.uuid))?.power === 'on')
    expect(guard.calls).not.toContain('io-error')
  })

  test('has its network cut and restored', async () => {
    const desired = owned()
    await after(agent.apply(desired))
    const links = () => host.hypervisor.calls.filter((call) => call.startsWith('link'))
    guard.change(desired.uuid, { isNetworkCut: true })
    await until('it is cut', () => links().length === 1)
    guard.change(desired.uuid, { isNetworkCut: false })
    await until('it is restored', () => links().length === 2)
    expect(links()).toEqual([`link-down ${desired.uuid}`, `link-up ${desired.uuid}`])
  })

  test('is asked about its neighbours while its pool is stalled', async () => {
    guard.isStalled = true
    await until('the guard hears of them', () => guard.calls.includes('neighbours true'))
  })
})

test('a live migration is a hand-over of claims', async () => {
  const there = newHost('there')
  there.receive = {
    libvirtUri: 'qemu+fake://there/system',
    memoryUri: 'tcp://there',
    listenAddress: undefined,
  }
  host.hypervisor.peers.set('qemu+fake://there/system', there.hypervisor)
  const other = await there.startAgent()
  try {
    const desired = owned()
    await after(agent.apply(desired))
    there.files.disks.set(desired.uuid, desired.image.uuid)
    const moved = { ...desired, generation: 2, hasDisk: true, ownership: ownershipOf(there.bootId, 2) }
    const target = await other.prepareMigration(moved, { copies: [], postCopy: false })
    expect(await phaseOf(moved, other)).toBe('incoming')
    const limits = { bandwidthMibS: 0, downtimeMaxMs: 0, copyTargets: [], postCopy: false }
    const report = await after(agent.migrate({ uuid: desired.uuid, generation: 2, target, ...limits }))
    expect(report).toMatchObject({ departure: 'gone' })
    await until('the source has let go', async () => (await phaseOf(desired)) === 'closed')
    await until('the target has it', async () => {
      await there.clock.advance(1_000)
      return (await phaseOf(moved, other)) === 'running'
    })
    expect(claims.get(desired.uuid)).toEqual({ hostId: there.hostId, generation: 2, state: 'running' })
    expect(guard.arms.size).toBe(0)
    expect(guard.calls).toContain('forget')
    expect(guard.calls).not.toContain('release 1')
  } finally {
    await other.stop()
  }
})
