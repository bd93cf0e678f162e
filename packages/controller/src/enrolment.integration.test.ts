// Joining, with a real controller, its enrolment listener and real TLS: what a token opens, and for whom.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { VpeError } from '@vpe/core'
import {
  decodeJoinToken,
  encodeJoinToken,
  enrol,
  type Joined,
  type MemberFiles,
  memberFiles,
  renew,
} from '@vpe/pki'
import {
  type ControllerServiceClient,
  ControllerServiceDefinition,
  createRpcChannel,
  createRpcClientFactory,
  HostState,
  JoinTokenRole,
  TlsFolder,
} from '@vpe/proto'
import { type Channel, Metadata } from 'nice-grpc'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Controller, createController } from './controller.ts'
import { ClusterSecurity } from './security/cluster-security.ts'
import { SqliteBackend } from './store/sqlite-backend.ts'
import { Store } from './store/store.ts'
import { refusal } from './testing/harness.ts'

const HOST_A = '11111111-1111-4111-8111-111111111111'
const HOST_B = '22222222-2222-4222-8222-222222222222'

let dir: string
let clockMs: number
let controller: Controller
let store: Store
let address: string
let channel: Channel
let client: ControllerServiceClient

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'vpe-enrolment-'))
  clockMs = Date.now()
  await start()
})
afterEach(async () => {
  await stop()
  rmSync(dir, { recursive: true, force: true })
})

async function start(): Promise<void> {
  const stateDir = join(dir, 'controller')
  const names = ['127.0.0.1']
  const security = await ClusterSecurity.open({ stateDir, names, isNatsGuarded: true }, Date.now())
  const now = () => clockMs
  const onFatal = (error: unknown) => expect(error).toBeNull()
  store = await Store.open(new SqliteBackend(join(dir, 'controller.sqlite')), now, onFatal)
  // Filled in once the ports are known.
  const addresses = { enrolment: [] as string[], controller: '', nats: 'nats://10.0.0.9:4222' }
  const log = pino({ level: 'silent' })
  controller = createController({ store, now, log, onFatal, security, addresses })
  address = `127.0.0.1:${await controller.listen('127.0.0.1:0')}`
  addresses.controller = address
  addresses.enrolment.push(`127.0.0.1:${await controller.listenForEnrolment('127.0.0.1:0')}`)
  const folder = new TlsFolder(join(stateDir, 'tls'))
  channel = createRpcChannel(address, { folder, expected: { role: 'controller' } })
  client = createRpcClientFactory().create(ControllerServiceDefinition, channel)
}

async function stop(): Promise<void> {
  channel.close()
  await controller.close()
}

async function token(more: { role?: JoinTokenRole; name?: string; uses?: number; expiresInS?: number } = {}) {
  const answer = await client.createJoinToken({ role: JoinTokenRole.AGENT, ...more })
  return { word: answer.token, uuid: answer.joinToken?.uuid ?? '' }
}

function files(member: string): MemberFiles {
  return memberFiles(join(dir, member))
}

/** Joins as a host. @param member whose folder: another one has another key */
function joinAs(word: string, hostId: string, name: string, member = hostId): Promise<Joined> {
  const facts = { hostname: name, cpus: 4, memoryMib: 8_192, arch: 'x86_64' }
  const listen = (own: string) => `${own}:7702`
  return enrol(decodeJoinToken(word), { ...facts, hostId, name, listen }, files(member))
}

async function refused(call: Promise<unknown>): Promise<VpeError> {
  const error = await refusal(call)
  expect(error.code).toBe('JOIN_TOKEN_REFUSED')
  return error
}

describe('joining by a token', () => {
  test('makes a host that is down until it is heard, with a certificate and NATS credentials of its own', async () => {
    const joined = await joinAs((await token()).word, HOST_A, 'h1')
    expect(joined).toEqual({
      name: 'h1',
      address: '127.0.0.1:7702',
      controllerAddress: address,
      natsUrl: 'nats://10.0.0.9:4222',
      hasNatsCredentials: true,
    })
    const { host } = await client.getHost({ uuid: HOST_A })
    expect(host).toMatchObject({
      name: 'h1',
      address: '127.0.0.1:7702',
      state: HostState.DOWN,
      facts: { cpus: 4 },
    })
    const { tlsDir, natsCredentials } = files(HOST_A)
    expect(new TlsFolder(tlsDir).peer).toEqual({ role: 'agent', name: HOST_A })
    expect(readFileSync(natsCredentials, 'utf8')).toContain('BEGIN NATS USER JWT')
  })

  test('of role api gets a certificate that the controller takes calls by', async () => {
    const { word } = await token({ role: JoinTokenRole.API, name: 'api-1' })
    const nothing = { hostId: '', hostname: '', cpus: 0, memoryMib: 0, arch: '', listen: () => '' }
    const joined = await enrol(decodeJoinToken(word), { ...nothing, name: 'other' }, files('api'))
    expect(joined.name).toBe('api-1')
    const folder = new TlsFolder(files('api').tlsDir)
    const api = createRpcChannel(address, { folder, expected: { role: 'controller' } })
    const calls = createRpcClientFactory().create(ControllerServiceDefinition, api)
    expect(await calls.listHosts({})).toEqual({ hosts: [] })
    api.close()
    await refused(joinAs(word, HOST_A, 'h1'))
  })

  test('gives one that asks again the same, without another host; with a new token, a new address', async () => {
    const { word, uuid } = await token()
    await joinAs(word, HOST_A, 'h1')
    await joinAs(word, HOST_A, 'h1')
    expect(store.joinTokens.get(uuid)?.usedBy).toHaveLength(1)
    await joinAs((await token()).word, HOST_A, 'h1')
    expect([...store.hosts.values()].map(({ name }) => name)).toEqual(['h1'])
  })

  test('gives the place of a host to another key only with a token of its name, and then for good', async () => {
    const first = await token()
    await joinAs(first.word, HOST_A, 'h1')
    const stranger = await refused(joinAs((await token()).word, HOST_A, 'h1', 'other-key'))
    expect(stranger.message).toContain('make a token with its name')
    await joinAs((await token({ name: 'h1' })).word, HOST_A, 'h1', 'other-key')
    expect((await refused(joinAs(first.word, HOST_A, 'h1'))).message).toContain('make a token with its name')
  })

  test('does not let a removed host in again by the token that it had', async () => {
    const { word } = await token()
    await joinAs(word, HOST_A, 'h1')
    await client.deleteHost({ uuid: HOST_A })
    expect((await refused(joinAs(word, HOST_A, 'h1'))).message).toContain('has left')
    expect(store.hosts.size).toBe(0)
  })

  test('refuses a name that another host has, and leaves the token unused', async () => {
    await joinAs((await token()).word, HOST_A, 'h1')
    const second = await token()
    expect(await refusal(joinAs(second.word, HOST_B, 'h1'))).toMatchObject({ code: 'NAME_TAKEN' })
    expect((await joinAs(second.word, HOST_B, 'h2')).name).toBe('h2')
  })
})

describe('a token', () => {
  test('that is used, expired, revoked or wrong is refused, each in its own words', async () => {
    const used = await token()
    await joinAs(used.word, HOST_A, 'h1')
    expect((await refused(joinAs(used.word, HOST_B, 'h2'))).message).toContain(
      `used already, by agent/${HOST_A}`,
    )

    const expiring = await token({ expiresInS: 60 })
    clockMs += 60_000
    expect((await refused(joinAs(expiring.word, HOST_B, 'h2'))).message).toContain('has expired at')

    const revoked = await token()
    await client.deleteJoinToken({ uuid: revoked.uuid })
    expect((await refused(joinAs(revoked.word, HOST_B, 'h2'))).message).toContain('revoked')

    const other = decodeJoinToken((await token()).word)
    const guessed = encodeJoinToken({ ...other, secret: decodeJoinToken(used.word).secret })
    expect((await refused(joinAs(guessed, HOST_B, 'h2'))).message).toContain('not known')
    expect(store.hosts.has(HOST_B)).toBe(false)
  })

  test('with one use lets one of two in that come at once', async () => {
    const { word } = await token()
    const results = await Promise.allSettled([joinAs(word, HOST_A, 'h1'), joinAs(word, HOST_B, 'h2')])
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
    expect(store.hosts.size).toBe(1)
  })

  test('of another cluster is not given to this one', async () => {
    const ours = decodeJoinToken((await token()).word)
    const word = encodeJoinToken({ ...ours, fingerprint: Buffer.alloc(32) })
    expect(await refusal(joinAs(word, HOST_A, 'h1'))).toMatchObject({
      code: 'PERMISSION_DENIED',
      message: expect.stringContaining('is not the cluster of this token'),
    })
  })

  test('is shown once; neither the list nor the store has what makes it work', async () => {
    const metadata = Metadata({ 'idempotency-key': 'k' })
    const answer = await client.createJoinToken({ role: JoinTokenRole.AGENT }, { metadata })
    expect(await client.createJoinToken({ role: JoinTokenRole.AGENT }, { metadata })).toEqual(answer)
    const { secret } = decodeJoinToken(answer.token)
    expect(JSON.stringify(await client.listJoinTokens({}))).not.toContain(secret)
    await stop()
    for (const suffix of ['', '-wal']) {
      const name = join(dir, `controller.sqlite${suffix}`)
      expect(readIfThere(name).includes(secret), name).toBe(false)
    }
    await start()
  })

  test('counts after a restart of the controller, which keeps its CA', async () => {
    const kept = await token()
    await joinAs((await token()).word, HOST_A, 'h1')
    const before = readFileSync(join(dir, 'controller/ca/ca.pem'), 'utf8')
    await stop()
    await start()
    expect(readFileSync(join(dir, 'controller/ca/ca.pem'), 'utf8')).toBe(before)
    await renew(renewal(new TlsFolder(files(HOST_A).tlsDir)))
    const { addresses } = decodeJoinToken((await token()).word)
    const word = encodeJoinToken({ ...decodeJoinToken(kept.word), addresses })
    expect((await joinAs(word, HOST_B, 'h2')).name).toBe('h2')
  })
})

describe('a certificate', () => {
  test('is renewed for its holder, until another key or nobody has its place', async () => {
    await joinAs((await token()).word, HOST_A, 'h1')
    const folder = new TlsFolder(files(HOST_A).tlsDir)
    clockMs += 3_600_000
    const before = folder.validity.toMs
    await renew(renewal(folder))
    expect(folder.validity.toMs).toBeGreaterThan(before)

    await joinAs((await token({ name: 'h1' })).word, HOST_A, 'h1', 'taken-over')
    expect(await refusal(renew(renewal(folder)))).toMatchObject({
      code: 'PERMISSION_DENIED',
      message: expect.stringContaining('joined again with another key'),
    })
    await client.deleteHost({ uuid: HOST_A })
    const taker = new TlsFolder(files('taken-over').tlsDir)
    expect(await refusal(renew(renewal(taker)))).toMatchObject({
      message: expect.stringContaining('no member'),
    })
  })
})

function renewal(folder: TlsFolder) {
  const log = { info: () => {}, error: () => {} }
  return { folder, natsCredentials: undefined, controllerAddress: address, now: Date.now, log }
}

function readIfThere(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch {
    return Buffer.alloc(0)
  }
}

describe('a member', () => {
  const nothing = { hostId: '', hostname: '', cpus: 0, memoryMib: 0, arch: '', listen: () => '' }
  const joinAsApi = async (name: string, member = name) => {
    const { word } = await token({ role: JoinTokenRole.API, name })
    return enrol(decodeJoinToken(word), { ...nothing, name }, files(member))
  }

  function callsOf(member: string) {
    const folder = new TlsFolder(files(member).tlsDir)
    const own = createRpcChannel(address, { folder, expected: { role: 'controller' } })
    return {
      client: createRpcClientFactory().create(ControllerServiceDefinition, own),
      close: () => own.close(),
    }
  }

  test('is listed, and once it is removed its certificate opens nothing, on connections that stand either', async () => {
    await joinAs((await token()).word, HOST_A, 'h1')
    await joinAsApi('web1')
    await joinAsApi('web2')
    expect((await client.listMembers({})).members).toMatchObject([
      { id: `agent/${HOST_A}`, role: JoinTokenRole.AGENT, name: 'h1', hostId: HOST_A },
      { id: 'api/web1', role: JoinTokenRole.API, name: 'web1', hostId: '' },
      { id: 'api/web2', role: JoinTokenRole.API, name: 'web2' },
    ])
    const [web1, web2] = [callsOf('web1'), callsOf('web2')]
    await web1.client.listHosts({})
    for (let time = 0; time < 2; time++) await client.deleteMember({ id: 'api/web1' })
    expect(await refusal(web1.client.listHosts({}))).toMatchObject({
      code: 'PERMISSION_DENIED',
      message: expect.stringContaining('revoked'),
    })
    web1.close()
    const anew = callsOf('web1')
    expect(await refusal(anew.client.listHosts({}))).toMatchObject({ code: 'PERMISSION_DENIED' })
    anew.close()
    await web2.client.listHosts({})
    web2.close()
    expect((await client.listMembers({})).members.map(({ id }) => id)).toEqual([
      `agent/${HOST_A}`,
      'api/web2',
    ])

    await stop()
    await start()
    const later = callsOf('web1')
    expect(await refusal(later.client.listHosts({}))).toMatchObject({ code: 'PERMISSION_DENIED' })
    // With a new token it is one again, and the same key counts.
    await joinAsApi('web1')
    await later.client.listHosts({})
    later.close()
  })

  test('that joins again with another key leaves nothing to who has the old one', async () => {
    await joinAsApi('web1')
    await joinAsApi('web1', 'elsewhere')
    const [old, current] = [callsOf('web1'), callsOf('elsewhere')]
    expect(await refusal(old.client.listHosts({}))).toMatchObject({ code: 'PERMISSION_DENIED' })
    await current.client.listHosts({})
    old.close()
    current.close()
  })

  test('that is unknown is not found; the agent of a host goes with its host', async () => {
    await joinAs((await token()).word, HOST_A, 'h1')
    expect(await refusal(client.deleteMember({ id: 'api/nobody' }))).toMatchObject({ code: 'NOT_FOUND' })
    const id = `agent/${HOST_A}`
    expect(await refusal(client.deleteMember({ id }))).toMatchObject({ code: 'CONFLICT' })
    const [user] = store.members.get(id)?.natsUsers ?? []
    await client.deleteHost({ uuid: HOST_A })
    expect((await client.listMembers({})).members).toEqual([])
    expect([...store.revocations.values()]).toMatchObject([{ memberId: id, natsUsers: [user] }])
    await client.deleteMember({ id })
  })

  test('has each of its NATS users known, also after a renewal', async () => {
    await joinAsApi('web1')
    const [first] = store.members.get('api/web1')?.natsUsers ?? []
    await renew(renewal(new TlsFolder(files('web1').tlsDir)))
    const users = store.members.get('api/web1')?.natsUsers ?? []
    expect(users).toEqual([first, expect.stringMatching(/^U[A-Z2-7]{55}$/)])
    expect(new Set(users).size).toBe(2)
    await client.deleteMember({ id: 'api/web1' })
    expect([...store.revocations.values()]).toMatchObject([{ natsUsers: users }])
  })
})
