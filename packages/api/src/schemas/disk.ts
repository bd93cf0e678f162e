// Data disks, in the style of dialect 1.

import { z } from '@hono/zod-openapi'
import { Fault, Moment, Name, Reference, Uuid } from './fields.ts'

const SizeGib = z.int().min(1).max(65_536)

export const DiskView = z
  .object({
    uuid: Uuid,
    name: z.string(),
    disk_pool: z.string(),
    disk_pool_uuid: Uuid,
    host: z.string().nullable().openapi({ description: 'The host that it lies on; null in a shared pool' }),
    host_uuid: Uuid.nullable(),
    size_gib: z.number(),
    size_bytes: z.int(),
    status: z.enum([
      'creating',
      'available',
      'attaching',
      'in-use',
      'detaching',
      'resizing',
      'deleting',
      'error',
    ]),
    fault: Fault,
    instance: z.string().nullable().openapi({ description: 'Name of the instance that has it' }),
    instance_uuid: Uuid.nullable(),
    serial: z.string().openapi({ description: 'Guests find it as /dev/disk/by-id/virtio-<serial>' }),
    created_at: Moment,
  })
  .openapi('Disk')

export const DiskListAnswer = z.object({ disks: z.array(DiskView) })
export const DiskAnswer = z.object({ disk: DiskView })
export const DiskUuidAnswer = z.object({ disk: z.object({ uuid: Uuid }) })

export const CreateDiskBody = z
  .strictObject({
    disk: z.strictObject({
      name: Name,
      size_gib: SizeGib,
      disk_pool: Reference.optional().openapi({ description: 'The one with the most room without it' }),
      host: Reference.optional().openapi({
        description:
          'Where it shall lie, in a pool that is not shared; the host with the most room without it',
      }),
    }),
  })
  .openapi('CreateDisk')

export const UpdateDiskBody = z
  .strictObject({
    disk: z.strictObject({
      name: Name.optional(),
      size_gib: SizeGib.optional().openapi({ description: 'A disk can only grow' }),
    }),
  })
  .openapi('UpdateDisk')

export const AttachDiskBody = z
  .strictObject({
    disk: z.strictObject({ uuid: Reference.openapi({ description: 'Uuid or name of the disk' }) }),
  })
  .openapi('AttachDisk')
