// Disk pools, in the style of dialect 1.

import { z } from '@hono/zod-openapi'
import { Fault, FolderPath, Moment, Name, Reference, Uuid } from './fields.ts'

const HostOfPool = z.object({
  host_uuid: Uuid,
  state: z.enum(['pending', 'ready', 'error']),
  fault: Fault,
  capacity_bytes: z.int(),
  available_bytes: z.int(),
})

export const DiskPoolView = z
  .object({
    uuid: Uuid,
    name: z.string(),
    kind: z.string(),
    path: z.string(),
    shared: z.boolean().openapi({ description: 'Whether all its hosts see the same files' }),
    system_disks: z.enum(['overlay', 'copy']),
    hosts: z.array(HostOfPool),
    created_at: Moment,
  })
  .openapi('DiskPool')

export const DiskPoolListAnswer = z.object({ disk_pools: z.array(DiskPoolView) })
export const DiskPoolAnswer = z.object({ disk_pool: DiskPoolView })
export const DiskPoolUuidAnswer = z.object({ disk_pool: z.object({ uuid: Uuid }) })

export const CreateDiskPoolBody = z
  .strictObject({
    disk_pool: z.strictObject({
      name: Name,
      kind: z.enum(['dir']).default('dir'),
      path: FolderPath,
      shared: z.boolean().default(false),
      system_disks: z.enum(['overlay', 'copy']).default('overlay'),
      hosts: z.array(Reference).max(10_000).default([]).openapi({ description: 'Empty for every host' }),
    }),
  })
  .openapi('CreateDiskPool')
