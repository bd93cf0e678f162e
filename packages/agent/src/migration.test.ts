// What an agent makes of orders to hand a guest over, over the fake hypervisor: refusals, and who takes over.

import { incomingMark } from '@vpe/core'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Agent } from './agent.ts'
import { definitionXml } from './definition.ts'
import { describeProgress } from './migration.ts'
import { desiredInstance, FakeHost, reportFrom } from './testing/fake-host.ts'
import { settle } from './testing/manual-clock.ts'

const there = new FakeHost()
const PLAIN = { bandwidthMibS: 0, downtimeMaxMs: 0, copyTargets: [], postCopy: false }
let here: FakeHost
let agent: Agent

beforeEach(async () => {
  here = new FakeHost()
  here.hypervisor.peers.set('qemu+fake://there/system', there.hypervisor)
  agent = await here.startAgent()
})
afterEach(() => agent.stop())

async function running() {
  const desired = desiredInstance({ ha: true })
  await agent.apply(desired).result
  const settings = {
    platform: { domainType: 'qemu', arch: 'x86_64', machine: 'q35', cpu: 'maximum' },
    ...{
      consoleDir: '/there',
      bridge: undefined,
      migration: { receive: undefined, tls: false, ports: { from: 49_152, to: 49_215 } },
    },
  } as const
  const mark = incomingMark({ ...desired, generation: 2 }, there, false)
  const target = {
    ...{ libvirtUri: 'qemu+fake://there/system', memoryUri: 'tcp://there', listenAddress: undefined },
    definitionXml: definitionXml(mark, settings),
  }
  const order = { uuid: desired.uuid, generation: 2, target, ...PLAIN }
  return { desired, order }
}

/** Has the copying go on until it is told otherwise. */
function hold() {
  const reached = Promise.withResolvers<void>()
  const goOn = Promise.withResolvers<void>()
  here.hypervisor.knobs.beforeSwitch = () => {
    reached.resolve()
    return goOn.promise
  }
  return { reached: reached.promise, goOn }
}

test('hands over once, says it again, and makes nothing of it anew', async () => {
  const { desired, order } = await running()
  const report = await agent.migrate(order).result
  expect(report).toMatchObject({ departure: 'gone', downtimeMs: 40 })
  expect(await agent.migrate(order).result).toEqual(report)
  expect(await there.hypervisor.findDomain(desired.uuid)).toMatchObject({ guest: { power: 'on' } })
  expect(() => agent.apply(desired)).toThrow(/has left this host/)
  expect(await reportFrom(agent, desired.uuid)).toBeUndefined()
})

test('what is refused leaves the guest as it was, and its mark', async () => {
  const { desired, order } = await running()
  const nowhere = { ...order, target: { ...order.target, libvirtUri: 'qemu+fake://nowhere/system' } }
  expect(await agent.migrate(nowhere).result).toMatchObject({ departure: 'running', isRefused: true })
  expect(here.hypervisor.calls).not.toContain(`migrate ${desired.uuid}`)
  expect(await reportFrom(agent, desired.uuid)).toMatchObject({ power: 'on', generation: 1 })
})

test('what breaks leaves the guest, wanted on again', async () => {
  const { desired, order } = await running()
  here.hypervisor.knobs.failures.push({ call: 'migrate', words: 'the link broke' })
  expect(await agent.migrate(order).result).toMatchObject({
    departure: 'running',
    isRefused: false,
    fault: expect.stringContaining('the link broke'),
  })
  expect((await here.hypervisor.findDomain(desired.uuid))?.markXml).toContain('power="on"')
})

test.each(['end', 'release'] as const)('to %s it ends the copying first', async (what) => {
  const { desired, order } = await running()
  const held = hold()
  const migrating = agent.migrate(order).result
  migrating.catch(() => {})
  await held.reached
  const { uuid } = desired
  if (what === 'end') {
    expect(await agent.endMigration(uuid, 3).result).toMatchObject({ departure: 'running' })
    expect(await agent.migrate(order).result).toMatchObject({ departure: 'running' })
  } else {
    here.hypervisor.knobs.beforeSwitch = async () => {}
    await agent.release({ uuid, generation: 3, stopGraceMs: 1_000 }).result
    expect(await here.hypervisor.findDomain(uuid)).toBeNull()
  }
  await expect(migrating).rejects.toMatchObject({ code: 'SUPERSEDED' })
  expect(await there.hypervisor.findDomain(uuid)).toBeNull()
})

test.each(['apply', 'release', 'remove'] as const)(
  'to %s it ends what an agent before it has begun, too',
  async (what) => {
    const { desired, order } = await running()
    const held = hold()
    const { uuid } = desired
    const begun = here.hypervisor.migrateDomain(uuid, order.target)
    begun.catch(() => {})
    await held.reached
    const orders = {
      apply: () => agent.apply({ ...desired, generation: 3 }).result,
      release: () => agent.release({ uuid, generation: 3, stopGraceMs: 1_000 }).result,
      remove: () => agent.remove({ uuid, generation: 3, diskPool: desired.diskPool }).result,
    }
    const done = orders[what]()
    await expect(begun).rejects.toThrow('cancelled')
    await settle()
    await here.clock.advance(1_000)
    await done
    const domain = await here.hypervisor.findDomain(uuid)
    expect(domain?.guest ?? null).toEqual(what === 'apply' ? { power: 'on' } : null)
    expect(await there.hypervisor.findDomain(uuid)).toBeNull()
  },
)

test.each([
  ['stays as it was', 'off', null],
  ['runs again by now', 'on', 'CONFLICT'],
  ['is newer by now', 'off', 'CONFLICT'],
] as const)('what an earlier stay has left, and %s, is undefined or not', async (_what, power, code) => {
  const host = new FakeHost()
  host.receive = { libvirtUri: 'qemu+fake://here/system', memoryUri: 'tcp://here', listenAddress: undefined }
  const agent = await host.startAgent()
  const desired = desiredInstance({ power: 'off' })
  await agent.apply(desired).result
  host.files.beforeCall = async (operation) => {
    if (operation === 'find-system-disk' && code)
      await agent.apply({ ...desired, generation: 5, power }).result
  }
  const prepared = agent.prepareMigration(
    {
      ...desired,
      generation: 5,
      power: 'on',
      memoryMib: 1,
      hasDisk: true,
    },
    { copies: [], postCopy: false },
  )
  if (code) await expect(prepared).rejects.toMatchObject({ code })
  else await prepared
  const left = await host.hypervisor.findDomain(desired.uuid)
  expect(left?.guest.power ?? null).toBe(code ? power : null)
  await agent.stop()
})

test('progress is told in words', () => {
  const mib = 1024 ** 2
  const seen = {
    what: 'memory',
    passes: 1,
    totalBytes: 100 * mib,
    remainingBytes: 39 * mib,
    bytesPerSecond: 118 * mib,
  } as const
  expect(describeProgress(seen)).toBe('copied 61 %, 118 MiB/s, 39 MiB remain')
  expect(describeProgress({ ...seen, what: 'disks' })).toBe('copied disks 61 %, 118 MiB/s, 39 MiB remain')
  expect(describeProgress({ ...seen, totalBytes: 0, remainingBytes: 0 })).toContain('copied 0 %')
})
