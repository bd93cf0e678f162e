// The whole of the API that libvirt's test driver supports, on a private instance per test: `test:///file` reads
// its domains and pools from a file and is shared with nobody.

import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { type Connection, type ConnectionEventName, connect } from './connection.ts'
import type { Domain } from './domain.ts'
import type { LifecycleEvent } from './domain-events.ts'
import { eventually } from './test-support/eventually.ts'
import { dirPoolXml, testDomainXml, volumeXml } from './test-support/xml.ts'

let folder: string
let connection: Connection
let domain: Domain

const uuid = '0d4e6f9c-2f0e-4f4f-9a55-1e1f6d0a7b01'

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'libvirt-test-driver-'))
  await writeFile(join(folder, 'node.xml'), '<node><cpu><mhz>1000</mhz><nodes>1</nodes></cpu></node>')
})

afterAll(async () => {
  await rm(folder, { recursive: true })
})

beforeEach(async () => {
  connection = await connect(`test://${join(folder, 'node.xml')}`)
  const defined = nextEvent('lifecycle')
  domain = await connection.defineDomain(testDomainXml('one', uuid), { validate: true })
  await defined
})

afterEach(async () => {
  await connection.close()
})

test('a domain lives its life', async () => {
  expect(domain).toMatchObject({ uuid, name: 'one' })
  expect(await domain.state()).toEqual({ state: 'shutoff', reason: 'unknown' })
  expect(await domain.id()).toBeUndefined()
  await domain.start()
  expect(await domain.state()).toEqual({ state: 'running', reason: 'booted' })
  expect(await domain.id()).toBeGreaterThan(0)
  expect(await domain.isActive()).toBe(true)
  expect(await domain.isPersistent()).toBe(true)
  await domain.suspend()
  expect(await domain.state()).toEqual({ state: 'paused', reason: 'user' })
  await domain.resume()
  expect(await domain.state()).toEqual({ state: 'running', reason: 'unpaused' })
  await expect(domain.start()).rejects.toThrow(/already running/)
  await domain.reset().catch(() => {})
  await domain.reboot()
  await domain.shutdown()
  expect(await domain.state()).toEqual({ state: 'shutoff', reason: 'shutdown' })
  await domain.start()
  await domain.managedSave()
  expect(await domain.hasManagedSave()).toBe(true)
  await domain.removeManagedSave()
  expect(await domain.state()).toEqual({ state: 'shutoff', reason: 'saved' })
  await domain.rename('two')
  expect((await connection.lookupDomainByUuid(uuid)).name).toBe('two')
  await domain.start()
  await domain.destroy({ graceful: true })
  await domain.undefine({ managedSave: true, snapshotsMetadata: true })
  await expect(domain.state()).rejects.toMatchObject({ codeName: 'NO_DOMAIN' })
})

test('a transient domain is gone when it stops', async () => {
  const transient = await connection.createDomain(testDomainXml('transient'))
  expect(await transient.isPersistent()).toBe(false)
  await transient.destroy()
  await expect(transient.xml()).rejects.toMatchObject({ codeName: 'NO_DOMAIN' })
})

test('domains are found by uuid, name and id, and listed by filter', async () => {
  await domain.start()
  await connection.defineDomain(testDomainXml('stopped'))
  const id = await domain.id()
  expect((await connection.lookupDomainByName('one')).uuid).toBe(uuid)
  expect((await connection.lookupDomainById(id ?? -1)).uuid).toBe(uuid)
  expect(await connection.domain(uuid).isActive()).toBe(true)
  const names = async (filter?: Parameters<typeof connection.listDomains>[0]) =>
    (await connection.listDomains(filter)).map(({ name }) => name).sort()
  expect(await names()).toEqual(['one', 'stopped'])
  expect(await names({ active: true })).toEqual(['one'])
  expect(await names({ inactive: true })).toEqual(['stopped'])
  expect(await names({ shutoff: true, running: true, persistent: true })).toEqual(['one', 'stopped'])
  expect(await names({ transient: true })).toEqual([])
})

test('a domain describes itself', async () => {
  await domain.start()
  expect(await domain.xml()).toContain(`<uuid>${uuid}</uuid>`)
  expect(await domain.xml({ inactive: true })).toContain('<name>one</name>')
  expect(await domain.info()).toMatchObject({
    state: 'running',
    maxMemoryKib: 65536,
    memoryKib: 65536,
    vcpus: 1,
  })
  expect(await domain.vcpuCount({ live: true })).toBe(1)
  expect(await domain.messages()).toEqual([])
  await domain.setMemoryKib(32768, { config: true })
  expect(await domain.xml({ inactive: true })).toContain("<currentMemory unit='KiB'>32768</currentMemory>")
})

test('metadata, title, description and autostart are kept', async () => {
  const uri = 'https://example.org/ns'
  expect(await domain.metadata(uri)).toBeUndefined()
  await domain.setMetadata({ uri, key: 'ex', xml: '<note text="plain"/>', config: true })
  expect(await domain.metadata(uri, { config: true })).toBe('<note text="plain"/>')
  await domain.setMetadata({ uri, key: 'ex', xml: undefined, config: true })
  expect(await domain.metadata(uri)).toBeUndefined()
  await domain.setTitle('a title')
  expect(await domain.title()).toBe('a title')
  await domain.setTitle(undefined)
  expect(await domain.title()).toBeUndefined()
  await domain.setDescription('a description')
  expect(await domain.description()).toBe('a description')
  expect(await domain.autostart()).toBe(false)
  await domain.setAutostart(true)
  expect(await domain.autostart()).toBe(true)
})

test('the ready-made domain has memory and addresses', async () => {
  await using shared = await connect('test:///default')
  const running = await shared.lookupDomainByName('test')
  expect(await shared.freeMemory()).toBeGreaterThan(0)
  expect(await running.memoryStats()).toMatchObject({ actualBalloonKib: expect.any(Number) })
  expect(await running.interfaceAddresses('lease')).toEqual([
    {
      name: 'testnet0',
      hardwareAddress: 'aa:bb:cc:dd:ee:ff',
      addresses: [{ family: 'ipv4', address: '192.168.122.3', prefix: 24 }],
    },
  ])
})

test('lifecycle events arrive in order, to listeners and to loops', async () => {
  const heard: LifecycleEvent[] = []
  connection.on('lifecycle', (event) => heard.push(event))
  const read: string[] = []
  const reading = (async () => {
    for await (const { event, detail } of connection.events('lifecycle')) read.push(`${event} ${detail}`)
  })()
  const other = await connection.defineDomain(testDomainXml('other'))
  await other.start()
  await other.suspend()
  await other.resume()
  await other.shutdown()
  await other.undefine()
  await eventually(() => heard.length === 6, 'six events')
  const expected = [
    'defined added',
    'started booted',
    'suspended paused',
    'resumed unpaused',
    'stopped shutdown',
    'undefined removed',
  ]
  expect(heard.map(({ event, detail }) => `${event} ${detail}`)).toEqual(expected)
  expect(heard[0]?.domain).toEqual({ uuid: other.uuid, name: 'other' })
  await connection.close()
  await reading
  expect(read).toEqual(expected)
})

test('a loop over events ends by signal, by disposal and by break', async () => {
  const listeners = () => connection.listenerCount('lifecycle')
  const aborting = new AbortController()
  const loop = (async () => {
    for await (const _event of connection.events('lifecycle', { signal: aborting.signal }))
      expect.unreachable()
  })()
  expect(listeners()).toBe(1)
  aborting.abort()
  await expect(loop).rejects.toMatchObject({ name: 'AbortError' })
  expect(listeners()).toBe(0)
  {
    await using _events = connection.events('lifecycle')
    expect(listeners()).toBe(1)
  }
  expect(listeners()).toBe(0)
  const events = connection.events('lifecycle')
  await domain.start()
  for await (const { event } of events) {
    expect(event).toBe('started')
    break
  }
  expect(listeners()).toBe(0)
})

test('metadata changes are events too', async () => {
  const changed = nextEvent('metadataChanged')
  await domain.setMetadata({ uri: 'urn:x', key: 'x', xml: '<x/>', config: true })
  expect(await changed).toEqual({ domain: { uuid, name: 'one' }, type: 'element', uri: 'urn:x' })
})

test('statistics of all domains come nested', async () => {
  await domain.start()
  const [stats] = await connection.allDomainStats({ types: ['state'], active: true })
  expect(stats).toMatchObject({
    domain: { uuid, name: 'one' },
    state: { state: 'running', reason: 'booted' },
  })
  expect(stats?.block).toBeUndefined()
  expect(await connection.allDomainStats({ inactive: true })).toEqual([])
})

test('the host describes itself', async () => {
  expect(await connection.nodeInfo()).toMatchObject({ mhz: 1000, numaNodes: 1 })
  expect(await connection.capabilities()).toContain('<capabilities>')
  expect(await connection.hostname()).not.toBe('')
  expect(await connection.libVersion()).toMatch(/^\d+\.\d+\.\d+$/)
  expect(await connection.hypervisorVersion()).toMatch(/^\d+\.\d+\.\d+$/)
  expect(await connection.cpuModels('x86_64')).toContain('qemu64')
  const cpus = ['Nehalem', 'Westmere'].map((model) => `<cpu><arch>x86_64</arch><model>${model}</model></cpu>`)
  expect(await connection.baselineCpu(cpus)).toContain('Nehalem')
})

test('pools and volumes', async () => {
  const pool = await connection.defineStoragePool(dirPoolXml('p', '/p'))
  await pool.build({ noOverwrite: true }).catch(() => pool.build())
  expect(await pool.info()).toMatchObject({ state: 'inactive' })
  await pool.start()
  await pool.refresh()
  expect(await pool.isActive()).toBe(true)
  expect(await pool.isPersistent()).toBe(true)
  await pool.setAutostart(true)
  expect(await pool.autostart()).toBe(true)
  expect(await pool.xml()).toContain('<name>p</name>')
  const volume = await pool.createVolume(volumeXml('v', 1 << 20))
  expect(volume).toMatchObject({ name: 'v', path: '/p/v' })
  expect(await volume.info()).toEqual({ type: 'file', capacityBytes: 1 << 20, allocationBytes: 0 })
  const clone = await pool.cloneVolume(volumeXml('w', 1 << 20), volume)
  expect((await pool.listVolumes()).map(({ name }) => name).sort()).toEqual(['v', 'w'])
  expect((await pool.lookupVolume('w')).key).toBe(clone.key)
  expect((await connection.lookupVolumeByPath('/p/v')).name).toBe('v')
  expect((await connection.lookupVolumeByKey(volume.key)).name).toBe('v')
  expect((await volume.pool()).uuid).toBe(pool.uuid)
  expect((await connection.lookupStoragePoolByUuid(pool.uuid)).name).toBe('p')
  expect((await connection.listStoragePools({ active: true })).map(({ name }) => name)).toEqual(['p'])
  await volume.delete()
  await expect(volume.info()).rejects.toMatchObject({ codeName: 'NO_STORAGE_VOL' })
  await pool.destroy()
  await pool.undefine()
  await expect(connection.lookupStoragePoolByName('p')).rejects.toMatchObject({ codeName: 'NO_STORAGE_POOL' })
})

test('no more calls run at once than allowed', async () => {
  await using narrow = await connect('test:///default', { maxConcurrentCalls: 1 })
  const hostnames = await Promise.all(Array.from({ length: 50 }, () => narrow.hostname()))
  expect(new Set(hostnames).size).toBe(1)
})

function nextEvent(name: ConnectionEventName): Promise<unknown> {
  return new Promise((resolve) => connection.once(name, resolve))
}
