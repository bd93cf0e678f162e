// /operations and /placements: how far a change has come, and why it went where it went.

import type { ControllerServiceClient } from '@vpe/proto'
import type { AddEndpoint } from '../endpoint.ts'
import { OperationListQuery, OperationQuery } from '../schemas/list.ts'
import { OperationAnswer, OperationListAnswer, PlacementAnswer } from '../schemas/operation.ts'
import { given, showOperation, showPlacement } from '../view.ts'

export function operationRoutes(add: AddEndpoint, controller: ControllerServiceClient): void {
  add(
    {
      method: 'get',
      path: '/operations',
      summary: 'List operations, newest first',
      query: OperationListQuery,
      answer: OperationListAnswer,
    },
    async ({ query }, { read }) => {
      const request = { resourceUuid: query.resource?.toLowerCase() ?? '', limit: query.limit ?? 0 }
      const answer = await read((options) => controller.listOperations(request, options))
      return { operations: answer.operations.map(showOperation) }
    },
  )

  add(
    {
      method: 'get',
      path: '/operations/{uuid}',
      summary: 'Show one operation; with wait, when it has ended',
      query: OperationQuery,
      answer: OperationAnswer,
    },
    async ({ params, query }, { read }) => {
      const request = { uuid: params.uuid, waitMs: query.wait ?? 0 }
      const answer = await read((options) => controller.getOperation(request, options), query.wait)
      return { operation: showOperation(given(answer.operation, 'the operation')) }
    },
  )

  add(
    {
      method: 'get',
      path: '/placements/{uuid}',
      summary: 'Show why an instance was placed where it is, or nowhere',
      answer: PlacementAnswer,
    },
    async ({ params }, { read }) => {
      const answer = await read((options) => controller.getPlacement(params, options))
      return { placement: showPlacement(given(answer.placement, 'the placement')) }
    },
  )
}
