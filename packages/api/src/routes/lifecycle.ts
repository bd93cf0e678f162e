// What else can be done to an instance than to start and stop it, in the manner of dialect 1.

import { type ControllerServiceClient, RebootKind } from '@vpe/proto'
import type { AddEndpoint } from '../endpoint.ts'
import { EmptyBody, InstanceUuidAnswer } from '../schemas/instance.ts'
import { RebootBody, RebuildBody, ResizeBody } from '../schemas/lifecycle.ts'

const REBOOT_KINDS = { soft: RebootKind.SOFT, hard: RebootKind.HARD } as const

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
      codes: ['CONFLICT'],
      fields: { flavor: 'resize.flavor_uuid' },
    },
    async ({ params, body }, { change }) => {
      const request = { ...params, flavor: body.resize.flavor_uuid, restart: body.resize.restart }
      await change((options) => controller.resizeInstance(request, options))
      return { instance: { uuid: params.uuid } }
    },
  )
}
