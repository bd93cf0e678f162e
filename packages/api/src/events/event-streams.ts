// Server-Sent Events: the event log, written to one client at its own pace. An event is read from the log only
// when the client has taken the one before, so a client that is slow costs a few events of memory, and one
// that takes nothing at all is let go. https://html.spec.whatwg.org/multipage/server-sent-events.html

import { decodeEvent, type LogItem } from '@vpe/bus'
import { formatPosition, type LogPosition, VpeError } from '@vpe/core'
import type { Logger } from 'pino'
import { Gauge, type Registry } from 'prom-client'
import type { EventLogReader } from './log-connection.ts'

const STREAMS_MAX = 256

/** Proxies and clients take a silence of half a minute for a dead connection. */
const HEARTBEAT_MS = 15_000

/** A client that has taken nothing for so long is gone, or will be better off with a new connection. */
const STALL_MS = 30_000

/** How soon a client that was cut off is to come back. */
const RETRY_MS = 1_000

export interface EventStreamRequest {
  readonly eventLog: EventLogReader
  /** The place behind which it begins. */
  readonly after: LogPosition
  /** Only these subjects. */
  readonly subjects: string
  readonly requestId: string
  /** Ends the client's connection without a word. */
  readonly hangUp: () => void
}

export interface EventStreamLimits {
  readonly heartbeatMs?: number
  readonly stallMs?: number
}

export class EventStreams {
  readonly #log: Logger
  readonly #stopping: AbortSignal
  readonly #heartbeatMs: number
  readonly #stallMs: number
  #open = 0

  constructor(
    log: Logger,
    stopping: AbortSignal,
    registry: Registry,
    { heartbeatMs = HEARTBEAT_MS, stallMs = STALL_MS }: EventStreamLimits = {},
  ) {
    this.#log = log
    this.#stopping = stopping
    this.#heartbeatMs = heartbeatMs
    this.#stallMs = stallMs
    const count = () => this.#open
    new Gauge({
      name: 'vpe_event_streams',
      help: 'Clients that are being told of events',
      registers: [registry],
      collect() {
        this.set(count())
      },
    })
  }

  /** @throws VpeError UNAVAILABLE when too many are open, or this node stops */
  open({ eventLog, after, subjects, requestId, hangUp }: EventStreamRequest): ReadableStream<Uint8Array> {
    if (this.#stopping.aborted) throw new VpeError('UNAVAILABLE', 'this API node is stopping; ask again')
    if (this.#open >= STREAMS_MAX)
      throw new VpeError(
        'UNAVAILABLE',
        `${STREAMS_MAX} clients are being told of events by this API node, the most that it takes; ask again later, or another node`,
      )
    this.#open++
    const stallMs = this.#stallMs
    const startedMs = performance.now()
    const ending = new AbortController()
    const encoder = new TextEncoder()
    let sent = 0
    let stall: NodeJS.Timeout | undefined
    let heartbeat: NodeJS.Timeout | undefined
    let farewell = () => {}

    const end = (why: string) => {
      if (ending.signal.aborted) return
      ending.abort()
      // It may stand still because nothing was taken from it: then the signal alone does not reach it.
      void items.return()
      this.#open--
      clearTimeout(stall)
      clearInterval(heartbeat)
      this.#stopping.removeEventListener('abort', farewell)
      const ms = Math.round(performance.now() - startedMs)
      this.#log.info({ request_id: requestId, why, ms, sent }, 'event stream closed')
    }
    const items = eventLog.follow(after, {
      signal: ending.signal,
      subjects,
      onTrouble: (error) => this.#log.warn({ request_id: requestId, err: error }, 'the event log'),
    })

    return new ReadableStream<Uint8Array>({
      start: (controller) => {
        const write = (text: string) => controller.enqueue(encoder.encode(text))
        // The place comes first, so that who is cut off before the first event misses none.
        write(`retry: ${RETRY_MS}\n${idFrame(after)}`)
        stall = setTimeout(giveUp, stallMs)
        heartbeat = setInterval(() => {
          if ((controller.desiredSize ?? 0) > 0) write(': still here\n\n')
        }, this.#heartbeatMs)
        farewell = () => {
          write(': this API node is stopping\n\n')
          end('this API node is stopping')
          controller.close()
        }
        this.#stopping.addEventListener('abort', farewell, { once: true })
      },
      async pull(controller) {
        clearTimeout(stall)
        const frame = await nextFrame(items)
        if (ending.signal.aborted) return
        if (frame === null) {
          end('the log ended')
          controller.close()
          return
        }
        if (frame.isEvent) sent++
        stall = setTimeout(giveUp, stallMs)
        controller.enqueue(encoder.encode(frame.text))
      },
      cancel() {
        end('the client is gone')
      },
    })

    function giveUp(): void {
      end('the client takes nothing')
      hangUp()
    }
  }
}

interface Frame {
  readonly text: string
  readonly isEvent: boolean
}

/** What is written next; null when the log says no more. */
async function nextFrame(items: AsyncGenerator<LogItem, void, void>): Promise<Frame | null> {
  for (;;) {
    const { done, value } = await items.next()
    if (done) return null
    const text = frameOf(value)
    if (text !== null) return { text, isEvent: value.kind === 'event' }
  }
}

/**
 * An item as its client sees it. Events have no name, so that `onmessage` gets all of them; a gap has one, so that
 * it is not taken for an event.
 */
function frameOf(item: LogItem): string | null {
  switch (item.kind) {
    case 'event':
      // What somebody else has put there is no event.
      if (!decodeEvent(item.text)) return null
      return `data: ${item.text.replaceAll(/\r\n|\r|\n/g, '\ndata: ')}\n${idFrame(item.position)}`
    case 'gap': {
      const { after, resumesAfter, why } = item.gap
      const data = { after: formatPosition(after), resumes_after: formatPosition(resumesAfter), why }
      return `event: gap\ndata: ${JSON.stringify(data)}\n${idFrame(item.position)}`
    }
    case 'idle':
      return idFrame(item.position)
    default:
      throw new Error(`no such item: ${JSON.stringify(item satisfies never)}`)
  }
}

/** Where to go on from. Without data it is no event for the client, but it is what it comes back with. */
function idFrame(position: LogPosition): string {
  return `id: ${formatPosition(position)}\n\n`
}
