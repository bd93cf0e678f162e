// High availability on real hosts, as far as a lab has them: guests that keep journals, and one fault of each kind that takes no minutes. More of
// them, at random and for as long as one likes: test/nemesis. With the profile that has the longer times: where storage stands still for six seconds
// because the machine does, `fast` moves guests, and rightly so.

import { afterAll, beforeAll, expect, test } from 'vitest'
import { nemesis } from '../nemesis-lab/nemesis.ts'
import { until } from './cluster.ts'
import { LabCluster } from './lab-cluster.ts'

const cluster = new LabCluster(undefined, { VPE_LAB_HA_PROFILE: 'default' })

beforeAll(() => cluster.up(3))
afterAll(() => cluster[Symbol.asyncDispose]())

test('whatever happens to hosts and guests, each guest runs on, and on one host', async () => {
  const print = (line: string) => void process.stdout.write(`${line}\n`)
  const cases = ['guest-crash', 'guard-kill', 'agent-kill', 'host-kill', 'isolate']
  await nemesis(cluster, { seed: 1, guests: 2, profile: 'default', cases, print })
})

test('an empty host shows that it can be fenced', async () => {
  const { body } = await cluster.ok('POST', `/hosts/${await cluster.hostId('h2')}/drill`)
  expect(body.host.drill).toMatchObject({ ok: true })
})

test('what is not protected from the loss of its host says so before, says why meanwhile, and is started when its host is back', async () => {
  const create = async (name: string, ha: boolean, disk_pool: string) => {
    const instance = { name, flavor_uuid: 'tiny-96', image_uuid: 'demo', ha, disk_pool }
    const { body } = await cluster.ok('POST', '/instances', { instance })
    const { uuid } = body.instance
    await until(`${name} runs`, async () => (await cluster.instance(uuid)).status === 'active')
    return uuid as string
  }
  const [plain, local, guarded] = await cluster.onlyOn('h2', () =>
    Promise.all([
      create('plain', false, 'shared'),
      create('local', true, 'local-h2'),
      create('guarded', true, 'shared'),
    ]),
  )
  const { body } = await cluster.ok('GET', `/hosts/${await cluster.hostId('h2')}/what-if-lost`)
  const fates = new Map(body.what_if.instances.map((fate: { uuid: string }) => [fate.uuid, fate]))
  expect(fates.get(guarded)).toMatchObject({ outcome: 'starts', expected_ms: expect.any(Number) })
  expect(fates.get(local)).toMatchObject({ outcome: 'stays', why: expect.stringContaining('local-h2') })

  await cluster.lab.kill('h2')
  for (const uuid of [plain, local])
    await until(`${uuid} is reported`, async () => (await cluster.instance(uuid)).status === 'error')
  expect((await cluster.instance(plain)).fault).toMatch(/^host h2 .*; it is not highly available$/)
  expect((await cluster.instance(local)).fault).toMatch(/^host h2 .*its disk is in local pool local-h2/)
  await until('the guarded one runs elsewhere', async () => {
    const { status, host } = await cluster.instance(guarded)
    return status === 'active' && host !== 'h2'
  })
  expect(await cluster.runningOn(plain)).toEqual([])
  expect(await cluster.runningOn(local)).toEqual([])

  await cluster.lab.start('h2')
  for (const uuid of [plain, local]) {
    await until(`${uuid} runs again`, async () => (await cluster.instance(uuid)).status === 'active')
    expect(await cluster.runningOn(uuid)).toEqual(['h2'])
  }
})
