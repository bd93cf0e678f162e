// /join_tokens: words that let machines into the cluster.

import { type ControllerServiceClient, JoinTokenRole } from '@vpe/proto'
import type { AddEndpoint } from '../endpoint.ts'
import {
  CreatedJoinTokenAnswer,
  CreateJoinTokenBody,
  JoinTokenListAnswer,
  JoinTokenUuidAnswer,
} from '../schemas/join-token.ts'
import { given, showJoinToken } from '../view.ts'

const ROLES = { agent: JoinTokenRole.AGENT, api: JoinTokenRole.API } as const

const FIELDS = {
  role: 'join_token.role',
  name: 'join_token.name',
  expires_in_s: 'join_token.expires_in_s',
  uses: 'join_token.uses',
}

export function joinTokenRoutes(add: AddEndpoint, controller: ControllerServiceClient): void {
  add(
    {
      method: 'get',
      path: '/join_tokens',
      summary: 'List join tokens, oldest first, without what makes them work',
      answer: JoinTokenListAnswer,
    },
    async (_input, { read }) => {
      const answer = await read((options) => controller.listJoinTokens({}, options))
      return { join_tokens: answer.joinTokens.map(showJoinToken) }
    },
  )

  add(
    {
      method: 'post',
      path: '/join_tokens',
      summary: 'Make a token for vpe-agent join or vpe-api join; the answer shows it, once',
      body: CreateJoinTokenBody,
      answer: CreatedJoinTokenAnswer,
      isSecret: true,
      codes: ['CONFLICT'],
      fields: FIELDS,
    },
    async ({ body }, { change }) => {
      const { role, name = '', expires_in_s: expiresInS, uses } = body.join_token
      const request = { role: ROLES[role], name, expiresInS, uses }
      const answer = await change((options) => controller.createJoinToken(request, options))
      return { join_token: { ...showJoinToken(given(answer.joinToken, 'the token')), token: answer.token } }
    },
  )

  add(
    {
      method: 'delete',
      path: '/join_tokens/{uuid}',
      summary: 'Revoke a token; who has joined by it stays',
      answer: JoinTokenUuidAnswer,
    },
    async ({ params }, { change }) => {
      await change((options) => controller.deleteJoinToken(params, options))
      return { join_token: { uuid: params.uuid } }
    },
  )
}
