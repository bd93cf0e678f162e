// The app behind a real HTTP server: what only sockets show.

import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { request as httpRequest } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createHttpServer, stopHttpServer } from './server.ts'
import { createTestBed, type TestBed } from './test-bed.ts'

const MIB = 1024 * 1024

let bed: TestBed
let server: ReturnType<typeof createHttpServer>
let port: number

beforeEach(async () => {
  bed = await createTestBed()
  server = createHttpServer(bed.app)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  port = (server.address() as AddressInfo).port
})

afterEach(async () => {
  await stopHttpServer(server, 1_000)
})

/** Sends raw bytes, and reads until the server closes the connection or the answer is whole. */
async function exchange(text: string): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  socket.setEncoding('utf8')
  socket.write(text)
  let received = ''
  for await (const chunk of socket) {
    received += chunk
    const length = /content-length: (\d+)/i.exec(received)?.[1]
    if (length && received.length >= received.indexOf('\r\n\r\n') + 4 + Number(length)) break
  }
  socket.destroy()
  return received
}

/** Streams `mib` MiB as fast as the server takes them; the answer, and how much memory grew meanwhile. */
async function upload(path: string, mib: number, headers: Record<string, string>) {
  const before = process.memoryUsage().rss
  let grownMib = 0
  const request = httpRequest({ port, host: '127.0.0.1', path, method: 'POST', headers })
  const answered = new Promise<{ status: number; body: string }>((resolve, reject) => {
    request.on('error', reject)
    request.on('response', async (response) => {
      let body = ''
      for await (const chunk of response) body += chunk
      // From now on the connection may break under our hands: we were answered.
      request.on('error', () => {})
      resolve({ status: response.statusCode ?? 0, body })
    })
  })
  let isAnswered = false
  answered.then(
    () => (isAnswered = true),
    () => (isAnswered = true),
  )
  const chunk = Buffer.alloc(64 * 1024, ' ')
  for (let sent = 0; sent < mib * MIB && !isAnswered; sent += chunk.length) {
    if (!request.write(chunk))
      await Promise.race([once(request, 'drain').catch(() => {}), answered.catch(() => {})])
    grownMib = Math.max(grownMib, (process.memoryUsage().rss - before) / MIB)
  }
  request.end()
  return { ...(await answered), grownMib }
}

describe('a body of 50 MB', () => {
  test.each([
    ['/instances', 'chunked', { 'transfer-encoding': 'chunked' }],
    ['/instances', 'announced', { 'content-length': String(50 * MIB) }],
    ['/api/v1/instance', 'chunked', { 'transfer-encoding': 'chunked' }],
    ['/api/v1/instance', 'announced', { 'content-length': String(50 * MIB) }],
  ])('POST %s, %s: answered 413, and not held in memory', async (path, _, headers) => {
    const { status, body, grownMib } = await upload(path, 50, {
      'content-type': 'application/json',
      ...headers,
    })
    expect(status).toBe(413)
    expect(JSON.parse(body)).toMatchObject(
      path === '/instances' ? { code: 'BODY_TOO_LARGE' } : { code: 413, message: 'create failed' },
    )
    expect(grownMib).toBeLessThan(30)
    expect(bed.controller.calls).toEqual([])
    expect((await fetch(`http://127.0.0.1:${port}/healthz`)).status).toBe(200)
  })

  test('to a path that takes no body: answered, and not held in memory', async () => {
    const { status, grownMib } = await upload('/nowhere', 50, { 'transfer-encoding': 'chunked' })
    expect(status).toBe(404)
    expect(grownMib).toBeLessThan(30)
  })
})

describe('requests as sockets see them', () => {
  test('a GET with the body {} of the document, and another after it on the same connection', async () => {
    const get = `GET /api/v1/instance HTTP/1.1\r\nHost: localhost:${port}\r\nContent-Length: 2\r\n\r\n{}`
    expect(await exchange(get + get)).toMatch(/^HTTP\/1\.1 200 /)
  })

  test('a POST without Content-Type', async () => {
    const body = JSON.stringify({ flavor: { name: 'f', vcpus: 1, memory_mib: 64 } })
    const text = `POST /flavors HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`
    expect(await exchange(text)).toMatch(/^HTTP\/1\.1 200 /)
  })

  test('a foreign Host', async () => {
    const received = await exchange(`GET /flavors HTTP/1.1\r\nHost: evil.example:${port}\r\n\r\n`)
    expect(received).toMatch(/^HTTP\/1\.1 403 /)
    expect(received).toContain('FOREIGN_HOST')
  })

  test.each(['a b', '[', 'x'.repeat(300), 'local host:80'])('a Host that is none: %j', async (host) => {
    const received = await exchange(`GET /flavors HTTP/1.1\r\nHost: ${host}\r\n\r\n`)
    expect(received).toMatch(/^HTTP\/1\.1 40[03] /)
    expect(received).toContain('application/problem+json')
  })

  test('one that is not whole in time is ended, but for an upload', async () => {
    const hasty = createHttpServer(bed.app, 100)
    hasty.listen(0, '127.0.0.1')
    await once(hasty, 'listening')
    const { port: hastyPort } = hasty.address() as AddressInfo
    try {
      const socket = connect(hastyPort, '127.0.0.1')
      socket.write('POST /flavors HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{')
      const [answer] = await once(socket.setEncoding('utf8'), 'data')
      expect(answer).toContain('408 Request Timeout')
      await once(socket, 'close')

      const { image } = await bed.controller.createImage({ name: 'up' })
      const headers = { 'content-length': '3' }
      const path = `/images/${image?.uuid}/data`
      const request = httpRequest({ port: hastyPort, host: '127.0.0.1', method: 'PUT', path, headers })
      const answered = once(request, 'response')
      for (const text of 'abc') {
        request.write(text)
        await sleep(100)
      }
      request.end()
      const [response] = await answered
      expect(response.statusCode).toBe(200)
      expect(bed.controller.uploads.get(image?.uuid ?? '')?.bytes.toString()).toBe('abc')
    } finally {
      await stopHttpServer(hasty, 100)
    }
  })

  test('an upload that is cut off keeps what has come, and goes on from there', async () => {
    const { image } = await bed.controller.createImage({ name: 'up' })
    const path = `/images/${image?.uuid}/data`
    const data = randomBytes(3 * MIB)
    const socket = connect(port, '127.0.0.1')
    socket.write(`PUT ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${data.length}\r\n\r\n`)
    socket.write(data.subarray(0, 2.5 * MIB))
    const offset = async () => (await bed.send('GET', path)).body.upload.offset
    while ((await offset()) < 2 * MIB) await sleep(5)
    socket.destroy()
    expect(await offset()).toBe(2 * MIB)
    const rest = data.subarray(2 * MIB)
    expect(await upload(`${path}?offset=${2 * MIB}`, rest)).toMatchObject({ status: 200 })
    expect(bed.controller.uploads.get(image?.uuid ?? '')?.bytes.equals(data)).toBe(true)

    async function upload(at: string, body: Buffer) {
      return fetch(`http://127.0.0.1:${port}${at}`, { method: 'PUT', body: new Uint8Array(body) })
    }
  })

  test('a client that goes away in the middle of its body disturbs nobody', async () => {
    const socket = connect(port, '127.0.0.1')
    socket.write('POST /flavors HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"flavor"')
    await once(socket, 'connect')
    await new Promise((resolve) => setTimeout(resolve, 50))
    socket.destroy()
    await expect.poll(() => bed.logLines.at(-1)).toMatchObject({ code: 'UNREADABLE_BODY', status: 400 })
    expect((await fetch(`http://127.0.0.1:${port}/healthz`)).status).toBe(200)
  })

  test('a client that goes away cancels its question', async () => {
    bed.controller.hanging.add('listFlavors')
    const socket = connect(port, '127.0.0.1')
    socket.write('GET /flavors HTTP/1.1\r\nHost: localhost\r\n\r\n')
    await expect.poll(() => bed.controller.calls.length).toBe(1)
    socket.destroy()
    await expect.poll(() => bed.logLines.at(-1)).toMatchObject({ code: 'CLIENT_GONE', status: 499 })
  })
})

describe('stop', () => {
  test('requests under way end, idle connections are closed, new ones refused', async () => {
    const { flavor, image } = bed.ids
    const created = await bed.send('POST', '/instances', {
      instance: { name: 'vm', flavor_uuid: flavor, image_uuid: image },
    })
    const url = `http://127.0.0.1:${port}/operations/${created.headers.get('operation-id')}?wait=30s`
    const waiting = fetch(url)
    await expect.poll(() => bed.controller.calls.at(-1)?.method).toBe('getOperation')
    const stopped = stopHttpServer(server, 5_000)
    await expect(fetch(`http://127.0.0.1:${port}/healthz`)).rejects.toThrow()
    bed.controller.settle()
    expect((await waiting).status).toBe(200)
    await stopped
  })

  test('what does not end in time is cut off', async () => {
    bed.controller.hanging.add('listFlavors')
    const waiting = fetch(`http://127.0.0.1:${port}/flavors`).catch((error: unknown) => error)
    await expect.poll(() => bed.controller.calls.length).toBe(1)
    await stopHttpServer(server, 100)
    expect(await waiting).toBeInstanceOf(Error)
  })
})
