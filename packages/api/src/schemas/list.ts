// The queries of lists.

import { z } from '@hono/zod-openapi'
import { NameQuery, Uuid, waitUpTo, wholeNumber } from './fields.ts'

export const InstanceListQuery = z.strictObject({
  name: NameQuery.default('').openapi({ description: 'Only those with this text in their name' }),
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
