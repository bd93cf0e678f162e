// A real nats-server by the configuration that is written for it: who may publish and hear what there.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { jetstreamManager } from '@nats-io/jetstream'
import type { NatsConnection } from '@nats-io/nats-core'
import {
  type BusAccess,
  changedSubject,
  connectBus,
  EVENTS_STREAM,
  EVENTS_SUBJECTS,
  EventLog,
  EventStream,
  HEARTBEAT_SUBJECTS,
  heartbeatSubject,
} from '@vpe/bus'
import { TestNatsServer } from '@vpe/bus/testing'
import { writeDurably } from '@vpe/pki'
import { TestCluster } from '@vpe/pki/testing'
import { pino } from 'pino'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { SqliteBackend } from '../store/sqlite-backend.ts'
import { Store } from '../store/store.ts'
import { change } from '../store/tables.ts'
import { CONFIGURATION, NatsAccounts, type NatsUser } from './nats-accounts.ts'
import { NatsRevoker } from './nats-revoker.ts'

const DAY_MS = 86_400_000

let cluster: TestCluster
let accounts: NatsAccounts
let server: TestNatsServer
let url: string
const open: NatsConnection[] = []

beforeAll(async () => {
  cluster = await TestCluster.make()
  accounts = await NatsAccounts.open(join(cluster.dir, 'nats'))
  const { path: tlsDir } = await cluster.member('nats-tls', { role: 'nats', name: '' })
  // Port and folder are the test server's business.
  const written = await accounts.serverConfiguration({ listen: '127.0.0.1:4222', tlsDir })
  const text = written.replace(/^(listen|jetstream).*$/gm, '')
  const configuration = join(cluster.dir, 'nats-server.conf')
  await writeDurably(configuration, text)
  server = await TestNatsServer.start(['-c', configuration])
  url = server.url.replace('nats://', 'tls://')
})
afterAll(async () => {
  await Promise.all(open.map((connection) => connection.close()))
  await server?.[Symbol.asyncDispose]()
  cluster?.[Symbol.dispose]()
})

interface User {
  readonly connection: NatsConnection
  readonly publicKey: string
  /** Subjects that the server refused. */
  readonly refused: string[]
}

async function connectAs(user: NatsUser, untilMs: number | null = Date.now() + DAY_MS): Promise<User> {
  const name = `${user.kind}-${open.length}`
  const credentials = join(cluster.dir, `${name}.creds`)
  const { text, user: publicKey } = await accounts.credentials(user, untilMs)
  await writeDurably(credentials, text)
  const tls = await cluster.member(name, { role: 'api', name })
  const access: BusAccess = { credentials, tls: tls.forNats }
  const connection = await connectBus(url, name, () => {}, access)
  open.push(connection)
  const refused: string[] = []
  void (async () => {
    for await (const status of connection.status())
      if (status.type === 'error') refused.push(String(status.error.message))
  })()
  return { connection, refused, publicKey }
}

test('an agent speaks for its own host, and hears nobody', async () => {
  const controller = await connectAs({ kind: 'controller' }, null)
  const heard: string[] = []
  controller.connection.subscribe('vpe.>', { callback: (_error, { subject }) => void heard.push(subject) })
  await controller.connection.flush()
  const agent = await connectAs({ kind: 'agent', hostId: 'a' })

  agent.connection.publish(heartbeatSubject('b'), 'x')
  agent.connection.publish('vpe.events.host.a.created', 'x')
  agent.connection.publish(changedSubject('a'), '')
  agent.connection.publish(heartbeatSubject('a'), 'x')
  await expect.poll(() => heard).toEqual([changedSubject('a'), heartbeatSubject('a')])
  await expect.poll(() => agent.refused.length).toBe(2)
  expect(agent.refused.join()).toMatch(/publish.*vpe\.host\.b\.heartbeat/i)

  for (const subject of [HEARTBEAT_SUBJECTS, 'vpe.events.>', '_INBOX.>']) {
    const subscription = agent.connection.subscribe(subject)
    await expect.poll(() => subscription.isClosed()).toBe(true)
  }
})

test.each<NatsUser>([
  { kind: 'api', name: 'w' },
  { kind: 'watcher', name: 'w', mayConsume: true },
])('the controller keeps the event stream; %o reads and replays it, and changes nothing', async (user) => {
  const controller = await connectAs({ kind: 'controller' }, null)
  const stream = await EventStream.open(controller.connection, 'store')
  const before = await stream.lastPublished()
  const event = { kind: 'host', id: 'h', what: 'created', data: {} } as const
  const publish = (...positions: readonly number[]) =>
    stream.publish(positions.map((position) => ({ position, atMs: 0, event })))
  const published = [before + 1, before + 2, before + 3]
  await publish(...published)

  const watcher = await connectAs(user)
  const log = await EventLog.open(watcher.connection)
  const { epoch, last } = await log.bounds()
  expect(last).toBe(before + 3)
  expect(await log.positionAt(Date.now() + DAY_MS)).toEqual({ epoch, sequence: last })
  const done = new AbortController()
  const replayed: number[] = []
  for await (const item of log.follow({ epoch, sequence: before }, { signal: done.signal })) {
    replayed.push(item.position.sequence)
    if (replayed.length === 3) done.abort()
  }
  expect(replayed).toEqual(published)

  const live: string[] = []
  watcher.connection.subscribe('vpe.events.>', { callback: (_error, { subject }) => void live.push(subject) })
  await watcher.connection.flush()
  await publish(before + 4)
  await expect.poll(() => live).toEqual(['vpe.events.host.h.created'])

  const refusedBefore = watcher.refused.length
  watcher.connection.publish('vpe.events.host.h.created', 'forged')
  watcher.connection.publish('$JS.API.STREAM.PURGE.VPE_EVENTS', '')
  watcher.connection.publish('$JS.API.STREAM.DELETE.VPE_EVENTS', '')
  watcher.connection.publish(heartbeatSubject('h'), 'forged')
  await expect.poll(() => watcher.refused.length - refusedBefore).toBe(4)
  expect((await log.bounds()).last).toBe(before + 4)
  const subscription = watcher.connection.subscribe(HEARTBEAT_SUBJECTS)
  await expect.poll(() => subscription.isClosed()).toBe(true)
})

test('a watcher hears what happens and reads what has happened by its number, and makes nothing', async () => {
  const controller = await connectAs({ kind: 'controller' }, null)
  const stream = await EventStream.open(controller.connection, 'watched')
  await stream.lastPublished()
  const event = { kind: 'host', id: 'w', what: 'created', data: {} } as const
  await stream.publish([1, 2].map((position) => ({ position, atMs: 0, event })))

  const watcher = await connectAs({ kind: 'watcher', name: 'w', mayConsume: false })
  const heard: string[] = []
  watcher.connection.subscribe(EVENTS_SUBJECTS, {
    callback: (_error, { subject }) => void heard.push(subject),
  })
  await watcher.connection.flush()
  await stream.publish([{ position: 3, atMs: 0, event }])
  await expect.poll(() => heard).toEqual(['vpe.events.host.w.created'])

  // As docs/events.md tells it: the next one of a subject from a number on.
  const read: number[] = []
  for (let seq = 1; ; seq = (read.at(-1) ?? 0) + 1) {
    const request = JSON.stringify({ seq, next_by_subj: 'vpe.events.host.w.>' })
    const answer = await watcher.connection.request('$JS.API.STREAM.MSG.GET.VPE_EVENTS', request)
    const { error, message } = answer.json<{ error?: { code: number }; message?: { seq: number } }>()
    if (error) {
      expect(error.code).toBe(404)
      break
    }
    read.push(message?.seq ?? 0)
  }
  expect(read).toHaveLength(3)

  const push = {
    stream_name: EVENTS_STREAM,
    config: { deliver_subject: heartbeatSubject('h'), ack_policy: 'none' },
  }
  const forbidden: [string, string][] = [
    [`$JS.API.CONSUMER.CREATE.${EVENTS_STREAM}`, JSON.stringify(push)],
    [`$JS.API.CONSUMER.CREATE.${EVENTS_STREAM}.c.vpe.events.>`, JSON.stringify(push)],
    [`$JS.API.CONSUMER.DURABLE.CREATE.${EVENTS_STREAM}.d`, JSON.stringify(push)],
    ['$JS.API.STREAM.CREATE.MINE', JSON.stringify({ name: 'MINE', subjects: ['mine'] })],
    [`$JS.API.STREAM.UPDATE.${EVENTS_STREAM}`, '{}'],
    [`$JS.API.STREAM.PURGE.${EVENTS_STREAM}`, ''],
    [`$JS.API.STREAM.MSG.DELETE.${EVENTS_STREAM}`, JSON.stringify({ seq: 1 })],
    ['vpe.events.host.w.created', 'forged'],
    [heartbeatSubject('h'), 'forged'],
  ]
  for (const [subject, payload] of forbidden) watcher.connection.publish(subject, payload)
  await expect.poll(() => watcher.refused.length).toBe(forbidden.length)
  const manager = await jetstreamManager(controller.connection)
  expect(await manager.streams.names().next()).toEqual([EVENTS_STREAM])
  expect((await manager.streams.info(EVENTS_STREAM)).state.consumer_count).toBe(0)
})

test('a member that was removed is taken off NATS, at once and for good; others stay', async () => {
  const credentials = join(cluster.dir, 'system.creds')
  await writeDurably(credentials, await accounts.systemCredentials())
  const tls = await cluster.member('system', { role: 'controller', name: '' })
  const system = await connectBus(url, 'system', () => {}, { credentials, tls: tls.forNats })
  open.push(system)
  const onFatal = (error: unknown) => expect(error).toBeNull()
  const store = await Store.open(new SqliteBackend(join(cluster.dir, 'c.sqlite')), Date.now, onFatal)
  const revoker = new NatsRevoker({ store, accounts, log: pino({ level: 'silent' }) })
  await writeDurably(
    join(accounts.folder, CONFIGURATION),
    await accounts.serverConfiguration({ listen: '127.0.0.1:4222', tlsDir: null }),
  )
  try {
    revoker.attach(system)
    const [removed, stays] = [
      await connectAs({ kind: 'watcher', name: 'removed', mayConsume: false }),
      await connectAs({ kind: 'watcher', name: 'stays', mayConsume: false }),
    ]
    let isLost = false
    void removed.connection.closed().then(() => {
      isLost = true
    })
    void (async () => {
      for await (const { type } of removed.connection.status()) if (type === 'disconnect') isLost = true
    })()
    const { publicKey } = removed
    // As of now: what the same user is given from the next second on would count.
    await store.commit([
      change.revocation({
        keySha256: 'k',
        memberId: 'api/x',
        natsUsers: [publicKey],
        revokedAtMs: Date.now(),
      }),
    ])
    await expect.poll(() => isLost, { timeout: 100_000 }).toBe(true)
    await stays.connection.flush()
    const words = readFileSync(join(accounts.folder, CONFIGURATION), 'utf8')
    const jwt = /^ {2}A\w+: (\S+)$/m.exec(words)?.[1] ?? ''
    const claims = JSON.parse(Buffer.from(jwt.split('.')[1] ?? '', 'base64url').toString())
    expect(Object.keys(claims.nats.revocations)).toEqual([publicKey])
    // What init would write says so, too.
    const again = await accounts.serverConfiguration({ listen: '127.0.0.1:1', tlsDir: null })
    const second = /^ {2}A\w+: (\S+)$/m.exec(again)?.[1] ?? ''
    const kept = JSON.parse(Buffer.from(second.split('.')[1] ?? '', 'base64url').toString())
    expect(Object.keys(kept.nats.revocations)).toEqual([publicKey])
  } finally {
    revoker.close()
    await store.close()
  }
})

test('keys are made once: the configuration and old credentials stay good', async () => {
  const again = await NatsAccounts.open(accounts.folder)
  const key = (text: string) => /resolver_preload \{\n {2}(\w+):/.exec(text)?.[1]
  const [one, two] = await Promise.all(
    [accounts, again].map((each) => each.serverConfiguration({ listen: '127.0.0.1:1', tlsDir: null })),
  )
  expect(key(two ?? '')).toBe(key(one ?? ''))
  expect(readFileSync(join(accounts.folder, 'account.nk'), 'utf8')).toMatch(/^SA/)
})
