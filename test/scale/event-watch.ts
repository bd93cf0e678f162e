// What happened to whom and when, as anybody can know: from the events on NATS.

import type { NatsConnection } from '@nats-io/transport-node'
import { type EventKind, eventSubjects, partsOfEventSubject } from '@vpe/bus'

export class EventWatch {
  readonly #connection: NatsConnection

  constructor(connection: NatsConnection) {
    this.#connection = connection
  }

  /** When the first event of a kind came, by what it is about; of performance.now(). Fills while it is held. */
  firstMs(kind: EventKind, what: string): ReadonlyMap<string, number> {
    const seen = new Map<string, number>()
    this.#connection.subscribe(eventSubjects({ kind, what }), {
      callback: (error, message) => {
        if (error) throw error
        const id = partsOfEventSubject(message.subject)?.id
        if (id && !seen.has(id)) seen.set(id, performance.now())
      },
    })
    return seen
  }
}
