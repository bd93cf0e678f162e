// What else can be done to an instance than to start and stop it, in the manner of dialect 1.

import { type ControllerServiceClient, MigrationMode, RebootKind } from '@vpe/proto'
import type { AddEndpoint } from '../endpoint.ts'
import { EmptyBody, InstanceUuidAnswer } from '../schemas/instance.ts'
import { MigrateBody, RebootBody, RebuildBody, ResizeBody } from '../schemas/lifecycle.ts'

const REBOOT_KINDS = { soft: RebootKind.SOFT, hard: RebootKind.HARD } as const

const MIGRATION_MODES = {
  auto: MigrationMode.UNSPECIFIED,
  live: MigrationMode.LIVE,
  cold: MigrationMode.COLD,
} as const

/** Actions that leave no choice. */
const PLAIN_ACTIONS = {
  pause: 'Stop the CPUs of an active instance; its memory stays',
  resume: 'Let a paused instance go on where it was',
  lock: 'Make it refuse to be deleted or rebuilt',
  unlock: 'Let it be deleted and rebuilt again',
} as const

export function lifecycleRoutes(add: AddEndpoint, controller: ControllerServiceClient): void {
  for (const action of ['pause', 'resume', 'lock', 'unlock'] as const) {
    add(
      {
        method: 'post',
        path: `/instances/{uuid}/${action}`,
        summary: PLAIN_ACTIONS[action],
        body: EmptyBody,
        answer: InstanceUuidAnswer,
        codes: ['CONFLICT'],
      },
      async ({ params }, { change }) => {
        await change((options) => controller[`${action}Instance`](params, options))
        return { instance: { uuid: params.uuid } }
      },
    )
  }

  add(
    {
      method: 'post',
      path: '/instances/{uuid}/reboot',
      summary: 'Boot its guest anew',
      body: RebootBody,
      answer: InstanceUuidAnswer,
      codes: ['CONFLICT'],
    },
    async ({ params, body }, { change }) => {
      const request = { ...params, kind: REBOOT_KINDS[body.reboot.type] }
      await change((options) => controller.rebootInstance(request, options))
      return { instance: { uuid: params.uuid } }
    },
  )

  add(
    {
      method: 'post',
      path: '/instances/{uuid}/rebuild',
      summary: 'Make its system disk anew from an image; what was on it is gone',
      body: RebuildBody,
      answer: InstanceUuidAnswer,
      codes: ['CONFLICT'],
      fields: { image: 'rebuild.image_uuid' },
    },
    async ({ params, body }, { change }) => {
      const request = { ...params, image: body.rebuild.image_uuid }
      await change((options) => controller.rebuildInstance(request, options))
      return { instance: { uuid: params.uuid } }
    },
  )

  add(
    {
      method: 'post',
      path: '/instances/{uuid}/resize',
      summary: 'Give it the size of another flavor; its system disk may grow',
      body: ResizeBody,
      answer: InstanceUuidAnswer,
      codes: ['NO_FAILOVER_ROOM', 'CONFLICT'],
      fields: { flavor: 'resize.flavor_uuid' },
    },
    async ({ params, body }, { change }) => {
      const request = { ...params, flavor: body.resize.flavor_uuid, restart: body.resize.restart }
      await change((options) => controller.resizeInstance(request, options))
      return { instance: { uuid: params.uuid } }
    },
  )

  add(
    {
      method: 'post',
      path: '/instances/{uuid}/migrate',
      summary: 'Move it to another host, as it runs where it does',
      body: MigrateBody,
      answer: InstanceUuidAnswer,
      codes: ['CONFLICT', 'NO_HOST_FITS'],
      fields: {
        host: 'migrate.host_uuid',
        bandwidth_mib_s: 'migrate.bandwidth_mib_s',
        downtime_ms: 'migrate.downtime_ms',
      },
    },
    async ({ params, body }, { change }) => {
      const { host_uuid: host = '', mode, bandwidth_mib_s: bandwidthMibS = 0 } = body.migrate
      const { downtime_ms: downtimeMs = 0, copy_disks: copyDisks, post_copy: postCopy } = body.migrate
      const limits = { bandwidthMibS, downtimeMs }
      const request = { ...params, host, mode: MIGRATION_MODES[mode], ...limits, copyDisks, postCopy }
      await change((options) => controller.migrateInstance(request, options))
      return { instance: { uuid: params.uuid } }
    },
  )

  add(
    {
      method: 'delete',
      path: '/instances/{uuid}/migrate',
      summary: 'Have an instance that is moved as it runs stay where it is',
      answer: InstanceUuidAnswer,
      codes: ['CONFLICT'],
    },
    async ({ params }, { change }) => {
      await change((options) => controller.cancelMigration(params, options))
      return { instance: { uuid: params.uuid } }
    },
  )
}
