// Webhooks of a whole controller, over real NATS, to real HTTP receivers that misbehave.

import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { jetstreamManager } from '@nats-io/jetstream'
import { connectBus, EVENTS_STREAM } from '@vpe/bus'
import { TestNatsServer } from '@vpe/bus/testing'
import { fromClientError, type Webhook } from '@vpe/proto'
import Database from 'better-sqlite3'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Harness, until } from './testing/harness.ts'
import { WebhookReceiver } from './testing/webhook-receiver.ts'

let nats: TestNatsServer
let harness: Harness
let receiver: WebhookReceiver
const toDispose: AsyncDisposable[] = []

beforeEach(async () => {
  nats = await TestNatsServer.start()
  toDispose.push(nats)
  harness = new Harness(nats.url)
  harness.webhookPolicy = { attemptMs: 30_000, firstDelayMs: 20, longestDelayMs: 100 }
  toDispose.push(harness)
  await harness.start()
  receiver = await newReceiver()
})
afterEach(async () => {
  for (const each of toDispose.splice(0).reverse()) await each[Symbol.asyncDispose]()
})

async function restartWith(changes: Partial<Harness['webhookPolicy']>): Promise<void> {
  harness.webhookPolicy = { ...harness.webhookPolicy, ...changes }
  await harness.stop()
  await harness.start()
}

async function newReceiver(): Promise<WebhookReceiver> {
  const made = await WebhookReceiver.start()
  toDispose.push(made)
  return made
}

/** A webhook for what happens to flavors, the events that are easiest to cause. */
async function hook(to: WebhookReceiver, events = ['flavor.*']): Promise<Webhook> {
  const { webhook, secret } = await harness.client.createWebhook({ url: to.url, events })
  if (!webhook) throw new Error('an answer without a webhook')
  to.secret = secret
  return webhook
}

let flavors = 0
/** Makes so many flavors; resolves to their names. */
async function makeFlavors(count: number): Promise<string[]> {
  const names = Array.from({ length: count }, () => `f${++flavors}`)
  for (const name of names) await harness.client.createFlavor({ name, vcpus: 1, memoryMib: 64, diskGib: 0 })
  return names
}

/** Names of what a receiver took, each event once, in the order of their first coming. */
function namesOf(of: WebhookReceiver): unknown[] {
  return [...new Map(of.taken.map(({ event }) => [event.id, event.data.name])).values()]
}

async function seen(uuid: string): Promise<Webhook> {
  const { webhook } = await harness.client.getWebhook({ uuid })
  if (!webhook) throw new Error('an answer without a webhook')
  return webhook
}

describe('a webhook', () => {
  test('is told of what it asks for, from its creation on, in order, signed, as it is on the stream', async () => {
    await makeFlavors(2)
    const { uuid } = await hook(receiver, ['flavor.created', 'webhook.*'])
    const names = await makeFlavors(3)
    const { flavors: all } = await harness.client.listFlavors({ name: names[0] ?? '' })
    await harness.client.deleteFlavor({ uuid: all[0]?.uuid ?? '' })
    const [last] = await makeFlavors(1)
    await until('the last has come', () => namesOf(receiver).includes(last))
    expect(receiver.types()).toEqual(['vpe.webhook.created', ...Array(4).fill('vpe.flavor.created')])
    expect(namesOf(receiver)).toEqual([undefined, ...names, last])

    const bus = await connectBus(nats.url, 'test')
    const manager = await jetstreamManager(bus)
    const message = await manager.streams.getMessage(EVENTS_STREAM, {
      last_by_subj: 'vpe.events.flavor.*.created',
    })
    await bus.close()
    expect(receiver.taken.at(-1)).toMatchObject({
      body: message?.string(),
      headers: {
        'content-type': 'application/cloudevents+json; charset=utf-8',
        'webhook-id': receiver.taken.at(-1)?.event.id,
      },
    })
    await until('its status says so', async () => (await seen(uuid)).behind === 0)
    expect(await seen(uuid)).toMatchObject({
      failures: 0,
      lastError: '',
      lastSuccessAtMs: expect.any(Number),
    })
    expect(Date.now() - (await seen(uuid)).lastSuccessAtMs).toBeLessThan(60_000)
  })

  test('shows its secret once, and never puts it into events', async () => {
    const { webhook, secret } = await harness.client.createWebhook({ url: receiver.url })
    receiver.secret = secret
    expect(secret).toMatch(/^whsec_/)
    const uuid = webhook?.uuid ?? ''
    const shown = [await harness.client.listWebhooks({}), await harness.client.getWebhook({ uuid })]
    expect(JSON.stringify(shown)).not.toContain(secret)
    const given = `whsec_${Buffer.alloc(24, 1).toString('base64')}`
    receiver.secret = given
    expect(JSON.stringify(await harness.client.updateWebhook({ uuid, secret: given }))).not.toContain(given)
    const [name] = await makeFlavors(1)
    await until('what is signed with the new secret is taken', () => namesOf(receiver).includes(name))
    expect(receiver.taken.map(({ body }) => body).join()).not.toMatch(/whsec_/)
  })

  test('that is disabled gets nothing, and when it is enabled again, all that it missed', async () => {
    const { uuid } = await hook(receiver)
    const first = await makeFlavors(1)
    await until('it works', () => receiver.taken.length === 1)
    await harness.client.updateWebhook({ uuid, enabled: false })
    const missed = await makeFlavors(3)
    const other = await newReceiver()
    await hook(other)
    const more = await makeFlavors(1)
    await until('another has had the last', () => namesOf(other).includes(more[0]))
    expect(namesOf(receiver)).toEqual(first)
    await harness.client.updateWebhook({ uuid, enabled: true })
    await until('it has all', () => receiver.taken.length === 5)
    expect(namesOf(receiver)).toEqual([...first, ...missed, ...more])
  })

  test('that is deleted gets nothing more, also while it waits to try again', async () => {
    receiver.answer = (response) => void response.writeHead(503).end()
    const { uuid } = await hook(receiver)
    await makeFlavors(1)
    await until('it was tried', () => receiver.attempts > 1)
    await harness.client.deleteWebhook({ uuid })
    const { attempts } = receiver
    const other = await newReceiver()
    await hook(other)
    const [name] = await makeFlavors(1)
    await until('another has had it', () => namesOf(other).includes(name))
    expect(receiver.attempts - attempts).toBeLessThanOrEqual(1)
    const error = await harness.client.getWebhook({ uuid }).catch(fromClientError)
    expect(error).toMatchObject({ code: 'NOT_FOUND' })
  })

  test('that makes no sense is refused, with the field at fault', async () => {
    const url = 'http://localhost/'
    const cases: [Parameters<typeof harness.client.createWebhook>[0], string][] = [
      [{ url: 'ftp://example.org/' }, 'url'],
      [{ url: 'http://user:pw@localhost/' }, 'url'],
      [{ url, secret: 'password' }, 'secret'],
      [{ url, events: ['instnace.*'] }, 'events'],
      [{ url, events: ['instance'] }, 'events'],
    ]
    for (const [request, field] of cases) {
      const error = await harness.client.createWebhook(request).catch(fromClientError)
      expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', fields: [{ field }] })
    }
  })
})

describe('a receiver', () => {
  test('that was away gets everything when it is back, in order', async () => {
    const { uuid } = await hook(receiver)
    const before = await makeFlavors(2)
    await until('it works', () => receiver.taken.length === 2)
    await receiver.stop()
    const missed = await makeFlavors(100)
    await until('it was tried', async () => (await seen(uuid)).failures > 2)
    expect(await seen(uuid)).toMatchObject({ lastError: expect.stringMatching(/ECONNREFUSED/) })
    expect((await seen(uuid)).behind).toBeGreaterThanOrEqual(100)
    await receiver.listen()
    await until('it has all', () => receiver.taken.length >= 102)
    expect(namesOf(receiver)).toEqual([...before, ...missed])
    await until('all is well', async () => (await seen(uuid)).failures === 0)
    expect(await seen(uuid)).toMatchObject({ lastError: '', nextAttemptAtMs: 0 })
  })

  test('that fails, hangs, breaks off, redirects and talks without end gets everything in order all the same', async () => {
    await restartWith({ attemptMs: 1_000 })
    const elsewhere = await newReceiver()
    let count = 0
    receiver.answer = (response) => {
      switch (count++ % 7) {
        case 0:
          return void response.writeHead(500).end('sorry')
        case 1:
          return // hangs
        case 2:
          return void response.writeHead(302, { location: elsewhere.url }).end()
        case 3:
          return void response.destroy()
        case 4:
          return void response.writeHead(429).end()
        case 5:
          response.writeHead(500)
          return void response.write('x'.repeat(1024 ** 2))
        default:
          return void response.writeHead(200).end('x'.repeat(1024 ** 2))
      }
    }
    await hook(receiver)
    const names = await makeFlavors(3)
    await until('it has all', () => namesOf(receiver).length === 3)
    expect(namesOf(receiver)).toEqual(names)
    expect(elsewhere.attempts).toBe(0)
  })

  test('that answers 410 Gone is left alone, and the webhook says why', async () => {
    receiver.answer = (response) => void response.writeHead(410).end()
    const { uuid } = await hook(receiver)
    const watcher = await newReceiver()
    await hook(watcher, ['webhook.disabled'])
    await makeFlavors(3)
    await until('it is disabled', async () => !(await seen(uuid)).enabled)
    expect(await seen(uuid)).toMatchObject({ lastError: expect.stringContaining('410') })
    expect(receiver.attempts).toBe(1)
    await until('it is an event', () => watcher.taken.length === 1)
    expect(watcher.taken[0]?.event.data).toEqual({ uuid })
  })

  test('that hangs delays neither others nor the controller', async () => {
    await restartWith({ attemptMs: 1_000 })
    receiver.answer = () => {}
    const { uuid } = await hook(receiver)
    const other = await newReceiver()
    await hook(other)
    const names = await makeFlavors(20)
    await until('the other has all', () => other.taken.length === 20)
    expect(namesOf(other)).toEqual(names)
    expect(receiver.taken).toEqual([])
    await until('it says so', async () => (await seen(uuid)).lastError === 'no answer within 1 s')
  })

  test('at a wrong address is found as soon as the address is mended', async () => {
    await restartWith({ firstDelayMs: 3_600_000, longestDelayMs: 3_600_000 })
    const { uuid } = await hook(receiver)
    await harness.client.updateWebhook({ uuid, url: 'http://127.0.0.1:9/' })
    const names = await makeFlavors(1)
    await until('it has failed', async () => (await seen(uuid)).nextAttemptAtMs > Date.now())
    await harness.client.updateWebhook({ uuid, url: receiver.url })
    await until('it has it', () => receiver.taken.length === 1)
    expect(namesOf(receiver)).toEqual(names)
  })
})

function positionOnDisk(): string {
  const file = new Database(harness.storeFile, { readonly: true })
  const row = file.prepare('select position from webhooks').get() as { position: string }
  file.close()
  return row.position
}

describe('the controller', () => {
  test('goes on where it was after a restart, with what could not be delivered before', async () => {
    const { uuid } = await hook(receiver)
    const before = await makeFlavors(5)
    await until('they have come', () => receiver.taken.length === 5)
    await receiver.stop()
    const missed = await makeFlavors(5)
    await until('it was tried', async () => (await seen(uuid)).failures > 0)
    await harness.stop()
    await receiver.listen()
    await harness.start()
    const after = await makeFlavors(2)
    await until('they have come', () => namesOf(receiver).length === 12)
    expect(namesOf(receiver)).toEqual([...before, ...missed, ...after])
    // It was stopped in order, so nothing had to be repeated.
    expect(receiver.taken).toHaveLength(12)
  })

  test('that dies at any moment repeats a few at most, and leaves none out', async () => {
    await hook(receiver)
    let names: string[] = []
    for (let round = 0; round < 3; round++) {
      receiver.answer = async (response) => {
        await new Promise((resolve) => setTimeout(resolve, 5))
        response.writeHead(204).end()
      }
      const enough = receiver.taken.length + 10
      names = [...names, ...(await makeFlavors(30))]
      await until('some have come', () => receiver.taken.length >= enough)
      // What the disk holds now is what a controller finds that comes after a crash.
      const position = positionOnDisk()
      await harness.stop()
      const file = new Database(harness.storeFile)
      file.prepare('update webhooks set position = ?').run(position)
      file.close()
      await harness.start()
    }
    await until('all have come', () => namesOf(receiver).length === 90)
    expect(namesOf(receiver)).toEqual(names)
  })

  test('delivers what happened while NATS was away, or before it had ever been there', async () => {
    await nats.kill()
    await hook(receiver)
    const names = await makeFlavors(3)
    await nats.start()
    await until('they have come', () => receiver.taken.length === 3)
    expect(namesOf(receiver)).toEqual(names)
  })

  test('tells of what it cannot deliver any more', async () => {
    const { uuid } = await hook(receiver)
    const [first] = await makeFlavors(1)
    await until('it works', () => receiver.taken.length === 1)
    await harness.client.updateWebhook({ uuid, enabled: false })
    await makeFlavors(5)
    const bus = await connectBus(nats.url, 'test')
    const manager = await jetstreamManager(bus)
    await until(
      'all are on the stream',
      async () => (await manager.streams.info(EVENTS_STREAM)).state.last_seq === 8,
    )
    await manager.streams.purge(EVENTS_STREAM)
    await bus.close()
    await harness.client.updateWebhook({ uuid, enabled: true })
    const [next] = await makeFlavors(1)
    await until('it goes on', () => namesOf(receiver).includes(next))
    expect(namesOf(receiver)).toEqual([first, undefined, next])
    expect(receiver.taken[1]?.event).toMatchObject({
      type: 'vpe.events.gap',
      subject: `webhook/${uuid}`,
      data: { uuid, after: expect.stringMatching(/-2$/), why: expect.stringMatching(/keeps no event/) },
    })
    await until('its status says so', async () => (await seen(uuid)).lastGap !== '')
  })
})

test('an answer that never ends holds nothing up: its status counts', async () => {
  const servers: Server[] = []
  const endless = createServer((_request, response) => {
    response.writeHead(200)
    const pour = () => {
      while (response.writable && response.write('x'.repeat(1024)));
    }
    response.on('drain', pour)
    pour()
  })
  servers.push(endless)
  endless.listen(0, '127.0.0.1')
  await once(endless, 'listening')
  const { port } = endless.address() as AddressInfo
  const { webhook } = await harness.client.createWebhook({
    url: `http://127.0.0.1:${port}/`,
    events: ['flavor.*'],
  })
  await makeFlavors(2)
  await until('both are delivered', async () => {
    const { behind, failures } = await seen(webhook?.uuid ?? '')
    return behind === 0 && failures === 0
  })
  for (const server of servers) {
    server.closeAllConnections()
    server.close()
  }
})
