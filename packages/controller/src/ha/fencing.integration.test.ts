// Hooks and fence agents that are real programs, and drills through the real protocol.

import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { DiskPoolRecord, HostRecord } from '@vpe/core'
import { PillScope } from '@vpe/proto'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { FakeAgent } from '../testing/fake-agent.ts'
import { FakeLeaseStorage, FakePoolGuard } from '../testing/fake-pool-guard.ts'
import { Harness, refusal, until } from '../testing/harness.ts'
import { FenceAgents } from './fence-agents.ts'
import { RevokeHooks } from './revoke-hooks.ts'

let dir = ''
const agents: FakeAgent[] = []
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'vpe-fencing-'))
})
afterEach(() => {
  for (const agent of agents.splice(0)) agent.stop()
  rmSync(dir, { recursive: true, force: true })
})

function script(name: string, ...lines: readonly string[]): string {
  const file = join(dir, name)
  writeFileSync(file, ['#!/bin/sh', ...lines, ''].join('\n'))
  chmodSync(file, 0o755)
  return file
}

const lines: string[] = []
const log = pino({ level: 'trace' }, { write: (line) => void lines.push(line) })
const host = { name: 'h1', uuid: 'host-1', address: '[fd00::1]:7702' } as HostRecord
const pool = { name: 'a pool; rm', uuid: 'pool-1' } as DiskPoolRecord
const soon = () => AbortSignal.timeout(20_000)

test('a hook is told who is to be shut out of what, and its word counts', async () => {
  const hook = script('hook', `printf '%s\\n' "$@" > ${dir}/told`)
  const hooks = new RevokeHooks(hook, log)
  expect(hooks.canRevoke(pool.uuid, 'E')).toBe(true)
  expect(await hooks.revoke(host, pool, 'E', soon())).toBe(true)
  const told = readFileSync(join(dir, 'told'), 'utf8').trim().split('\n')
  expect(told).toEqual(['a pool; rm', 'pool-1', 'h1', 'host-1', 'fd00::1'])
  script('hook', 'exit 1')
  expect(await hooks.revoke(host, pool, 'E', soon())).toBe(false)
  expect(hooks.canRevoke(pool.uuid, 'E')).toBe(true)
})

test('hooks of a folder are asked in turn; where none is for a pool, there is no way to revoke', async () => {
  const hooks = new RevokeHooks(dir, log)
  expect(hooks.canRevoke(pool.uuid, 'E')).toBe(false)
  script('10-first', 'exit 2')
  writeFileSync(join(dir, 'README'), 'no program')
  hooks.look()
  expect(hooks.canRevoke(pool.uuid, 'E')).toBe(true)
  expect(await hooks.revoke(host, pool, 'E', soon())).toBe(false)
  hooks.look()
  expect(hooks.canRevoke(pool.uuid, 'E')).toBe(false)
  script('20-second', 'exit 0')
  hooks.look()
  expect(await hooks.revoke(host, pool, 'E', soon())).toBe(true)
})

test('a hook that hangs is killed at the deadline, with what it has started', async () => {
  script('hook', `sleep 600 & echo $! > ${dir}/child; wait`)
  const hooks = new RevokeHooks(join(dir, 'hook'), log)
  const deadline = new AbortController()
  const revoked = hooks.revoke(host, pool, 'E', deadline.signal)
  const pid = () => (existsSync(join(dir, 'child')) ? Number(readFileSync(join(dir, 'child'), 'utf8')) : 0)
  await until('it has started another', () => pid() > 0)
  deadline.abort()
  expect(await revoked).toBe(false)
  const child = pid()
  await until('it is gone', () => !isAlive(child))
})

function isAlive(pid: number): boolean {
  try {
    // One that nobody has waited for yet is a zombie.
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}

const RECIPES = new URL('../../../../deploy/ha-hooks/', import.meta.url).pathname

/** A Linux NFS server that drops a client when it is told to, behind an ssh that goes nowhere. */
test('the recipe for Linux NFS servers ends the client of that address, and confirms nothing else', async () => {
  const clients = join(dir, 'clients')
  for (const [id, address] of [
    ['7', '10.0.0.11:883'],
    ['8', '10.0.0.1:700'],
    ['9', '[fd00::1]:821'],
  ] as const) {
    mkdirSync(join(clients, id), { recursive: true })
    writeFileSync(join(clients, id, 'info'), `clientid: 0x1\naddress: "${address}"\nname: "Linux"\n`)
  }
  copyFileSync(join(RECIPES, 'knfsd'), join(dir, 'knfsd'))
  writeFileSync(join(dir, 'knfsd.conf'), `pool pool-1 root@filer ${clients}\nhost host-2 10.0.0.11\n`)
  script('ssh', 'while [ "$1" != -- ]; do shift; done; shift', 'exec sh -s -- "$@"')
  const server = setInterval(() => {
    for (const id of readdirSync(clients))
      if (existsSync(join(clients, id, 'ctl'))) rmSync(join(clients, id), { recursive: true })
  }, 50)
  const path = process.env.PATH
  process.env.PATH = `${dir}:${path}`
  try {
    const hooks = new RevokeHooks(join(dir, 'knfsd'), log)
    expect(await hooks.revoke(host, pool, 'E', soon())).toBe(true)
    expect(readdirSync(clients)).toEqual(['7', '8'])
    // By another address than its agent's, as the recipe was told.
    expect(await hooks.revoke({ ...host, uuid: 'host-2' } as HostRecord, pool, 'E', soon())).toBe(true)
    expect(readdirSync(clients)).toEqual(['8'])
    // Nobody knows it: that proves nothing.
    expect(await hooks.revoke(host, pool, 'E', soon())).toBe(false)
    expect(await hooks.revoke(host, { ...pool, uuid: 'pool-2' } as DiskPoolRecord, 'E', soon())).toBe(false)
    expect([hooks.canRevoke('pool-1', 'E'), hooks.canRevoke('pool-2', 'E')]).toEqual([true, false])
    // Whose writes need no locks is not shut out by losing them.
    expect(
      await hooks.revoke({ ...host, uuid: 'host-3', address: '10.0.0.1:1' } as HostRecord, pool, 'T', soon()),
    ).toBe(false)
    expect([hooks.canRevoke('pool-1', 'T'), readdirSync(clients)]).toEqual([false, ['8']])
  } finally {
    clearInterval(server)
    process.env.PATH = path
  }
})

/** It keeps what it is told, and its machine is off two looks after it was switched off. */
function fenceAgent(): void {
  script(
    'fence_fake',
    `cat > ${dir}/said; cat ${dir}/said >> ${dir}/all`,
    `echo "verbose: $(cat ${dir}/said)" >&2`,
    `case $(sed -n 's/^action=//p' ${dir}/said) in`,
    `off) echo x > ${dir}/off ;;`,
    `status) [ -e ${dir}/off ] || exit 0; echo x >> ${dir}/off; [ $(wc -l < ${dir}/off) -ge 3 ] && exit 2; exit 0 ;;`,
    '*) exit 1 ;;',
    'esac',
  )
}

const power = { agent: 'fence_fake', options: { ip: '10.0.0.1' }, secrets: { password: 'hunter2' } }

test('a host is off when its power reads back as off, and nothing secret is logged', async () => {
  fenceAgent()
  const fence = new FenceAgents(dir, log)
  expect((await fence.status(power, soon())).status).toBe('on')
  lines.length = 0
  expect(await fence.off('host-1', power, soon())).toBe(true)
  const said = readFileSync(join(dir, 'all'), 'utf8')
  expect(said).toContain('ip=10.0.0.1\npassword=hunter2\naction=off\n')
  expect(said).not.toMatch(/reboot|cycle/)
  expect(lines.join('')).toContain('password=***')
  expect(lines.join('')).not.toContain('hunter2')
})

test('an agent that fails, or is not there, has switched nothing off', async () => {
  const fence = new FenceAgents(dir, log)
  expect(await fence.off('host-1', power, soon())).toBe(false)
  script('fence_fake', 'cat > /dev/null; exit 1')
  expect(await fence.off('host-1', power, soon())).toBe(false)
  expect((await fence.status(power, soon())).status).toBe('unknown')
})

async function twoHosts(harness: Harness) {
  await harness.start()
  const storage = new FakeLeaseStorage()
  const markers = new Map<string, string>()
  const [first, second] = await Promise.all([FakeAgent.start(), FakeAgent.start()])
  for (const [index, agent] of [first, second].entries()) {
    agents.push(agent)
    agent.markers = markers
    agent.poolGuard = new FakePoolGuard(agent.hostId, storage)
    await harness.client.createHost({ name: `h${index + 1}`, address: agent.address })
  }
  const nfs = { server: 'filer', export: '/vpe', options: '' }
  const { diskPool } = await harness.client.createDiskPool({ name: 'nfs', kind: 'nfs', nfs })
  await until('leases are there', () =>
    [first, second].every(({ poolGuard: guard }) =>
      guard?.leases.some(({ poolUuid }) => poolUuid === diskPool?.uuid),
    ),
  )
  return { first, second, storage }
}

test('a drill goes the whole way, keeps what it found, and ends nothing', async () => {
  await using harness = new Harness()
  harness.haPoolSettings = { profile: 'default', revokeCommand: null, fenceAgentDir: dir }
  fenceAgent()
  const { first, storage } = await twoHosts(harness)
  const uuid = first.hostId
  const { host: shown } = await harness.client.setHostPower({ uuid, power })
  expect(shown?.power).toEqual({
    agent: 'fence_fake',
    options: { ip: '10.0.0.1' },
    secretNames: ['password'],
  })

  const { host } = await harness.client.drillHost({ uuid })
  expect(host?.drill).toMatchObject({
    isOk: true,
    steps: [{ what: 'lease' }, { what: 'sighting' }, { what: 'pill' }, { what: 'power' }],
  })
  expect(storage.pills).toMatchObject([{ scope: PillScope.NONE, instances: [], slot: 0 }])

  if (!first.poolGuard) throw new Error('it has one')
  first.poolGuard.lostPools.add(first.poolGuard.leases[0]?.poolUuid ?? '')
  const failed = await harness.client.drillHost({ uuid })
  expect(failed.host?.drill).toMatchObject({ isOk: false, steps: [{ isOk: false }, { isOk: false }, {}] })
  first.poolGuard.lostPools.clear()
  await harness.client.preflightHost({ uuid })
  const red = (await harness.client.getHost({ uuid })).host?.conditions.find(({ type }) => type === 'HaReady')
  expect(red?.message).toMatch(/last drill failed: its lease in nfs is lost/)
  // It outlives the controller.
  await harness.stop()
  await harness.start()
  const after = await harness.client.getHost({ uuid })
  expect(after.host?.drill?.isOk).toBe(false)
  expect(after.host?.power?.agent).toBe('fence_fake')
  await harness.client.setHostPower({ uuid })
  expect((await harness.client.getHost({ uuid })).host?.power).toBeUndefined()
  const bad = harness.client.setHostPower({ uuid, power: { ...power, options: { action: 'reboot' } } })
  expect((await refusal(bad)).message).toMatch(/never reboot/)
})

test('a drill is refused where it makes no sense', async () => {
  await using harness = new Harness()
  const { first, second } = await twoHosts(harness)
  await harness.client.createFlavor({ name: 'tiny', vcpus: 1, memoryMib: 256, diskGib: 1 })
  await harness.client.createImage({ name: 'demo', url: 'file:///demo.qcow2' })
  await until('the image is active', () =>
    [...harness.store.images.values()].every(({ status }) => status === 'active'),
  )
  await harness.client.createInstance({ name: 'i', flavor: 'tiny', image: 'demo', hostIds: [first.hostId] })
  const refused = await refusal(harness.client.drillHost({ uuid: first.hostId }))
  expect(refused).toMatchObject({ code: 'CONFLICT', message: expect.stringMatching(/has 1 instance/) })
  const poolUuid = [...harness.store.diskPools.keys()][0] ?? ''
  await harness.client.updateDiskPool({ uuid: poolUuid, protection: { wantedClass: 'N' } })
  await until('it is of class N', () => harness.store.poolLeases.get(poolUuid)?.poolClass === 'N')
  const unprotected = await refusal(harness.client.drillHost({ uuid: second.hostId }))
  expect(unprotected.message).toMatch(/no disk pool that is protected: nfs: it was set to N/)
})
