// GET /events as a client sees it: real HTTP, real NATS.

import { once } from 'node:events'
import type { Server } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { jetstreamManager } from '@nats-io/jetstream'
import type { NatsConnection } from '@nats-io/nats-core'
import { connectBus, EVENTS_STREAM, EventStream } from '@vpe/bus'
import { TestNatsServer } from '@vpe/bus/testing'
import { pino } from 'pino'
import { Registry } from 'prom-client'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createApp } from '../app.ts'
import { createFakeController } from '../fake-controller.ts'
import { createHttpServer, stopHttpServer } from '../server.ts'
import type { EventStreamLimits } from './event-streams.ts'
import { connectToLog, type LogConnection } from './log-connection.ts'

const HOST_ID = 'b0000000-0000-4000-8000-000000000001'
const VM_ID = 'a0000000-0000-4000-8000-000000000001'

let nats: TestNatsServer
let bus: NatsConnection
let stream: EventStream
let published = 0
let connection: LogConnection
let server: Server
let url: string
let stopping: AbortController
let logLines: Record<string, unknown>[]
const clients: AbortController[] = []

beforeAll(async () => {
  nats = await TestNatsServer.start()
  bus = await connectBus(nats.url, 'test')
})
afterAll(async () => {
  await bus?.close()
  await nats?.[Symbol.asyncDispose]()
})

beforeEach(async () => {
  const manager = await jetstreamManager(bus)
  await manager.streams.delete(EVENTS_STREAM).catch(() => {})
  stream = await EventStream.open(bus, 'store')
  await stream.lastPublished()
  published = 0
  await startNode()
})
afterEach(async () => {
  for (const client of clients.splice(0)) client.abort()
  await stopNode()
})

async function startNode(eventStreamLimits: EventStreamLimits = {}): Promise<void> {
  stopping = new AbortController()
  logLines = []
  const log = pino({ level: 'info' }, { write: (line: string) => void logLines.push(JSON.parse(line)) })
  connection = connectToLog(nats.url, log)
  const app = createApp({
    controller: createFakeController(),
    log,
    limits: { stopping: stopping.signal },
    currentLog: connection.current,
    eventStreamLimits,
    registry: new Registry(),
  })
  server = createHttpServer(app)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/events`
  await expect.poll(() => connection.current()).not.toBeNull()
}

async function stopNode(): Promise<void> {
  stopping.abort()
  await stopHttpServer(server, 1_000)
  await connection.close()
}

/** Publishes so many events more: by turns about an instance and a host. */
async function publish(count: number, padding = ''): Promise<void> {
  const entries = Array.from({ length: count }, () => {
    const isOfHost = ++published % 2 === 0
    const event = {
      kind: isOfHost ? ('host' as const) : ('instance' as const),
      id: isOfHost ? HOST_ID : VM_ID,
      what: isOfHost ? 'up' : 'started',
      data: { number: published, padding },
    }
    return { position: published, atMs: 0, event }
  })
  await stream.publish(entries)
}

const numbers = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_none, index) => from + index)

interface SseEvent {
  readonly id: string
  readonly event: string
  readonly data: string
}

/** Reads a stream as an EventSource does. */
class SseClient {
  readonly events: SseEvent[] = []
  readonly comments: string[] = []
  lastEventId = ''
  retry = ''
  isOver = false
  readonly #going = new AbortController()

  static async open(query = '', headers: Record<string, string> = {}): Promise<SseClient> {
    const client = new SseClient()
    clients.push(client.#going)
    const response = await fetch(url + query, { headers, signal: client.#going.signal })
    if (response.status !== 200) throw new Error(`${response.status} ${await response.text()}`)
    expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8')
    expect(response.headers.get('x-request-id')).toMatch(/./)
    client.#read(response).catch(() => {})
    await expect.poll(() => client.lastEventId).not.toBe('')
    return client
  }

  close(): void {
    this.#going.abort()
  }

  numbers(): number[] {
    return this.events.flatMap(({ event, data }) => (event === 'message' ? JSON.parse(data).data.number : []))
  }

  async got(count: number): Promise<number[]> {
    await expect.poll(() => this.numbers().length).toBeGreaterThanOrEqual(count)
    return this.numbers()
  }

  async #read(response: Response): Promise<void> {
    let rest = ''
    for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
      const blocks = (rest + chunk).split('\n\n')
      rest = blocks.pop() ?? ''
      for (const block of blocks) this.#take(block)
    }
    this.isOver = true
  }

  #take(block: string): void {
    let event = 'message'
    const data: string[] = []
    for (const line of block.split('\n')) {
      const [, field, value = ''] = /^(\w*): ?(.*)$/.exec(line) ?? []
      if (field === '') this.comments.push(value)
      if (field === 'id') this.lastEventId = value
      if (field === 'event') event = value
      if (field === 'retry') this.retry = value
      if (field === 'data') data.push(value)
    }
    if (data.length > 0) this.events.push({ id: this.lastEventId, event, data: data.join('\n') })
  }
}

describe('GET /events', () => {
  test('tells of what happens from now on, as it is on the stream', async () => {
    await publish(3)
    const client = await SseClient.open()
    expect(client.retry).toBe('1000')
    await publish(2)
    expect(await client.got(2)).toEqual([4, 5])
    const manager = await jetstreamManager(bus)
    const message = await manager.streams.getMessage(EVENTS_STREAM, { seq: 5 })
    expect(client.events[1]).toEqual({
      id: expect.stringMatching(/^\d+-5$/),
      event: 'message',
      data: message?.string(),
    })
  })

  test('goes on exactly where a client was cut off, again and again', async () => {
    const client = await SseClient.open('?since=1970-01-01T00:00:00Z')
    let lastEventId = client.lastEventId
    client.close()
    const seen: number[] = []
    while (seen.length < 120) {
      await publish(40)
      // The URL stays as it was first; the header is what counts.
      const next = await SseClient.open('?since=1h', { 'last-event-id': lastEventId })
      await next.got(17)
      next.close()
      seen.push(...next.numbers())
      lastEventId = next.lastEventId
    }
    expect(seen).toEqual(numbers(1, seen.length))
  })

  test('cut off before its first event, misses none', async () => {
    await publish(2)
    const client = await SseClient.open()
    client.close()
    await publish(2)
    const next = await SseClient.open(`?lastEventId=${client.lastEventId}`)
    expect(await next.got(2)).toEqual([3, 4])
  })

  test.each([
    ['?kind=host', [2, 4, 6]],
    [`?id=${VM_ID.toUpperCase()}`, [1, 3, 5]],
    ['?kind=instance&what=started', [1, 3, 5]],
    ['?what=up', [2, 4, 6]],
  ])('%s: only those', async (query, expected) => {
    const client = await SseClient.open(`${query}&since=1h`)
    await publish(6)
    expect(await client.got(3)).toEqual(expected)
  })

  test('replays from a time, and from an event', async () => {
    await publish(10)
    const all = await SseClient.open('?since=1h')
    expect(await all.got(10)).toEqual(numbers(1, 10))
    const some = await SseClient.open(`?since=${all.events[6]?.id}`)
    expect(await some.got(3)).toEqual([8, 9, 10])
  })

  test('says what it cannot tell any more, and goes on', async () => {
    await publish(5)
    const client = await SseClient.open('?since=1h')
    await client.got(5)
    client.close()
    const first = client.events[0]?.id ?? ''
    await publish(5)
    await (await jetstreamManager(bus)).streams.purge(EVENTS_STREAM, { seq: 9 })
    const next = await SseClient.open('', { 'last-event-id': first })
    expect(await next.got(2)).toEqual([9, 10])
    expect(next.events[0]).toMatchObject({ event: 'gap', id: expect.stringMatching(/-8$/) })
    expect(JSON.parse(next.events[0]?.data ?? '')).toEqual({
      after: first,
      resumes_after: expect.stringMatching(/-8$/),
      why: expect.stringMatching(/keeps no event before number 9/),
    })
  })

  test.each([
    ['?kind=instnace', {}, 'kind'],
    ['?id=7', {}, 'id'],
    ['?what=*', {}, 'what'],
    ['?since=yesterday', {}, 'since'],
    ['?subject=x', {}, 'subject'],
    ['', { 'last-event-id': 'nonsense' }, 'Last-Event-ID'],
  ])('%s %j is refused', async (query, headers: Record<string, string>, field) => {
    const response = await fetch(url + query, { headers })
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ code: 'INVALID_ARGUMENT', errors: [{ field }] })
  })

  test('HEAD opens nothing', async () => {
    const response = await fetch(url, { method: 'HEAD' })
    expect(response.status).toBe(200)
    expect(await metric('vpe_event_streams')).toBe(0)
  })
})

async function metric(name: string): Promise<number> {
  const text = await (await fetch(url.replace('/events', '/metrics'))).text()
  return Number(new RegExp(`^${name} (.+)$`, 'm').exec(text)?.[1])
}

async function consumers(): Promise<number> {
  return (await (await jetstreamManager(bus)).streams.info(EVENTS_STREAM)).state.consumer_count
}

describe('an open stream', () => {
  test('is counted and logged, and leaves nothing behind when its client goes', async () => {
    const client = await SseClient.open()
    await publish(1)
    await client.got(1)
    expect(await metric('vpe_event_streams')).toBe(1)
    expect(logLines).toContainEqual(
      expect.objectContaining({ msg: 'request', path: '/events', status: 200, ms: expect.any(Number) }),
    )
    expect(await consumers()).toBe(1)
    client.close()
    await expect.poll(consumers).toBe(0)
    await expect.poll(() => metric('vpe_event_streams')).toBe(0)
    expect(logLines).toContainEqual(
      expect.objectContaining({ msg: 'event stream closed', why: 'the client is gone', sent: 1 }),
    )
  })

  test('has a heartbeat', async () => {
    await stopNode()
    await startNode({ heartbeatMs: 20 })
    const client = await SseClient.open()
    await expect.poll(() => client.comments.length).toBeGreaterThan(3)
    await publish(1)
    expect(await client.got(1)).toEqual([1])
  })

  test('ends at once when the node stops, with a word, and the client goes on at another', async () => {
    const client = await SseClient.open()
    await publish(1)
    await client.got(1)
    const grace = 60_000
    stopping.abort()
    await stopHttpServer(server, grace)
    await expect.poll(() => client.isOver).toBe(true)
    expect(client.comments).toContain('this API node is stopping')
    await connection.close()
    await publish(2)
    await startNode()
    const next = await SseClient.open('', { 'last-event-id': client.lastEventId })
    expect(await next.got(2)).toEqual([2, 3])
  })

  test('outlives NATS: what happens after its return is told on the same stream', async () => {
    const client = await SseClient.open()
    await publish(2)
    await client.got(2)
    await nats.kill()
    await expect.poll(() => connection.current()).toBeNull()
    const refused = await fetch(url)
    expect(refused.status).toBe(503)
    expect(refused.headers.get('retry-after')).toBe('1')
    expect(await refused.json()).toMatchObject({ code: 'UNAVAILABLE', detail: expect.stringMatching(/NATS/) })
    await nats.start()
    await expect.poll(() => stream.lastPublished().catch(() => null)).toBe(2)
    await publish(2)
    expect(await client.got(4)).toEqual([1, 2, 3, 4])
  })

  test('to a client that takes nothing is not buffered, and is ended after a while', async () => {
    await stopNode()
    await startNode({ stallMs: 1_000 })
    const padding = 'x'.repeat(16 * 1024)
    for (let round = 0; round < 16; round++) await publish(64, padding)
    const { port } = new URL(url)
    const socket = connect(Number(port), '127.0.0.1')
    socket.pause()
    socket.write('GET /events?since=1h HTTP/1.1\r\nHost: localhost\r\n\r\n')
    const closed = () => logLines.find(({ msg }) => msg === 'event stream closed')
    await expect.poll(closed).toMatchObject({ why: 'the client takes nothing' })
    // What is underway in the kernel, and no more: not the 16 MiB that there are.
    expect(Number(closed()?.sent)).toBeLessThan(1_000)
    await expect.poll(consumers).toBe(0)
    socket.destroy()
    const other = await SseClient.open('?since=1h')
    expect(await other.got(1_024)).toEqual(numbers(1, 1_024))
  })

  test('beyond the bound is refused, and there is room again when one goes', async () => {
    const open = await Promise.all(Array.from({ length: 256 }, () => SseClient.open()))
    await expect(SseClient.open()).rejects.toThrow(/503.*256 clients/)
    await publish(1)
    for (const client of open) expect(await client.got(1)).toEqual([1])
    open[0]?.close()
    await expect.poll(() => metric('vpe_event_streams')).toBe(255)
    await SseClient.open()
  })
})
