// Carries the outbox to JetStream, in order and exactly once. A crash between commit and publish, a
// lost acknowledgement or an absent NATS only means that it goes on later from where the stream says
// it got to.

import type { NatsConnection } from '@nats-io/nats-core'
import { EventStream, type StreamEntry } from '@vpe/bus'
import type { Logger } from 'pino'
import type { Store } from './store/store.ts'

const BATCH = 256
const RETRY_MS = 500
/** So many of the last events are kept in memory: what keeps up with them reads nothing from the disk. */
const RECENT_MAX = 16_384
/** What is published is deleted now and then: each time costs a transaction, which others wait for. */
const TRIM_MS = 1_000

export class OutboxPublisher {
  readonly #store: Store
  readonly #log: Logger
  #stream: Promise<EventStream> | null = null
  #connection: NatsConnection | null = null
  #running: Promise<void> | null = null
  #isDirty = false
  /** The last that became durable, in order, without gaps. */
  #recent: StreamEntry[] = []
  /** Up to where the stream had everything when it last said so. */
  #acknowledged = 0
  #trimming: NodeJS.Timeout | null = null
  #isClosed = false
  /** Position up to which the stream is known to have everything; null while in doubt. */
  #published: number | null = null

  constructor(store: Store, log: Logger) {
    this.#store = store
    this.#log = log
    store.listen({
      onEvents: (entries) => {
        this.#recent.push(...entries)
        if (this.#recent.length > RECENT_MAX) this.#recent.splice(0, this.#recent.length - RECENT_MAX)
        this.publish()
      },
    })
  }

  /** Starts publishing, once NATS is there. */
  attach(connection: NatsConnection): void {
    this.#connection = connection
    this.publish()
  }

  /** Looks for something to publish; safe to call at any time. */
  publish(): void {
    this.#isDirty = true
    if (!this.#connection || this.#isClosed) return
    this.#running ??= this.#publishAll().finally(() => {
      this.#running = null
      // Something may have come after the last look and before this line.
      if (this.#isDirty) this.publish()
    })
  }

  /** Stops after the batch that is under way. */
  async close(): Promise<void> {
    this.#isClosed = true
    await this.#running
    if (this.#trimming) await this.#trim()
  }

  async #publishAll(): Promise<void> {
    while (this.#isDirty && !this.#isClosed) {
      this.#isDirty = false
      try {
        while ((await this.#publishBatch()) && !this.#isClosed);
      } catch (error) {
        this.#published = null
        this.#stream = null
        this.#isDirty = true
        this.#log.warn({ err: error }, 'events wait in the outbox: NATS did not take them')
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
      }
    }
  }

  /** Whether there may be more. */
  async #publishBatch(): Promise<boolean> {
    if (!this.#connection) return false
    this.#stream ??= EventStream.open(this.#connection, this.#store.storeId)
    const stream = await this.#stream
    // A stream that was wiped gets nothing again.
    this.#published ??= Math.max(this.#acknowledged, await stream.lastPublished())
    const after = this.#published
    const entries = this.#recentAfter(after) ?? (await this.#store.backend.readOutbox(after, BATCH))
    const last = entries.at(-1)
    if (!last) return false
    await stream.publish(entries)
    this.#published = last.position
    this.#acknowledged = last.position
    this.#trimming ??= setTimeout(() => void this.#trim(), TRIM_MS)
    return entries.length === BATCH
  }

  /** The next batch, where memory has it. */
  #recentAfter(position: number): StreamEntry[] | null {
    const next = this.#recent.findIndex((entry) => entry.position > position)
    this.#recent.splice(0, next < 0 ? this.#recent.length : next)
    return this.#recent[0]?.position === position + 1 ? this.#recent.slice(0, BATCH) : null
  }

  async #trim(): Promise<void> {
    if (this.#trimming) clearTimeout(this.#trimming)
    this.#trimming = null
    try {
      await this.#store.backend.trimOutbox(this.#acknowledged)
    } catch (error) {
      this.#log.warn({ err: error }, 'what is published stays in the outbox until the next is')
    }
  }
}
