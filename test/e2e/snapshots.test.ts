// Snapshots of a real guest's disk: what was written comes back, whatever was done since. The tests share one
// guest and go in order.

import { existsSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Cluster, until } from './cluster.ts'
import { GuestShell } from './guest-shell.ts'

/** Beyond the file system of the demo image, and within its disk: what is written there nobody but us reads. */
const SPOT_MIB = 900

const cluster = new Cluster()
let uuid: string
const snapshots: Record<string, string> = {}
const clones: string[] = []

beforeAll(async () => {
  await cluster.quickstart()
  const instance = { name: 'kept', hostname: 'kept', ...(await cluster.ingredients()) }
  const { body } = await done('POST', '/instances', { instance })
  uuid = body.instance.uuid
  await boots(1)
})
afterAll(async () => {
  if (existsSync(cluster.home)) await cluster[Symbol.asyncDispose]()
})

/** Asks for a change, and waits until its operation has succeeded. */
async function done(method: string, path: string, body?: object) {
  const answer = await cluster.ok(method, path, body)
  const operation = await cluster.ended(answer.headers.get('operation-id') ?? '')
  expect(operation).toMatchObject({ status: 'succeeded', fault: null })
  return answer
}

async function boots(count: number, of = uuid): Promise<void> {
  const bootCount = () => cluster.serialLog(of).split('vpe demo guest').length - 1
  await until(`the guest is up for time ${count}`, () => bootCount() >= count)
  expect(bootCount()).toBe(count)
}

async function inGuest(command: string, of = uuid): Promise<string> {
  const shell = await GuestShell.open(cluster, of)
  try {
    return await shell.run(command)
  } finally {
    shell.close()
  }
}

const write = (word: string) =>
  inGuest(`printf ${word} | dd of=/dev/vda bs=1M seek=${SPOT_MIB} count=1 conv=notrunc,fsync`)
const written = (of = uuid) =>
  inGuest(`dd if=/dev/vda bs=1M skip=${SPOT_MIB} count=1 2>/dev/null | head -c 5 | tr '\\0' .`, of)

const path = (name = '', action = '') =>
  `/instances/${uuid}/snapshots${name && `/${snapshots[name]}`}${action && `/${action}`}`

async function snapshot(name: string): Promise<void> {
  const { body } = await done('POST', path(), { snapshot: { name } })
  snapshots[name] = body.snapshot.uuid
  const shown = await cluster.ok('GET', path(name))
  expect(shown.body.snapshot).toMatchObject({ name, instance_uuid: uuid, status: 'available', fault: null })
}

describe('of a running guest', () => {
  test('a snapshot is made while it runs on', async () => {
    await write('first')
    await snapshot('one')
    expect((await cluster.virsh('domstate', `vpe-${uuid}`)).trim()).toBe('running')
    await write('other')
    await snapshot('two')
    expect(await written()).toBe('other')
    const { body } = await cluster.ok('GET', path())
    expect(body.snapshots.map(({ name }: { name: string }) => name)).toEqual(['one', 'two'])
  })

  test('the disk goes back to what it was, and the guest comes up with it, once', async () => {
    await done('POST', path('one', 'revert'))
    await boots(2)
    expect(await written()).toBe('first')
    await write('third')
    await done('POST', path('two', 'revert'))
    await boots(3)
    expect(await written()).toBe('other')
    const kinds = (await cluster.events())
      .filter(({ subject }) => subject === `instance/${uuid}`)
      .map(({ type }) => type.slice('vpe.instance.'.length))
    expect(kinds.filter((kind) => kind === 'reverted')).toHaveLength(2)
  })

  test('a snapshot keeps the guest from being rebuilt, until it is deleted', async () => {
    const rebuild = () => cluster.request('POST', `/instances/${uuid}/rebuild`)
    expect(await rebuild()).toMatchObject({
      status: 409,
      body: { code: 'CONFLICT', detail: expect.stringContaining('it has 2 snapshots') },
    })
    await done('DELETE', path('one'))
    expect((await cluster.request('GET', path('one'))).status).toBe(404)
    expect(await written()).toBe('other')
  })
})

describe('of a guest that is off', () => {
  test('it is made, gone back to and deleted as well, also after the disk has grown', async () => {
    await done('POST', `/instances/${uuid}/stop`)
    await snapshot('off')
    const flavor = { name: 'larger', vcpus: 1, memory_mib: 256, disk_gib: 3 }
    await cluster.ok('POST', '/flavors', { flavor })
    await done('POST', `/instances/${uuid}/resize`, { resize: { flavor_uuid: 'larger' } })
    await done('POST', `/instances/${uuid}/start`)
    await boots(4)
    await write('grown')
    const clone = (name: string, more = {}) => ({ instance: { name, ...more } })
    expect(await cluster.request('POST', `/instances/${uuid}/clone`, clone('early'))).toMatchObject({
      status: 409,
      body: { code: 'CONFLICT', detail: expect.stringContaining('stop it') },
    })
    await done('POST', path('off', 'revert'))
    await boots(5)
    expect(await written()).toBe('other')
    expect(await inGuest('cat /sys/block/vda/size')).toBe(String((3 * 1024 ** 3) / 512))
    await done('POST', `/instances/${uuid}/stop`)
    const [copy, older] = await Promise.all([
      done('POST', `/instances/${uuid}/clone`, clone('copy')),
      done('POST', `/instances/${uuid}/clone`, clone('older', { snapshot_uuid: snapshots.off })),
    ])
    clones.push(copy.body.instance.uuid, older.body.instance.uuid)
    for (const name of ['off', 'two']) await done('DELETE', path(name))
    expect((await cluster.ok('GET', path())).body.snapshots).toEqual([])
  })

  test('its clones boot with what it had, and as themselves', async () => {
    for (const each of clones) {
      await boots(1, each)
      expect(await written(each)).toBe('other')
    }
    const [copy = ''] = clones
    const mac = async (of: string) =>
      /52:54:[0-9a-f:]+/.exec(await cluster.virsh('domiflist', `vpe-${of}`))?.[0]
    expect(await mac(copy)).not.toBe(await mac(uuid))
    expect(await inGuest('cat /sys/class/net/eth0/address', copy)).toBe(await mac(copy))
    expect(await inGuest('hostname', copy)).toBe('copy')
    await inGuest(`printf mine. | dd of=/dev/vda bs=1M seek=${SPOT_MIB} count=1 conv=notrunc,fsync`, copy)
    await done('POST', `/instances/${uuid}/start`)
    await boots(6)
    expect(await written()).toBe('other')
    for (const each of clones) await done('DELETE', `/instances/${each}`)
  })

  test('it goes with its instance', async () => {
    await snapshot('last')
    await done('DELETE', `/instances/${uuid}`)
    const events = (await cluster.events()).filter(({ subject }) => subject === `snapshot/${snapshots.last}`)
    expect(events.map(({ type }) => type)).toEqual([
      'vpe.snapshot.creating',
      'vpe.snapshot.created',
      'vpe.snapshot.deleted',
    ])
  })
})
