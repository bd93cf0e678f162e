// Reading the event log from any place in it, at the reader's pace. An ephemeral pull consumer of JetStream
// serves each reader: it is asked for the next few events only once those before are taken, costs the server
// a few bytes of memory, and goes by itself when its reader does.
//
// A consumer knows nothing of a stream that was wiped, made anew or trimmed under its reader, and may
// miss messages when a connection breaks. So each round first looks at what the stream holds, tells of
// what is gone, and after any doubt makes a new consumer behind the last event that was handed out.

import { setTimeout as sleep } from 'node:timers/promises'
import {
  AckPolicy,
  type Consumer,
  type ConsumerConfig,
  DeliverPolicy,
  type JetStreamClient,
  type JetStreamManager,
  jetstream,
  jetstreamManager,
} from '@nats-io/jetstream'
import { type NatsConnection, nanos } from '@nats-io/nats-core'
import { gapAfter, type LogBounds, type LogGap, type LogPosition } from '@vpe/core'
import { EVENTS_STREAM, EVENTS_SUBJECTS } from './subjects.ts'

/** As many events as a reader that takes none holds in memory. */
const BATCH = 64

/** How long one request for events waits for some. */
const WAIT_MS = 10_000

/** The server forgets a consumer that asked for nothing for so long; it is made again when needed. */
const INACTIVE_MS = 30_000

const RETRY_MS = 500

export type LogItem =
  | {
      readonly kind: 'event'
      readonly position: LogPosition
      readonly subject: string
      /** The CloudEvent, as it was published. */
      readonly text: string
    }
  /** Events that are gone for good. */
  | { readonly kind: 'gap'; readonly position: LogPosition; readonly gap: LogGap }
  /** Nothing that is asked for was found up to here. */
  | { readonly kind: 'idle'; readonly position: LogPosition }

export interface FollowOptions {
  /** Ends the reading, also while it waits. */
  readonly signal: AbortSignal
  /** Only events of these subjects, with wildcards; all of them without it. */
  readonly subjects?: string | undefined
  /** Told of each round that failed; the reading goes on behind the last event that was handed out. */
  readonly onTrouble?: ((error: unknown) => void) | undefined
}

export class EventLog {
  readonly #manager: JetStreamManager
  readonly #client: JetStreamClient

  constructor(manager: JetStreamManager, client: JetStreamClient) {
    this.#manager = manager
    this.#client = client
  }

  static async open(connection: NatsConnection): Promise<EventLog> {
    // Unchecked, since NATS may just be away: each call says so by itself.
    return new EventLog(await jetstreamManager(connection, { checkAPI: false }), jetstream(connection))
  }

  /** What the stream holds now. Rejects when NATS is away, or nothing has been published yet. */
  async bounds(): Promise<LogBounds> {
    const { created, state } = await this.#manager.streams.info(EVENTS_STREAM)
    // An empty stream that never held anything says 0 for its first.
    return {
      epoch: Date.parse(created),
      first: Math.max(state.first_seq, 1, state.messages === 0 ? state.last_seq + 1 : 0),
      last: state.last_seq,
    }
  }

  /** The place before the first event that was published at that time or later. */
  async positionAt(atMs: number): Promise<LogPosition> {
    const { epoch, first, last } = await this.bounds()
    const { name, delivered } = await this.#manager.consumers.add(EVENTS_STREAM, {
      ...CONSUMER,
      deliver_policy: DeliverPolicy.StartTime,
      opt_start_time: new Date(atMs).toISOString(),
    })
    await this.#manager.consumers.delete(EVENTS_STREAM, name)
    // What the server says it has delivered is what lies before the start.
    return { epoch, sequence: Math.min(Math.max(delivered.stream_seq, first - 1), last) }
  }

  /**
   * Reads what comes behind a place, for ever: events in order, none twice, none left out without a gap that
   * says so. Waits out an absence of NATS. Ends when the signal aborts.
   * @param after a place, or the time from which on events were published
   */
  async *follow(
    after: LogPosition | { readonly sinceMs: number },
    options: FollowOptions,
  ): AsyncGenerator<LogItem, void, void> {
    const { signal, subjects, onTrouble = () => {} } = options
    let at = 'sinceMs' in after ? null : after
    let reading: Reading | null = null
    try {
      while (!signal.aborted) {
        try {
          at ??= await this.positionAt('sinceMs' in after ? after.sinceMs : 0)
          const bounds = await this.bounds()
          const gap = gapAfter(at, bounds)
          if (gap) {
            reading = null
            at = gap.resumesAfter
            yield { kind: 'gap', position: at, gap }
          }
          if (!reading) {
            reading = await this.#readAfter(at, subjects)
            // The stream may have changed since it was looked at: a look counts once the consumer stands.
            continue
          }
          const takenBefore = reading.taken
          for await (const message of fetch(reading, signal)) {
            if (signal.aborted) break
            const { streamSequence: sequence } = message.info
            const before = { epoch: bounds.epoch, sequence: sequence - 1 }
            if (subjects === undefined && at.sequence < before.sequence) {
              const why = 'the log dropped its oldest events while they were being read'
              yield { kind: 'gap', position: before, gap: { after: at, resumesAfter: before, why } }
            }
            at = { epoch: bounds.epoch, sequence }
            yield { kind: 'event', position: at, subject: message.subject, text: message.string() }
          }
          if (reading.taken === takenBefore && !signal.aborted && (await isAtItsEnd(reading))) {
            at = { epoch: bounds.epoch, sequence: Math.max(at.sequence, bounds.last) }
            yield { kind: 'idle', position: at }
          }
        } catch (error) {
          if (signal.aborted) break
          reading = null
          onTrouble(error)
          await sleep(RETRY_MS, null, { signal }).catch(() => {})
        }
      }
    } finally {
      // Nobody waits for it: where NATS is away, the server forgets the consumer by itself.
      reading?.consumer.delete().catch(onTrouble)
    }
  }

  async #readAfter({ sequence }: LogPosition, subjects = EVENTS_SUBJECTS): Promise<Reading> {
    const info = await this.#manager.consumers.add(EVENTS_STREAM, {
      ...CONSUMER,
      deliver_policy: DeliverPolicy.StartSequence,
      opt_start_seq: sequence + 1,
      filter_subject: subjects,
    })
    return { consumer: this.#client.consumers.getConsumerFromInfo(info), taken: 0 }
  }
}

const CONSUMER = {
  ack_policy: AckPolicy.None,
  mem_storage: true,
  num_replicas: 1,
  inactive_threshold: nanos(INACTIVE_MS),
} as const satisfies Partial<ConsumerConfig>

/** A consumer, and how many of its messages were handed out. */
interface Reading {
  readonly consumer: Consumer
  taken: number
}

/** The next messages, as they come, until some have come or some time has passed. */
async function* fetch(reading: Reading, signal: AbortSignal) {
  const messages = await reading.consumer.fetch({ max_messages: BATCH, expires: WAIT_MS })
  const stop = () => void messages.close()
  signal.addEventListener('abort', stop, { once: true })
  if (signal.aborted) stop()
  try {
    for await (const message of messages) {
      if (message.info.deliverySequence !== reading.taken + 1) throw lost()
      reading.taken++
      yield message
    }
  } finally {
    signal.removeEventListener('abort', stop)
    await messages.close()
  }
}

/** Whether there is nothing that its reader has not had. @throws when a message was lost on its way */
async function isAtItsEnd({ consumer, taken }: Reading): Promise<boolean> {
  const { delivered, num_pending } = await consumer.info()
  if (delivered.consumer_seq !== taken) throw lost()
  return num_pending === 0
}

function lost(): Error {
  return new Error('a message got lost between NATS and here; it is asked for again')
}
