// Members of the cluster, in the style of dialect 1.

import { z } from '@hono/zod-openapi'
import { Moment, Uuid } from './fields.ts'
import { JoinTokenRoleName } from './join-token.ts'

const id = z.string().openapi({ example: 'api/web1', description: 'agent/<host uuid>, or api/<name>' })

const MemberView = z
  .object({
    id,
    role: JoinTokenRoleName,
    name: z.string().openapi({ description: 'Of the host, or of the API node' }),
    host_uuid: Uuid.nullable().openapi({ description: 'Of an agent' }),
    joined_at: Moment,
  })
  .openapi('Member')

export const MemberListAnswer = z.object({ members: z.array(MemberView) })
export const MemberIdAnswer = z.object({ member: z.object({ id }) })
