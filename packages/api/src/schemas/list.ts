// The queries of lists.

import { z } from '@hono/zod-openapi'
import { INSTANCE_STATUSES } from '@vpe/core'
import { NameQuery, Reference, SinceQuery, span, TagQuery, Uuid, waitUpTo, wholeNumber } from './fields.ts'

export const InstanceListQuery = z.strictObject({
  name: NameQuery.default('').openapi({ description: 'Only those with this text in their name' }),
  status: z
    .enum(INSTANCE_STATUSES)
    .optional()
    .openapi({ description: 'Only those of which this is observed' }),
  tag: TagQuery.default([]),
  host: Reference.optional().openapi({ description: 'Only those on the host of this uuid or name' }),
  limit: wholeNumber(1, 1000)
    .optional()
    .openapi({ description: 'At most so many, and next_marker in the answer; without it, all of them' }),
  marker: z.string().max(128).default('').openapi({
    description: 'Only those after it: next_marker of the page before, or the uuid of an instance',
  }),
})

export const MetricsQuery = z.strictObject({
  since: SinceQuery.optional().openapi({ description: 'The series begins here; 10m ago without it' }),
  step: span(1, 3_600)
    .optional()
    .openapi({ description: 'Points are means over so long; as they were measured without it' }),
})

export const CompanionListQuery = z.strictObject({
  name: NameQuery.default('').openapi({ description: 'Only the one of this name' }),
})

export const OperationListQuery = z.strictObject({
  resource: Uuid.optional().openapi({ description: 'Only those on the resource of this uuid' }),
  limit: wholeNumber(1, 1000).optional(),
})

export const OperationQuery = z.strictObject({
  wait: waitUpTo(60)
    .optional()
    .openapi({ description: 'Answer when the operation ends, or after this time' }),
})
