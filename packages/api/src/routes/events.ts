// /events: what happens, as it happens, and from any place in the log.

import { eventSubjects } from '@vpe/bus'
import { type LogPosition, VpeError } from '@vpe/core'
import type { z } from 'zod'
import type { AddEndpoint } from '../endpoint.ts'
import type { EventStreams } from '../events/event-streams.ts'
import type { EventLogReader } from '../events/log-connection.ts'
import { parseInput } from '../input-fault.ts'
import { EventStreamAnswer, EventsQuery } from '../schemas/event.ts'
import { LogPositionText } from '../schemas/fields.ts'

export function eventRoutes(
  add: AddEndpoint,
  streams: EventStreams,
  currentLog: () => EventLogReader | null,
): void {
  add(
    {
      method: 'get',
      path: '/events',
      summary: 'Be told of what happens, as Server-Sent Events; goes on where Last-Event-ID says',
      query: EventsQuery,
      answer: EventStreamAnswer,
      isEventStream: true,
    },
    async ({ query, request, requestId, hangUp }) => {
      const lastEventId = request.headers.get('last-event-id')
      // A client that comes back says so by the header, whatever its URL said when it came first.
      const resumed = lastEventId ? parseInput(LogPositionText, lastEventId, 'Last-Event-ID') : undefined
      const eventLog = currentLog()
      if (!eventLog) throw new VpeError('UNAVAILABLE', 'NATS does not answer, and it has the events')
      const after = await placeOf(eventLog, resumed ?? query.lastEventId ?? query.since)
      if (request.method === 'HEAD') return new ReadableStream()
      const { kind, id, what } = query
      const subjects = eventSubjects({ kind, id: id?.toLowerCase(), what })
      return streams.open({ eventLog, after, subjects, requestId, hangUp })
    },
  )
}

/** The place behind which a stream begins; without one asked for, the end of the log as it is now. */
async function placeOf(
  eventLog: EventLogReader,
  asked: z.output<typeof EventsQuery>['since'],
): Promise<LogPosition> {
  if (asked && 'epoch' in asked) return asked
  try {
    if (asked) return await eventLog.positionAt('atMs' in asked ? asked.atMs : Date.now() - asked.agoMs)
    const { epoch, last } = await eventLog.bounds()
    return { epoch, sequence: last }
  } catch (error) {
    throw new VpeError(
      'UNAVAILABLE',
      'the event log does not answer, or nothing has been written to it yet',
      {
        cause: error,
      },
    )
  }
}
