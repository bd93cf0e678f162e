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
