// Live migrations, through the real protocol on both sides: what either host may say at their end, whose word is
// lost, and what users want meanwhile. That guests go on is proved with real ones (packages/agent, test/e2e).

import { VpeError } from '@vpe/core'
import {
  Departure,
  fromClientError,
  InstanceStatus,
  InstanceTask,
  MigrationMode,
  OperationStatus,
  Power,
} from '@vpe/proto'
import { afterEach, beforeEach, expect, test } from 'vitest'
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
  a.peers = [b]
  b.onPrepare = async () => {}
  const request = { name: 'vm1', flavor: 'tiny', image: 'demo', diskPool: 'shared' }
  const { instance } = await harness.client.createInstance({ ...request, hostIds: [a.hostId] })
  uuid = instance?.uuid ?? ''
  await harness.atRest(uuid)
  await harness.client.updateInstance({ uuid, hostIds: { values: [] } })
})
afterEach(async () => {
  await harness[Symbol.asyncDispose]()
  a.stop()
  b.stop()
})

const migrate = (mode: MigrationMode = MigrationMode.UNSPECIFIED, host = '') =>
  harness.client.migrateInstance({ uuid, mode, host, bandwidthMibS: 0, downtimeMs: 0 })
const operation = async (id: string) => (await harness.client.getOperation({ uuid: id })).operation

async function refusal(call: Promise<unknown>): Promise<{ code: string; message: string }> {
  const { code, message } = await call.then(
    () => ({ code: 'none', message: '' }),
    (cause: unknown) => fromClientError(cause),
  )
  return { code, message }
}

/** Has the old host copy until it is told what has come of it. */
function hold() {
  const reached = Promise.withResolvers<void>()
  const outcome = Promise.withResolvers<Departure>()
  a.onMigrate = () => {
    reached.resolve()
    return outcome.promise
  }
  return { reached: reached.promise, end: outcome.resolve }
}

async function expectOn(agent: FakeAgent, starts: number): Promise<void> {
  expect(await harness.atRest(uuid)).toMatchObject({ hostId: agent.hostId, status: InstanceStatus.ACTIVE })
  const running = [a, b].filter((each) => each.domains.get(uuid)?.report.power === Power.ON)
  expect(running).toEqual([agent])
  expect(a.starts.length + b.starts.length).toBe(starts)
}

test('its guest goes on there, started once, and the operation says how far it is', async () => {
  const held = hold()
  const { instance, operationUuid } = await migrate()
  expect(instance).toMatchObject({ hostId: b.hostId, task: InstanceTask.MIGRATING })
  await held.reached
  await until('the step tells', async () => (await operation(operationUuid))?.step.includes('61 %') ?? false)
  held.end(Departure.GONE)
  expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
  await expectOn(b, 1)
  expect(harness.store.instances.get(uuid)?.migration).toMatchObject({ end: 'moved', downtimeMs: 40 })
})

test('one that is refused stays, active, with the reason; one whose hosts change goes off in between', async () => {
  b.onPrepare = async () => {
    throw new Error('no memory is left here')
  }
  const { operationUuid } = await migrate(MigrationMode.LIVE, 'h2')
  const ended = await harness.ended(operationUuid)
  expect(ended).toMatchObject({ status: OperationStatus.FAILED, fault: expect.stringContaining('host h2') })
  await expectOn(a, 1)
  const moved = await harness.client.updateInstance({ uuid, hostIds: { values: [b.hostId] } })
  expect(await harness.ended(moved.operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
  await expectOn(b, 2)
})

test('one that breaks on the way stays, with the hosts that it had', async () => {
  a.onMigrate = async () => Departure.RUNNING
  const { operationUuid } = await harness.client.updateInstance({ uuid, hostIds: { values: [b.hostId] } })
  const ended = await harness.ended(operationUuid)
  expect(ended).toMatchObject({
    status: OperationStatus.FAILED,
    fault: expect.stringContaining('link broke'),
  })
  await expectOn(a, 1)
  expect(await harness.instance(uuid)).toMatchObject({ hostIds: [] })
})

test.each(['has it', 'has nothing'])(
  'where the old host cannot know, the new one says that it %s',
  async (what) => {
    const hasIt = what === 'has it'
    a.onMigrate = async () => Departure.STANDING
    a.onEndMigration = async () => {
      if (hasIt) b.receive(uuid)
      return Departure.STANDING
    }
    const { operationUuid } = await migrate()
    await harness.ended(operationUuid)
    await expectOn(hasIt ? b : a, 1)
    expect(a.domains.has(uuid)).toBe(!hasIt)
  },
)

test('a controller that dies on the way asks again, and hears what has come of it', async () => {
  const answering = Promise.withResolvers<void>()
  const lost = Promise.withResolvers<void>()
  a.onMigrated = () => {
    answering.resolve()
    return lost.promise
  }
  const { operationUuid } = await migrate()
  await answering.promise
  await harness.stop()
  lost.resolve()
  await harness.start()
  expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
  await expectOn(b, 1)
})

test.each([
  ['all of it is there', Departure.GONE, 'moved'],
  ['it broke at its end', Departure.STANDING, 'moved'],
  ['nothing came of it', Departure.RUNNING, 'moved off in between'],
] as const)(
  'refused when it is asked for again, the old host says whether it had begun: %s',
  async (_what, departure, expected) => {
    const answering = Promise.withResolvers<void>()
    const lost = Promise.withResolvers<void>()
    a.onMigrate = async () => Departure.STANDING
    a.onMigrated = () => {
      answering.resolve()
      return lost.promise
    }
    const { operationUuid } = await harness.client.updateInstance({ uuid, hostIds: { values: [b.hostId] } })
    await answering.promise
    await harness.stop()
    lost.resolve()
    if (departure !== Departure.RUNNING) b.receive(uuid)
    if (departure === Departure.GONE) a.domains.delete(uuid)
    a.onEndMigration = async () => departure
    b.onPrepare = async () => {
      throw new VpeError('CONFLICT', 'no memory is left here')
    }
    await harness.start()
    const isCold = expected !== 'moved'
    await harness.ended(operationUuid)
    await expectOn(b, isCold ? 2 : 1)
    expect(harness.store.instances.get(uuid)?.migration).toMatchObject({ mode: isCold ? 'cold' : 'live' })
  },
)

test('a host that does not answer is given up, and its guest runs on where it is', async () => {
  b.stop()
  const { operationUuid } = await migrate(MigrationMode.LIVE, 'h2')
  a.onEndMigration = async () => Departure.RUNNING
  await until('it is tried again', async () => (await operation(operationUuid))?.step.includes('h2') ?? false)
  const cancelled = await harness.client.cancelMigration({ uuid })
  expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.CANCELLED })
  expect(await harness.ended(cancelled.operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
  await expectOn(a, 1)
})

test('cancelled too late, it is there all the same, and the cancellation says so', async () => {
  const held = hold()
  const { operationUuid } = await migrate()
  await held.reached
  a.onEndMigration = async () => {
    held.end(Departure.GONE)
    await until('it has gone', () => !a.domains.has(uuid))
    return Departure.GONE
  }
  const cancelled = await harness.client.cancelMigration({ uuid })
  expect(await harness.ended(cancelled.operationUuid)).toMatchObject({
    status: OperationStatus.FAILED,
    fault: expect.stringContaining('already'),
  })
  expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
  await expectOn(b, 1)
})

test('what would begin it anew is refused meanwhile; a deletion takes over', async () => {
  const held = hold()
  const { operationUuid } = await migrate()
  await held.reached
  for (const call of [
    migrate(MigrationMode.LIVE, 'h1'),
    harness.client.updateInstance({ uuid, name: 'vm2' }),
    harness.client.updateInstance({ uuid, hostIds: { values: [a.hostId] } }),
  ]) {
    expect(await refusal(call)).toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining(`cancel it with DELETE /instances/${uuid}/migrate`),
    })
  }
  const deletion = await harness.client.deleteInstance({ uuid })
  expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.CANCELLED })
  expect(await harness.ended(deletion.operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
  held.end(Departure.RUNNING)
  expect([a.domains.size, b.domains.size]).toEqual([0, 0])
})

test('is refused where it cannot be: nothing to cancel, nowhere to go, off, not allowed, on local storage', async () => {
  expect(await refusal(harness.client.cancelMigration({ uuid }))).toMatchObject({ code: 'CONFLICT' })
  await harness.client.updateInstance({ uuid, hostIds: { values: [a.hostId] } })
  expect(await refusal(migrate())).toMatchObject({ code: 'NO_HOST_FITS' })
  expect(await refusal(migrate(MigrationMode.LIVE, 'h2'))).toMatchObject({ code: 'INVALID_ARGUMENT' })
  await harness.client.updateInstance({ uuid, hostIds: { values: [] } })
  await harness.ended((await harness.client.stopInstance({ uuid })).operationUuid)
  expect(await refusal(migrate(MigrationMode.LIVE))).toMatchObject({ code: 'CONFLICT' })
  const request = { name: 'local', flavor: 'tiny', image: 'demo', diskPool: 'local', hostIds: [a.hostId] }
  const { instance } = await harness.client.createInstance(request)
  const local = instance?.uuid ?? ''
  await harness.atRest(local)
  const call = harness.client.migrateInstance({ uuid: local, host: 'h2' })
  expect(await refusal(call)).toMatchObject({
    code: 'CONFLICT',
    message: expect.stringContaining('its disks lie in local pool local of host h1'),
  })
})
