// A receiver of webhooks for tests: a real HTTP server that verifies what it gets, as docs/events.md tells
// receivers to, and does what a test asks of it.

import { createHmac, timingSafeEqual } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import type { CloudEvent } from '@vpe/bus'

export interface ReceivedEvent {
  readonly event: CloudEvent
  readonly body: string
  readonly headers: IncomingMessage['headers']
}

export class WebhookReceiver {
  /** What was taken (answered 2xx), repetitions included. */
  readonly taken: ReceivedEvent[] = []
  /** What came, whatever was answered. */
  attempts = 0
  secret = ''
  /** Answers otherwise than 204; nothing at all is the test's way to hang. */
  answer: (response: ServerResponse, received: ReceivedEvent) => void | Promise<void> = (response) => {
    response.writeHead(204).end()
  }
  #server: Server | null = null
  #port = 0

  static async start(): Promise<WebhookReceiver> {
    const receiver = new WebhookReceiver()
    await receiver.listen()
    return receiver
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}/hook`
  }

  /** Listens, or listens again where it did. */
  async listen(): Promise<void> {
    this.#server = createServer((request, response) => void this.#receive(request, response))
    this.#server.listen(this.#port, '127.0.0.1')
    await once(this.#server, 'listening')
    this.#port = (this.#server.address() as AddressInfo).port
  }

  /** Goes away, as a machine that is switched off. */
  async stop(): Promise<void> {
    const server = this.#server
    if (!server?.listening) return
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  /** Types of what was taken, each event once. */
  types(): string[] {
    const once = new Map(this.taken.map(({ event }) => [event.id, event.type]))
    return [...once.values()]
  }

  async #receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await text(request)
    this.attempts++
    if (this.secret !== '' && !this.#isSigned(request, body)) {
      response.writeHead(401).end()
      return
    }
    const received = { event: JSON.parse(body) as CloudEvent, body, headers: request.headers }
    response.on('finish', () => {
      if (response.statusCode < 300) this.taken.push(received)
    })
    await this.answer(response, received)
  }

  #isSigned({ headers }: IncomingMessage, body: string): boolean {
    const key = Buffer.from(this.secret.replace('whsec_', ''), 'base64')
    const signed = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`
    const expected = `v1,${createHmac('sha256', key).update(signed).digest('base64')}`
    const given = String(headers['webhook-signature'])
    const age = Math.abs(Date.now() / 1000 - Number(headers['webhook-timestamp']))
    return (
      age < 300 &&
      given.length === expected.length &&
      timingSafeEqual(Buffer.from(given), Buffer.from(expected))
    )
  }
}
