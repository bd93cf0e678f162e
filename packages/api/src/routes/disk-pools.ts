// /disk_pools: disk pools in the style of dialect 1.

import type { ControllerServiceClient } from '@vpe/proto'
import type { AddEndpoint } from '../endpoint.ts'
import {
  CreateDiskPoolBody,
  DiskPoolAnswer,
  DiskPoolListAnswer,
  DiskPoolUuidAnswer,
} from '../schemas/disk-pool.ts'
import { CompanionListQuery } from '../schemas/list.ts'
import { given, showDiskPool, systemDiskKind } from '../view.ts'

export function diskPoolRoutes(add: AddEndpoint, controller: ControllerServiceClient): void {
  add(
    {
      method: 'get',
      path: '/disk_pools',
      summary: 'List disk pools by name',
      query: CompanionListQuery,
      answer: DiskPoolListAnswer,
    },
    async ({ query }, { read }) => {
      const answer = await read((options) => controller.listDiskPools(query, options))
      return { disk_pools: answer.diskPools.map(showDiskPool) }
    },
  )

  add(
    {
      method: 'get',
      path: '/disk_pools/{uuid}',
      summary: 'Show one disk pool',
      answer: DiskPoolAnswer,
    },
    async ({ params }, { read }) => {
      const answer = await read((options) => controller.getDiskPool(params, options))
      return { disk_pool: showDiskPool(given(answer.diskPool, 'the disk pool')) }
    },
  )

  add(
    {
      method: 'post',
      path: '/disk_pools',
      summary: 'Register a disk pool',
      body: CreateDiskPoolBody,
      answer: DiskPoolAnswer,
      codes: ['NAME_TAKEN', 'CONFLICT'],
      fields: { path: 'disk_pool.path', hosts: 'disk_pool.hosts' },
    },
    async ({ body }, { change }) => {
      const { name, kind, path, shared, system_disks, hosts } = body.disk_pool
      const request = { name, kind, path, shared, systemDisks: systemDiskKind(system_disks), hosts }
      const answer = await change((options) => controller.createDiskPool(request, options))
      return { disk_pool: showDiskPool(given(answer.diskPool, 'the disk pool')) }
    },
  )

  add(
    {
      method: 'delete',
      path: '/disk_pools/{uuid}',
      summary: 'Remove a disk pool; refused while something uses it',
      answer: DiskPoolUuidAnswer,
      codes: ['IN_USE', 'CONFLICT'],
    },
    async ({ params }, { change }) => {
      await change((options) => controller.deleteDiskPool(params, options))
      return { disk_pool: { uuid: params.uuid } }
    },
  )
}
