// /instances/{uuid}/snapshots: what the system disk of an instance was like, kept and gone back to.

import type { ControllerServiceClient } from '@vpe/proto'
import type { AddEndpoint } from '../endpoint.ts'
import { EmptyBody, InstanceUuidAnswer } from '../schemas/instance.ts'
import { CompanionListQuery } from '../schemas/list.ts'
import {
  CreateSnapshotBody,
  SnapshotAnswer,
  SnapshotListAnswer,
  SnapshotUuidAnswer,
} from '../schemas/snapshot.ts'
import { given, showSnapshot } from '../view.ts'

export function snapshotRoutes(add: AddEndpoint, controller: ControllerServiceClient): void {
  add(
    {
      method: 'get',
      path: '/instances/{uuid}/snapshots',
      summary: 'List the snapshots of its system disk, oldest first',
      query: CompanionListQuery,
      answer: SnapshotListAnswer,
    },
    async ({ params, query }, { read }) => {
      const request = { instanceUuid: params.uuid, ...query }
      const answer = await read((options) => controller.listSnapshots(request, options))
      return { snapshots: answer.snapshots.map(showSnapshot) }
    },
  )

  add(
    {
      method: 'get',
      path: '/instances/{uuid}/snapshots/{snapshot}',
      summary: 'Show one snapshot',
      answer: SnapshotAnswer,
    },
    async ({ params }, { read }) => {
      const answer = await read((options) => controller.getSnapshot(named(params), options))
      return { snapshot: showSnapshot(given(answer.snapshot, 'the snapshot')) }
    },
  )

  add(
    {
      method: 'post',
      path: '/instances/{uuid}/snapshots',
      summary: 'Keep the content of its system disk as it is now, while it runs or not',
      body: CreateSnapshotBody,
      answer: SnapshotAnswer,
      codes: ['NAME_TAKEN', 'CONFLICT'],
      fields: { name: 'snapshot.name' },
    },
    async ({ params, body }, { change }) => {
      const request = { instanceUuid: params.uuid, name: body.snapshot.name }
      const answer = await change((options) => controller.createSnapshot(request, options))
      return { snapshot: showSnapshot(given(answer.snapshot, 'the snapshot')) }
    },
  )

  add(
    {
      method: 'post',
      path: '/instances/{uuid}/snapshots/{snapshot}/revert',
      summary: 'Give its system disk the content of a snapshot again; what was written since is gone',
      body: EmptyBody,
      answer: InstanceUuidAnswer,
      codes: ['CONFLICT'],
    },
    async ({ params }, { change }) => {
      const request = { uuid: params.uuid, snapshotUuid: params.snapshot }
      await change((options) => controller.revertInstance(request, options))
      return { instance: { uuid: params.uuid } }
    },
  )

  add(
    {
      method: 'delete',
      path: '/instances/{uuid}/snapshots/{snapshot}',
      summary: 'Remove a snapshot; the disk stays as it is',
      answer: SnapshotUuidAnswer,
      codes: ['CONFLICT'],
    },
    async ({ params }, { change }) => {
      await change((options) => controller.deleteSnapshot(named(params), options))
      return { snapshot: { uuid: params.snapshot } }
    },
  )
}

function named({ uuid, snapshot }: { readonly uuid: string; readonly snapshot: string }) {
  return { instanceUuid: uuid, uuid: snapshot }
}
