// /hosts: hosts in the style of dialect 1.

import { type ControllerServiceClient, HostState } from '@vpe/proto'
import type { CallOptions } from 'nice-grpc-common'
import type { AddEndpoint } from '../endpoint.ts'
import {
  CreateHostBody,
  DrainHostBody,
  HostAnswer,
  HostListAnswer,
  HostListQuery,
  HostPowerBody,
  HostUuidAnswer,
  RebalanceAnswer,
  RebalanceBody,
  RebalanceQuery,
  RebalanceRunAnswer,
  UpdateHostBody,
} from '../schemas/host.ts'
import { EmptyBody } from '../schemas/instance.ts'
import { given, showHost, showRebalance, showRebalanceRun } from '../view.ts'

const STATES = { up: HostState.UP, down: HostState.DOWN } as const

/** How long a look at a host may take beyond what any answer may: what hangs there is waited for. */
const PREFLIGHT_MS = 20_000
/** A drill waits for the slowest renewals and reads, and for a fence agent. */
const DRILL_MS = 90_000

export function hostRoutes(add: AddEndpoint, controller: ControllerServiceClient): void {
  add(
    {
      method: 'get',
      path: '/hosts',
      summary: 'List hosts by name',
      query: HostListQuery,
      answer: HostListAnswer,
    },
    async ({ query }, { read }) => {
      const request = { name: query.name, state: query.state ? STATES[query.state] : HostState.UNSPECIFIED }
      const answer = await read((options) => controller.listHosts(request, options))
      return { hosts: answer.hosts.map(showHost) }
    },
  )

  // Before all paths with a {uuid} in that place.
  add(
    {
      method: 'get',
      path: '/hosts/rebalance',
      summary: 'Show the latest rebalance, and what has become of its moves',
      answer: RebalanceRunAnswer,
      codes: ['NOT_FOUND'],
    },
    async (_input, { read }) => {
      const answer = await read((options) => controller.getRebalance({}, options))
      return { rebalance: showRebalanceRun(given(answer.rebalance, 'the rebalance')) }
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

  // Before all paths with a {uuid} in that place.
  add(
    {
      method: 'post',
      path: '/hosts/rebalance',
      summary: 'Make the fewest moves of instances that even out the load of hosts, or only plan them',
      query: RebalanceQuery,
      body: RebalanceBody,
      answer: RebalanceAnswer,
      codes: ['CONFLICT'],
      fields: {
        bound_percent: 'rebalance.bound_percent',
        max_moves: 'rebalance.max_moves',
        parallel: 'rebalance.parallel',
      },
    },
    async ({ query, body: { rebalance } }, { read, change }) => {
      const request = {
        boundPercent: rebalance.bound_percent,
        maxMoves: rebalance.max_moves,
        parallel: rebalance.parallel,
        dryRun: query.dry_run === 'true',
      }
      const send = (options: CallOptions) => controller.rebalanceHosts(request, options)
      return { rebalance: showRebalance(await (request.dryRun ? read(send) : change(send))) }
    },
  )

  add(
    {
      method: 'delete',
      path: '/hosts/rebalance',
      summary: 'Call the rebalance that goes on off: nothing more begins, what moves goes on',
      answer: RebalanceRunAnswer,
      codes: ['NOT_FOUND'],
    },
    async (_input, { change }) => {
      const answer = await change((options) => controller.cancelRebalance({}, options))
      return { rebalance: showRebalanceRun(given(answer.rebalance, 'the rebalance')) }
    },
  )

  add(
    {
      method: 'put',
      path: '/hosts/{uuid}',
      summary: 'Rename a host, or change its address, at which its agent must answer',
      body: UpdateHostBody,
      answer: HostAnswer,
      codes: ['NAME_TAKEN', 'CONFLICT', 'HOST_UNREACHABLE'],
      fields: { name: 'host.name', address: 'host.address' },
    },
    async ({ params, body }, { change }) => {
      const request = { ...params, ...body.host }
      const answer = await change((options) => controller.updateHost(request, options))
      return { host: showHost(given(answer.host, 'the host')) }
    },
  )

  add(
    {
      method: 'post',
      path: '/hosts/{uuid}/preflight',
      summary: 'Look now whether a host is fit, and show it with what was found',
      answer: HostAnswer,
      codes: ['HOST_UNREACHABLE'],
    },
    async ({ params }, { read }) => {
      const answer = await read((options) => controller.preflightHost(params, options), PREFLIGHT_MS)
      return { host: showHost(given(answer.host, 'the host')) }
    },
  )

  add(
    {
      method: 'put',
      path: '/hosts/{uuid}/power',
      summary: 'Say how a host is switched off when it has to be, or that it cannot be',
      body: HostPowerBody,
      answer: HostAnswer,
      fields: { agent: 'power.agent', options: 'power.options', secrets: 'power.secrets' },
    },
    async ({ params, body: { power } }, { change }) => {
      const request = { ...params, ...(power && { power }) }
      const answer = await change((options) => controller.setHostPower(request, options))
      return { host: showHost(given(answer.host, 'the host')) }
    },
  )

  add(
    {
      method: 'post',
      path: '/hosts/{uuid}/drill',
      summary: 'Try now all that fences a host, while it has no instances; ends nothing',
      body: EmptyBody,
      answer: HostAnswer,
      codes: ['CONFLICT'],
    },
    async ({ params }, { read }) => {
      const answer = await read((options) => controller.drillHost(params, options), DRILL_MS)
      return { host: showHost(given(answer.host, 'the host')) }
    },
  )

  add(
    {
      method: 'post',
      path: '/hosts/{uuid}/cordon',
      summary: 'Keep new instances off a host; what it has stays',
      body: EmptyBody,
      answer: HostAnswer,
    },
    async ({ params }, { change }) => {
      const answer = await change((options) => controller.cordonHost(params, options))
      return { host: showHost(given(answer.host, 'the host')) }
    },
  )

  add(
    {
      method: 'post',
      path: '/hosts/{uuid}/drain',
      summary: 'Cordon a host and move away what it has; while that goes on, what goes on',
      body: DrainHostBody,
      answer: HostAnswer,
      codes: ['CONFLICT'],
    },
    async ({ params, body }, { change }) => {
      const request = { ...params, parallel: body.parallel ?? 0, copyDisks: body.copy_disks }
      const answer = await change((options) => controller.drainHost(request, options))
      return { host: showHost(given(answer.host, 'the host')) }
    },
  )

  add(
    {
      method: 'post',
      path: '/hosts/{uuid}/uncordon',
      summary: 'Let new instances come to a host again; calls a drain off',
      body: EmptyBody,
      answer: HostAnswer,
    },
    async ({ params }, { change }) => {
      const answer = await change((options) => controller.uncordonHost(params, options))
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
