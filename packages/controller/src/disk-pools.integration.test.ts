// Disk pools of several hosts, over real gRPC and SQLite, with pretended agents.

import { randomUUID } from 'node:crypto'
import { VpeError } from '@vpe/core'
import { DiskPoolHostState, DiskStatus, ImageStatus, OperationStatus } from '@vpe/proto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { change } from './store/tables.ts'
import { FakeAgent } from './testing/fake-agent.ts'
import { Harness, refusal, until } from './testing/harness.ts'

const GIB = 1024 ** 3

let a: FakeAgent
let b: FakeAgent
let harness: Harness

beforeEach(async () => {
  a = await FakeAgent.start()
  b = await FakeAgent.start()
  // One folder, which both hosts see.
  b.markers = a.markers
  harness = new Harness()
  await harness.start()
  for (const [name, agent] of [['h1', a] as const, ['h2', b] as const])
    await harness.client.createHost({ name, address: agent.address })
  await harness.client.createFlavor({ name: 'tiny', vcpus: 1, memoryMib: 256, diskGib: 1 })
})
afterEach(async () => {
  await harness[Symbol.asyncDispose]()
  a.stop()
  b.stop()
})

const pool = async (uuid: string) => (await harness.client.getDiskPool({ uuid })).diskPool
const isReady = async (uuid: string) =>
  (await pool(uuid))?.hosts.every(({ state }) => state === DiskPoolHostState.READY) ?? false

async function createPool(name = 'nfs', more: Parameters<typeof harness.client.createDiskPool>[0] = {}) {
  const made = await harness.client.createDiskPool({
    name,
    kind: 'dir',
    path: `/${name}`,
    shared: true,
    ...more,
  })
  return made.diskPool?.uuid ?? ''
}

async function readyPool(name = 'nfs', more: Parameters<typeof harness.client.createDiskPool>[0] = {}) {
  const uuid = await createPool(name, more)
  await until('the pool is ready', () => isReady(uuid))
  return uuid
}

async function succeeded(call: Promise<{ operationUuid: string }>): Promise<void> {
  expect(await harness.ended((await call).operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
}

describe('a shared pool', () => {
  test('is marked by one host; another that does not see that is in error, and takes nothing', async () => {
    b.markers = new Map()
    const uuid = await createPool()
    await until(
      'both were asked',
      async () =>
        (await pool(uuid))?.hosts.every(({ state }) => state !== DiskPoolHostState.PENDING) ?? false,
    )
    const proposals = [...a.proposals, ...b.proposals].filter((marker) => marker !== '')
    expect(proposals).toHaveLength(1)
    expect(harness.store.diskPools.get(uuid)?.marker).toBe(proposals[0])
    const states = (await pool(uuid))?.hosts.map(({ state }) => state).sort()
    expect(states).toEqual([DiskPoolHostState.ERROR, DiskPoolHostState.READY])
    await succeeded(harness.client.createImage({ name: 'demo', url: 'file:///demo.qcow2' }))
    const lost = a.markers.has(uuid) ? 'h2' : 'h1'
    const wish = { name: 'vm', flavor: 'tiny', image: 'demo', hostIds: [lost] }
    expect(await refusal(harness.client.createInstance(wish))).toMatchObject({ code: 'NO_HOST_FITS' })
    expect(await refusal(harness.client.createInstance({ ...wish, shareStorage: true }))).toMatchObject({
      code: 'NO_HOST_FITS',
    })
    const { hostIds: _, ...anywhere } = wish
    await succeeded(harness.client.createInstance(anywhere))
  })

  test('holds what must be on shared storage, and a local one does not', async () => {
    const local = await readyPool('local', { shared: false })
    await succeeded(harness.client.createImage({ name: 'demo', url: 'file:///demo.qcow2' }))
    const wish = { flavor: 'tiny', image: 'demo', shareStorage: true }
    expect(await refusal(harness.client.createInstance({ name: 'vm1', ...wish }))).toMatchObject({
      code: 'NO_HOST_FITS',
      message: expect.stringContaining('no shared disk pool'),
    })
    const shared = await readyPool('nfs')
    const made = await harness.client.createInstance({ name: 'vm1', ...wish })
    expect(made.instance).toMatchObject({ diskPoolUuid: shared })
    const named = await harness.client.createInstance({
      name: 'vm2',
      flavor: 'tiny',
      image: 'demo',
      diskPool: local,
    })
    expect(named.instance).toMatchObject({ diskPoolUuid: local })
    const both = { name: 'vm3', ...wish, diskPool: local }
    expect(await refusal(harness.client.createInstance(both))).toMatchObject({
      code: expect.stringMatching(/NO_HOST_FITS|INVALID_ARGUMENT/),
    })
  })

  test('that did not work for a moment on a host is tried again there', async () => {
    b.onPool = async () => {
      b.onPool = async () => {}
      throw new VpeError('DISK_POOL_FAILED', 'it was busy')
    }
    const uuid = await createPool()
    const onB = async () => (await pool(uuid))?.hosts.find(({ hostId }) => hostId === b.hostId)
    await until('it fails', async () => (await onB())?.fault.includes('it was busy') ?? false)
    await until('it works', () => isReady(uuid))
    expect(await onB()).toMatchObject({ fault: '' })
  })

  test('has its work done by the next host when one does not answer', async () => {
    const uuid = await readyPool()
    const asked: string[] = []
    for (const [name, agent] of [['h1', a] as const, ['h2', b] as const]) {
      agent.onDisk = async () => {
        asked.push(name)
        if (asked.length === 1) throw new VpeError('UNAVAILABLE', 'the disk pool does not answer')
      }
      agent.onImport = async () => {
        asked.push(name)
        if (asked.length === 1) throw new VpeError('DISK_POOL_FAILED', 'it is not the pool')
      }
    }
    const disk = await harness.client.createDisk({ name: 'vol', sizeBytes: GIB, diskPool: 'nfs' })
    await succeeded(Promise.resolve(disk))
    expect(new Set(asked.slice(0, 2))).toEqual(new Set(['h1', 'h2']))
    asked.splice(0)
    const image = await harness.client.createImage({ name: 'demo', url: 'file:///a', diskPool: uuid })
    await succeeded(Promise.resolve(image))
    expect(new Set(asked.slice(0, 2))).toEqual(new Set(['h1', 'h2']))
  })
})

describe('a local pool', () => {
  test('is refused on a host that sees the folder of another, until it has one of its own', async () => {
    a.ownPaths = b.ownPaths = []
    const uuid = await createPool('local', { shared: false, hosts: ['h1'] })
    await until('it is ready', () => isReady(uuid))
    await harness.client.attachDiskPoolHost({ uuid, host: 'h2' })
    const onB = async () => (await pool(uuid))?.hosts.find(({ hostId }) => hostId === b.hostId)
    await until('h2 has answered', async () => (await onB())?.state === DiskPoolHostState.ERROR)
    expect((await onB())?.fault).toMatch(
      /the one that host h1 has as disk pool local, which is local.*shared: true/,
    )
    expect((await pool(uuid))?.hosts.find(({ hostId }) => hostId === a.hostId)?.state).toBe(
      DiskPoolHostState.READY,
    )
    await succeeded(harness.client.createImage({ name: 'demo', url: 'file:///demo.qcow2', diskPool: uuid }))
    const wish = { name: 'vm', flavor: 'tiny', image: 'demo', diskPool: uuid }
    expect(await refusal(harness.client.createInstance({ ...wish, hostIds: ['h2'] }))).toMatchObject({
      code: 'NO_HOST_FITS',
      message: expect.stringContaining('h1'),
    })
    await succeeded(harness.client.createInstance(wish))

    // Its own folder is mounted there.
    b.ownPaths = ['/local']
    await harness.client.detachDiskPoolHost({ uuid, hostUuid: b.hostId })
    await harness.client.attachDiskPoolHost({ uuid, host: 'h2' })
    await until('it is ready on both', () => isReady(uuid))
    const markers = harness.store.diskPools.get(uuid)?.hosts.map(({ marker }) => marker)
    expect(new Set(markers).size).toBe(2)
  })
})

describe('a host', () => {
  test('is given a pool and loses it, with an event for each', async () => {
    const uuid = await readyPool('nfs', { hosts: ['h1'] })
    for (let time = 0; time < 2; time++)
      await succeeded(harness.client.attachDiskPoolHost({ uuid, host: 'h2' }))
    await until('it is ready there', () => isReady(uuid))
    expect((await pool(uuid))?.hosts).toHaveLength(2)
    await succeeded(harness.client.detachDiskPoolHost({ uuid, hostUuid: a.hostId }))
    expect((await pool(uuid))?.hosts.map(({ hostId }) => hostId)).toEqual([b.hostId])
    expect(await refusal(harness.client.detachDiskPoolHost({ uuid, hostUuid: a.hostId }))).toMatchObject({
      code: 'NOT_FOUND',
    })
    const entries = await harness.store.backend.readOutbox(0, 1_000)
    const events = entries.filter(({ event }) => event.id === uuid).map(({ event }) => event.what)
    expect(events.filter((what) => what.startsWith('host_'))).toEqual(['host_attached', 'host_detached'])
  })

  test('keeps a pool while something of it is in use there, named; and its last host does', async () => {
    const uuid = await readyPool()
    await succeeded(harness.client.createImage({ name: 'demo', url: 'file:///a', diskPool: uuid }))
    await succeeded(
      harness.client.createInstance({ name: 'web', flavor: 'tiny', image: 'demo', hostIds: ['h1'] }),
    )
    expect(await refusal(harness.client.detachDiskPoolHost({ uuid, hostUuid: a.hostId }))).toMatchObject({
      code: 'IN_USE',
      message: expect.stringContaining('instance web'),
    })
    await succeeded(harness.client.detachDiskPoolHost({ uuid, hostUuid: b.hostId }))
    const last = await readyPool('other', { hosts: ['h2'] })
    await succeeded(harness.client.createDisk({ name: 'vol', sizeBytes: GIB, diskPool: 'other' }))
    expect(
      await refusal(harness.client.detachDiskPoolHost({ uuid: last, hostUuid: b.hostId })),
    ).toMatchObject({
      code: 'IN_USE',
    })
  })

  test('is not given two pools in one folder', async () => {
    await readyPool('nfs', { hosts: ['h1'] })
    const other = await createPool('other', { path: '/nfs', hosts: ['h2'] })
    expect(await refusal(harness.client.attachDiskPoolHost({ uuid: other, host: 'h1' }))).toMatchObject({
      code: 'CONFLICT',
      message: 'disk pool nfs already uses /nfs on host h1',
    })
  })

  test('is not removed while an image of a shared pool is uploaded through it', async () => {
    await readyPool('nfs', { hosts: ['h1'] })
    const { image } = await harness.client.createImage({ name: 'up', diskPool: 'nfs' })
    expect(await refusal(harness.client.deleteHost({ uuid: a.hostId }))).toMatchObject({
      code: 'IN_USE',
      message: expect.stringContaining('image up is being uploaded through host h1'),
    })
    await harness.client.deleteImage({ uuid: image?.uuid ?? '' })
    await harness.client.deleteHost({ uuid: a.hostId })
  })
})

describe('a pool that is taken from its hosts', () => {
  const away = async () => {
    throw new VpeError('DISK_POOL_FAILED', 'the folder does not answer')
  }
  const others = async (uuid: string) =>
    (await pool(uuid))?.hosts.map(({ hostId, state, fault }) => ({ hostId, state, fault }))

  test('is gone once all of them have answered, and shows which has not', async () => {
    const uuid = await readyPool()
    b.onForgetPool = away
    const { operationUuid, diskPool } = await harness.client.deleteDiskPool({ uuid })
    const missing = {
      hostId: b.hostId,
      state: DiskPoolHostState.LEAVING,
      fault: 'the folder does not answer',
    }
    expect(diskPool).toMatchObject({ deleting: true, hosts: [missing] })
    expect(await others(uuid)).toEqual([missing])
    expect(a.markers.has(uuid)).toBe(false)
    const { operation } = await harness.client.getOperation({ uuid: operationUuid })
    expect(operation).toMatchObject({
      status: OperationStatus.RUNNING,
      step: 'waits until these hosts have let go of it: h2 (the folder does not answer)',
    })
    expect((await harness.client.deleteDiskPool({ uuid })).operationUuid).toBe(operationUuid)
    // Nothing more comes into it, nor to it.
    const wish = { name: 'vol', sizeBytes: GIB, diskPool: 'nfs' }
    await refusal(harness.client.createDisk(wish))
    const image = { name: 'demo', url: 'file:///a', diskPool: uuid }
    expect(await refusal(harness.client.createImage(image))).toMatchObject({ code: 'CONFLICT' })
    const attach = harness.client.attachDiskPoolHost({ uuid, host: 'h1' })
    expect(await refusal(attach)).toMatchObject({ code: 'CONFLICT' })

    b.onForgetPool = async () => {}
    await harness.stop()
    await harness.start()
    expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
    expect(await refusal(harness.client.getDiskPool({ uuid }))).toMatchObject({ code: 'NOT_FOUND' })
    const entries = await harness.store.backend.readOutbox(0, 1_000)
    const events = entries.filter(({ event }) => event.id === uuid).map(({ event }) => event.what)
    expect(events.slice(-2)).toEqual(['deleting', 'deleted'])
    await readyPool('nfs')
  })

  test('is gone, too, when the host that has not answered is removed', async () => {
    const uuid = await readyPool()
    b.onForgetPool = away
    const { operationUuid } = await harness.client.deleteDiskPool({ uuid })
    await harness.client.deleteHost({ uuid: b.hostId })
    expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
    expect(harness.store.diskPools.has(uuid)).toBe(false)
  })

  test('is asked for again of a host that was down, when it is back', async () => {
    const uuid = await readyPool()
    b.stop()
    await until('it is down', () => harness.store.hosts.get(b.hostId)?.state === 'down')
    const { operationUuid } = await harness.client.detachDiskPoolHost({ uuid, hostUuid: b.hostId })
    const leaving = (await others(uuid))?.find(({ hostId }) => hostId === b.hostId)
    expect(leaving).toMatchObject({
      state: DiskPoolHostState.LEAVING,
      fault: expect.stringContaining('is down'),
    })
    await b.listen()
    expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.SUCCEEDED })
    expect(b.forgotten).toEqual([uuid])
    expect((await others(uuid))?.map(({ hostId }) => hostId)).toEqual([a.hostId])
    // It is still the pool of the other, so its marker stays.
    expect(a.markers.has(uuid)).toBe(true)
  })

  test('is taken away after a host that was just making it usable has done so', async () => {
    const { promise: made, resolve: make } = Promise.withResolvers<void>()
    a.onPool = () => made
    const uuid = await createPool('nfs', { hosts: ['h1'] })
    await until('it is being made usable', () => a.proposals.length === 1)
    const deletion = harness.client.deleteDiskPool({ uuid })
    await until('it is to go', () => harness.store.diskPools.get(uuid)?.deletionUuid != null)
    make()
    await succeeded(deletion)
    expect(a.forgotten).toEqual([uuid])
    expect(a.markers.has(uuid)).toBe(false)
    expect(harness.store.diskPools.has(uuid)).toBe(false)
  })
})

describe('a kind of pool', () => {
  const nfs = { server: 'nfs1', export: '/srv/vpe', options: 'vers=4.2' }
  const rbd = { monitors: ['ceph1:6789'], pool: 'vpe', user: 'vpe', secretUuid: randomUUID() }

  test('nfs is shared by what it is, and mounted at a place of its own', async () => {
    const uuid = await createPool('n', { kind: 'nfs', path: '', shared: false, nfs })
    expect(await pool(uuid)).toMatchObject({ shared: true, path: `/var/lib/vpe/mnt/${uuid}`, nfs })
    expect(
      await refusal(createPool('n2', { kind: 'nfs', path: '', nfs }).then(() => Promise.resolve())),
    ).toMatchObject({ code: 'CONFLICT' })
  })

  test('rbd is kept, and each host says that it cannot', async () => {
    const message = 'disk pools of kind rbd are not supported by this agent'
    a.onPool = b.onPool = async () => {
      throw new VpeError('DISK_POOL_FAILED', message)
    }
    const uuid = await createPool('r', { kind: 'rbd', path: '', rbd })
    expect(await pool(uuid)).toMatchObject({ kind: 'rbd', shared: true, path: '', rbd })
    await until(
      'its hosts have answered',
      async () => (await pool(uuid))?.hosts.every(({ fault }) => fault === message) ?? false,
    )
  })

  test.each([
    ['kind', { kind: 'lvm' }],
    ['path', { kind: 'dir', path: '' }],
    ['nfs', { kind: 'nfs' }],
    ['nfs', { kind: 'dir', nfs }],
    ['nfs.server', { kind: 'nfs', nfs: { ...nfs, server: '-x' } }],
    ['nfs.export', { kind: 'nfs', nfs: { ...nfs, export: 'srv' } }],
    ['nfs.options', { kind: 'nfs', nfs: { ...nfs, options: 'suid' } }],
    ['rbd', { kind: 'rbd', path: '' }],
    ['path', { kind: 'rbd', path: '/x', rbd }],
    ['rbd.monitors', { kind: 'rbd', path: '', rbd: { ...rbd, monitors: ['a b'] } }],
    ['rbd.pool', { kind: 'rbd', path: '', rbd: { ...rbd, pool: '' } }],
  ])('is refused at %s: %j', async (field, wish) => {
    const request = { name: 'p', path: '/p', ...wish }
    expect(await refusal(harness.client.createDiskPool(request))).toMatchObject({
      code: 'INVALID_ARGUMENT',
      fields: [{ field }],
    })
  })
})

describe('a full pool', () => {
  test('refuses what others have left no room for, with the figures', async () => {
    a.usage = b.usage = { capacityBytes: 100 * GIB, availableBytes: 2 * GIB }
    const uuid = await readyPool()
    expect(
      await refusal(harness.client.createDisk({ name: 'vol', sizeBytes: 3 * GIB, diskPool: 'nfs' })),
    ).toMatchObject({ code: 'DISK_POOL_FULL', message: expect.stringContaining('2.0 GiB of 100.0 GiB left') })
    const { disk, operationUuid } = await harness.client.createDisk({
      name: 'vol',
      sizeBytes: GIB,
      diskPool: 'nfs',
    })
    await harness.ended(operationUuid)
    const grown = { uuid: disk?.uuid ?? '', sizeBytes: 5 * GIB }
    expect(await refusal(harness.client.updateDisk(grown))).toMatchObject({ code: 'DISK_POOL_FULL' })
    const image = { name: 'big', sizeBytes: 3 * GIB, diskPool: uuid }
    expect(await refusal(harness.client.createImage(image))).toMatchObject({
      code: 'DISK_POOL_FULL',
      message: expect.stringContaining('takes 3.0 GiB'),
    })
    await succeeded(harness.client.createImage({ name: 'demo', url: 'file:///a', diskPool: uuid }))
    await harness.client.createFlavor({ name: 'large', vcpus: 1, memoryMib: 256, diskGib: 3 })
    expect(
      await refusal(harness.client.createInstance({ name: 'vm', flavor: 'large', image: 'demo' })),
    ).toMatchObject({ code: 'NO_HOST_FITS', message: expect.stringContaining('lack disk space') })
  })
})

describe('orphans', () => {
  const file = (name: string, kind: string, ownerUuid: string) => ({
    name,
    kind,
    ownerUuid,
    sizeBytes: 4096,
    modifiedAtMs: 1_000,
  })

  test('are told once each, kept over a restart, and deleted only when asked for', async () => {
    const uuid = await readyPool()
    const { disk, operationUuid } = await harness.client.createDisk({
      name: 'vol',
      sizeBytes: GIB,
      diskPool: 'nfs',
    })
    await harness.ended(operationUuid)
    const gone = randomUUID()
    const name = `disk-${gone}.raw`
    const owned = file(`disk-${disk?.uuid}.raw`, 'data-disk', disk?.uuid ?? '')
    for (const agent of [a, b]) agent.poolFiles = [owned, file(name, 'data-disk', gone)]
    const { orphans, foreign, silentHosts } = await harness.client.listOrphans({ uuid })
    expect(orphans).toMatchObject([
      { file: name, kind: 'data-disk', ownerUuid: gone, hostId: '', sizeBytes: 4096 },
    ])
    expect([foreign, silentHosts]).toEqual([1, []])
    const [since] = orphans.map(({ sinceMs }) => sinceMs)
    await harness.stop()
    await harness.start()
    expect((await harness.client.listOrphans({ uuid })).orphans).toMatchObject([{ sinceMs: since }])
    expect((await pool(uuid))?.orphans).toBe(1)
    const entries = await harness.store.backend.readOutbox(0, 1_000)
    expect(entries.filter(({ event }) => event.what === 'orphan_found')).toHaveLength(1)

    expect(await refusal(harness.client.deleteOrphan({ uuid, file: owned.name }))).toMatchObject({
      code: 'NOT_FOUND',
    })
    expect(await refusal(harness.client.deleteOrphan({ uuid, file: '../x' }))).toMatchObject({
      code: 'NOT_FOUND',
    })
    // One that does not remove it has it open.
    b.onPoolFile = async () => {
      throw new VpeError('IN_USE', 'process 7 has it open')
    }
    expect(await refusal(harness.client.deleteOrphan({ uuid, file: name }))).toMatchObject({ code: 'IN_USE' })
    expect([...a.poolFiles, ...b.poolFiles]).toHaveLength(4)
    b.onPoolFile = async () => {}
    await succeeded(harness.client.deleteOrphan({ uuid, file: name }))
    expect((await pool(uuid))?.orphans).toBe(0)
    expect([...a.poolFiles, ...b.poolFiles]).toHaveLength(3)
  })

  test('are none where two hosts see one folder that should be each one’s own', async () => {
    const uuid = await readyPool('local', { shared: false })
    const pool = harness.store.diskPools.get(uuid)
    if (!pool) throw new Error('there is no pool')
    // As hosts were let before that was refused.
    const hosts = pool.hosts.map((host) => ({ ...host, marker: 'one' }))
    await harness.store.commit([change.diskPool({ ...pool, hosts })])
    const gone = randomUUID()
    a.poolFiles = b.poolFiles = [file(`image-${gone}.qcow2`, 'image', gone)]
    expect((await harness.client.listOrphans({ uuid })).orphans).toEqual([])
    expect(
      await refusal(harness.client.deleteOrphan({ uuid, file: `image-${gone}.qcow2`, host: 'h1' })),
    ).toMatchObject({ code: 'NOT_FOUND' })
  })

  test('of a host that says nothing stand as they were', async () => {
    b.markers = new Map()
    const uuid = await readyPool('local', { shared: false })
    const gone = randomUUID()
    a.poolFiles = [file(`image-${gone}.qcow2`, 'image', gone)]
    expect((await harness.client.listOrphans({ uuid })).orphans).toMatchObject([
      { hostId: a.hostId, hostName: 'h1' },
    ])
    a.onPool = async () => {
      throw new VpeError('DISK_POOL_FAILED', 'it is not mounted')
    }
    expect(await harness.client.listOrphans({ uuid })).toMatchObject({
      orphans: [{ hostId: a.hostId }],
      silentHosts: ['h1'],
    })
    expect(
      await refusal(harness.client.deleteOrphan({ uuid, file: `image-${gone}.qcow2`, host: 'h2' })),
    ).toMatchObject({ code: 'NOT_FOUND' })
  })
})

describe('what has no end otherwise', () => {
  test('a disk in error can be renamed, and the operation ends', async () => {
    await readyPool()
    a.onDisk = b.onDisk = async (what) => {
      if (what === 'make') throw new VpeError('INVALID_ARGUMENT', 'no')
    }
    const { disk, operationUuid } = await harness.client.createDisk({ name: 'vol', sizeBytes: GIB })
    expect(await harness.ended(operationUuid)).toMatchObject({ status: OperationStatus.FAILED })
    const uuid = disk?.uuid ?? ''
    expect((await harness.client.getDisk({ uuid })).disk).toMatchObject({ status: DiskStatus.ERROR })
    for (const change of [{ name: 'other' }, { name: 'other' }, { sizeBytes: GIB }])
      await succeeded(harness.client.updateDisk({ uuid, ...change }))
    expect(await refusal(harness.client.updateDisk({ uuid, sizeBytes: 2 * GIB }))).toMatchObject({
      code: 'CONFLICT',
    })
  })

  test('an instance that is being captured on a host that is down is deleted, and its image given up', async () => {
    await readyPool('local', { shared: false, hosts: ['h1'] })
    await succeeded(harness.client.createImage({ name: 'demo', url: 'file:///a' }))
    const made = await harness.client.createInstance({ name: 'vm', flavor: 'tiny', image: 'demo' })
    await succeeded(Promise.resolve(made))
    const uuid = made.instance?.uuid ?? ''
    await succeeded(harness.client.stopInstance({ uuid }))
    a.onCapture = () => new Promise(() => {})
    const capture = await harness.client.createImage({ name: 'snap', instanceUuid: uuid })
    expect(await refusal(harness.client.deleteInstance({ uuid }))).toMatchObject({ code: 'CONFLICT' })
    a.stop()
    await until('it is down', () => harness.store.hosts.get(a.hostId)?.state === 'down')
    const deletion = await harness.client.deleteInstance({ uuid })
    expect(await harness.ended(capture.operationUuid)).toMatchObject({ status: OperationStatus.FAILED })
    expect((await harness.client.getImage({ uuid: capture.image?.uuid ?? '' })).image).toMatchObject({
      status: ImageStatus.ERROR,
      fault: expect.stringContaining('was deleted'),
    })
    await a.listen()
    await succeeded(Promise.resolve(deletion))
  })
})
