// What the actions of /instances/{uuid}/… take: an object named after the action, all of it optional where
// the action has a most natural meaning.

import { z } from '@hono/zod-openapi'
import { Reference } from './fields.ts'

export const RebootBody = z
  .strictObject({
    reboot: z
      .strictObject({
        type: z.enum(['soft', 'hard']).default('soft').openapi({
          description: 'soft: the guest is asked first, and has 30 s; hard: the plug is pulled',
        }),
      })
      .default({ type: 'soft' }),
  })
  .default({ reboot: { type: 'soft' } })
  .openapi('RebootInstance')

export const RebuildBody = z
  .strictObject({
    rebuild: z
      .strictObject({
        image_uuid: Reference.optional().openapi({ description: 'The present image, where none is given' }),
      })
      .default({}),
  })
  .default({ rebuild: {} })
  .openapi('RebuildInstance')

export const ResizeBody = z
  .strictObject({
    resize: z.strictObject({
      flavor_uuid: Reference,
      restart: z
        .boolean()
        .default(false)
        .openapi({ description: 'Reboot it, if it is on; without it, only what is off is resized' }),
    }),
  })
  .openapi('ResizeInstance')

export const MigrateBody = z
  .strictObject({
    migrate: z
      .strictObject({
        host_uuid: Reference.optional().openapi({
          description: 'Uuid or name; the scheduler chooses where none is given',
        }),
        mode: z.enum(['auto', 'live', 'cold']).default('auto').openapi({
          description: 'live: its guest runs on; cold: it is off in between; auto: live when it runs',
        }),
        bandwidth_mib_s: z.int().min(1).max(1_048_576).optional().openapi({
          description: 'The most that copying its memory may take of the network',
        }),
        downtime_ms: z.int().min(1).max(2_000_000).optional().openapi({
          description: 'How long its guest may stand still at the end',
        }),
        copy_disks: z.boolean().default(false).openapi({
          description:
            'Copy its disks along that lie in pools of its host alone; without it, it does not move',
        }),
        post_copy: z.boolean().default(false).openapi({
          description:
            'Live: after a first pass over its memory its guest goes on there and fetches the rest; until then it needs both hosts',
        }),
      })
      .default({ mode: 'auto', copy_disks: false, post_copy: false }),
  })
  .default({ migrate: { mode: 'auto', copy_disks: false, post_copy: false } })
  .openapi('MigrateInstance')
