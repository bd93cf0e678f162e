// Moves, through the real protocol on both sides, between two hosts of which either may be silent, and with
// the controller killed in the middle. Whatever happens, no guest is on both.

import { randomUUID } from 'node:crypto'
import {
  fromClientError,
  type Instance,
  type InstanceSpec,
  InstanceStatus,
  InstanceTask,
  MigrationMode,
  OperationStatus,
  Power,
} from '@vpe/proto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { FakeAgent } from './testing/fake-agent.ts'
import { Harness, until } from './testing/harness.ts'

let a: FakeAgent
let b: FakeAgent
let harness: Harness
let uuid: string

beforeEach(async () => {
  a = await FakeAgent.start()
  b = await FakeAgent.start()
  b.markers = a.markers
  harness = new Harness()
  await harness.start()
  await harness.furnish(a)
  await harness.client.createHost({ name: 'h2', address: b.address })
  const hosts = [a.hostId, b.hostId]
  await harness.client.createDiskPool({ name: 'shared', kind: 'dir', path: '/shared', shared: true, hosts })
  uuid = await create('vm1')
  for (const [agent, other] of [
    [a, b],
    [b, a],
  ] as const) {
    agent.onApply = async (spec) => expect(other.domains.has(spec.uuid), 'the other host has it').toBe(false)
  }
})
afterEach(async () => {
  await harness[Symbol.asyncDispose]()
  a.stop()
  b.stop()
})

async function create(name: string, shareStorage = true): Promise<string> {
  const diskPool = shareStorage ? 'shared' : 'local'
  const request = { name, flavor: 'tiny', image: 'demo', hostIds: [a.hostId], shareStorage, diskPool }
  const { instance } = await harness.client.createInstance(request)
  await harness.atRest(instance?.uuid ?? '')
  return instance?.uuid ?? ''
}

const move = (...agents: readonly FakeAgent[]) =>
  harness.client.updateInstance({ uuid, hostIds: { values: agents.map(({ hostId }) => hostId) } })

/** Off in between, also where its guest could be handed over as it runs. */
async function moveCold(to: FakeAgent) {
  await harness.client.updateInstance({ uuid, hostIds: { values: [a.hostId, b.hostId] } })
  return harness.client.migrateInstance({ uuid, host: to.hostId, mode: MigrationMode.COLD })
}

async function ends(
  operationUuid: string,
  status: OperationStatus = OperationStatus.SUCCEEDED,
): Promise<void> {
  expect(await harness.ended(operationUuid)).toMatchObject({ status })
}

async function refusal(call: Promise<unknown>): Promise<{ code: string; message: string }> {
  const { code, message } = await call.then(
    () => ({ code: 'none', message: '' }),
    (cause: unknown) => fromClientError(cause),
  )
  return { code, message }
}

/** Has a hook say that it was reached, and wait until it is told to go on. */
function hold(agent: FakeAgent, hook: 'onRelease' | 'onReleased') {
  const reached = Promise.withResolvers<void>()
  const goOn = Promise.withResolvers<void>()
  agent[hook] = () => {
    reached.resolve()
    return goOn.promise
  }
  return { reached: reached.promise, goOn: goOn.resolve }
}

const has = (agent: FakeAgent) => agent.domains.get(uuid)?.report.power === Power.ON

function expectOnlyOn(agent: FakeAgent, instance: Instance, hostIds = [agent.hostId]): void {
  expect([has(a), has(b)]).toEqual([agent === a, agent === b])
  expect(instance).toMatchObject({
    hostId: agent.hostId,
    status: InstanceStatus.ACTIVE,
    task: InstanceTask.UNSPECIFIED,
    hostIds,
  })
}

describe('an instance whose host is no longer allowed', () => {
  test('goes to one that is, off in between, with its disk and a placement that says why', async () => {
    const held = hold(a, 'onRelease')
    const { instance, operationUuid } = await move(b)
    expect(instance).toMatchObject({ hostId: b.hostId, task: InstanceTask.MIGRATING, hostIds: [b.hostId] })
    await held.reached
    expect(await refusal(harness.client.deleteHost({ uuid: a.hostId }))).toMatchObject({ code: 'IN_USE' })
    expect(await refusal(harness.client.deleteHost({ uuid: b.hostId }))).toMatchObject({ code: 'IN_USE' })
    held.goOn()
    await ends(operationUuid)
    expectOnlyOn(b, await harness.instance(uuid))
    expect(b.domains.get(uuid)?.spec).toMatchObject({ hasDisk: true, generation: 3 })
    const { operation } = await harness.client.getOperation({ uuid: operationUuid })
    const { placement } = await harness.client.getPlacement({ uuid: operation?.placementUuid ?? '' })
    expect(placement).toMatchObject({ hostId: b.hostId, instanceUuid: uuid })
    expect(placement?.hosts.map(({ passed, rule }) => [passed, rule])).toContainEqual([false, 'host-ids'])
    const { usage } = harness.store
    expect([usage.ofHost(a.hostId), usage.ofHost(b.hostId)]).toMatchObject([
      { instances: 0, memoryMib: 0 },
      { instances: 1, memoryMib: 256 },
    ])
  })

  test('stays where it is when the list is empty or has its host', async () => {
    for (const hosts of [[], [a, b], [a]]) {
      await ends((await move(...hosts)).operationUuid)
      expect(await harness.instance(uuid)).toMatchObject({ hostId: a.hostId, generation: 1 })
    }
  })

  test('that is off rests there off', async () => {
    await ends((await harness.client.stopInstance({ uuid })).operationUuid)
    await ends((await move(b)).operationUuid)
    expect(await harness.instance(uuid)).toMatchObject({ hostId: b.hostId, status: InstanceStatus.SHUTOFF })
    expect([a.domains.has(uuid), b.domains.get(uuid)?.report.power]).toEqual([false, Power.OFF])
  })

  test('takes data disks along, unless one lies where it cannot follow', async () => {
    const disk = async (name: string, diskPool: string) => {
      const host = diskPool === 'local' ? 'h1' : ''
      const created = await harness.client.createDisk({ name, sizeBytes: 1e9, diskPool, host })
      await ends(created.operationUuid)
      await ends((await harness.client.attachDisk({ instanceUuid: uuid, disk: name })).operationUuid)
      return created.disk?.uuid ?? ''
    }
    const shared = await disk('vol1', 'shared')
    const local = await disk('vol2', 'local')
    expect(await refusal(move(b))).toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining(
        'disk vol2 lies in a disk pool that is local to host h1; detach that disk first',
      ),
    })
    await ends((await harness.client.detachDisk({ instanceUuid: uuid, diskUuid: local })).operationUuid)
    await ends((await move(b)).operationUuid)
    expectOnlyOn(b, await harness.instance(uuid))
    expect(b.domains.get(uuid)?.spec.disks.map(({ disk }) => disk?.uuid)).toEqual([shared])
  })

  test('is refused where it cannot: local storage, another image besides, no host that fits', async () => {
    const local = await create('local', false)
    const values = [b.hostId]
    const { code, message } = await refusal(
      harness.client.updateInstance({ uuid: local, hostIds: { values } }),
    )
    expect([code, message]).toEqual(['CONFLICT', expect.stringContaining('disk pool local, which is local')])
    await harness.client.createImage({ name: 'other', url: 'file:///other.qcow2' })
    await until('it is active', () =>
      [...harness.store.images.values()].every((it) => it.status === 'active'),
    )
    const both = harness.client.updateInstance({ uuid, hostIds: { values }, image: 'other' })
    expect(await refusal(both)).toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining('change one, wait until that has ended, then change the other'),
    })
    const small = await FakeAgent.start({ cpus: 8, memoryMib: 700 })
    const { host } = await harness.client.createHost({ name: 'h3', address: small.address })
    const nowhere = harness.client.updateInstance({ uuid, hostIds: { values: [host?.uuid ?? ''] } })
    expect(await refusal(nowhere)).toMatchObject({
      code: 'NO_HOST_FITS',
      message: expect.stringContaining('no host fits: 2 of 3 are not among the hostIDs'),
    })
    small.stop()
    expect(await harness.instance(uuid)).toMatchObject({ hostId: a.hostId, task: InstanceTask.UNSPECIFIED })
  })
})

describe('a move under way', () => {
  test('waits for a host that is silent, says so, and goes on when that is back', async () => {
    a.stop()
    const { operationUuid } = await moveCold(b)
    await until('the step says so', async () => {
      const { operation } = await harness.client.getOperation({ uuid: operationUuid })
      return operation?.step.includes('h1 has to let go of it first') ?? false
    })
    expect(has(b)).toBe(false)
    await a.listen()
    await ends(operationUuid)
    expectOnlyOn(b, await harness.instance(uuid), [a.hostId, b.hostId])
  })

  test.each(['before the old host has let go', 'before its answer has come'])(
    'goes on when the controller dies %s',
    async (when) => {
      const held = hold(a, when.includes('answer') ? 'onReleased' : 'onRelease')
      const { operationUuid } = await move(b)
      await held.reached
      await harness.stop()
      held.goOn()
      await harness.start()
      await ends(operationUuid)
      expectOnlyOn(b, await harness.instance(uuid))
    },
  )

  test('goes on when the controller dies between release and apply', async () => {
    const applied = Promise.withResolvers<void>()
    const specs: InstanceSpec[] = []
    const { onApply } = b
    b.onApply = (_spec, signal) => {
      applied.resolve()
      return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
    }
    const { operationUuid } = await move(b)
    await applied.promise
    await harness.stop()
    b.onApply = async (spec, signal) => {
      specs.push(spec)
      await onApply(spec, signal)
    }
    await harness.start()
    expect(harness.store.instances.get(uuid)).toMatchObject({ task: 'migrating', leavingHostId: null })
    await ends(operationUuid)
    expect(specs.length).toBeGreaterThan(0)
    expectOnlyOn(b, await harness.instance(uuid))
  })

  test('is not disturbed by what either host reports', async () => {
    const held = hold(a, 'onRelease')
    const { operationUuid } = await move(b)
    await held.reached
    a.disturb(uuid, { power: Power.OFF, fault: 'given up' })
    await harness.stop()
    // Told by an inventory, and written down after everything else that it says was judged.
    for (const agent of [a, b]) agent.bootId = randomUUID()
    await harness.start()
    await until('both inventories were read', () =>
      [a, b].every((agent) => harness.store.hosts.get(agent.hostId)?.facts.bootId === agent.bootId),
    )
    expect(harness.store.instances.get(uuid)).toMatchObject({ task: 'migrating', leavingHostId: a.hostId })
    const { hosts } = await harness.client.listHosts({})
    expect(hosts.flatMap(({ unknownInstances }) => unknownInstances)).toEqual([])
    held.goOn()
    await ends(operationUuid)
    expectOnlyOn(b, await harness.instance(uuid))
  })

  test('ends with a deletion: released there, removed here', async () => {
    const held = hold(a, 'onRelease')
    const { operationUuid } = await move(b)
    await held.reached
    const removed: string[] = []
    b.onRemove = async (of) => {
      expect(a.domains.has(of)).toBe(false)
      removed.push(of)
    }
    const deletion = await harness.client.deleteInstance({ uuid })
    await ends(operationUuid, OperationStatus.CANCELLED)
    expect(removed).toEqual([])
    held.goOn()
    await ends(deletion.operationUuid)
    expect(removed).toEqual([uuid])
    expect([a.domains.size, b.domains.size]).toEqual([0, 0])
  })

  test('can be stopped, and rests off on the new host', async () => {
    const held = hold(a, 'onRelease')
    await move(b)
    await held.reached
    const { operationUuid } = await harness.client.stopInstance({ uuid })
    held.goOn()
    await ends(operationUuid)
    expect(await harness.instance(uuid)).toMatchObject({ hostId: b.hostId, status: InstanceStatus.SHUTOFF })
    expect([a.domains.has(uuid), b.starts]).toEqual([false, []])
  })

  test('can be taken back, also while the host that it leaves is silent', async () => {
    a.stop()
    await moveCold(b)
    const { operationUuid, instance } = await moveCold(a)
    expect(instance).toMatchObject({ hostId: a.hostId, task: InstanceTask.MIGRATING })
    await a.listen()
    await ends(operationUuid)
    expectOnlyOn(a, await harness.instance(uuid), [a.hostId, b.hostId])
    expect(b.starts).toEqual([])
  })

  test('there and back again', async () => {
    await ends((await move(b)).operationUuid)
    await ends((await move(a)).operationUuid)
    expectOnlyOn(a, await harness.instance(uuid))
    expect([a.starts, b.starts]).toEqual([[uuid, uuid], [uuid]])
  })
})

test('a host that an instance leaves is needed for its deletion, as the one that it goes to', async () => {
  a.stop()
  await until('it is down', () => harness.store.hosts.get(a.hostId)?.state === 'down')
  await move(b)
  expect(await refusal(harness.client.deleteInstance({ uuid, needsHost: true }))).toMatchObject({
    code: 'HOST_UNREACHABLE',
    message: expect.stringContaining('host h1'),
  })
})
