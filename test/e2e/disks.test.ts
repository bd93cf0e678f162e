// The life of a data disk in real guests: made, hot-plugged, written to, moved to another instance, outliving
// the first one, and growing under a guest that runs. The tests share one cluster and go in order.

import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Cluster, until } from './cluster.ts'
import { GuestShell } from './guest-shell.ts'

const GIB = 1024 ** 3

const cluster = new Cluster()
let first: string
let second: string
let disk: { readonly uuid: string; readonly serial: string }

beforeAll(async () => {
  await cluster.quickstart()
  first = (await cluster.instances())[0]?.uuid ?? ''
  const created = await change('POST', '/instances', {
    instance: { name: 'second', ...(await cluster.ingredients()) },
  })
  second = created.instance.uuid
  await Promise.all([first, second].map(guestUp))
})
afterAll(async () => {
  if (existsSync(cluster.home)) await cluster[Symbol.asyncDispose]()
})

async function guestUp(uuid: string): Promise<void> {
  await until('the guest is up', () => cluster.serialLog(uuid).includes('vpe demo guest'))
}

/** Asks for a change, and waits until the world has got there. */
async function change(method: string, path: string, body?: unknown) {
  const answer = await cluster.ok(method, path, body)
  const operation = await cluster.ended(answer.headers.get('operation-id') ?? '')
  expect(operation).toMatchObject({ status: 'succeeded', fault: null })
  return answer.body
}

async function diskNow() {
  return (await cluster.ok('GET', `/disks/${disk.uuid}`)).body.disk
}

/** Device of the disk in a guest, found by its serial number as udev would; empty when it is not there. */
async function deviceIn(shell: GuestShell): Promise<string> {
  const path = await shell.run(`grep -lx '${disk.serial}' /sys/block/*/serial 2>/dev/null`)
  return path.split('/')[3] ?? ''
}

const detach = (uuid: string) => change('DELETE', `/instances/${uuid}/disks/${disk.uuid}`)
const attach = (uuid: string) => change('POST', `/instances/${uuid}/disks`, { disk: { uuid: disk.uuid } })

test('a disk is made, empty and for nobody else’s eyes', async () => {
  disk = (await change('POST', '/disks', { disk: { name: 'data', size_gib: 1 } })).disk
  expect(await diskNow()).toMatchObject({
    status: 'available',
    size_gib: 1,
    instance: null,
    disk_pool: 'local',
  })
  const file = statSync(join(cluster.home, 'disks', `disk-${disk.uuid}.raw`))
  expect(file).toMatchObject({ size: GIB, blocks: 0 })
  expect(file.mode & 0o777).toBe(0o600)
})

test('a running guest sees it at once, and writes to it', async () => {
  await using shell = await GuestShell.open(cluster, first)
  expect(await deviceIn(shell)).toBe('')
  // The guest looks by itself: what is measured is no round trip of the test's.
  const seen = shell.run(
    `until grep -qx '${disk.serial}' /sys/block/*/serial 2>/dev/null; do usleep 20000; done`,
  )
  const askedMs = performance.now()
  const attached = attach(first)
  await seen
  const seenMs = performance.now() - askedMs
  await attached
  process.stdout.write(`the guest sees a hot-plugged disk ${seenMs.toFixed(0)} ms after the request\n`)
  expect(await diskNow()).toMatchObject({ status: 'in-use', instance_uuid: first })
  expect((await cluster.ok('GET', `/instances/${first}`)).body.instance.disks).toEqual([
    { uuid: disk.uuid, name: 'data' },
  ])
  const device = await deviceIn(shell)
  expect(await shell.run(`cat /sys/block/${device}/size`)).toBe(String(GIB / 512))
  await shell.run(`echo 'written by the first' | dd of=/dev/${device} bs=512 conv=sync 2>/dev/null; sync`)
})

test('it belongs to one instance at a time', async () => {
  const refused = await cluster.request('POST', `/instances/${second}/disks`, { disk: { uuid: disk.uuid } })
  expect(refused).toMatchObject({ status: 409, body: { code: 'CONFLICT' } })
  expect(refused.body.detail).toContain(first)
  expect((await cluster.request('DELETE', `/disks/${disk.uuid}`)).status).toBe(409)
})

test('detached, it is gone from the guest and from libvirt; attached to another, the data is there', async () => {
  await detach(first)
  expect(await diskNow()).toMatchObject({ status: 'available', instance_uuid: null })
  expect(await cluster.virsh('domblklist', first)).not.toContain(disk.uuid)
  expect(await cluster.virsh('domblklist', first, '--inactive')).not.toContain(disk.uuid)
  {
    await using shell = await GuestShell.open(cluster, first)
    expect(await deviceIn(shell)).toBe('')
  }
  await attach(second)
  await using shell = await GuestShell.open(cluster, second)
  const device = await deviceIn(shell)
  expect(await shell.run(`head -n 1 /dev/${device}`)).toBe('written by the first')
})

test('it grows while the guest runs, which sees the new size, and does not shrink', async () => {
  await using shell = await GuestShell.open(cluster, second)
  const device = await deviceIn(shell)
  await change('PUT', `/disks/${disk.uuid}`, { disk: { size_gib: 2 } })
  expect(await diskNow()).toMatchObject({ status: 'in-use', size_gib: 2 })
  expect(await shell.run(`cat /sys/block/${device}/size`)).toBe(String((2 * GIB) / 512))
  const refused = await cluster.request('PUT', `/disks/${disk.uuid}`, { disk: { size_gib: 1 } })
  expect(refused).toMatchObject({ status: 400, body: { errors: [{ field: 'disk.size_gib' }] } })
})

test('it outlives the instance that has it, which says so, and its data is there for the next', async () => {
  const answer = await cluster.ok('DELETE', `/instances/${second}`)
  expect(answer.body).toEqual({ instance: { uuid: second, kept_disks: [{ uuid: disk.uuid, name: 'data' }] } })
  const operation = await cluster.ended(answer.headers.get('operation-id') ?? '')
  expect(operation).toMatchObject({ status: 'succeeded', note: expect.stringContaining('data') })
  expect(await diskNow()).toMatchObject({ status: 'available', instance: null })

  const third = await change('POST', '/instances', {
    instance: { name: 'third', ...(await cluster.ingredients()), disks: [disk.uuid] },
  })
  expect(third.instance.disks).toEqual([{ uuid: disk.uuid, name: 'data' }])
  await guestUp(third.instance.uuid)
  await using shell = await GuestShell.open(cluster, third.instance.uuid)
  const device = await deviceIn(shell)
  expect(await shell.run(`head -n 1 /dev/${device}`)).toBe('written by the first')
  expect(await shell.run(`cat /sys/block/${device}/size`)).toBe(String((2 * GIB) / 512))
  second = third.instance.uuid
})

test('stopped instances give and take disks, too', async () => {
  await change('POST', `/instances/${second}/stop`, {})
  await detach(second)
  await attach(second)
  await change('PUT', `/disks/${disk.uuid}`, { disk: { size_gib: 3 } })
  expect(statSync(join(cluster.home, 'disks', `disk-${disk.uuid}.raw`)).size).toBe(3 * GIB)
  expect(await cluster.virsh('domblklist', second)).toContain(`disk-${disk.uuid}.raw`)
  await detach(second)
})

test('deleted, its file is gone', async () => {
  await change('DELETE', `/disks/${disk.uuid}`)
  expect((await cluster.request('GET', `/disks/${disk.uuid}`)).status).toBe(404)
  expect(existsSync(join(cluster.home, 'disks', `disk-${disk.uuid}.raw`))).toBe(false)
})
