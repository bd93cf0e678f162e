// The query of the event stream.

import { z } from '@hono/zod-openapi'
import { EVENT_KINDS } from '@vpe/bus'
import { LogPlaceQuery, LogPositionText, Uuid } from './fields.ts'

export const EventsQuery = z.strictObject({
  kind: z.enum(EVENT_KINDS).optional().openapi({ description: 'Only events about this kind of thing' }),
  id: Uuid.optional().openapi({ description: 'Only events about the one of this uuid' }),
  what: z
    .string()
    .regex(/^[a-z_]{1,32}$/, 'expected a word such as started')
    .optional()
    .openapi({ description: 'Only events of this' }),
  since: LogPlaceQuery.optional().openapi({
    description:
      'Begin behind the event of this id, or at this time; without it, with what happens from now on',
  }),
  lastEventId: LogPositionText.optional().openapi({
    description: 'The same as the header Last-Event-ID, for clients that cannot send it',
  }),
})

export const EventStreamAnswer = z
  .custom<ReadableStream<Uint8Array>>((value) => value instanceof ReadableStream)
  .openapi({ type: 'string', description: 'Server-Sent Events; the data of each is a CloudEvent in JSON' })
