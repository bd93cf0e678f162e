// Join tokens, in the style of dialect 1.

import { z } from '@hono/zod-openapi'
import { Moment, Name, Uuid } from './fields.ts'

export const JoinTokenRoleName = z.enum(['agent', 'api']).openapi({
  description: 'What a token makes of who holds it: a host of the cluster, or one of its API nodes',
})

const fields = {
  uuid: Uuid,
  role: JoinTokenRoleName,
  name: z
    .string()
    .nullable()
    .openapi({ description: 'What the member will be called; null leaves it to the member' }),
  uses: z.int().openapi({ description: 'How many members it lets in' }),
  used_by: z
    .array(z.string())
    .openapi({ description: 'Host uuids, or names of API nodes, that have joined by it' }),
  expires_at: Moment,
  created_at: Moment,
}

export const JoinTokenView = z.object(fields).openapi('JoinToken')

export const JoinTokenListAnswer = z.object({ join_tokens: z.array(JoinTokenView) })
export const CreatedJoinTokenAnswer = z.object({
  join_token: z.object({
    ...fields,
    token: z
      .string()
      .openapi({ description: 'For vpe-agent join or vpe-api join; shown here and nowhere else' }),
  }),
})
export const JoinTokenUuidAnswer = z.object({ join_token: z.object({ uuid: Uuid }) })

export const CreateJoinTokenBody = z
  .strictObject({
    join_token: z.strictObject({
      role: JoinTokenRoleName,
      name: Name.optional(),
      expires_in_s: z
        .int()
        .min(1)
        .max(30 * 86_400)
        .optional()
        .openapi({ description: 'Seconds from now; an hour when left out' }),
      uses: z.int().min(1).max(1_000).optional().openapi({ description: 'One when left out' }),
    }),
  })
  .openapi('CreateJoinToken')
