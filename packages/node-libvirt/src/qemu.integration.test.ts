// What only a real hypervisor does: QEMU guests in software emulation under a libvirtd of the test's own, with
// storage on disk, hot-plug, statistics, crashes and live migration.

import { execFile } from 'node:child_process'
import type { EventEmitter } from 'node:events'
import { mkdtemp, rmdir, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import {
  type Connection,
  type ConnectionEventName,
  type ConnectionEventPayloads,
  connect,
} from './connection.ts'
import { eventually } from './test-support/eventually.ts'
import { writeFillingDisk } from './test-support/filling-disk.ts'
import { PrivateLibvirtd } from './test-support/private-libvirtd.ts'
import { dirPoolXml, qemuDomainXml, volumeXml } from './test-support/xml.ts'

const run = promisify(execFile)

let daemon: PrivateLibvirtd
let connection: Connection

/** It is there before the daemon is, which sees no mount that is made later. */
let small: string

beforeAll(async () => {
  small = await mkdtemp(join(tmpdir(), 'vpe-small-'))
  await run('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'vpe-test', small])
  daemon = await PrivateLibvirtd.start()
  connection = await connect(daemon.qemuUri)
})

afterAll(async () => {
  for (const domain of await connection.listDomains({ active: true })) await domain.destroy()
  await connection.close()
  await daemon[Symbol.asyncDispose]()
  await run('umount', ['--lazy', small])
  await rmdir(small)
})

test('a guest starts paused, runs, gets a disk and gives it back', async () => {
  const pool = await connection.defineStoragePool(dirPoolXml('disks', join(daemon.folder, 'disks')))
  await pool.build()
  await pool.start()
  const volume = await pool.createVolume(volumeXml('disk.qcow2', 64 << 20, 'qcow2'))
  const domain = await connection.defineDomain(qemuDomainXml('guest'), { validate: true })
  await domain.start({ paused: true })
  expect(await domain.state()).toEqual({ state: 'paused', reason: 'user' })
  await domain.resume()
  expect(await domain.state()).toMatchObject({ state: 'running' })

  const disk = `<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
    <source file='${volume.path}'/><target dev='vdb' bus='virtio'/></disk>`
  const added = nextEvent('deviceAdded')
  await domain.attachDevice(disk, { live: true })
  expect(await added).toMatchObject({ domain: { name: 'guest' }, deviceAlias: 'virtio-disk1' })
  expect(await domain.blockInfo('vdb')).toMatchObject({ capacityBytes: 64 << 20 })
  await domain.blockResize('vdb', 128 << 20)
  expect(await domain.blockInfo('vdb')).toMatchObject({ capacityBytes: 128 << 20 })

  const [stats] = await connection.allDomainStats()
  expect(stats).toMatchObject({
    domain: { name: 'guest' },
    state: { state: 'running' },
    cpu: { timeNs: expect.any(Number) },
    balloon: { currentKib: 32768, maximumKib: 32768 },
    vcpu: { current: 1, maximum: 1, vcpus: [{ number: 0, state: 'running', timeNs: expect.any(Number) }] },
    net: [],
    block: [
      { name: 'vdb', path: volume.path, capacityBytes: 128 << 20, read: { requests: expect.any(Number) } },
    ],
  })

  await domain.sendKey([28], { holdMs: 10 })
  const descriptor = await domain.openGraphicsFd(0).catch((error: unknown) => error)
  expect(descriptor).toMatchObject({ codeName: 'INTERNAL_ERROR' })
  await domain.reset()
  await domain.reboot({ acpiPowerButton: true })
  await domain.destroy()
  expect(await domain.state()).toEqual({ state: 'shutoff', reason: 'destroyed' })
  await domain.undefine({ nvram: true, snapshotsMetadata: true, managedSave: true })
})

test('a guest whose storage is full stands still, says so, and goes on when there is room', async () => {
  const path = join(small, 'disk.img')
  await writeFillingDisk(path, 8 << 20)
  const disk = `<disk type='file' device='disk'><driver name='qemu' type='raw' error_policy='stop'/>
    <source file='${path}'/><target dev='vda' bus='virtio'/></disk>`
  const failure = nextEvent('ioError')
  const domain = await connection.createDomain(qemuDomainXml('writer', disk))
  await eventually(async () => (await domain.state()).state === 'paused', 'it stands still')
  expect(await domain.state()).toEqual({ state: 'paused', reason: 'io-error' })
  expect(await failure).toMatchObject({ domain: { name: 'writer' }, action: 'pause', reason: 'enospc' })
  await run('mount', ['-o', 'remount,size=16m', small])
  await domain.resume()
  expect(await domain.state()).toMatchObject({ state: 'running' })
  await domain.destroy()
})

test('QEMU itself can be asked, and its refusals are errors', async () => {
  const domain = await connection.createDomain(qemuDomainXml('asked'))
  expect(await domain.qemuMonitorCommand('query-status')).toMatchObject({ running: true, status: 'running' })
  await expect(domain.qemuMonitorCommand('blockdev-del', { 'node-name': 'ünknown' })).rejects.toMatchObject({
    codeName: 'OPERATION_FAILED',
    message: expect.stringMatching(/blockdev-del: .*ünknown/),
  })
  await domain.destroy()
  await expect(domain.qemuMonitorCommand('query-status')).rejects.toMatchObject({ codeName: 'NO_DOMAIN' })
})

test('a guest whose QEMU is killed has crashed', async () => {
  const domain = await connection.createDomain(qemuDomainXml('victim'))
  const stopped = nextEvent('lifecycle', ({ event }) => event === 'stopped')
  process.kill(await daemon.guestPid('victim'), 'SIGKILL')
  expect(await stopped).toMatchObject({
    domain: { name: 'victim' },
    detail: expect.stringMatching(/crashed|failed/),
  })
  await expect(domain.state()).rejects.toMatchObject({ codeName: 'NO_DOMAIN' })
})

test('volumes are real files', async () => {
  const path = join(daemon.folder, 'files')
  const pool = await connection.createStoragePool(dirPoolXml('files', path), { build: true })
  expect(await pool.info()).toMatchObject({ state: 'running', availableBytes: expect.any(Number) })
  expect((await connection.lookupStoragePoolByTargetPath(path)).uuid).toBe(pool.uuid)
  const volume = await pool.createVolume(volumeXml('a.raw', 1 << 20))
  await volume.resize(1 << 21)
  expect((await stat(volume.path)).size).toBe(1 << 21)
  const clone = await pool.cloneVolume(volumeXml('b.qcow2', 1 << 21, 'qcow2'), volume)
  expect(await clone.info()).toMatchObject({ type: 'file', capacityBytes: 1 << 21 })
  expect(await clone.xml()).toContain('qcow2')
  await volume.delete()
  await pool.refresh()
  expect((await pool.listVolumes()).map(({ name }) => name)).toEqual(['b.qcow2'])
  await pool.destroy()
})

test('the host tells what its guests can have', async () => {
  expect(await connection.domainCapabilities({ arch: 'x86_64', virtType: 'qemu' })).toContain('pc-i440fx')
  expect(await connection.hypervisorVersion()).toMatch(/^\d+\.\d+\.\d+$/)
  const query = { arch: 'x86_64', virtType: 'qemu' }
  const cpu = '<cpu><model>qemu64</model></cpu>'
  expect(await connection.compareCpu(cpu, query)).toMatch(/identical|superset/)
  expect(await connection.baselineCpu([cpu], { query })).toContain('<cpu')
})

test('guests outlive their libvirtd and the handle finds them again', async () => {
  const domain = await connection.createDomain(qemuDomainXml('survivor'))
  const connected = nextEvent('connected')
  await daemon.killDaemon()
  await daemon.startDaemon()
  await connected
  expect(await domain.state()).toMatchObject({ state: 'running' })
  const suspended = nextEvent('lifecycle', ({ event }) => event === 'suspended')
  // Waits until libvirtd has taken the guest over again. A destroy in that moment loses the guest all the same,
  // but may say NO_DOMAIN.
  await domain.suspend()
  expect(await suspended).toMatchObject({ domain: { name: 'survivor' }, detail: 'paused' })
  const stopped = nextEvent('lifecycle', ({ event }) => event === 'stopped')
  await domain.destroy()
  expect(await stopped).toMatchObject({ domain: { name: 'survivor' }, detail: 'destroyed' })
})

test('a running guest migrates to another libvirtd', async () => {
  await using destination = await PrivateLibvirtd.start()
  await using arrival = await connect(destination.qemuUri)
  const domain = await connection.createDomain(qemuDomainXml('traveller'))
  await domain.setMigrateMaxDowntimeMs(200).catch(() => {})
  const completed = nextEvent('jobCompleted')
  const sockets = join(destination.folder, 'migration')
  await domain.migrate(destination.qemuUri, {
    live: true,
    peerToPeer: true,
    migrateUri: `unix://${sockets}`,
    bandwidthMibPerSecond: 100,
  })
  expect(await (await arrival.lookupDomainByName('traveller')).state()).toEqual({
    state: 'running',
    reason: 'migrated',
  })
  expect(await completed).toMatchObject({
    domain: { name: 'traveller' },
    stats: { type: 'completed', operation: 'migration-out', memoryTotalBytes: expect.any(Number) },
  })
  await eventually(
    async () => (await connection.listDomains({ active: true })).length === 0,
    'the guest has left',
  )
  await (await arrival.lookupDomainByName('traveller')).destroy()
})

test('a migration is watched and aborted', async () => {
  await using destination = await PrivateLibvirtd.start()
  const domain = await connection.createDomain(qemuDomainXml('stayer'))
  // So slow that it cannot end before it is aborted.
  const migration = domain.migrate(destination.qemuUri, {
    live: true,
    peerToPeer: true,
    migrateUri: `unix://${join(destination.folder, 'migration')}`,
    bandwidthMibPerSecond: 1,
  })
  const outcome = migration.catch((error: unknown) => error)
  await eventually(async () => (await domain.jobStats()).operation === 'migration-out', 'the migration runs')
  await domain.setMigrateMaxDowntimeMs(1)
  await eventually(
    () =>
      domain.abortJob().then(
        () => true,
        () => false,
      ),
    'the migration is aborted',
  )
  expect(await outcome).toMatchObject({ codeName: 'OPERATION_ABORTED' })
  expect(await domain.state()).toMatchObject({ state: 'running' })
  await domain.destroy()
})

function nextEvent<N extends ConnectionEventName>(
  name: N,
  isIt: (event: ConnectionEventPayloads[N]) => boolean = () => true,
): Promise<ConnectionEventPayloads[N]> {
  const { promise, resolve } = Promise.withResolvers<ConnectionEventPayloads[N]>()
  const emitter: EventEmitter = connection
  emitter.on(name, function listener(event: ConnectionEventPayloads[N]) {
    if (!isIt(event)) return
    emitter.off(name, listener)
    resolve(event)
  })
  return promise
}
