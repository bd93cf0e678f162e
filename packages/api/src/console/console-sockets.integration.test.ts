// The WebSockets of the consoles behind a real HTTP server, over the fake controller.

import { once } from 'node:events'
import { request as httpRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { VpeError } from '@vpe/core'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { createHttpServer, stopHttpServer } from '../server.ts'
import { createTestBed, type TestBed } from '../test-bed.ts'
import { attachConsoleSockets, type ConsoleSockets, type ConsoleSocketsDeps } from './console-sockets.ts'

let bed: TestBed
let server: ReturnType<typeof createHttpServer>
let sockets: ConsoleSockets
let uuid: string
const logLines: string[] = []

async function start(controller?: ConsoleSocketsDeps['controller']): Promise<void> {
  server = createHttpServer(bed.app)
  const log = pino({ level: 'debug' }, { write: (line: string) => void logLines.push(line) })
  sockets = attachConsoleSockets(server, { controller: controller ?? bed.controller, log })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
}

async function stop(): Promise<void> {
  await Promise.all([sockets.close(), stopHttpServer(server, 1_000)])
}

beforeEach(async () => {
  logLines.length = 0
  bed = await createTestBed()
  const { flavor, image } = bed.ids
  const instance = { name: 'vm', flavor_uuid: flavor, image_uuid: image }
  uuid = (await bed.send('POST', '/instances', { instance })).body.instance.uuid
  bed.controller.settle()
  await start()
})
afterEach(stop)

const address = () => `127.0.0.1:${(server.address() as AddressInfo).port}`

async function newToken(kind = 'serial'): Promise<string> {
  const { body } = await bed.send('GET', `/instances/${uuid}/${kind}`)
  return new URL(body.instance[`${kind}_url`]).hash.replace('#token=', '')
}

interface Opening {
  readonly token?: string
  readonly path?: string
  readonly headers?: Record<string, string>
}

/** A WebSocket as our page opens it, and what it hears. */
function openSocket({ token, path = '/serial/socket', headers = {} }: Opening = {}) {
  const protocols = ['vpe.console', ...(token === undefined ? [] : [`vpe.token.${token}`])]
  const origin = `http://${address()}`
  const socket = new WebSocket(`ws://${address()}${path}?instance-uuid=${uuid}`, protocols, {
    headers: { origin, ...headers },
  })
  const heard: string[] = []
  socket.on('message', (data) => heard.push(String(data)))
  socket.on('error', () => {})
  const closed = new Promise<{ code: number; reason: string }>((resolve) =>
    socket.once('close', (code, reason) => resolve({ code, reason: String(reason) })),
  )
  const refused = new Promise<number>((resolve) =>
    socket.once('unexpected-response', (_, response) => {
      resolve(response.statusCode ?? 0)
      response.destroy()
    }),
  )
  return { socket, heard, closed, refused }
}

describe('a console', () => {
  test('carries bytes both ways, after an empty message that says that it is open', async () => {
    const { socket, heard, closed } = openSocket({ token: await newToken() })
    await expect.poll(() => heard).toEqual([''])
    expect(socket.protocol).toBe('vpe.console')
    socket.send(Buffer.from('hello'))
    await expect.poll(() => heard).toEqual(['', 'hello'])
    socket.close()
    expect((await closed).code).toBe(1005)
    await expect.poll(() => bed.controller.consoles.size).toBe(0)
  })

  test('ends with the guest', async () => {
    const { heard, closed } = openSocket({ token: await newToken() })
    await expect.poll(() => heard).toEqual([''])
    for (const open of bed.controller.consoles) open.abort()
    expect(await closed).toEqual({ code: 1000, reason: expect.stringContaining('the guest went off') })
  })

  test('ends with the page, however that goes away', async () => {
    const { socket, heard } = openSocket({ token: await newToken() })
    await expect.poll(() => heard).toEqual([''])
    socket.terminate()
    await expect.poll(() => bed.controller.consoles.size).toBe(0)
  })

  test('ends when the node stops, and holds the stop up for no longer than it takes to say so', async () => {
    const { heard, closed } = openSocket({ token: await newToken() })
    await expect.poll(() => heard).toEqual([''])
    await stop()
    expect((await closed).code).toBe(1001)
    await start()
  })

  test('takes no message that is larger than any page would send', async () => {
    const { socket, heard, closed } = openSocket({ token: await newToken() })
    await expect.poll(() => heard).toEqual([''])
    socket.send(Buffer.alloc(65_537))
    expect((await closed).code).toBe(1009)
  })
})

describe('refused', () => {
  test.each([
    ['no token', undefined],
    ['a token that nobody gave', 'abc'],
    ['a token of odd characters', '%22'],
  ])('%s: 4403', async (_, token) => {
    const { heard, closed } = openSocket(token === undefined ? {} : { token })
    expect(await closed).toEqual({ code: 4403, reason: 'the token is unknown' })
    expect(heard).toEqual([])
  })

  test('a token, the second time', async () => {
    const token = await newToken()
    const { heard, socket } = openSocket({ token })
    await expect.poll(() => heard).toEqual([''])
    expect((await openSocket({ token }).closed).code).toBe(4403)
    expect(socket.readyState).toBe(socket.OPEN)
    socket.terminate()
  })

  test.each([
    ['CONFLICT', 4409],
    ['SUPERSEDED', 4409],
    ['HOST_UNREACHABLE', 4409],
    ['HYPERVISOR_FAILED', 4502],
    ['UNAVAILABLE', 4503],
  ] as const)('%s of the controller: %d', async (code, closeCode) => {
    bed.controller.failures.set('openConsole', new VpeError(code, `the reason ${'ü'.repeat(100)}`))
    const { code: closed, reason } = await openSocket({ token: await newToken() }).closed
    expect(closed).toBe(closeCode)
    expect(reason).toMatch(/^the reason ü+$/)
  })

  test.each([
    ['a page of another origin', { headers: { origin: 'http://evil.example' } }, 403],
    ['a page of another port', { headers: { origin: 'http://127.0.0.1:1' } }, 403],
    ['a sandboxed page', { headers: { origin: 'null' } }, 403],
    ['a name that is not loopback', { headers: { host: 'evil.example' } }, 403],
    ['another path', { path: '/instances' }, 404],
  ])('%s, before the handshake', async (_, opening: Opening, status) => {
    expect(await openSocket({ token: await newToken(), ...opening }).refused).toBe(status)
    expect(bed.controller.calls.map(({ method }) => method)).not.toContain('openConsole')
  })
})

test('another upgrade is the plain request that it is, too', async () => {
  const headers = { connection: 'Upgrade, HTTP2-Settings', upgrade: 'h2c', 'http2-settings': '' }
  const request = httpRequest(`http://${address()}/flavors`, { headers }).end()
  const [response] = await once(request, 'response')
  expect(response.statusCode).toBe(200)
  response.resume()
})

test('a browser that takes nothing is not sent more than its connection holds', async () => {
  let asked = 0
  async function* endless() {
    yield { message: { $case: 'opened' as const, value: {} } }
    for (; asked < 10_000; asked++) {
      yield { message: { $case: 'data' as const, value: new Uint8Array(64 * 1024) } }
    }
  }
  await stop()
  await start({ openConsole: endless })
  const { socket, heard } = openSocket({ token: 'any' })
  await expect.poll(() => heard.length).toBeGreaterThan(0)
  socket.pause()
  await expect
    .poll(
      async () => {
        const before = asked
        await sleep(100)
        return asked - before
      },
      { timeout: 10_000 },
    )
    .toBe(0)
  expect(asked).toBeLessThan(400)
  socket.terminate()
})

test('no token is in the log', async () => {
  const token = await newToken()
  const { heard, socket } = openSocket({ token })
  await expect.poll(() => heard).toEqual([''])
  socket.terminate()
  await expect.poll(() => logLines.join('')).toContain('console closed')
  expect(logLines.join('') + JSON.stringify(bed.logLines)).not.toContain(token)
})
