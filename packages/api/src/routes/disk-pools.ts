// /disk_pools: disk pools in the style of dialect 1.

import type { ControllerServiceClient } from '@vpe/proto'
import type { AddEndpoint } from '../endpoint.ts'
import {
  AttachDiskPoolHostBody,
  CreateDiskPoolBody,
  DiskPoolAnswer,
  DiskPoolListAnswer,
  DiskPoolUuidAnswer,
  OrphanListAnswer,
  OrphanQuery,
  UpdateDiskPoolBody,
} from '../schemas/disk-pool.ts'
import { CompanionListQuery } from '../schemas/list.ts'
import { given, showDiskPool, showOrphan, systemDiskKind } from '../view.ts'

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
      fields: {
        path: 'disk_pool.path',
        hosts: 'disk_pool.hosts',
        nfs: 'disk_pool.nfs',
        rbd: 'disk_pool.rbd',
        protection: 'disk_pool.ha_class',
        slots: 'disk_pool.ha_slots',
      },
    },
    async ({ body }, { change }) => {
      const { name, kind, path = '', shared, system_disks, hosts, nfs, rbd } = body.disk_pool
      const request = {
        ...{ name, kind, path, shared, systemDisks: systemDiskKind(system_disks), hosts },
        ...(nfs && { nfs }),
        ...(rbd && {
          rbd: { monitors: rbd.monitors, pool: rbd.pool, user: rbd.user, secretUuid: rbd.secret_uuid },
        }),
        protection: protectionOf(body.disk_pool),
        slots: body.disk_pool.ha_slots ?? 0,
      }
      const answer = await change((options) => controller.createDiskPool(request, options))
      return { disk_pool: showDiskPool(given(answer.diskPool, 'the disk pool')) }
    },
  )

  add(
    {
      method: 'put',
      path: '/disk_pools/{uuid}',
      summary: 'Say what its storage is like, where vpe cannot find that out',
      body: UpdateDiskPoolBody,
      answer: DiskPoolAnswer,
      codes: ['CONFLICT'],
      fields: { protection: 'disk_pool', release_slots_of: 'disk_pool.release_slots_of' },
    },
    async ({ params, body }, { change }) => {
      const { release_slots_of: releaseSlotsOf, ...settings } = body.disk_pool
      const request = { ...params, protection: protectionOf(settings), releaseSlotsOf }
      const answer = await change((options) => controller.updateDiskPool(request, options))
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

  add(
    {
      method: 'post',
      path: '/disk_pools/{uuid}/hosts',
      summary: 'Give a host a disk pool',
      body: AttachDiskPoolHostBody,
      answer: DiskPoolAnswer,
      codes: ['CONFLICT'],
    },
    async ({ params, body }, { change }) => {
      const answer = await change((options) =>
        controller.attachDiskPoolHost({ uuid: params.uuid, host: body.host }, options),
      )
      return { disk_pool: showDiskPool(given(answer.diskPool, 'the disk pool')) }
    },
  )

  add(
    {
      method: 'delete',
      path: '/disk_pools/{uuid}/hosts/{host}',
      summary: 'Take a disk pool from a host; refused while something of it is in use there',
      answer: DiskPoolAnswer,
      codes: ['IN_USE', 'CONFLICT', 'DISK_POOL_FAILED'],
    },
    async ({ params }, { change }) => {
      const answer = await change((options) =>
        controller.detachDiskPoolHost({ uuid: params.uuid, hostUuid: params.host }, options),
      )
      return { disk_pool: showDiskPool(given(answer.diskPool, 'the disk pool')) }
    },
  )

  add(
    {
      method: 'get',
      path: '/disk_pools/{uuid}/orphans',
      summary: 'Look for files that no record owns',
      answer: OrphanListAnswer,
    },
    async ({ params }, { read }) => {
      const answer = await read((options) => controller.listOrphans(params, options))
      return {
        orphans: answer.orphans.map(showOrphan),
        foreign: answer.foreign,
        silent_hosts: answer.silentHosts,
      }
    },
  )

  add(
    {
      method: 'delete',
      path: '/disk_pools/{uuid}/orphans/{file}',
      texts: ['file'],
      summary: 'Delete a file that no record owns; refused when one does by now, or something uses it',
      query: OrphanQuery,
      answer: DiskPoolAnswer,
      codes: ['IN_USE', 'CONFLICT', 'HOST_UNREACHABLE', 'DISK_POOL_FAILED'],
    },
    async ({ params, query }, { change }) => {
      const { uuid, file } = params
      const answer = await change((options) =>
        controller.deleteOrphan({ uuid, file, host: query.host ?? '' }, options),
      )
      return { disk_pool: showDiskPool(given(answer.diskPool, 'the disk pool')) }
    },
  )
}

interface ProtectionInput {
  readonly ha_class?: string | undefined
  readonly lost_locks?: string | undefined
  readonly linearizable?: boolean | undefined
}

/** What was said of a pool's storage, and nothing else. */
function protectionOf({ ha_class, lost_locks, linearizable }: ProtectionInput) {
  return {
    ...(ha_class !== undefined && { wantedClass: ha_class }),
    ...(lost_locks !== undefined && { lostLocks: lost_locks }),
    ...(linearizable !== undefined && { isLinearizable: linearizable }),
  }
}
