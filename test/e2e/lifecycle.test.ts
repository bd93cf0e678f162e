// What a user does to a running guest, and what that guest makes of it. The tests share one guest and go in
// order: each leaves it running.

import { existsSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Cluster, until } from './cluster.ts'
import { GuestShell } from './guest-shell.ts'

/** Beyond the file system of the demo image, and within its disk: what is written there nobody but us reads. */
const SPOT = 'bs=1M seek=900 count=1 conv=notrunc,fsync'

const cluster = new Cluster()
let uuid: string
let demoFlavor: string

beforeAll(async () => {
  await cluster.quickstart()
  const ingredients = await cluster.ingredients()
  demoFlavor = ingredients.flavor_uuid
  const instance = { name: 'life', ...ingredients, ha: true }
  const created = await cluster.ok('POST', '/instances', { instance })
  uuid = created.body.instance.uuid
  await cluster.ended(created.headers.get('operation-id') ?? '')
  await boots(1)
})
afterAll(async () => {
  if (existsSync(cluster.home)) await cluster[Symbol.asyncDispose]()
})

/** How often the guest has come up: what it says then is on its serial line. */
const bootCount = () => cluster.serialLog(uuid).split('vpe demo guest').length - 1

async function boots(count: number): Promise<void> {
  await until(`the guest is up for time ${count}`, () => bootCount() >= count)
  expect(bootCount()).toBe(count)
}

async function act(action: string, body?: object): Promise<void> {
  const answer = await cluster.ok('POST', `/instances/${uuid}/${action}`, body)
  expect(answer.body).toEqual({ instance: { uuid } })
  const operation = await cluster.ended(answer.headers.get('operation-id') ?? '')
  expect(operation).toMatchObject({ status: 'succeeded' })
}

async function inGuest(...commands: string[]): Promise<string[]> {
  const shell = await GuestShell.open(cluster, uuid)
  const answers: string[] = []
  for (const command of commands) answers.push(await shell.run(command))
  shell.close()
  return answers
}

const state = async () => (await cluster.virsh('domstate', `vpe-${uuid}`)).trim()

const written = async () => {
  const [text] = await inGuest(`dd if=/dev/vda bs=1M skip=900 count=1 2>/dev/null | head -c 7 | tr '\\0' .`)
  return text
}

describe('reboot', () => {
  test('soft: the guest shuts down and comes up once, with what it has written', async () => {
    await inGuest(`printf written | dd of=/dev/vda ${SPOT}`)
    await act('reboot')
    await boots(2)
    expect(await written()).toBe('written')
  })

  test('hard: it comes up once, too', async () => {
    await act('reboot', { reboot: { type: 'hard' } })
    await boots(3)
  })

  test('by the guest itself is nobody else’s affair', async () => {
    const shell = await GuestShell.open(cluster, uuid)
    shell.type('reboot -f')
    await boots(4)
    shell.close()
    expect(await cluster.instance(uuid)).toMatchObject({ status: 'active', task: null })
  })

  test('of whatever kind, is no crash of a highly available guest', async () => {
    const events = (await cluster.events()).filter(({ subject }) => subject === `instance/${uuid}`)
    const kinds = events.map(({ type }) => type.slice('vpe.instance.'.length))
    expect(kinds.filter((kind) => kind === 'rebooted')).toHaveLength(2)
    expect(kinds.filter((kind) => kind.startsWith('recover'))).toEqual([])
    expect(events.at(-1)?.data).toMatchObject({ restarts: 0 })
  })
})

describe('pause', () => {
  test('keeps the guest as it is, until it is resumed', async () => {
    await inGuest('echo $((6*7)) >/tmp-kept')
    await act('pause')
    expect(await state()).toBe('paused')
    expect(await cluster.instance(uuid)).toMatchObject({ status: 'paused', task: null })
    const { body } = await cluster.ok('GET', '/instances?status=paused')
    expect(body.instances).toHaveLength(1)
    const refused = await cluster.request('POST', `/instances/${uuid}/reboot`)
    expect(refused).toMatchObject({
      status: 409,
      body: { code: 'CONFLICT', detail: expect.stringContaining('resume or stop it') },
    })

    await act('resume')
    expect(await state()).toBe('running')
    expect(await inGuest('cat /tmp-kept')).toEqual(['42'])
    expect(bootCount()).toBe(4)
  })

  test('by somebody’s virsh is seen, and left alone until a user resumes it', async () => {
    await cluster.virsh('suspend', `vpe-${uuid}`)
    await until('it shows', async () => {
      const { status, task } = await cluster.instance(uuid)
      return status === 'paused' && task === null
    })
    expect(await state()).toBe('paused')
    await act('start')
    expect(await inGuest('cat /tmp-kept')).toEqual(['42'])
  })
})

describe('resize', () => {
  test('with a restart gives the guest another size', async () => {
    const flavor = { name: 'larger', vcpus: 2, memory_mib: 384, disk_gib: 3 }
    await cluster.ok('POST', '/flavors', { flavor })
    const refused = await cluster.request('POST', `/instances/${uuid}/resize`, {
      resize: { flavor_uuid: 'larger' },
    })
    expect(refused).toMatchObject({
      status: 409,
      body: { code: 'CONFLICT', detail: expect.stringContaining('"restart": true') },
    })
    const before = await inGuest('nproc', 'cat /proc/meminfo | head -1', 'cat /sys/block/vda/size')

    await act('resize', { resize: { flavor_uuid: 'larger', restart: true } })
    await boots(5)
    const [cpus, memory, sectors] = await inGuest(
      'nproc',
      'cat /proc/meminfo | head -1',
      'cat /sys/block/vda/size',
    )
    expect([before[0], cpus]).toEqual(['1', '2'])
    const kib = (line = '') => Number(/\d+/.exec(line)?.[0])
    expect(kib(memory) - kib(before[1])).toBeGreaterThan(100 * 1024)
    expect(Number(sectors) * 512).toBe(3 * 1024 ** 3)
    expect(await written()).toBe('written')

    const shrunk = await cluster.request('POST', `/instances/${uuid}/resize`, {
      resize: { flavor_uuid: demoFlavor, restart: true },
    })
    expect(shrunk).toMatchObject({ status: 409, body: { detail: expect.stringContaining('3.0 GiB') } })
  })
})

describe('a locked instance', () => {
  test('is neither deleted nor rebuilt, in either dialect', async () => {
    await act('lock')
    expect(await cluster.instance(uuid)).toMatchObject({ locked: true })
    const reason = expect.stringContaining('unlock it first')
    for (const [method, path] of [
      ['DELETE', `/instances/${uuid}`],
      ['POST', `/instances/${uuid}/rebuild`],
    ] as const) {
      expect(await cluster.request(method, path)).toMatchObject({ status: 409, body: { detail: reason } })
    }
    expect(await cluster.request('DELETE', '/api/v1/instance?name=life')).toMatchObject({
      status: 409,
      body: { code: 409, message: 'delete failed', data: { error: reason } },
    })
    await act('unlock')
  })
})

describe('rebuild', () => {
  test('gives the guest its disk as it was in the beginning, and nothing else', async () => {
    expect(await written()).toBe('written')
    await act('rebuild')
    await boots(6)
    expect(await written()).toBe('.......')
    expect((await inGuest('cat /sys/block/vda/size'))[0]).toBe(String((3 * 1024 ** 3) / 512))
  })

  test('leaves it to be deleted like any other', async () => {
    const { headers } = await cluster.ok('DELETE', `/instances/${uuid}`)
    expect(await cluster.ended(headers.get('operation-id') ?? '')).toMatchObject({ status: 'succeeded' })
  })
})
