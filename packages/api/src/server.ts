// The HTTP server around the app: bounds on slow clients, an answer to requests that are not even HTTP
// as we know it, and a stop that lets requests under way end.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import { VpeError } from '@vpe/core'
import type { App } from './app.ts'
import { errorResponse } from './error-response.ts'

/** A client has this long to send its headers, and its whole request; an upload as long as something comes. */
const HEADERS_TIMEOUT_MS = 10_000
const REQUEST_TIMEOUT_MS = 60_000
const UPLOAD = /^PUT \/images\/[^/?]+\/data(\?|$)/

/** How often a stop looks for connections that have become idle. */
const IDLE_CHECK_MS = 50

/**
 * A server for the app; it does not listen yet.
 * @param requestMs how long a request may take to come in whole
 */
export function createHttpServer(app: App, requestMs = REQUEST_TIMEOUT_MS): Server {
  const listener = getRequestListener(app.fetch, {
    // Only what is no request at all comes here; the app answers its own errors.
    errorHandler: (error) => {
      const message = error instanceof Error ? error.message : String(error)
      const fault = new VpeError('INVALID_ARGUMENT', `not a request: ${message}`, { cause: error })
      return errorResponse(fault, { method: '', path: '', requestId: crypto.randomUUID() })
    },
  })
  const server: Server = createServer(
    {
      headersTimeout: HEADERS_TIMEOUT_MS,
      // Node knows one limit for all paths: ours is below.
      requestTimeout: 0,
      // Other offers of an upgrade, such as curl's h2c, are taken as the plain requests that they are, too.
      shouldUpgradeCallback: ({ headers }) =>
        server.listenerCount('upgrade') > 0 && headers.upgrade?.toLowerCase() === 'websocket',
    },
    (incoming, outgoing) => {
      if (!UPLOAD.test(`${incoming.method} ${incoming.url}`)) limitTime(incoming, outgoing, requestMs)
      void listener(incoming, outgoing)
    },
  )
  return server
}

/** Ends a request that is not whole in time, as Node's own limit does. */
function limitTime(incoming: IncomingMessage, outgoing: ServerResponse, requestMs: number): void {
  const timer = setTimeout(() => {
    if (incoming.complete) return
    if (!outgoing.headersSent) {
      incoming.socket.write('HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n')
    }
    incoming.socket.destroySoon()
  }, requestMs)
  incoming.once('close', () => clearTimeout(timer))
}

/** Takes no more connections, and resolves when all have ended: by themselves, or cut off after `graceMs`. */
export async function stopHttpServer(server: Server, graceMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()))
  const idle = setInterval(() => server.closeIdleConnections(), IDLE_CHECK_MS)
  const grace = setTimeout(() => server.closeAllConnections(), graceMs)
  await closed
  clearInterval(idle)
  clearTimeout(grace)
}
