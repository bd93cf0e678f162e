// /instances: dialect 1, as its document writes it.

import type { ControllerServiceClient } from '@vpe/proto'
import { type AddEndpoint, JsonText } from '../endpoint.ts'
import { InstanceLists } from '../instance-list.ts'
import {
  ChangedInstanceAnswer,
  CloneInstanceBody,
  CreateInstanceAnswer,
  CreateInstanceBody,
  CreateInstanceQuery,
  DeletedInstanceAnswer,
  EmptyBody,
  InstanceAnswer,
  InstanceListAnswer,
  InstanceUuidAnswer,
  UpdateInstanceBody,
} from '../schemas/instance.ts'
import { InstanceListQuery } from '../schemas/list.ts'
import {
  given,
  STATUS_CODES,
  showChangedInstance,
  showInstance,
  showPlacement,
  showWholeInstance,
} from '../view.ts'

export function instanceRoutes(add: AddEndpoint, controller: ControllerServiceClient): void {
  const lists = new InstanceLists(controller, showInstance)

  add(
    {
      method: 'get',
      path: '/instances',
      summary: 'List instances, oldest first',
      query: InstanceListQuery,
      answer: InstanceListAnswer,
    },
    async ({ query }, { read }) => {
      const { name, status, tag, host, limit, marker } = query
      const filter = {
        nameContains: name,
        ...(status && { status: STATUS_CODES[status] }),
        tags: tag,
        host: host ?? '',
      }
      if (limit === undefined) {
        const texts = await lists.all(read, filter, marker)
        return new JsonText(`{"instances":[${texts.join(',')}]}`)
      }
      const page = await lists.page(read, { ...filter, limit, marker })
      const nextMarker = JSON.stringify(page.nextMarker || null)
      return new JsonText(`{"instances":[${page.texts.join(',')}],"next_marker":${nextMarker}}`)
    },
  )

  add(
    {
      method: 'get',
      path: '/instances/{uuid}',
      summary: 'Show one instance',
      answer: InstanceAnswer,
    },
    async ({ params }, { read }) => {
      const answer = await read((options) => controller.getInstance(params, options))
      return { instance: showWholeInstance(given(answer.instance, 'the instance')) }
    },
  )

  add(
    {
      method: 'post',
      path: '/instances',
      summary: 'Create an instance; it goes on after the answer',
      query: CreateInstanceQuery,
      body: CreateInstanceBody,
      answer: CreateInstanceAnswer,
      codes: ['NAME_TAKEN', 'NO_HOST_FITS', 'NO_FAILOVER_ROOM', 'CONFLICT'],
      fields: {
        name: 'instance.name',
        flavor: 'instance.flavor_uuid',
        image: 'instance.image_uuid',
        disk_pool: 'instance.disk_pool',
        disks: 'instance.disks',
      },
    },
    async ({ query, body: { instance } }, { change, read }) => {
      const request = {
        name: instance.name,
        flavor: instance.flavor_uuid,
        image: instance.image_uuid,
        diskPool: instance.disk_pool ?? '',
        ha: instance.ha,
        haPriority: instance.ha_priority ?? '',
        haIsolation: instance.ha_isolation ?? '',
        tags: instance.tags,
        diskUuids: instance.disks,
        hostname: instance.hostname ?? '',
        sshKeys: instance.ssh_keys,
        userData: instance.user_data ?? '',
      }
      if (query.dry_run === 'true') {
        const tried = await read((options) => controller.explainPlacement({ create: request }, options))
        return { placement: showPlacement(given(tried.placement, 'the placement')) }
      }
      const answer = await change((options) => controller.createInstance(request, options))
      return { instance: showChangedInstance(given(answer.instance, 'the instance')) }
    },
  )

  add(
    {
      method: 'post',
      path: '/instances/{uuid}/clone',
      summary:
        'Create an instance whose system disk is a copy of that of one that is off, or of a snapshot of it',
      body: CloneInstanceBody,
      answer: ChangedInstanceAnswer,
      codes: ['NAME_TAKEN', 'NO_HOST_FITS', 'NO_FAILOVER_ROOM', 'CONFLICT'],
      fields: {
        name: 'instance.name',
        flavor: 'instance.flavor_uuid',
        source_snapshot_uuid: 'instance.snapshot_uuid',
      },
    },
    async ({ params, body: { instance } }, { change }) => {
      const request = {
        sourceUuid: params.uuid,
        sourceSnapshotUuid: instance.snapshot_uuid?.toLowerCase() ?? '',
        name: instance.name,
        flavor: instance.flavor_uuid ?? '',
        ha: instance.ha,
        haPriority: instance.ha_priority ?? '',
        haIsolation: instance.ha_isolation ?? '',
        tags: instance.tags,
        hostname: instance.hostname ?? '',
        sshKeys: instance.ssh_keys,
        userData: instance.user_data ?? '',
      }
      const answer = await change((options) => controller.createInstance(request, options))
      return { instance: showChangedInstance(given(answer.instance, 'the instance')) }
    },
  )

  add(
    {
      method: 'put',
      path: '/instances/{uuid}',
      summary: 'Change name, ha and its wishes, or tags; what is absent stays',
      body: UpdateInstanceBody,
      answer: ChangedInstanceAnswer,
      codes: ['NAME_TAKEN', 'NO_FAILOVER_ROOM', 'CONFLICT'],
      fields: { name: 'instance.name' },
    },
    async ({ params, body: { instance } }, { change }) => {
      const request = {
        uuid: params.uuid,
        name: instance.name,
        ha: instance.ha,
        haPriority: instance.ha_priority,
        haIsolation: instance.ha_isolation,
        tags: instance.tags && { values: instance.tags },
      }
      const answer = await change((options) => controller.updateInstance(request, options))
      return { instance: showChangedInstance(given(answer.instance, 'the instance')) }
    },
  )

  add(
    {
      method: 'delete',
      path: '/instances/{uuid}',
      summary: 'Stop an instance and remove it with its system disk; its data disks are kept',
      answer: DeletedInstanceAnswer,
      codes: ['CONFLICT'],
    },
    async ({ params }, { change }) => {
      const answer = await change((options) => controller.deleteInstance(params, options))
      const kept = given(answer.instance, 'the instance').disks
      return { instance: { uuid: params.uuid, ...(kept.length > 0 && { kept_disks: kept }) } }
    },
  )

  add(
    {
      method: 'post',
      path: '/instances/{uuid}/start',
      summary: 'Power an instance on',
      body: EmptyBody,
      answer: InstanceUuidAnswer,
      codes: ['NO_FAILOVER_ROOM', 'CONFLICT'],
    },
    async ({ params }, { change }) => {
      await change((options) => controller.startInstance(params, options))
      return { instance: { uuid: params.uuid } }
    },
  )

  add(
    {
      method: 'post',
      path: '/instances/{uuid}/stop',
      summary: 'Power an instance off, gracefully first',
      body: EmptyBody,
      answer: InstanceUuidAnswer,
      codes: ['CONFLICT'],
    },
    async ({ params }, { change }) => {
      await change((options) => controller.stopInstance(params, options))
      return { instance: { uuid: params.uuid } }
    },
  )
}
