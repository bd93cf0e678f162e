// The lab itself: that each host is a machine of its own, that it fails as it is told to, that vpe sees it so,
// and that nothing is left of it. The tests share one lab and go in order: each heals what it cut.

import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Program } from '@vpe/deploy/lab/host-machine'
import { networkParts } from '@vpe/deploy/lab/management-network'
import { cgroupRoot } from '@vpe/deploy/lab/process-group'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { soak } from '../soak-lab/soak.ts'
import { until } from './cluster.ts'
import { LabCluster } from './lab-cluster.ts'
import { testMoves } from './lab-moves.ts'

const cluster = new LabCluster()
const { lab } = cluster
const hostNames = ['h1', 'h2', 'h3'] as const
/** The uuids of the instances, by name. */
const uuids: Record<string, string> = {}
/** Where each of `spread-*` came to be. */
const homes: Record<string, string> = {}

beforeAll(() => cluster.up(hostNames.length))
afterAll(() => cluster[Symbol.asyncDispose]())

async function create(name: string, diskPool: string): Promise<void> {
  const instance = { name, ...(await cluster.ingredients()), disk_pool: diskPool }
  const { body, headers } = await cluster.ok('POST', '/instances', { instance })
  uuids[name] = body.instance.uuid
  expect(await cluster.ended(headers.get('operation-id') ?? '')).toMatchObject({ status: 'succeeded' })
}

const uuidOf = (name: string) => uuids[name] ?? ''
const homeOf = (name: string) => homes[name] ?? ''
const statusOf = async (name: string) => {
  const host = (await lab.status()).hosts.find((each) => each.name === name)
  if (!host) throw new Error(`the status does not tell of ${name}`)
  return host
}
const diskOf = (name: string) => join(lab.sharedFolder, `instance-${uuidOf(name)}.qcow2`)

async function sees(name: string, state: 'up' | 'down'): Promise<void> {
  const isSeen = async () =>
    state === 'up' ? cluster.isReliedOn(name) : (await cluster.hostState(name)) === 'down'
  await until(`vpe sees ${name} ${state}`, isSeen, 120_000)
}

function append(host: string, text: string): Promise<string> {
  return lab.ssh(host, 'sh', '-c', `echo ${text} >>${join(lab.sharedFolder, 'written')}`)
}

const written = () => readFileSync(join(lab.sharedFolder, 'written'), 'utf8')

describe('three hosts', () => {
  test('are machines of their own', async () => {
    const status = await lab.status()
    expect(status.api).toBe(cluster.apiUrl)
    for (const [index, name] of hostNames.entries()) {
      const host = status.hosts[index]
      expect(host).toMatchObject({
        name,
        alive: true,
        partitioned: false,
        isolated: false,
        paused: false,
        domains: [],
      })
      expect(host?.hostId).toBe(await cluster.hostId(name))
      const { body } = await cluster.ok('GET', `/hosts/${host?.hostId}`)
      expect(body.host).toMatchObject({ state: 'up', facts: { hostname: name } })
      expect(body.host.address).toMatch(`${host?.address}:`)
      expect(await lab.ssh(name, 'hostname')).toBe(name)
      expect(await lab.ssh(name, 'cat', '/proc/1/comm')).toBe('tini')
      expect(await lab.ssh(name, 'virsh', 'uri')).toMatch('qemu:///system')
    }
    const bootIds = await Promise.all(
      hostNames.map((name) => lab.ssh(name, 'cat', '/proc/sys/kernel/random/boot_id')),
    )
    expect(new Set(bootIds).size).toBe(3)
  })

  test('share the instances among them, and none of what a host has for itself', async () => {
    await Promise.all(['spread-1', 'spread-2', 'spread-3'].map((name) => create(name, 'shared')))
    for (const name of ['spread-1', 'spread-2', 'spread-3']) {
      const [home = 'nowhere', ...others] = await cluster.runsOn(uuidOf(name))
      expect(others).toEqual([])
      homes[name] = home
    }
    expect(Object.values(homes).sort()).toEqual([...hostNames])

    await create('local', 'local-h2')
    expect(await cluster.runsOn(uuidOf('local'))).toEqual(['h2'])
    expect(existsSync(lab.host('h2').own('disks', `instance-${uuidOf('local')}.qcow2`))).toBe(true)
    expect(existsSync(lab.host('h1').own('disks', `instance-${uuidOf('local')}.qcow2`))).toBe(false)
  })

  test('a host that is asked for is the one that is taken', async () => {
    const asked = {
      name: 'asked',
      spec: { image: 'demo' },
      shareStorage: true,
      hostIDs: [await cluster.hostId('h2')],
    }
    const { headers } = await cluster.ok('POST', '/api/v1/instance', asked)
    expect(await cluster.ended(headers.get('operation-id') ?? '')).toMatchObject({ status: 'succeeded' })
    const { uuid } = (await cluster.ok('GET', '/api/v1/instance?name=asked')).body.data
    expect(await cluster.runsOn(uuid)).toEqual(['h2'])
    const gone = await cluster.ok('DELETE', `/instances/${uuid}`)
    expect(await cluster.ended(gone.headers.get('operation-id') ?? '')).toMatchObject({ status: 'succeeded' })
  })

  test('a disk that runs on one host is locked for the others', async () => {
    const other = hostNames.find((name) => name !== homeOf('spread-1')) ?? ''
    const attempt = lab.ssh(other, 'qemu-io', '-t', 'none', '-c', 'write 0 512', diskOf('spread-1'))
    await expect(attempt).rejects.toThrow('Failed to get "write" lock')
  })
})

test('guard and agent of a host are nobody’s children, and each goes on when the other ends', async () => {
  const host = lab.host('h1')
  const only = (program: Program) => {
    const [pid, ...others] = host.pidsOf(program)
    return others.length === 0 ? pid : undefined
  }
  const another = async (program: Program) => {
    const before = only(program)
    lab.signal('h1', program, 'SIGKILL')
    await until(`another ${program} runs`, () => ![undefined, before].includes(only(program)))
  }
  await until('both run', () => only('guard') !== undefined && only('agent') !== undefined)
  const guard = only('guard')
  await another('agent')
  expect(only('guard')).toBe(guard)
  const agent = only('agent')
  await another('guard')
  expect(only('agent')).toBe(agent)
  await sees('h1', 'up')
})

test('a host that the storage shuts out loses its locks, by the command that the controller calls', async () => {
  const file = join(lab.sharedFolder, 'locked')
  const [command, ...args] = lab.entering('h2', ['flock', file, 'sh', '-c', 'echo locked; cat'])
  const holder = execa(command, args)
  let said = ''
  holder.stdout.on('data', (chunk) => {
    said += chunk
  })
  await until('it is locked', () => said.includes('locked'))
  await expect(lab.ssh('h3', 'flock', '--nonblock', file, 'true')).rejects.toThrow()
  const revoke = (pool: string, host: string) =>
    execa(join(lab.path, 'revoke'), [pool, 'its-uuid', host, 'its-uuid', 'its-address'], { reject: false })
  expect(await revoke('shared', 'h2')).toMatchObject({ exitCode: 0 })
  await lab.ssh('h3', 'flock', '--nonblock', file, 'true')
  holder.stdin.end()
  await holder
  // Of no pool that it does not know, and of no host.
  expect((await revoke('other', 'h2')).exitCode).toBe(2)
  expect((await revoke('shared', 'h9')).exitCode).toBe(1)
  rmSync(file)
})

test('a host that its watchdog resets boots again, and once only', async () => {
  const host = lab.host('h3')
  const bootId = host.bootId() ?? ''
  expect(await lab.reset('h3', bootId)).toBe(true)
  expect(await lab.reset('h3', bootId)).toBe(false)
  expect(host.bootId()).not.toBe(bootId)
  expect(await statusOf('h3')).toMatchObject({ alive: true, resets: 1 })
  await lab.start('h3')
  const isKnown = async () => {
    const { body } = await cluster.ok('GET', `/hosts/${await cluster.hostId('h3')}`)
    return body.host.facts.boot_id === host.bootId()
  }
  await until('vpe knows that it booted', isKnown, 120_000)
  await sees('h3', 'up')
  const names = ['spread-1', 'spread-2', 'spread-3'].filter((name) => homeOf(name) === 'h3')
  for (const name of names)
    await until(
      `${name} runs again`,
      async () => (await cluster.runsOn(uuidOf(name))).join() === 'h3',
      120_000,
    )
})

test('a host that is killed is gone at once, and comes back as itself', async () => {
  const name = homeOf('spread-1')
  const hostId = await cluster.hostId(name)
  const bootId = await lab.ssh(name, 'cat', '/proc/sys/kernel/random/boot_id')
  const processes = lab.host(name).processes()
  const programs = processes.map((pid) => readFileSync(`/proc/${pid}/comm`, 'utf8'))
  expect(programs.filter((program) => program.startsWith('qemu-system'))).not.toEqual([])

  await lab.kill(name)
  expect(lab.host(name).processes()).toEqual([])
  expect(await statusOf(name)).toMatchObject({ alive: false, domains: null })
  expect(await cluster.runsOn(uuidOf('spread-1'))).toEqual([])
  await expect(lab.ssh(name, 'true')).rejects.toThrow('is off')
  await sees(name, 'down')

  await lab.start(name)
  await sees(name, 'up')
  expect((await statusOf(name)).hostId).toBe(hostId)
  const isKnown = async () => (await cluster.ok('GET', `/hosts/${hostId}`)).body.host.facts.boot_id !== bootId
  await until('vpe knows that it booted', isKnown, 120_000)
  // Nobody but a user said that it is to be off.
  const runs = async () => (await cluster.runsOn(uuidOf('spread-1'))).join() === name
  await until('its instance runs again', runs, 120_000)
  await until('and vpe says so', async () => (await cluster.instance(uuidOf('spread-1'))).status === 'active')
})

test('a host that is cut off, and one that is frozen, are down for vpe and keep their guests', async () => {
  const [partitioned, paused] = [homeOf('spread-2'), homeOf('spread-3')]
  await Promise.all([lab.partition(partitioned), lab.pause(paused)])
  expect(await statusOf(partitioned)).toMatchObject({ alive: true, partitioned: true, isolated: false })
  expect(await statusOf(paused)).toMatchObject({
    alive: true,
    partitioned: false,
    paused: true,
    domains: null,
  })
  await Promise.all([sees(partitioned, 'down'), sees(paused, 'down')])
  expect(await cluster.runsOn(uuidOf('spread-2'))).toEqual([partitioned])
  // Its storage is as it was.
  await append(partitioned, 'partitioned')
  expect(written()).toBe('partitioned\n')

  await Promise.all([lab.heal(partitioned), lab.resume(paused)])
  await Promise.all([sees(partitioned, 'up'), sees(paused, 'up')])
  expect(await statusOf(partitioned)).toMatchObject({ partitioned: false })
  for (const name of ['spread-2', 'spread-3'])
    expect(await cluster.runsOn(uuidOf(name))).toEqual([homeOf(name)])
})

test('a host whose storage is cut off waits for it, also with files that are open, while others go on', async () => {
  const name = homeOf('spread-2')
  const other = homeOf('spread-3')
  // Opens the file, says so, and writes when it is told to.
  const file = join(lab.sharedFolder, 'written')
  const script = `exec 3>>${file}; echo open; read go; echo open-before >&3; echo done`
  const [command, ...args] = lab.entering(name, ['sh', '-c', script])
  const writer = execa(command, args)
  let said = ''
  writer.stdout.on('data', (chunk) => {
    said += chunk
  })
  await until('the file is open', () => said.includes('open'))

  await lab.isolate(name)
  expect(await statusOf(name)).toMatchObject({ partitioned: true, isolated: true })
  writer.stdin.write('go\n')
  const late = append(name, 'opened-after')
  await append(other, 'other')
  expect(written()).toBe('partitioned\nother\n')
  expect(said).not.toContain('done')

  await lab.heal(name)
  await Promise.all([writer, late])
  expect(written().split('\n').sort()).toEqual(['', 'open-before', 'opened-after', 'other', 'partitioned'])

  await lab.isolate(name, { fail: true, storageOnly: true })
  expect(await statusOf(name)).toMatchObject({ partitioned: false, isolated: true })
  await expect(append(name, 'never')).rejects.toThrow('Input/output error')
  await lab.heal(name)
  await append(name, 'healed')
  await sees(name, 'up')
})

describe('guests on their way', () => testMoves(cluster))

test('after operations from a seed, several at once, records, agents, libvirt and disks agree', async () => {
  rmSync(join(lab.sharedFolder, 'written'), { force: true })
  const print = (line: string) => void process.stdout.write(`${line}\n`)
  await soak(cluster, { operations: 25, seed: 1, parallel: 4, faults: false, print })
})

test('up repairs what it finds', async () => {
  const [killed, cut, frozen] = hostNames
  await Promise.all([lab.kill(killed), lab.isolate(cut), lab.pause(frozen)])
  process.kill(lab.pidOf('controller'), 'SIGKILL')
  await cluster.up(hostNames.length)
  for (const host of (await lab.status()).hosts)
    expect(host).toMatchObject({ alive: true, partitioned: false, isolated: false, paused: false })
})

test('down leaves nothing, not even of a host whose storage hangs', async () => {
  const prefix = lab.host('h1').place.bridge
  const groups = join(cgroupRoot(), lab.host('h1').place.group.split('/').at(-2) ?? '')
  expect(await networkParts(prefix)).toHaveLength(7)
  expect(existsSync(groups)).toBe(true)
  await lab.isolate('h3')
  // It will wait for ever.
  const lost = append('h3', 'lost').catch(() => 'lost')
  await lab.down()
  expect(await lost).toBe('lost')
  expect(existsSync(lab.path)).toBe(false)
  // The kernel takes apart what was killed in its own time.
  await until('no part of its network is left', async () => (await networkParts(prefix)).length === 0)
  await until('no group is left', () => !existsSync(groups))
  await until('no mount is left', () => !readFileSync('/proc/mounts', 'utf8').includes(lab.path))
  await until('no process is left', async () => {
    const { stdout } = await execa('ps', ['-eo', 'args'])
    return !stdout.includes(lab.path)
  })
})
