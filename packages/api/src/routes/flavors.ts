// /flavors: flavors in the style of dialect 1.

import type { ControllerServiceClient } from '@vpe/proto'
import type { AddEndpoint } from '../endpoint.ts'
import { CreateFlavorBody, FlavorAnswer, FlavorListAnswer, FlavorUuidAnswer } from '../schemas/flavor.ts'
import { CompanionListQuery } from '../schemas/list.ts'
import { given, showFlavor } from '../view.ts'

export function flavorRoutes(add: AddEndpoint, controller: ControllerServiceClient): void {
  add(
    {
      method: 'get',
      path: '/flavors',
      summary: 'List flavors by name',
      query: CompanionListQuery,
      answer: FlavorListAnswer,
    },
    async ({ query }, { read }) => {
      const answer = await read((options) => controller.listFlavors(query, options))
      return { flavors: answer.flavors.map(showFlavor) }
    },
  )

  add(
    {
      method: 'get',
      path: '/flavors/{uuid}',
      summary: 'Show one flavor',
      answer: FlavorAnswer,
    },
    async ({ params }, { read }) => {
      const answer = await read((options) => controller.getFlavor(params, options))
      return { flavor: showFlavor(given(answer.flavor, 'the flavor')) }
    },
  )

  add(
    {
      method: 'post',
      path: '/flavors',
      summary: 'Register a flavor',
      body: CreateFlavorBody,
      answer: FlavorAnswer,
      codes: ['NAME_TAKEN'],
    },
    async ({ body }, { change }) => {
      const { name, vcpus, memory_mib: memoryMib, disk_gib: diskGib } = body.flavor
      const request = { name, vcpus, memoryMib, diskGib }
      const answer = await change((options) => controller.createFlavor(request, options))
      return { flavor: showFlavor(given(answer.flavor, 'the flavor')) }
    },
  )

  add(
    {
      method: 'delete',
      path: '/flavors/{uuid}',
      summary: 'Remove a flavor; refused while something uses it',
      answer: FlavorUuidAnswer,
      codes: ['IN_USE'],
    },
    async ({ params }, { change }) => {
      await change((options) => controller.deleteFlavor(params, options))
      return { flavor: { uuid: params.uuid } }
    },
  )
}
