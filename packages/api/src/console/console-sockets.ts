// The WebSockets of the console pages. Each carries the bytes of one console between a browser and the
// controller, at the pace of the slower: what the browser has not taken is not asked for, and what the
// guest has not taken stays with the browser.
//
// A refusal after the handshake is a close code of 4000 plus the HTTP status of the fault, with the
// fault's message as the reason: the only answer to a WebSocket that a page can read.

import { on } from 'node:events'
import { type IncomingMessage, type Server, STATUS_CODES } from 'node:http'
import type { Duplex } from 'node:stream'
import { VpeError } from '@vpe/core'
import {
  ConsoleKind,
  type ControllerServiceClient,
  fromClientError,
  type OpenConsoleRequest,
} from '@vpe/proto'
import type { Logger } from 'pino'
import { type RawData, type WebSocket, WebSocketServer } from 'ws'
import { errorResponse, MEANING_OF_CODE, toFault } from '../error-response.ts'
import { assertOwnHost, assertOwnOrigin } from '../loopback-guard.ts'
import { RequestFault } from '../request-fault.ts'

const SUBPROTOCOL = 'vpe.console'
const TOKEN_PREFIX = 'vpe.token.'

/** A browser sends keys and pastes, in pieces; what it sends at once is held here whole. */
const MESSAGE_BYTES_MAX = 64 * 1024
const MESSAGES_WAITING_MAX = 16

const SOCKETS_MAX = 512

/** A browser whose machine sleeps says nothing and closes nothing. */
const PING_INTERVAL_MS = 15_000

/** How long the other side has to close, once we have. */
const CLOSE_MS = 1_000

/** What a close frame holds beside its code. */
const REASON_BYTES_MAX = 123

const OPEN_MS = 30_000

const KIND_OF_PATH: Readonly<Record<string, ConsoleKind>> = {
  '/vnc/socket': ConsoleKind.VNC,
  '/serial/socket': ConsoleKind.SERIAL,
}

export interface ConsoleSockets {
  /** Ends all consoles; resolves when their connections are gone. */
  close(): Promise<void>
}

export interface ConsoleSocketsDeps {
  readonly controller: Pick<ControllerServiceClient, 'openConsole'>
  readonly log: Logger
}

interface Ticket {
  readonly token: string
  readonly uuid: string
  readonly kind: ConsoleKind
}

/** Takes the WebSockets that come to a server. */
export function attachConsoleSockets(server: Server, deps: ConsoleSocketsDeps): ConsoleSockets {
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: MESSAGE_BYTES_MAX,
    perMessageDeflate: false,
    handleProtocols: (offered) => (offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
  })
  const unheard = new WeakSet<WebSocket>()
  const pings = setInterval(() => {
    for (const socket of sockets.clients) {
      if (unheard.has(socket)) socket.terminate()
      unheard.add(socket)
      socket.ping()
    }
  }, PING_INTERVAL_MS).unref()

  server.on('upgrade', (request, connection, head) => {
    try {
      const ticket = ticketOf(request)
      if (sockets.clients.size >= SOCKETS_MAX) {
        throw new VpeError(
          'UNAVAILABLE',
          `${SOCKETS_MAX} consoles are open on this API node: close one first`,
        )
      }
      sockets.handleUpgrade(request, connection, head, (socket) => {
        socket.on('pong', () => unheard.delete(socket))
        void serve(socket, ticket, deps)
      })
    } catch (error) {
      void refuse(connection, request, error)
    }
  })

  return {
    async close() {
      clearInterval(pings)
      const gone = [...sockets.clients].map(
        (socket) => new Promise<void>((resolve) => socket.once('close', () => resolve())),
      )
      for (const socket of sockets.clients) hangUp(socket, 1001, 'this API node is stopping')
      await Promise.all(gone)
    },
  }
}

/** @throws RequestFault for what no page of ours would send */
function ticketOf(request: IncomingMessage): Ticket {
  const hosts = [request.headers.host ?? '']
  assertOwnHost(hosts)
  assertOwnOrigin(request.headers.origin, hosts)
  const { pathname, searchParams } = new URL(request.url ?? '', 'http://localhost')
  const kind = KIND_OF_PATH[pathname]
  if (kind === undefined) throw new RequestFault('UNKNOWN_ROUTE', `no WebSocket is at ${pathname}`)
  const offered = (request.headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim())
  const token = offered.find((name) => name.startsWith(TOKEN_PREFIX))?.slice(TOKEN_PREFIX.length) ?? ''
  return { token, uuid: (searchParams.get('instance-uuid') ?? '').toLowerCase(), kind }
}

async function serve(
  socket: WebSocket,
  ticket: Ticket,
  { controller, log }: ConsoleSocketsDeps,
): Promise<void> {
  const startedMs = performance.now()
  const going = new AbortController()
  const line = { instance: ticket.uuid, kind: ticket.kind === ConsoleKind.VNC ? 'vnc' : 'serial' }
  const count = { sentBytes: 0 }
  socket.on('error', (error) => log.debug({ ...line, err: error }, 'console socket'))
  socket.on('close', (code) => {
    going.abort()
    const ms = Math.round(performance.now() - startedMs)
    log.info({ ...line, code, ms, sent_bytes: count.sentBytes }, 'console closed')
  })
  // From now on, not from when they are asked for: what comes in between must not be lost.
  const messages = on(socket, 'message', {
    close: ['close'],
    highWaterMark: MESSAGES_WAITING_MAX,
    lowWaterMark: 1,
  }) as AsyncIterable<[RawData]>
  const late = setTimeout(() => going.abort(), OPEN_MS)
  try {
    for await (const { message } of controller.openConsole(requests(ticket, messages), {
      signal: going.signal,
    })) {
      // The first word, that it is open, goes out as an empty message.
      if (message?.$case === 'opened') {
        clearTimeout(late)
        log.info(line, 'console open')
        await send(socket, new Uint8Array())
      }
      if (message?.$case === 'data') {
        count.sentBytes += message.value.length
        await send(socket, message.value)
      }
    }
    hangUp(socket, 1000, 'the guest went off, or its console was closed')
  } catch (error) {
    if (socket.readyState !== socket.OPEN) return
    const fault = going.signal.aborted
      ? new VpeError('UNAVAILABLE', `the console did not open within ${OPEN_MS / 1000} s`, { cause: error })
      : fromClientError(error)
    const { status } = MEANING_OF_CODE[fault.code]
    if (status >= 500) log.error({ ...line, code: fault.code, err: error }, 'console failed')
    else log.info({ ...line, code: fault.code }, 'console refused')
    hangUp(socket, 4000 + status, fault.message)
  } finally {
    clearTimeout(late)
  }
}

async function* requests(
  ticket: Ticket,
  messages: AsyncIterable<[RawData]>,
): AsyncGenerator<Partial<OpenConsoleRequest>> {
  yield { message: { $case: 'ticket', value: ticket } }
  for await (const [data] of messages) yield { message: { $case: 'data', value: bytesOf(data) } }
}

function bytesOf(data: RawData): Uint8Array {
  if (data instanceof Uint8Array) return data
  return Array.isArray(data) ? Buffer.concat(data) : new Uint8Array(data)
}

/** Resolves when the system has taken it: so the next is asked for only then. */
function send(socket: WebSocket, data: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.send(data, { binary: true }, (error) => (error ? reject(error) : resolve()))
  })
}

function hangUp(socket: WebSocket, code: number, reason: string): void {
  socket.close(code, fitting(reason))
  setTimeout(() => socket.terminate(), CLOSE_MS).unref()
}

/** As much of a text as a close frame takes, cut between characters. */
function fitting(reason: string): string {
  let text = reason
  while (Buffer.byteLength(text) > REASON_BYTES_MAX) text = [...text].slice(0, -1).join('')
  return text
}

/** Answers what is not let in, as the app would. */
async function refuse(
  connection: Duplex,
  { method = '', url = '' }: IncomingMessage,
  error: unknown,
): Promise<void> {
  const path = url.replace(/\?.*/s, '')
  const response = errorResponse(toFault(error), { method, path, requestId: crypto.randomUUID() })
  const body = await response.text()
  const head = [
    `HTTP/1.1 ${response.status} ${STATUS_CODES[response.status]}`,
    ...[...response.headers].map(([name, value]) => `${name}: ${value}`),
    `content-length: ${Buffer.byteLength(body)}`,
    'connection: close',
  ]
  connection.on('error', () => {})
  connection.end(`${head.join('\r\n')}\r\n\r\n${body}`)
}
