// Images, in the style of dialect 1.

import { z } from '@hono/zod-openapi'
import { Fault, ImageUrl, Moment, Name, Reference, Sha256, Uuid } from './fields.ts'

const SIZE_MAX = 16 * 1024 ** 4

export const ImageView = z
  .object({
    uuid: Uuid,
    name: z.string(),
    url: z.string().nullable().openapi({ description: 'null for one that was uploaded or captured' }),
    instance_uuid: Uuid.nullable().openapi({ description: 'The instance whose system disk it was' }),
    sha256: z.string().nullable(),
    format: z.enum(['qcow2', 'raw']).nullable().openapi({ description: 'Known once the image is active' }),
    size_bytes: z.int().nullable(),
    virtual_size_bytes: z.int().nullable(),
    status: z
      .enum(['uploading', 'importing', 'active', 'error'])
      .openapi({ description: 'uploading: it waits for its bytes, or they are coming' }),
    progress: z
      .int()
      .min(0)
      .max(100)
      .openapi({ description: 'Per cent of the upload, or then of the import' }),
    fault: Fault,
    instances: z.int().openapi({ description: 'How many instances use it' }),
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
      url: ImageUrl.optional(),
      instance_uuid: Uuid.optional().openapi({
        description: 'Capture the system disk of this instance, which must be off',
      }),
      sha256: Sha256.optional(),
      disk_pool: Reference.optional(),
      size_bytes: z
        .int()
        .min(1)
        .max(SIZE_MAX)
        .optional()
        .openapi({ description: 'Of an upload, where it is known' }),
    }),
  })
  .check((context) => {
    const { url, instance_uuid, sha256, size_bytes } = context.value.image
    const refuse = (field: string, message: string) =>
      context.issues.push({ code: 'custom', path: ['image', field], message, input: context.value })
    if (instance_uuid && url)
      refuse('instance_uuid', 'is given beside url; an image comes from one of the two')
    if (instance_uuid && sha256) refuse('sha256', 'is not known before the disk is captured')
    if (size_bytes && (url || instance_uuid))
      refuse('size_bytes', 'is for uploads: without url and instance_uuid')
  })
  .openapi('CreateImage')

export const UploadAnswer = z.object({
  upload: z
    .object({
      image_uuid: Uuid,
      offset: z.int().openapi({ description: 'How many bytes have arrived; an upload goes on from there' }),
      size_bytes: z
        .int()
        .nullable()
        .openapi({ description: 'As the image was registered; null where not known' }),
    })
    .openapi('ImageUpload'),
})

export const UploadQuery = z.strictObject({
  offset: z
    .string()
    .transform((value, context) => {
      const offset = /^\d{1,15}$/.test(value) ? Number(value) : Number.NaN
      if (offset <= SIZE_MAX) return offset
      context.issues.push({ code: 'custom', message: 'expected a number of bytes', input: value })
      return z.NEVER
    })
    .default(0)
    .openapi({
      type: 'integer',
      minimum: 0,
      description: 'Where the upload goes on; without it, it begins anew',
    }),
})

const ImageCopyView = z
  .object({
    disk_pool_uuid: Uuid,
    disk_pool: z.string(),
    host_uuid: Uuid.nullable().openapi({ description: 'null in a shared pool' }),
    host: z.string().nullable(),
    size_bytes: z.int(),
    instances: z.int().openapi({ description: 'How many instances use this copy' }),
  })
  .openapi('ImageCopy')

export const ImageCopiesAnswer = z.object({
  copies: z.array(ImageCopyView),
  silent_hosts: z.array(z.string()).openapi({ description: 'Hosts that could not be asked' }),
})
