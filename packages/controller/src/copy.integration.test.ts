// Moves that take disks along, through the real protocol on both sides: who is asked for what, whose files are removed
// when, and what becomes of it where a host refuses, or is away. That disks are whole is proved with real ones (test/e2e).

import { VpeError } from '@vpe/core'
import { Departure, fromClientError, MigrationMode, OperationStatus, Power } from '@vpe/proto'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { change } from './store/tables.ts'
import { FakeAgent } from './testing/fake-agent.ts'
import { Harness, until } from './testing/harness.ts'

let a: FakeAgent
let b: FakeAgent
let harness: Harness
let uuid: string
let disk: string

beforeEach(async () => {
  a = await FakeAgent.start()
  b = await FakeAgent.start()
  harness = new Harness()
  await harness.start()
  await harness.furnish(a)
  await harness.client.createHost({ name: 'h2', address: b.address })
  const hosts = [a.hostId, b.hostId]
  await harness.client.createDiskPool({ name: 'own', kind: 'dir', path: '/own', shared: false, hosts })
  const pool = () => [...harness.store.diskPools.values()].find(({ name }) => name === 'own')
  await until('both have it', () => pool()?.hosts.every(({ state }) => state === 'ready') ?? false)
  a.peers = [b]
  b.peers = [a]
  for (const agent of [a, b]) agent.onPrepare = async () => {}
  const made = await harness.client.createDisk({
    name: 'data',
    sizeBytes: 1024 ** 3,
    diskPool: 'own',
    host: a.hostId,
  })
  disk = made.disk?.uuid ?? ''
  await harness.ended(made.operationUuid)
  const request = { name: 'vm1', flavor: 'tiny', image: 'demo', diskPool: 'own', diskUuids: [disk] }
  const { instance } = await harness.client.createInstance({ ...request, hostIds: [a.hostId] })
  uuid = instance?.uuid ?? ''
  await harness.atRest(uuid)
  await harness.client.updateInstance({ uuid, hostIds: { values: [] } })
  for (const name of [uuid, disk]) a.diskFiles.set(name, Buffer.from(`content of ${name}`))
})
afterEach(async () => {
  await harness[Symbol.asyncDispose]()
  a.stop()
  b.stop()
})

const record = () => harness.store.instances.get(uuid)
const migrate = (mode: MigrationMode = MigrationMode.UNSPECIFIED, copyDisks = true) =>
  harness.client.migrateInstance({ uuid, mode, host: 'h2', copyDisks })
const stop = async () => harness.ended((await harness.client.stopInstance({ uuid })).operationUuid)

async function expectOn(agent: FakeAgent, other: FakeAgent): Promise<void> {
  expect(await harness.atRest(uuid)).toMatchObject({ hostId: agent.hostId })
  await until('nothing too many is left', () => record()?.staleCopies.length === 0)
  expect([...agent.diskFiles.keys()].sort()).toEqual([uuid, disk].sort())
  expect([...other.diskFiles.keys()]).toEqual([])
  expect(harness.store.disks.get(disk)).toMatchObject({ hostId: agent.hostId })
}

async function refusal(call: Promise<unknown>): Promise<string> {
  return call.then(
    () => 'none',
    (cause: unknown) => fromClientError(cause).message,
  )
}

test('without the wish it stays, and is told of it', async () => {
  expect(await refusal(migrate(MigrationMode.LIVE, false))).toContain('give "copy_disks": true')
})

test('its disks go along as it runs, and the old ones go once it is there', async () => {
  const removed: string[] = []
  a.onRemoveCopies = async () => {
    removed.push(b.domains.get(uuid)?.report.power === Power.ON ? 'it runs there' : 'too early')
  }
  const { operationUuid } = await migrate()
  expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
  await expectOn(b, a)
  expect(removed).toEqual(['it runs there'])
})

test('where it stays the half copies go, also when their host is away at first', async () => {
  a.onMigrate = async () => {
    b.stop()
    return Departure.RUNNING
  }
  const { operationUuid } = await migrate()
  expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.FAILED })
  await harness.atRest(uuid)
  expect(b.diskFiles.size).toBe(2)
  expect(await refusal(migrate())).toMatch(/not removed yet|NO_HOST|no host/i)
  await b.listen()
  await expectOn(a, b)
})

test('off, its files are passed on, and are as they were', async () => {
  await stop()
  const { operationUuid } = await migrate()
  expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
  await expectOn(b, a)
  expect(b.diskFiles.get(disk)?.toString()).toBe(`content of ${disk}`)
})

test('files that cannot be written there leave it where it was, as it was', async () => {
  await stop()
  b.onWriteDisk = async (name) => {
    if (name === disk) throw new VpeError('INVALID_ARGUMENT', 'no such pool')
  }
  const { operationUuid } = await migrate()
  expect(await harness.ended(operationUuid)).toMatchObject({
    status: OperationStatus.FAILED,
    fault: expect.stringContaining('no such pool'),
  })
  await expectOn(a, b)
  expect(a.diskFiles.get(uuid)?.toString()).toBe(`content of ${uuid}`)
})

test('deleted before the old files have gone, it goes with them', async () => {
  const held = Promise.withResolvers<void>()
  a.onRemoveCopies = () => held.promise
  const { operationUuid } = await migrate()
  await harness.ended(operationUuid)
  const gone = await harness.client.deleteInstance({ uuid })
  await until('it is being deleted', () => record()?.task === 'deleting')
  held.resolve()
  expect(await harness.ended(gone.operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
  expect([...a.diskFiles.keys()]).toEqual([])
})

test('hosts that see one folder copy nothing onto itself', async () => {
  const pool = [...harness.store.diskPools.values()].find(({ name }) => name === 'own')
  const marker = a.markers.get(pool?.uuid ?? '') ?? ''
  const hosts = (pool?.hosts ?? []).map((each) => ({ ...each, marker }))
  if (pool) await harness.store.commit([change.diskPool({ ...pool, hosts })])
  expect(await refusal(migrate())).toContain('see the folder of its pool')
})

test('disks with snapshots do not go as the guest runs, since those would stay', async () => {
  const made = await harness.client.createSnapshot({ instanceUuid: uuid, name: 'before' })
  await harness.ended(made.operationUuid)
  expect(await refusal(migrate())).toContain('snapshot(s) would stay behind')
})

test('a drain takes such instances along where that is asked for', async () => {
  const plain = await harness.client.drainHost({ uuid: a.hostId, parallel: 0 })
  expect(await harness.ended(plain.operationUuid)).toMatchObject({
    status: OperationStatus.FAILED,
    fault: expect.stringContaining('copy_disks'),
  })
  const { operationUuid } = await harness.client.drainHost({ uuid: a.hostId, copyDisks: true })
  expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
  await expectOn(b, a)
})

test('hosts try each other in both directions, and what does not work is a condition with a cure', async () => {
  const ports = 'TCP 16514 (libvirt) and 49152–49215 (memory)'
  const conditionOf = (agent: FakeAgent) =>
    harness.store.hosts.get(agent.hostId)?.conditions.find(({ type }) => type === 'PeersReachable')
  a.onTryPeer = () => ['tcp 10.0.0.2:49215 (nothing answers)']
  for (const agent of [a, b])
    agent.peerPort = { libvirtUri: 'qemu+tls://h/system', address: '10.0.0.2', port: 49_215, ports }
  const c = await FakeAgent.start()
  c.peerPort = a.peerPort
  await harness.client.createHost({ name: 'h3', address: c.address })
  const h1 = harness.store.hosts.get(a.hostId)?.name ?? ''
  await until('it is found', () => conditionOf(c)?.status === 'failed')
  expect(conditionOf(c)).toMatchObject({
    message: `no guest can be sent from ${h1}: tcp 10.0.0.2:49215 (nothing answers)`,
    cure: expect.stringContaining(`Open ${ports} between all hosts, in both directions`),
  })
  c.stop()
})
