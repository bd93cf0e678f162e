// Images, in the style of dialect 1.

import { z } from '@hono/zod-openapi'
import { Fault, ImageUrl, Moment, Name, Reference, Sha256, Uuid } from './fields.ts'

export const ImageView = z
  .object({
    uuid: Uuid,
    name: z.string(),
    url: z.string(),
    sha256: z.string().nullable(),
    format: z.enum(['qcow2', 'raw']).nullable().openapi({ description: 'Known once the image is active' }),
    size_bytes: z.int().nullable(),
    virtual_size_bytes: z.int().nullable(),
    status: z.enum(['importing', 'active', 'error']),
    progress: z.int().min(0).max(100).openapi({ description: 'Per cent of the import' }),
    fault: Fault,
    disk_pool_uuid: Uuid.nullable().openapi({ description: 'The pool that holds the first copy' }),
    created_at: Moment,
  })
  .openapi('Image')

export const ImageListAnswer = z.object({ images: z.array(ImageView) })
export const ImageAnswer = z.object({ image: ImageView })
export const ImageUuidAnswer = z.object({ image: z.object({ uuid: Uuid }) })

export const CreateImageBody = z
  .strictObject({
    image: z.strictObject({
      name: Name,
      url: ImageUrl,
      sha256: Sha256.optional(),
      disk_pool: Reference.optional(),
    }),
  })
  .openapi('CreateImage')
