// /members: who belongs to the cluster by a certificate.

import type { ControllerServiceClient } from '@vpe/proto'
import type { AddEndpoint } from '../endpoint.ts'
import { MemberIdAnswer, MemberListAnswer } from '../schemas/member.ts'
import { showMember } from '../view.ts'

export function memberRoutes(add: AddEndpoint, controller: ControllerServiceClient): void {
  add(
    {
      method: 'get',
      path: '/members',
      summary: 'List the agents and API nodes that have joined, by id',
      answer: MemberListAnswer,
    },
    async (_input, { read }) => {
      const answer = await read((options) => controller.listMembers({}, options))
      return { members: answer.members.map(showMember) }
    },
  )

  add(
    {
      method: 'delete',
      path: '/members/{role}/{name}',
      texts: ['role', 'name'],
      summary: 'Remove a member: its certificate and its place on NATS count no more',
      answer: MemberIdAnswer,
      codes: ['CONFLICT'],
    },
    async ({ params }, { change }) => {
      const id = `${params.role}/${params.name}`
      await change((options) => controller.deleteMember({ id }, options))
      return { member: { id } }
    },
  )
}
