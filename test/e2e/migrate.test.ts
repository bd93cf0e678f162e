// A live migration by a user's call, on two hosts: the cluster's own, and another with a libvirtd of its own and a
// real agent process. What they share is a folder, as they would an NFS export.

import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { AgentProcess } from '@vpe/agent/testing/agent-process'
import { TestLab } from '@vpe/agent/testing/lab'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Cluster, until } from './cluster.ts'
import { GuestShell } from './guest-shell.ts'

const cluster = new Cluster()
let lab: TestLab
let agent: AgentProcess
let hosts: { readonly a: string; readonly b: string }
let uuid: string

beforeAll(async () => {
  await cluster.quickstart()
  lab = await TestLab.start({ isReached: true })
  agent = await new AgentProcess({
    VPE_AGENT_STATE_DIR: lab.folder('agent'),
    VPE_LIBVIRT_URI: lab.libvirtUri,
    VPE_NATS_URL: cluster.setting('VPE_NATS_URL'),
    VPE_AGENT_MIGRATION_URI: lab.migrationUri,
  }).ready()
  const b = await cluster.ok('POST', '/hosts', { host: { name: 'b', address: agent.address } })
  const { body } = await cluster.ok('GET', '/hosts')
  const a = body.hosts.find(({ uuid }: { uuid: string }) => uuid !== b.body.host.uuid)
  hosts = { a: a.uuid, b: b.body.host.uuid }
  const path = join(cluster.home, 'shared')
  mkdirSync(path)
  const pool = { name: 'shared', kind: 'dir', path, shared: true, hosts: [hosts.a, hosts.b] }
  await cluster.ok('POST', '/disk_pools', { disk_pool: pool })
  const created = await cluster.ok('POST', '/api/v1/instance', {
    name: 'runner',
    spec: { image: 'demo' },
    shareStorage: true,
    hostIDs: [hosts.a],
  })
  expect(await ended(created.headers)).toMatchObject({ status: 'succeeded' })
  uuid = (await cluster.ok('GET', '/api/v1/instance?name=runner')).body.data.uuid
  await cluster.ok('PUT', '/api/v1/instance', { name: 'runner', hostIDs: [] })
  await until('the guest is up', () => cluster.serialLog(uuid).includes('vpe demo guest'), 240_000)
})
afterAll(async () => {
  await agent?.end('SIGTERM')
  await lab?.[Symbol.asyncDispose]()
  if (existsSync(cluster.home)) await cluster[Symbol.asyncDispose]()
})

const ended = (headers: Headers) => cluster.ended(headers.get('operation-id') ?? '')
const migrate = (body: object) => cluster.ok('POST', `/instances/${uuid}/migrate`, { migrate: body })

async function inGuest(command: string): Promise<string> {
  const shell = await GuestShell.open(cluster, uuid)
  const answer = await shell.run(command)
  shell.close()
  return answer
}

test('called off while it copies, its guest stays', async () => {
  await inGuest('kept=in-memory')
  const { headers } = await migrate({ bandwidth_mib_s: 1 })
  const id = headers.get('operation-id')
  await until('the step says how far it is', async () => {
    const { operation } = (await cluster.ok('GET', `/operations/${id}`)).body
    return /^copied \d+ %, \d+ MiB\/s, \d+ MiB remain$/.test(operation.step)
  })
  const cancelled = await cluster.ok('DELETE', `/instances/${uuid}/migrate`)
  expect(await ended(headers)).toMatchObject({ status: 'cancelled' })
  expect(await ended(cancelled.headers)).toMatchObject({ status: 'succeeded' })
  expect(await cluster.instance(uuid)).toMatchObject({ status: 'active', task: null, host_uuid: hosts.a })
})

test('its guest goes on on the other host, with its memory and its consoles', async () => {
  const { headers } = await migrate({ mode: 'live', host_uuid: 'b' })
  expect(await ended(headers)).toMatchObject({ status: 'succeeded' })
  expect(await cluster.instance(uuid)).toMatchObject({ status: 'active', task: null, host_uuid: hosts.b })
  expect(await lab.virsh('list', '--uuid', '--state-running')).toContain(uuid)
  expect(await cluster.virsh('list', '--all', '--uuid')).not.toContain(uuid)
  expect(await inGuest('echo $kept')).toBe('in-memory')

  const events = (await cluster.events()).filter(({ subject }) => subject === `instance/${uuid}`)
  const moves = events.filter(({ type }) => /migrat/.test(type)).map(({ type, data }) => ({ type, data }))
  const migration = { mode: 'live', from_host_uuid: hosts.a, to_host_uuid: hosts.b }
  const of = (what: string, more = {}) => ({
    type: `vpe.instance.${what}`,
    data: expect.objectContaining({ migration: expect.objectContaining({ ...migration, ...more }) }),
  })
  expect(moves).toEqual([
    of('migrating'),
    of('migration_failed', { fault: 'it was cancelled' }),
    of('migrating'),
    of('migrated', { duration_ms: expect.any(Number), downtime_ms: expect.any(Number) }),
  ])
})
