import { jetstreamManager } from '@nats-io/jetstream'
import type { NatsConnection } from '@nats-io/nats-core'
import type { LogPosition } from '@vpe/core'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { connectBus } from './connect.ts'
import { EventLog, type FollowOptions, type LogItem } from './event-log.ts'
import { EventStream } from './event-stream.ts'
import { EVENTS_STREAM, eventSubjects } from './subjects.ts'
import { TestNatsServer } from './testing/nats-server.ts'

let server: TestNatsServer
let connection: NatsConnection
let stream: EventStream
let log: EventLog
let published = 0

beforeAll(async () => {
  server = await TestNatsServer.start()
  connection = await connectBus(server.url, 'test')
  log = await EventLog.open(connection)
})
afterAll(async () => {
  await connection?.close()
  await server?.[Symbol.asyncDispose]()
})
beforeEach(makeStream)

async function makeStream(): Promise<void> {
  const manager = await jetstreamManager(connection)
  await manager.streams.delete(EVENTS_STREAM).catch(() => {})
  stream = await EventStream.open(connection, 'store')
  await stream.lastPublished()
  published = 0
}

/** Publishes so many events more; every other one is about a host. */
async function publish(count: number): Promise<void> {
  const entries = Array.from({ length: count }, () => ({
    position: ++published,
    atMs: 0,
    event: {
      kind: published % 2 === 0 ? ('host' as const) : ('instance' as const),
      id: 'i1',
      what: 'started',
      data: { position: published },
    },
  }))
  await stream.publish(entries)
}

const numbers = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_none, index) => from + index)

/** What a reader gets until it has had enough, and where it then is. */
async function read(
  after: LogPosition,
  isEnough: (items: LogItem[]) => boolean,
  options: Partial<FollowOptions> & { onItem?: (item: LogItem) => Promise<void> | void } = {},
): Promise<LogItem[]> {
  const done = new AbortController()
  const items: LogItem[] = []
  for await (const item of log.follow(after, { signal: done.signal, ...options })) {
    items.push(item)
    await options.onItem?.(item)
    if (isEnough(items)) done.abort()
  }
  return items
}

function positions(items: LogItem[]): number[] {
  return items.flatMap((item) => (item.kind === 'event' ? JSON.parse(item.text).data.position : []))
}

const soMany = (count: number) => (items: LogItem[]) => positions(items).length === count
const start = async () => ({ ...(await log.bounds()), sequence: 0 })
const consumers = async () =>
  (await (await jetstreamManager(connection)).streams.info(EVENTS_STREAM)).state.consumer_count

describe('a reader of the event log', () => {
  test('gets everything there is, then what comes, in order', async () => {
    await publish(150)
    const items = await read(await start(), soMany(155), {
      onItem: async (item) => {
        if (item.position.sequence === 150) await publish(5)
      },
    })
    expect(positions(items)).toEqual(numbers(1, 155))
    expect(items.every(({ kind }) => kind === 'event')).toBe(true)
    await expect.poll(consumers).toBe(0)
  })

  test('goes on exactly behind the event that it had last', async () => {
    await publish(10)
    const [, , third] = await read(await start(), soMany(3))
    const rest = await read(third?.position ?? (await start()), soMany(7))
    expect(positions(rest)).toEqual(numbers(4, 10))
  })

  test('gets only the subjects that it asks for', async () => {
    await publish(10)
    const items = await read(await start(), soMany(5), { subjects: eventSubjects({ kind: 'host' }) })
    expect(positions(items)).toEqual([2, 4, 6, 8, 10])
    expect(items.every(({ kind }) => kind === 'event')).toBe(true)
  })

  test('learns how far the log was looked through, where nothing is for it', async () => {
    await publish(9)
    const items = await read(await start(), (some) => some.at(-1)?.kind === 'idle', {
      subjects: eventSubjects({ what: 'failed' }),
    })
    expect(items).toMatchObject([{ kind: 'idle', position: { sequence: 9 } }])
  })

  test('from a time on gets what was published since', async () => {
    await publish(3)
    const manager = await jetstreamManager(connection)
    const third = await manager.streams.getMessage(EVENTS_STREAM, { seq: 3 })
    const laterMs = (third?.time.getTime() ?? Date.now()) + 2
    await expect.poll(() => Date.now()).toBeGreaterThan(laterMs)
    await publish(2)
    expect(await log.positionAt(laterMs)).toMatchObject({ sequence: 3 })
    expect(await log.positionAt(0)).toMatchObject({ sequence: 0 })
    expect(await log.positionAt(Date.now() + 3_600_000)).toMatchObject({ sequence: 5 })
    expect(await consumers()).toBe(0)
  })

  test('that takes its time is not sent more than a handful, and loses nothing', async () => {
    await publish(1_000)
    let delivered = 0
    const items = await read(await start(), soMany(1_000), {
      onItem: async ({ position }) => {
        if (position.sequence !== 10) return
        // It stands still while others read and write: what the server has sent it is bounded.
        await publish(100)
        const [info] = await (await jetstreamManager(connection)).consumers.list(EVENTS_STREAM).next()
        delivered = info?.delivered.consumer_seq ?? 0
      },
    })
    expect(positions(items)).toEqual(numbers(1, 1_000))
    expect(delivered).toBeGreaterThanOrEqual(10)
    expect(delivered).toBeLessThanOrEqual(64)
  })
})

describe('what is gone is told', () => {
  test('when the log does not reach back to where the reader was', async () => {
    await publish(20)
    await (await jetstreamManager(connection)).streams.purge(EVENTS_STREAM, { seq: 11 })
    const { epoch } = await log.bounds()
    const items = await read({ epoch, sequence: 5 }, soMany(10))
    expect(items[0]).toMatchObject({
      kind: 'gap',
      gap: { after: { epoch, sequence: 5 }, resumesAfter: { epoch, sequence: 10 } },
    })
    expect(positions(items)).toEqual(numbers(11, 20))
  })

  test('when the log drops events under a reader that is slower than they come', async () => {
    await publish(200)
    const items = await read(await start(), soMany(64 + 50), {
      onItem: async ({ position }) => {
        if (position.sequence === 3)
          await (await jetstreamManager(connection)).streams.purge(EVENTS_STREAM, { seq: 151 })
      },
    })
    expect(positions(items)).toEqual([...numbers(1, 64), ...numbers(151, 200)])
    expect(items.filter(({ kind }) => kind === 'gap')).toMatchObject([
      { gap: { after: { sequence: 64 }, resumesAfter: { sequence: 150 } } },
    ])
  })

  test('when the log was wiped and made anew, also under a reader', async () => {
    await publish(5)
    const old = await log.bounds()
    const items = await read(await start(), soMany(5 + 3), {
      onItem: async ({ position }) => {
        if (position.epoch !== old.epoch || position.sequence !== 5) return
        await makeStream()
        await publish(3)
      },
    })
    const { epoch } = await log.bounds()
    expect(epoch).not.toBe(old.epoch)
    expect(positions(items)).toEqual([1, 2, 3, 4, 5, 1, 2, 3])
    expect(items[5]).toMatchObject({
      kind: 'gap',
      gap: { after: { epoch: old.epoch, sequence: 5 }, resumesAfter: { epoch, sequence: 0 } },
    })
  })
})

test('a reader outlives a crash of NATS: nothing is left out, nothing comes twice, nothing is missed', async () => {
  await publish(30)
  const troubles: unknown[] = []
  const items = await read(await start(), soMany(40), {
    onTrouble: (error) => troubles.push(error),
    onItem: async ({ position }) => {
      if (position.sequence !== 30) return
      await server.kill()
      await server.start()
      await expect.poll(() => stream.lastPublished().catch(() => null)).toBe(30)
      await publish(10)
    },
  })
  expect(positions(items)).toEqual(numbers(1, 40))
  expect(items.every(({ kind }) => kind !== 'gap')).toBe(true)
})
