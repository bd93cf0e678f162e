// One life of an instance, told three ways: on NATS, by GET /events, and to a webhook. Every way tells the same.

import { existsSync } from 'node:fs'
import { type CloudEvent, connectBus } from '@vpe/bus'
import { WebhookReceiver } from '@vpe/controller/testing/webhook-receiver'
import { afterAll, beforeAll, expect, test } from 'vitest'
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

/** Follows /events as an EventSource does, into a list. */
async function follow(into: CloudEvent[], query: string, signal: AbortSignal): Promise<void> {
  const response = await fetch(`${cluster.apiUrl}/events${query}`, { signal })
  if (!response.body) throw new Error('an answer without a body')
  let rest = ''
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) if (line.startsWith('data: ')) into.push(JSON.parse(line.slice(6)))
  }
}

test('create, stop and delete are the same events on NATS, by SSE and at a webhook', async () => {
  await using receiver = await WebhookReceiver.start()
  const hook = await cluster.ok('POST', '/webhooks', {
    webhook: { url: receiver.url, events: ['instance.*'] },
  })
  receiver.secret = hook.body.webhook.secret
  const bus = await connectBus(cluster.setting('VPE_NATS_URL'), 'test')
  const onNats: CloudEvent[] = []
  bus.subscribe('vpe.events.instance.>', { callback: (_error, message) => void onNats.push(message.json()) })
  await bus.flush()
  const bySse: CloudEvent[] = []
  const done = new AbortController()
  const sse = follow(bySse, '?kind=instance', done.signal).catch(() => {})
  await until('the stream is open', async () =>
    (await (await fetch(`${cluster.apiUrl}/metrics`)).text()).includes('vpe_event_streams 1\n'),
  )

  const instance = { name: 'told', ...(await cluster.ingredients()) }
  const created = await cluster.ok('POST', '/instances', { instance })
  const { uuid } = created.body.instance
  const path = `/instances/${uuid}`
  await cluster.ended(created.headers.get('operation-id') ?? '')
  for (const [method, at] of [
    ['POST', `${path}/stop`],
    ['DELETE', path],
  ] as const) {
    const { headers } = await cluster.ok(method, at)
    expect(await cluster.ended(headers.get('operation-id') ?? '')).toMatchObject({ status: 'succeeded' })
  }

  const subject = `instance/${uuid}`
  const ofIt = (events: CloudEvent[]) => events.filter((event) => event.subject === subject)
  const isDeleted = (events: CloudEvent[]) => ofIt(events).at(-1)?.type === 'vpe.instance.deleted'
  const delivered = () => receiver.taken.map(({ event }) => event)
  await until('all three have told the end', () => [onNats, bySse, delivered()].every(isDeleted))
  done.abort()
  await sse
  await bus.close()

  expect(ofIt(onNats).map(({ type }) => type.replace('vpe.instance.', ''))).toEqual([
    'creating',
    'started',
    'stopping',
    'stopped',
    'deleting',
    'deleted',
  ])
  expect(ofIt(bySse)).toEqual(ofIt(onNats))
  expect(ofIt(delivered())).toEqual(ofIt(onNats))
  expect(ofIt(await cluster.events())).toEqual(ofIt(onNats))

  // Whoever comes later is told the same.
  const replayed: CloudEvent[] = []
  const enough = new AbortController()
  const replay = follow(replayed, `?id=${uuid}&since=1h`, enough.signal).catch(() => {})
  await until('it is told again', () => isDeleted(replayed))
  enough.abort()
  await replay
  expect(replayed).toEqual(ofIt(onNats))
})
