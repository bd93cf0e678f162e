// The durable event log: the JetStream stream VPE_EVENTS. The controller's outbox is its only writer,
// and writes in order, so exactly-once needs no time window: each publish names the stream sequence
// that must come before it (the server refuses it otherwise), and after any doubt (a lost
// acknowledgement, a restart, another leader) `lastPublished` reads back from the stream how far the
// outbox got.

import { type JetStreamClient, type JetStreamManager, jetstream, jetstreamManager } from '@nats-io/jetstream'
import { headers, type NatsConnection } from '@nats-io/nats-core'
import { subjectOf, toCloudEvent, type VpeEvent } from './cloud-event.ts'
import { EVENTS_STREAM, EVENTS_SUBJECTS } from './subjects.ts'

const DAY_NS = 24 * 3600 * 1e9

/** How far back a watcher can replay: by age, and by size whichever is less. */
const RETENTION = { max_age: 30 * DAY_NS, max_bytes: 1024 ** 3 }

/** How many messages at the end of the stream are looked at for one of ours, should others have written there. */
const LOOK_BACK = 256

export interface StreamEntry {
  /** Position in the writer's outbox; rises by any step. */
  readonly position: number
  readonly atMs: number
  readonly event: VpeEvent
}

export class EventStream {
  readonly #connection: NatsConnection
  readonly #manager: JetStreamManager
  readonly #client: JetStreamClient
  readonly #source: string
  #lastSequence = 0

  private constructor(connection: NatsConnection, manager: JetStreamManager, source: string) {
    this.#connection = connection
    this.#manager = manager
    this.#client = jetstream(connection)
    this.#source = source
  }

  /**
   * Opens the stream, and makes it when it is not there.
   * @param source id of the writer's outbox; entries of another outbox are not taken for this one's
   */
  static async open(connection: NatsConnection, source: string): Promise<EventStream> {
    const manager = await jetstreamManager(connection)
    const config = { name: EVENTS_STREAM, subjects: [EVENTS_SUBJECTS], ...RETENTION }
    const names = await manager.streams.names(EVENTS_SUBJECTS).next()
    if (names.includes(EVENTS_STREAM)) await manager.streams.update(EVENTS_STREAM, config)
    else await manager.streams.add(config)
    return new EventStream(connection, manager, source)
  }

  /**
   * The position of the last entry of this outbox that the stream holds, 0 for none. Must be called
   * before the first `publish` and after each one that threw.
   */
  async lastPublished(): Promise<number> {
    const { state } = await this.#manager.streams.info(EVENTS_STREAM)
    this.#lastSequence = state.last_seq
    const oldest = Math.max(state.first_seq, state.last_seq - LOOK_BACK + 1)
    for (let seq = state.last_seq; seq >= oldest && state.messages > 0; seq--) {
      const message = await this.#manager.streams.getMessage(EVENTS_STREAM, { seq })
      const position = this.#positionOf(message?.header.get('Nats-Msg-Id') ?? '')
      if (position !== null) return position
    }
    return 0
  }

  /**
   * Appends entries, in order. Resolves when the server has stored them all; when it throws, some may
   * be stored: call `lastPublished` and go on from there.
   */
  async publish(entries: readonly StreamEntry[]): Promise<void> {
    // Each one is refused unless the one before it was stored, so the word about the last is the word about all.
    for (const [index, entry] of entries.slice(0, -1).entries()) {
      const { subject, text, id } = this.#messageOf(entry)
      const fields = headers()
      fields.set('Nats-Msg-Id', id)
      fields.set('Nats-Expected-Stream', EVENTS_STREAM)
      fields.set('Nats-Expected-Last-Sequence', String(this.#lastSequence + index))
      this.#connection.publish(subject, text, { headers: fields })
    }
    const last = entries.at(-1)
    if (!last) return
    const { subject, text, id } = this.#messageOf(last)
    const lastSequence = this.#lastSequence + entries.length - 1
    await this.#client.publish(subject, text, {
      msgID: id,
      expect: { streamName: EVENTS_STREAM, lastSequence },
    })
    this.#lastSequence += entries.length
  }

  #messageOf({ event, position, atMs }: StreamEntry) {
    const id = `${this.#source}-${position}`
    const text = JSON.stringify(toCloudEvent(event, id, `vpe/${this.#source}`, atMs))
    return { subject: subjectOf(event), text, id }
  }

  #positionOf(messageId: string): number | null {
    const prefix = `${this.#source}-`
    if (!messageId.startsWith(prefix)) return null
    const position = Number(messageId.slice(prefix.length))
    return Number.isSafeInteger(position) ? position : null
  }
}
