// /disks: data disks in the style of dialect 1, and what attaches them to instances.

import type { ControllerServiceClient } from '@vpe/proto'
import type { AddEndpoint } from '../endpoint.ts'
import {
  AttachDiskBody,
  CreateDiskBody,
  DiskAnswer,
  DiskListAnswer,
  DiskUuidAnswer,
  UpdateDiskBody,
} from '../schemas/disk.ts'
import { CompanionListQuery } from '../schemas/list.ts'
import { given, showDisk } from '../view.ts'

const GIB = 1024 ** 3

export function diskRoutes(add: AddEndpoint, controller: ControllerServiceClient): void {
  add(
    {
      method: 'get',
      path: '/disks',
      summary: 'List data disks by name',
      query: CompanionListQuery,
      answer: DiskListAnswer,
    },
    async ({ query }, { read }) => {
      const answer = await read((options) => controller.listDisks(query, options))
      return { disks: answer.disks.map(showDisk) }
    },
  )

  add(
    {
      method: 'get',
      path: '/disks/{uuid}',
      summary: 'Show one data disk',
      answer: DiskAnswer,
    },
    async ({ params }, { read }) => {
      const answer = await read((options) => controller.getDisk(params, options))
      return { disk: showDisk(given(answer.disk, 'the disk')) }
    },
  )

  add(
    {
      method: 'post',
      path: '/disks',
      summary: 'Create an empty data disk; it goes on after the answer',
      body: CreateDiskBody,
      answer: DiskAnswer,
      fields: {
        name: 'disk.name',
        size_bytes: 'disk.size_gib',
        disk_pool: 'disk.disk_pool',
        host: 'disk.host',
      },
      codes: ['NAME_TAKEN', 'CONFLICT', 'DISK_POOL_FULL'],
    },
    async ({ body: { disk } }, { change }) => {
      const { name, size_gib, disk_pool = '', host = '' } = disk
      const request = { name, sizeBytes: size_gib * GIB, diskPool: disk_pool, host }
      const answer = await change((options) => controller.createDisk(request, options))
      return { disk: showDisk(given(answer.disk, 'the disk')) }
    },
  )

  add(
    {
      method: 'put',
      path: '/disks/{uuid}',
      summary: 'Rename a data disk or make it larger; what is absent stays',
      body: UpdateDiskBody,
      answer: DiskAnswer,
      fields: { name: 'disk.name', size_bytes: 'disk.size_gib', size_gib: 'disk.size_gib' },
      codes: ['NAME_TAKEN', 'CONFLICT', 'DISK_POOL_FULL'],
    },
    async ({ params, body: { disk } }, { change }) => {
      const sizeBytes = disk.size_gib === undefined ? undefined : disk.size_gib * GIB
      const request = { uuid: params.uuid, name: disk.name, sizeBytes }
      const answer = await change((options) => controller.updateDisk(request, options))
      return { disk: showDisk(given(answer.disk, 'the disk')) }
    },
  )

  add(
    {
      method: 'delete',
      path: '/disks/{uuid}',
      summary: 'Remove a data disk with what is on it; refused while an instance has it',
      answer: DiskUuidAnswer,
      codes: ['CONFLICT'],
    },
    async ({ params }, { change }) => {
      await change((options) => controller.deleteDisk(params, options))
      return { disk: { uuid: params.uuid } }
    },
  )

  add(
    {
      method: 'post',
      path: '/instances/{uuid}/disks',
      summary: 'Attach a data disk to an instance, running or not',
      body: AttachDiskBody,
      answer: DiskAnswer,
      fields: { disk: 'disk.uuid' },
      codes: ['CONFLICT'],
    },
    async ({ params, body }, { change }) => {
      const request = { instanceUuid: params.uuid, disk: body.disk.uuid }
      const answer = await change((options) => controller.attachDisk(request, options))
      return { disk: showDisk(given(answer.disk, 'the disk')) }
    },
  )

  add(
    {
      method: 'delete',
      path: '/instances/{uuid}/disks/{disk}',
      summary: 'Detach a data disk from an instance, running or not; what is on it stays',
      answer: DiskAnswer,
      codes: ['CONFLICT'],
    },
    async ({ params }, { change }) => {
      const request = { instanceUuid: params.uuid, diskUuid: params.disk }
      const answer = await change((options) => controller.detachDisk(request, options))
      return { disk: showDisk(given(answer.disk, 'the disk')) }
    },
  )
}
