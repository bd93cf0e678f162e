// Guests whose disks lie in a pool that is each host's own, on their way to another host with what is on those disks:
// as they run, off, called off, and out of a host that is drained.

import { existsSync, openSync, readSync, statSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { until } from './cluster.ts'
import { CountingGuest, watchedWhile } from './counting-guest.ts'
import { LabCluster } from './lab-cluster.ts'

const cluster = new LabCluster(undefined, { VPE_LAB_MIGRATION_TLS: 'on' })
const { lab } = cluster
const POOL = 'own'
/** Counts on the serial line, and puts a word on the data disk first. */
const WRITING =
  '#!/bin/sh\nprintf kept >/dev/vdb; sync\ni=0; while :; do i=$((i+1)); echo "count $i."; usleep 50000; done\n'

let guest: CountingGuest
let disk: string

beforeAll(async () => {
  await cluster.up(2)
  const hosts = [await cluster.hostId('h1'), await cluster.hostId('h2')]
  const pool = { name: POOL, kind: 'dir', path: '/var/lib/vpe/own', shared: false, hosts }
  await cluster.ok('POST', '/disk_pools', { disk_pool: pool })
  await until('the pool is ready on both', async () => {
    const { body } = await cluster.ok('GET', `/disk_pools?name=${POOL}`)
    return body.disk_pools[0].hosts.every(({ state }: { state: string }) => state === 'ready')
  })
  const flavor = { name: 'tiny-96', vcpus: 1, memory_mib: 96, disk_gib: 0 }
  await cluster.ok('POST', '/flavors', { flavor })
  guest = await cluster.onlyOn('h1', async () => {
    const wanted = { name: 'data', size_gib: 1, disk_pool: POOL, host: await cluster.hostId('h1') }
    const made = await cluster.ok('POST', '/disks', { disk: wanted })
    disk = made.body.disk.uuid
    expect(await ended(made.headers)).toMatchObject({ status: 'succeeded' })
    const instance = {
      ...{ name: 'counts', flavor_uuid: 'tiny-96', image_uuid: 'demo', disk_pool: POOL },
      ...{ user_data: WRITING, disks: [disk] },
    }
    const { body } = await cluster.ok('POST', '/instances', { instance })
    return new CountingGuest(cluster, body.instance.uuid)
  })
  await until('the guest counts', () => guest.numbers().length > 5)
  await until('and has written', () => wordOn('h1') === 'kept')
})
afterAll(async () => {
  guest?.close()
  await cluster[Symbol.asyncDispose]()
})

const ended = (headers: Headers) => cluster.ended(headers.get('operation-id') ?? '')
const file = (host: string, name: string) => lab.host(host).own('own', name)
const filesOf = (host: string) =>
  [`instance-${guest.uuid}.qcow2`, `instance-${guest.uuid}.seed.iso`, `disk-${disk}.raw`].filter((name) =>
    existsSync(file(host, name)),
  )
const migrate = (order: object) =>
  cluster.request('POST', `/instances/${guest.uuid}/migrate`, { migrate: order })

function wordOn(host: string): string {
  const buffer = Buffer.alloc(4)
  readSync(openSync(file(host, `disk-${disk}.raw`), 'r'), buffer)
  return buffer.toString()
}

/** Begins, as soon as nothing is left of the move before. */
async function begin(order: object): Promise<Headers> {
  let begun = await migrate({ copy_disks: true, ...order })
  await until('it begins', async () => {
    if (begun.status === 200) return true
    expect(JSON.stringify(begun.body)).toContain('not removed yet')
    begun = await migrate({ copy_disks: true, ...order })
    return false
  })
  return begun.headers
}

async function expectAt(host: string, other: string): Promise<void> {
  await until('it is at rest', async () => (await cluster.instance(guest.uuid)).task === null)
  expect(await cluster.instance(guest.uuid)).toMatchObject({ host })
  expect((await cluster.ok('GET', `/disks/${disk}`)).body.disk).toMatchObject({ host })
  await until(`what was on ${other} is gone`, () => filesOf(other).length === 0)
  expect(filesOf(host)).toHaveLength(3)
  expect(wordOn(host)).toBe('kept')
  expect(await cluster.definedOn(guest.uuid)).toEqual([host])
}

/** Of a host, once it has looked at itself and tried others. */
async function conditionOf(host: string, type: string) {
  const { body } = await cluster.ok('POST', `/hosts/${await cluster.hostId(host)}/preflight`)
  return body.host.conditions.find((each: { type: string }) => each.type === type)
}

test('guests are encrypted on their way, and a closed port is found from both sides', async () => {
  const isFound = async (host: string, status: string, words: RegExp) => {
    const { status: found, message } = await conditionOf(host, 'PeersReachable')
    return found === status && words.test(message)
  }
  expect(await conditionOf('h1', 'MigrationEncrypted')).toMatchObject({ status: 'ok' })
  await until('h2 is found open', () => isFound('h1', 'ok', /h2/))
  await lab.ssh('h2', 'nft', 'add table inet closed')
  await lab.ssh('h2', 'nft', 'add chain inet closed input { type filter hook input priority 0; }')
  await lab.ssh('h2', 'nft', 'add rule inet closed input tcp dport 49152-49215 drop')
  try {
    const closed = (way: string) => new RegExp(`^no guest can be sent ${way}: tcp \\S+:49215`)
    await until('h2 finds it', () => isFound('h2', 'failed', closed('from h1')))
    await until('h1 finds it', () => isFound('h1', 'failed', closed('to h2')))
    const { cure } = await conditionOf('h1', 'PeersReachable')
    expect(cure).toContain('49152–49215 (memory)')
  } finally {
    await lab.ssh('h2', 'nft', 'delete table inet closed')
  }
  await until('h2 finds itself open', () => isFound('h2', 'ok', /h1/))
})

test('it does not leave its disks behind, and is told how to take them along', async () => {
  const { status, body } = await migrate({ host_uuid: 'h2' })
  expect(status).toBe(409)
  expect(JSON.stringify(body)).toContain('\\"copy_disks\\": true')
})

test('called off while it is copied it stays, and the half copies go', async () => {
  const headers = await begin({ host_uuid: 'h2', bandwidth_mib_s: 1 })
  await until('it is being copied', async () => {
    const { body } = await cluster.ok('GET', `/operations/${headers.get('operation-id')}`)
    expect(body.operation).toMatchObject({ status: 'running' })
    return body.operation.step?.startsWith('copied') && filesOf('h2').length === 3
  })
  await cluster.ok('DELETE', `/instances/${guest.uuid}/migrate`)
  expect(await ended(headers)).toMatchObject({ status: 'cancelled' })
  await expectAt('h1', 'h2')
  await guest.goesOn()
})

test('it goes on on the other host with its disks, and nothing is left on the first', async () => {
  const [longestGapMs] = await watchedWhile(cluster, [guest], async () => {
    const headers = await begin({ host_uuid: 'h2' })
    expect(await ended(headers)).toMatchObject({ status: 'succeeded' })
    await guest.goesOn()
  })
  guest.expectWhole()
  await expectAt('h2', 'h1')
  expect(await cluster.runningOn(guest.uuid)).toEqual(['h2'])
  const { blocks } = statSync(file('h2', `disk-${disk}.raw`))
  expect(blocks * 512).toBeLessThan(64 * 1024 ** 2)
  const events = (await cluster.events()).filter(({ subject }) => subject === `instance/${guest.uuid}`)
  const migrated = events.find(({ type }) => type === 'vpe.instance.migrated')
  process.stdout.write(
    `copied: ${JSON.stringify({ longestGapMs, ...(migrated?.data.migration as object) })}\n`,
  )
})

test('a host that dies meanwhile has nothing of it once it is back', async () => {
  const headers = await begin({ host_uuid: 'h1', bandwidth_mib_s: 1 })
  await until('it is being copied', () => filesOf('h1').length === 3)
  await lab.kill('h1')
  expect(await ended(headers)).toMatchObject({ status: 'failed' })
  expect(await cluster.instance(guest.uuid)).toMatchObject({ status: 'active', host: 'h2' })
  expect(filesOf('h2')).toHaveLength(3)
  await guest.goesOn()
  await lab.start('h1')
  await until('h1 is relied on again', () => cluster.isReliedOn('h1'))
  await expectAt('h2', 'h1')
  guest.expectWhole()
})

test('off, its files go there whole', async () => {
  const stopped = await cluster.ok('POST', `/instances/${guest.uuid}/stop`)
  expect(await ended(stopped.headers)).toMatchObject({ status: 'succeeded' })
  const headers = await begin({ host_uuid: 'h1' })
  expect(await ended(headers)).toMatchObject({ status: 'succeeded' })
  await expectAt('h1', 'h2')
  const started = await cluster.ok('POST', `/instances/${guest.uuid}/start`)
  expect(await ended(started.headers)).toMatchObject({ status: 'succeeded' })
})

test('out of a host that is drained it goes when that is asked for', async () => {
  const host = await cluster.hostId('h1')
  const plain = await cluster.ok('POST', `/hosts/${host}/drain`)
  expect(await ended(plain.headers)).toMatchObject({
    status: 'failed',
    fault: expect.stringContaining('copy_disks'),
  })
  const { headers } = await cluster.ok('POST', `/hosts/${host}/drain`, { copy_disks: true })
  expect(await ended(headers)).toMatchObject({ status: 'succeeded' })
  await expectAt('h2', 'h1')
  expect(await cluster.runningOn(guest.uuid)).toEqual(['h2'])
})
