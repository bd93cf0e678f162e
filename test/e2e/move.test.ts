// A move, on two hosts: the cluster's own, and another with a libvirtd of its own and a real agent process.
// What they share is a folder, as they would an NFS export.

import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { AgentProcess } from '@vpe/agent/testing/agent-process'
import { TestLab } from '@vpe/agent/testing/lab'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Cluster, until } from './cluster.ts'
import { GuestShell } from './guest-shell.ts'

const PATH = '/api/v1/instance'
/** Beyond the file system of the demo image, and within its disk: what is written there nobody but us reads. */
const SPOT = 'bs=1M seek=900 count=1 conv=notrunc,fsync'

const cluster = new Cluster()
let lab: TestLab
let agent: AgentProcess
let hosts: { readonly a: string; readonly b: string }
let uuid: string

beforeAll(async () => {
  await cluster.quickstart()
  lab = await TestLab.start()
  agent = await startAgent()
  const b = await cluster.ok('POST', '/hosts', { host: { name: 'b', address: agent.address } })
  const { body } = await cluster.ok('GET', '/hosts')
  const a = body.hosts.find(({ uuid }: { uuid: string }) => uuid !== b.body.host.uuid)
  hosts = { a: a.uuid, b: b.body.host.uuid }
  const path = join(cluster.home, 'shared')
  mkdirSync(path)
  const pool = { name: 'shared', kind: 'dir', path, shared: true, hosts: [hosts.a, hosts.b] }
  await cluster.ok('POST', '/disk_pools', { disk_pool: pool })

  const created = await cluster.ok('POST', PATH, {
    name: 'mover',
    spec: { image: 'demo' },
    shareStorage: true,
    hostIDs: [hosts.a],
  })
  await succeeded(created.headers)
  uuid = (await view()).uuid
})
afterAll(async () => {
  await agent?.end('SIGTERM')
  await lab?.[Symbol.asyncDispose]()
  if (existsSync(cluster.home)) await cluster[Symbol.asyncDispose]()
})

/** An agent that knows no images: a disk that it finds is all that it has. */
function startAgent(listen = '127.0.0.1:0'): Promise<AgentProcess> {
  return new AgentProcess({
    VPE_AGENT_LISTEN: listen,
    VPE_AGENT_STATE_DIR: lab.folder('agent'),
    VPE_LIBVIRT_URI: lab.libvirtUri,
    VPE_NATS_URL: cluster.setting('VPE_NATS_URL'),
    UV_THREADPOOL_SIZE: '16',
  }).ready()
}

const view = async () => (await cluster.ok('GET', `${PATH}?name=mover`)).body.data

async function succeeded(headers: Headers): Promise<void> {
  const operation = await cluster.ended(headers.get('operation-id') ?? '')
  expect(operation).toMatchObject({ status: 'succeeded' })
}

async function inGuest(command: string): Promise<string> {
  const shell = await GuestShell.open(cluster, uuid)
  const answer = await shell.run(command)
  shell.close()
  return answer
}

/** The hosts whose libvirtd runs it, asked of both. */
async function runningOn(): Promise<string> {
  const [onA, onB] = await Promise.all([
    cluster.runningDomains(),
    lab.virsh('list', '--uuid').then((text) => text.split(/\s+/)),
  ])
  return [onA.includes(uuid) ? 'a' : '', onB.includes(uuid) ? 'b' : ''].join('')
}

/** Where it ran while something was done: each place once, in order; what is too short to be seen is left out. */
async function watch(work: () => Promise<unknown>): Promise<string[]> {
  const seen = [await runningOn()]
  let isOver = false
  const watching = (async () => {
    while (!isOver) {
      const now = await runningOn()
      // Both are asked one after the other: it may have gone over meanwhile, and has not once it is seen so again.
      if (now === 'ab' && (await runningOn()) !== 'ab') continue
      if (now !== seen.at(-1)) seen.push(now)
    }
  })()
  try {
    await work()
  } finally {
    isOver = true
    await watching
  }
  return seen
}

test('a host that is no longer allowed is left for one that is, with all that was written', async () => {
  await until('the guest is up', () => cluster.serialLog(uuid).includes('vpe demo guest'))
  await inGuest(`printf written | dd of=/dev/vda ${SPOT}`)
  const seen = await watch(async () => {
    const { headers, body } = await cluster.ok('PUT', PATH, { name: 'mover', hostIDs: [hosts.b] })
    expect(body).toMatchObject({ code: 200, message: 'create succeed' })
    expect(await view()).toMatchObject({ task: 'migrating', hostID: hosts.b, hostIDs: [hosts.b] })
    const { body: old } = await cluster.request('DELETE', `/hosts/${hosts.a}`)
    expect(old).toMatchObject({ code: 'IN_USE' })
    await succeeded(headers)
  })
  expect(seen.filter((where) => where !== '')).toEqual(['a', 'b'])
  expect(await view()).toMatchObject({ status: 'active', task: null, hostID: hosts.b })
  expect(await cluster.virsh('list', '--all', '--uuid')).not.toContain(uuid)
  const serialLog = join(lab.folder('agent'), 'console', `${uuid}.log`)
  const isUp = () => readFileSync(serialLog, 'utf8').includes('vpe demo guest')
  await until('the guest is up there', isUp)
  const answer = await inGuest(`dd if=/dev/vda bs=1M skip=900 count=1 2>/dev/null | head -c 7`)
  expect(answer).toBe('written')

  const events = (await cluster.events()).filter(({ subject }) => subject === `instance/${uuid}`)
  const kinds = events
    .map(({ type }) => type.slice('vpe.instance.'.length))
    .filter((kind) => kind !== 'updated')
  expect(kinds).toEqual(['creating', 'started', 'migrating', 'released', 'migrated'])
})

test('while its host is away it stays there, and moves once that is back', async () => {
  const stopped = await cluster.ok('POST', `/instances/${uuid}/stop`)
  await succeeded(stopped.headers)
  await agent.end('SIGKILL')
  const { headers } = await cluster.ok('PUT', PATH, { name: 'mover', hostIDs: [hosts.a] })
  const id = headers.get('operation-id')
  await until('its operation says what it waits for', async () => {
    const { operation } = (await cluster.ok('GET', `/operations/${id}`)).body
    return operation.status === 'running' && operation.step.includes('b has to let go of it first')
  })
  expect(await cluster.virsh('list', '--all', '--uuid')).not.toContain(uuid)

  agent = await startAgent(agent.address)
  await succeeded(headers)
  expect(await view()).toMatchObject({ status: 'shutoff', task: null, hostID: hosts.a })
  expect(await lab.virsh('list', '--all', '--uuid')).not.toContain(uuid)
  expect(await cluster.virsh('list', '--all', '--uuid')).toContain(uuid)
})

test('an instance on storage of one host stays, and says why', async () => {
  const { body } = await cluster.ok('GET', '/disk_pools')
  const local = body.disk_pools.find(({ shared }: { shared: boolean }) => !shared)
  const instance = { name: 'settler', ...(await cluster.ingredients()), disk_pool: local.uuid }
  const { headers } = await cluster.ok('POST', '/instances', { instance })
  await succeeded(headers)
  const { hostID } = (await cluster.ok('GET', `${PATH}?name=settler`)).body.data
  const other = hostID === hosts.a ? hosts.b : hosts.a
  expect(await cluster.request('PUT', PATH, { name: 'settler', hostIDs: [other] })).toMatchObject({
    status: 409,
    body: {
      code: 409,
      message: 'create failed',
      data: { error: expect.stringContaining('is local to that host') },
    },
  })
})
