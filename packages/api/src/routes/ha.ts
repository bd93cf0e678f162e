// /ha, and what of it is about one host or one instance: what is shown, and what people say.

import type { ControllerServiceClient } from '@vpe/proto'
import { callerOf } from '../caller.ts'
import type { ControllerCalls } from '../controller-calls.ts'
import type { AddEndpoint } from '../endpoint.ts'
import { showDisarm, showFailover, showHa, showWhatIf } from '../ha-view.ts'
import {
  ArmedAnswer,
  ConfirmFencedBody,
  DisarmAnswer,
  DisarmBody,
  FailoversAnswer,
  FailoversQuery,
  HaAnswer,
  WhatIfAnswer,
} from '../schemas/ha.ts'
import { HostUuidAnswer } from '../schemas/host.ts'
import { EmptyBody, InstanceUuidAnswer } from '../schemas/instance.ts'
import { given } from '../view.ts'

interface Scope {
  readonly hostId?: string
  readonly instanceUuid?: string
}

export function haRoutes(add: AddEndpoint, controller: ControllerServiceClient): void {
  async function disarm(
    { change }: ControllerCalls,
    scope: Scope,
    { minutes, why }: { readonly minutes: number; readonly why: string },
    request: Request,
  ) {
    const wish = { scope, minutes, why, who: callerOf(request) }
    const answer = await change((options) => controller.disarmHa(wish, options))
    return { disarm: showDisarm(given(answer.disarm, 'the disarm')) }
  }

  async function arm({ change }: ControllerCalls, scope: Scope, request: Request) {
    const wish = { scope, who: callerOf(request) }
    await change((options) => controller.armHa(wish, options))
  }

  async function failovers({ read }: ControllerCalls, instanceUuid: string, limit = 0) {
    const answer = await read((options) => controller.listFailovers({ instanceUuid, limit }, options))
    return { failovers: answer.failovers.map(showFailover) }
  }

  add(
    {
      method: 'get',
      path: '/ha',
      summary: 'Show how high availability stands, and whether the cluster survives the loss of any one host',
      answer: HaAnswer,
    },
    async (_input, { read }) => ({ ha: showHa(await read((options) => controller.getHa({}, options))) }),
  )

  add(
    {
      method: 'get',
      path: '/ha/failovers',
      summary: 'List failovers, latest first',
      query: FailoversQuery,
      answer: FailoversAnswer,
    },
    async ({ query }, calls) => await failovers(calls, '', query.limit),
  )

  add(
    {
      method: 'post',
      path: '/ha/disarm',
      summary: 'Judge nothing lost, and start nothing elsewhere, for a while',
      body: DisarmBody,
      answer: DisarmAnswer,
      codes: ['CONFLICT'],
    },
    async ({ body, request }, calls) => await disarm(calls, {}, body, request),
  )

  add(
    {
      method: 'post',
      path: '/ha/arm',
      summary: 'End that before its time',
      body: EmptyBody,
      answer: ArmedAnswer,
      codes: ['CONFLICT'],
    },
    async ({ request }, calls) => {
      await arm(calls, {}, request)
      return { ha: { armed: true as const } }
    },
  )

  add(
    {
      method: 'post',
      path: '/hosts/{uuid}/confirm-fenced',
      summary: 'Say that a host has no power: what ran there may be started elsewhere',
      body: ConfirmFencedBody,
      answer: HostUuidAnswer,
      codes: ['CONFLICT'],
    },
    async ({ params, request }, { change }) => {
      const wish = { ...params, who: callerOf(request) }
      await change((options) => controller.confirmFenced(wish, options))
      return { host: { uuid: params.uuid } }
    },
  )

  add(
    {
      method: 'post',
      path: '/hosts/{uuid}/disarm',
      summary: 'Never judge a host lost, for a while',
      body: DisarmBody,
      answer: DisarmAnswer,
      codes: ['CONFLICT'],
    },
    async ({ params, body, request }, calls) => await disarm(calls, { hostId: params.uuid }, body, request),
  )

  add(
    {
      method: 'post',
      path: '/hosts/{uuid}/arm',
      summary: 'End that before its time',
      body: EmptyBody,
      answer: HostUuidAnswer,
      codes: ['CONFLICT'],
    },
    async ({ params, request }, calls) => {
      await arm(calls, { hostId: params.uuid }, request)
      return { host: { uuid: params.uuid } }
    },
  )

  add(
    {
      method: 'get',
      path: '/hosts/{uuid}/what-if-lost',
      summary: 'Tell what would become of the highly available instances of a host if it were lost now',
      answer: WhatIfAnswer,
      codes: ['CONFLICT'],
    },
    async ({ params }, { read }) => ({
      what_if: showWhatIf(await read((options) => controller.whatIfHostLost(params, options))),
    }),
  )

  add(
    {
      method: 'get',
      path: '/instances/{uuid}/failovers',
      summary: 'List the failovers of one instance, latest first',
      query: FailoversQuery,
      answer: FailoversAnswer,
    },
    async ({ params, query }, calls) => await failovers(calls, params.uuid, query.limit),
  )

  add(
    {
      method: 'post',
      path: '/instances/{uuid}/disarm',
      summary: 'Do not start an instance elsewhere, for a while',
      body: DisarmBody,
      answer: DisarmAnswer,
      codes: ['CONFLICT'],
    },
    async ({ params, body, request }, calls) =>
      await disarm(calls, { instanceUuid: params.uuid }, body, request),
  )

  add(
    {
      method: 'post',
      path: '/instances/{uuid}/arm',
      summary: 'End that before its time',
      body: EmptyBody,
      answer: InstanceUuidAnswer,
      codes: ['CONFLICT'],
    },
    async ({ params, request }, calls) => {
      await arm(calls, { instanceUuid: params.uuid }, request)
      return { instance: { uuid: params.uuid } }
    },
  )
}
