// Flavors, in the style of dialect 1.

import { z } from '@hono/zod-openapi'
import { Moment, Name, Uuid } from './fields.ts'

const MEMORY_MIB_MAX = 16 * 1024 * 1024

export const FlavorView = z
  .object({
    uuid: Uuid,
    name: z.string(),
    vcpus: z.int(),
    memory_mib: z.int(),
    disk_gib: z.int().openapi({ description: "Size of the system disk; 0 takes the image's own" }),
    created_at: Moment,
  })
  .openapi('Flavor')

export const FlavorListAnswer = z.object({ flavors: z.array(FlavorView) })
export const FlavorAnswer = z.object({ flavor: FlavorView })
export const FlavorUuidAnswer = z.object({ flavor: z.object({ uuid: Uuid }) })

export const CreateFlavorBody = z
  .strictObject({
    flavor: z.strictObject({
      name: Name,
      vcpus: z.int().min(1).max(1024),
      memory_mib: z.int().min(16).max(MEMORY_MIB_MAX),
      disk_gib: z.int().min(0).max(65_536).default(0),
    }),
  })
  .openapi('CreateFlavor')
