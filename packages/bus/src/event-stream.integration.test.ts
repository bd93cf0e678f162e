import { jetstream, jetstreamManager } from '@nats-io/jetstream'
import type { NatsConnection } from '@nats-io/nats-core'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { connectBus } from './connect.ts'
import { EventStream, type StreamEntry } from './event-stream.ts'
import { EVENTS_STREAM } from './subjects.ts'
import { TestNatsServer } from './testing/nats-server.ts'

let server: TestNatsServer
let connection: NatsConnection

beforeAll(async () => {
  server = await TestNatsServer.start()
  connection = await connectBus(server.url, 'test')
})
afterAll(async () => {
  await connection?.close()
  await server?.[Symbol.asyncDispose]()
})
beforeEach(async () => {
  const manager = await jetstreamManager(connection)
  await manager.streams.delete(EVENTS_STREAM).catch(() => {})
})

function entries(from: number, to: number): StreamEntry[] {
  return Array.from({ length: to - from + 1 }, (_none, index) => ({
    position: from + index,
    atMs: 0,
    event: { kind: 'instance', id: 'i1', what: 'started', data: { position: from + index } },
  }))
}

async function stored(): Promise<number[]> {
  const manager = await jetstreamManager(connection)
  const { state } = await manager.streams.info(EVENTS_STREAM)
  const positions: number[] = []
  for (let seq = state.first_seq; seq <= state.last_seq && state.messages > 0; seq++) {
    const message = await manager.streams.getMessage(EVENTS_STREAM, { seq })
    if (message) positions.push(message.json<{ data: { position: number } }>().data.position)
  }
  return positions
}

describe('the event stream', () => {
  test('keeps events in order, as CloudEvents', async () => {
    const stream = await EventStream.open(connection, 'store')
    expect(await stream.lastPublished()).toBe(0)
    await stream.publish(entries(1, 100))
    expect(await stored()).toEqual(entries(1, 100).map(({ position }) => position))
    const manager = await jetstreamManager(connection)
    const first = await manager.streams.getMessage(EVENTS_STREAM, { seq: 1 })
    expect(first?.subject).toBe('vpe.events.instance.i1.started')
    expect(first?.json()).toEqual({
      specversion: '1.0',
      id: 'store-1',
      source: 'vpe/store',
      type: 'vpe.instance.started',
      subject: 'instance/i1',
      time: '1970-01-01T00:00:00.000Z',
      datacontenttype: 'application/json',
      data: { position: 1 },
    })
  })

  test('tells a writer that starts anew where it got to, beyond any deduplication window', async () => {
    const first = await EventStream.open(connection, 'store')
    await first.lastPublished()
    await first.publish(entries(1, 5))
    const second = await EventStream.open(connection, 'store')
    expect(await second.lastPublished()).toBe(5)
    await second.publish(entries(6, 7))
    expect(await stored()).toEqual([1, 2, 3, 4, 5, 6, 7])
  })

  test('refuses a writer that does not know of another’s entries, and stores nothing of it', async () => {
    const old = await EventStream.open(connection, 'store')
    await old.lastPublished()
    const next = await EventStream.open(connection, 'store')
    await next.lastPublished()
    await next.publish(entries(1, 3))
    await expect(old.publish(entries(2, 4))).rejects.toThrow(/wrong last sequence/)
    expect(await stored()).toEqual([1, 2, 3])
  })

  test('looks past what others wrote, and does not take another outbox for its own', async () => {
    const stream = await EventStream.open(connection, 'store')
    await stream.lastPublished()
    await stream.publish(entries(1, 2))
    await jetstream(connection).publish('vpe.events.instance.x.started', '{}')
    expect(await stream.lastPublished()).toBe(2)
    const other = await EventStream.open(connection, 'other')
    expect(await other.lastPublished()).toBe(0)
  })
})
