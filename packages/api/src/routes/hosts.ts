// /hosts: hosts in the style of dialect 1.

import type { ControllerServiceClient } from '@vpe/proto'
import type { AddEndpoint } from '../endpoint.ts'
import { CreateHostBody, HostAnswer, HostListAnswer, HostUuidAnswer } from '../schemas/host.ts'
import { CompanionListQuery } from '../schemas/list.ts'
import { given, showHost } from '../view.ts'

export function hostRoutes(add: AddEndpoint, controller: ControllerServiceClient): void {
  add(
    {
      method: 'get',
      path: '/hosts',
      summary: 'List hosts by name',
      query: CompanionListQuery,
      answer: HostListAnswer,
    },
    async ({ query }, { read }) => {
      const answer = await read((options) => controller.listHosts(query, options))
      return { hosts: answer.hosts.map(showHost) }
    },
  )

  add(
    {
      method: 'get',
      path: '/hosts/{uuid}',
      summary: 'Show one host',
      answer: HostAnswer,
    },
    async ({ params }, { read }) => {
      const answer = await read((options) => controller.getHost(params, options))
      return { host: showHost(given(answer.host, 'the host')) }
    },
  )

  add(
    {
      method: 'post',
      path: '/hosts',
      summary: 'Register a host, whose agent must answer',
      body: CreateHostBody,
      answer: HostAnswer,
      codes: ['NAME_TAKEN', 'CONFLICT', 'HOST_UNREACHABLE'],
      fields: { address: 'host.address' },
    },
    async ({ body }, { change }) => {
      const answer = await change((options) => controller.createHost(body.host, options))
      return { host: showHost(given(answer.host, 'the host')) }
    },
  )

  add(
    {
      method: 'delete',
      path: '/hosts/{uuid}',
      summary: 'Remove a host; refused while something uses it',
      answer: HostUuidAnswer,
      codes: ['IN_USE', 'CONFLICT'],
    },
    async ({ params }, { change }) => {
      await change((options) => controller.deleteHost(params, options))
      return { host: { uuid: params.uuid } }
    },
  )
}
