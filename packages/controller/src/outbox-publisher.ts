// Carries the outbox to JetStream, in order and exactly once. A crash between commit and publish, a
// lost acknowledgement or an absent NATS only means that it goes on later from where the stream says
// it got to.

import type { NatsConnection } from '@nats-io/nats-core'
import { EventStream } from '@vpe/bus'
import type { Logger } from 'pino'
import type { Store } from './store/store.ts'

const BATCH = 256
const RETRY_MS = 500

export class OutboxPublisher {
  readonly #store: Store
  readonly #log: Logger
  #stream: Promise<EventStream> | null = null
  #connection: NatsConnection | null = null
  #running: Promise<void> | null = null
  #isDirty = false
  #isClosed = false
  /** Position up to which the stream is known to have everything; null while in doubt. */
  #published: number | null = null

  constructor(store: Store, log: Logger) {
    this.#store = store
    this.#log = log
    store.listen({ onEvents: () => this.publish() })
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
    this.#published ??= await stream.lastPublished()
    const entries = await this.#store.backend.readOutbox(this.#published, BATCH)
    const last = entries.at(-1)
    if (!last) return false
    await stream.publish(entries)
    this.#published = last.position
    await this.#store.backend.trimOutbox(last.position)
    return entries.length === BATCH
  }
}
