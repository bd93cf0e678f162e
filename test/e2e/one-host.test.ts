// A cluster of one, from nothing, as its user sees it. The tests share one cluster and go in order: each
// leaves it as it found it.

import { randomUUID } from 'node:crypto'
import { existsSync, readdirSync } from 'node:fs'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Cluster, until } from './cluster.ts'

const cluster = new Cluster()
let isUp = false

beforeAll(async () => {
  await cluster.quickstart()
  isUp = true
})
afterAll(async () => {
  if (isUp || existsSync(cluster.home)) await cluster[Symbol.asyncDispose]()
})

async function create(name: string, more: object = {}, headers: Record<string, string> = {}) {
  const { body, headers: answered } = await cluster.ok(
    'POST',
    '/instances',
    { instance: { name, ...(await cluster.ingredients()), ...more } },
    headers,
  )
  return { uuid: body.instance.uuid as string, operation: answered.get('operation-id') ?? '' }
}

async function remove(uuid: string): Promise<void> {
  const { headers } = await cluster.ok('DELETE', `/instances/${uuid}`)
  expect(await cluster.ended(headers.get('operation-id') ?? '')).toMatchObject({ status: 'succeeded' })
}

/** Kills a process as hard as it gets, and waits until it is gone. */
async function killHard(service: string): Promise<void> {
  const pid = cluster.pidOf(service)
  process.kill(pid, 'SIGKILL')
  await until(`${service} is gone`, () => {
    try {
      process.kill(pid, 0)
      return false
    } catch {
      return true
    }
  })
}

describe('after deploy/quickstart', () => {
  test('an instance is active, its domain runs, and its guest speaks', async () => {
    const [demo] = await cluster.instances()
    expect(demo).toMatchObject({ status: 'active', task: null })
    expect(await cluster.runningDomains()).toEqual([demo?.uuid])
    await until('the guest’s own words are on its serial line', () =>
      cluster.serialLog(demo?.uuid ?? '').includes('vpe demo guest'),
    )
  })

  test('a second run changes nothing and says the same', async () => {
    const before = await cluster.instances()
    expect(await cluster.quickstart()).toContain(cluster.apiUrl)
    expect(await cluster.instances()).toEqual(before)
  })
})

describe('an instance', () => {
  test('goes through its life, and libvirt agrees at each step', async () => {
    const { uuid, operation } = await create('life')
    expect(await cluster.instance(uuid)).toMatchObject({ task: 'creating' })
    expect(await cluster.ended(operation)).toMatchObject({ status: 'succeeded' })
    expect(await cluster.runningDomains()).toContain(uuid)
    expect(await cluster.instance(uuid)).toMatchObject({ status: 'active', task: null })

    await until('its guest is up', () => cluster.serialLog(uuid).includes('vpe demo guest'))
    const stop = await cluster.ok('POST', `/instances/${uuid}/stop`, {})
    expect(await cluster.ended(stop.headers.get('operation-id') ?? '')).toMatchObject({ status: 'succeeded' })
    expect(await cluster.runningDomains()).not.toContain(uuid)
    expect(await cluster.instance(uuid)).toMatchObject({ status: 'shutoff' })

    const start = await cluster.ok('POST', `/instances/${uuid}/start`, {})
    expect(await cluster.ended(start.headers.get('operation-id') ?? '')).toMatchObject({
      status: 'succeeded',
    })
    expect(await cluster.runningDomains()).toContain(uuid)

    await remove(uuid)
    expect(await cluster.virsh('list', '--all', '--uuid')).not.toContain(uuid)
    expect(readdirSync(`${cluster.home}/disks`).filter((file) => file.includes(uuid))).toEqual([])
    expect((await cluster.request('GET', `/instances/${uuid}`)).status).toBe(404)
  })

  test('asked for five times with one key is made once', async () => {
    const headers = { 'idempotency-key': randomUUID() }
    const answers = await Promise.all([1, 2, 3, 4, 5].map(() => create('once', {}, headers)))
    expect(new Set(answers.map(({ uuid }) => uuid)).size).toBe(1)
    expect((await cluster.instances()).filter(({ name }) => name === 'once')).toHaveLength(1)
    const [{ uuid, operation } = { uuid: '', operation: '' }] = answers
    await cluster.ended(operation)
    await remove(uuid)
  })

  test('made in one dialect shows in the other', async () => {
    const { image_uuid } = await cluster.ingredients()
    const [host] = (await cluster.ok('GET', '/hosts')).body.hosts
    const created = await cluster.ok('POST', '/api/v1/instance', {
      name: 'both',
      namespace: 'test',
      spec: { image: image_uuid },
      shareStorage: false,
      hostIDs: [host.uuid],
    })
    expect(created.body).toEqual({
      code: 200,
      message: 'create succeed',
      data: { name: expect.stringMatching(/^[0-9a-v]{20}$/) },
    })
    await until('it is active', async () =>
      (await cluster.instances()).some(({ name, status }) => name === 'both' && status === 'active'),
    )
    const seen = await cluster.ok('GET', `/api/v1/instance?name=${created.body.data.name}`)
    expect(seen.body).toMatchObject({
      code: 200,
      message: 'get succeed',
      data: { spec: { image: 'demo' }, imageID: image_uuid, hostIDs: [host.uuid] },
    })
    const again = await cluster.request('POST', '/api/v1/instance', {
      name: 'both',
      namespace: 'test',
      spec: { image: image_uuid },
    })
    expect(again).toMatchObject({
      status: 409,
      body: { code: 409, message: 'create failed', data: { error: 'database conflict' } },
    })
    const deleted = await cluster.ok('DELETE', '/api/v1/instance', { name: 'both', namespace: 'test' })
    expect(deleted.body).toEqual({ code: 200, message: 'delete succeed', data: created.body.data })
    await until('it is gone', async () => (await cluster.instances()).every(({ name }) => name !== 'both'))
    const unknown = await cluster.request('DELETE', '/api/v1/instance', { name: 'both', namespace: 'test' })
    expect(unknown).toMatchObject({
      status: 404,
      body: { code: 404, message: 'delete failed', data: { error: 'host id not fount', podIPs: [] } },
    })
  })

  test('that is highly available is back at once when its QEMU is killed', async () => {
    const { uuid, operation } = await create('ha', { ha: true })
    await cluster.ended(operation)
    const pid = await qemuPid(uuid)
    process.kill(pid, 'SIGKILL')
    await until(
      'another QEMU runs it',
      async () => (await qemuPid(uuid)) !== pid && (await qemuPid(uuid)) > 0,
    )
    await until('it is active again', async () => (await cluster.instance(uuid)).status === 'active')
    await until('its recovery is on record', async () => {
      const events = (await cluster.events()).filter(({ subject }) => subject === `instance/${uuid}`)
      return events.some(({ data }) => data.restarts === 1)
    })
    await remove(uuid)
  })

  async function qemuPid(uuid: string): Promise<number> {
    const { stdout } = await execa('pgrep', ['-f', `^[^ ]*qemu-system[^ ]* .*-uuid ${uuid}`], {
      reject: false,
    })
    return Number(stdout.split('\n')[0] ?? 0)
  }
})

describe('bad input', () => {
  test('gets a clear error in its own dialect, and changes nothing', async () => {
    const good = { name: 'bad', ...(await cluster.ingredients()) }
    const before = await cluster.instances()
    const unknown = randomUUID()
    const cases: [string, string, unknown, number][] = [
      ['POST', '/instances', '{"instance": {"name": ', 400],
      ['POST', '/instances', { instance: { ...good, name: 5 } }, 400],
      ['POST', '/instances', { instance: { ...good, name: 'x'.repeat(10_000) } }, 400],
      ['POST', '/instances', { instance: { ...good, flavor_uuid: unknown } }, 400],
      ['POST', '/instances', { instance: { ...good, image_uuid: unknown } }, 400],
      ['POST', '/instances', { instance: { ...good, name: before[0]?.name } }, 409],
      ['POST', '/flavors', { flavor: { name: 'f', vcpus: -1, memory_mib: 64, disk_gib: 1 } }, 400],
      ['POST', '/flavors', { flavor: { name: 'f', vcpus: 1, memory_mib: 64, disk_gib: -1 } }, 400],
      ['GET', `/instances/${unknown}`, undefined, 404],
      ['DELETE', `/instances/${unknown}`, undefined, 404],
      ['POST', `/instances/${unknown}/start`, {}, 404],
      ['POST', '/instances', `{"instance": "${'x'.repeat(50 * 1024 ** 2)}"}`, 413],
      ['POST', '/api/v1/instance', '{', 400],
      [
        'POST',
        '/api/v1/instance',
        { name: 'bad', spec: { image: good.image_uuid }, hostIDs: [unknown] },
        400,
      ],
      ['POST', '/api/v1/instance', { name: 'bad', spec: { image: unknown } }, 400],
      ['POST', '/api/v1/instance', { name: 'x'.repeat(10_000), spec: { image: good.image_uuid } }, 400],
      ['GET', '/api/v1/instance?name=nobody', undefined, 404],
    ]
    for (const [method, path, body, status] of cases) {
      const answer = await cluster.request(method, path, body)
      expect(answer.status, `${method} ${path} ${JSON.stringify(answer.body)}`).toBe(status)
      if (path.startsWith('/api/v1')) {
        expect(answer.body).toMatchObject({
          code: status,
          message: expect.stringMatching(/failed$/),
          data: { error: expect.stringMatching(/.+/) },
        })
      } else {
        expect(answer.headers.get('content-type')).toContain('application/problem+json')
        expect(answer.body).toMatchObject({
          status,
          title: expect.any(String),
          detail: expect.stringMatching(/.{10}/),
        })
      }
    }
    expect(await cluster.instances()).toEqual(before)
  })
})

describe('processes die', () => {
  test('the controller, in the middle of ten creations: all ten become active, none twice, none lost', async () => {
    const names = Array.from({ length: 10 }, (_none, index) => `ten-${index}`)
    const created = await Promise.all(names.map((name) => create(name)))
    await killHard('controller')
    await cluster.quickstart()
    for (const { uuid, operation } of created) {
      expect(await cluster.ended(operation)).toMatchObject({ status: 'succeeded' })
      expect(await cluster.instance(uuid)).toMatchObject({ status: 'active', task: null })
    }
    const running = await cluster.runningDomains()
    for (const { uuid } of created) expect(running.filter((each) => each === uuid)).toHaveLength(1)
    expect((await cluster.instances()).filter(({ name }) => name.startsWith('ten-'))).toHaveLength(10)

    const ofTen = async () =>
      (await cluster.events()).filter(({ subject }) =>
        created.some(({ uuid }) => subject === `instance/${uuid}`),
      )
    await until('every change is on the stream', async () => (await ofTen()).length >= 20)
    const events = await ofTen()
    expect(new Set(events.map(({ id }) => id)).size).toBe(events.length)
    for (const { uuid } of created) {
      const types = events.filter(({ subject }) => subject === `instance/${uuid}`).map(({ type }) => type)
      expect(types).toEqual(['vpe.instance.creating', 'vpe.instance.started'])
    }
    await Promise.all(created.map(({ uuid }) => remove(uuid)))
  })

  test('the agent: guests run on, and it knows them when it is back', async () => {
    const { uuid, operation } = await create('agentless')
    await cluster.ended(operation)
    const before = await cluster.virsh('domid', uuid)
    await killHard('agent')
    expect(await cluster.runningDomains()).toContain(uuid)
    await cluster.quickstart()
    expect(await cluster.virsh('domid', uuid)).toBe(before)
    const stop = await cluster.ok('POST', `/instances/${uuid}/stop`, {})
    expect(await cluster.ended(stop.headers.get('operation-id') ?? '')).toMatchObject({ status: 'succeeded' })
    await remove(uuid)
  })

  test('libvirtd: guests run on, the agent reconnects by itself, and events flow again', async () => {
    const { uuid, operation } = await create('daemonless')
    await cluster.ended(operation)
    const agent = cluster.pidOf('agent')
    await killHard('libvirtd')
    await cluster.quickstart()
    expect(cluster.pidOf('agent')).toBe(agent)
    expect(await cluster.runningDomains()).toContain(uuid)
    await cluster.virsh('destroy', uuid)
    await until(
      'the agent has seen it',
      async () =>
        (await cluster.instance(uuid)).status === 'shutoff' || (await cluster.instance(uuid)).task !== null,
    )
    await until('it is at rest', async () => (await cluster.instance(uuid)).task === null)
    await remove(uuid)
  })

  test('everything: a later quickstart brings back what there was', async () => {
    const before = (await cluster.instances()).map(({ uuid, name }) => ({ uuid, name }))
    for (const service of ['api', 'controller', 'agent', 'nats']) await killHard(service)
    await cluster.quickstart()
    expect((await cluster.instances()).map(({ uuid, name }) => ({ uuid, name }))).toEqual(before)
    await until('all are active', async () =>
      (await cluster.instances()).every(({ status }) => status === 'active'),
    )
  })
})

describe('deploy/quickstart down', () => {
  test('leaves no process and no domain, and up again brings the instances back', async () => {
    const before = await cluster.instances()
    await cluster.quickstart('down')
    const { stdout } = await execa('pgrep', ['-af', cluster.home], { reject: false })
    expect(stdout).toBe('')
    await cluster.quickstart()
    await until('the instances are back', async () =>
      (await cluster.instances()).every(({ status, task }) => status === 'active' && task === null),
    )
    expect((await cluster.instances()).map(({ uuid }) => uuid)).toEqual(before.map(({ uuid }) => uuid))
    expect(await cluster.runningDomains()).toEqual(before.map(({ uuid }) => uuid).sort())
  })
})
