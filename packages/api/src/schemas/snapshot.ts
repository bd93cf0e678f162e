// Snapshots of system disks, in the style of dialect 1.

import { z } from '@hono/zod-openapi'
import { SNAPSHOT_STATUSES } from '@vpe/core'
import { Fault, Moment, Name, Uuid } from './fields.ts'

export const SnapshotView = z
  .object({
    uuid: Uuid,
    name: z.string().openapi({ description: 'Unique among the snapshots of its instance' }),
    instance_uuid: Uuid,
    status: z.enum(SNAPSHOT_STATUSES),
    size_bytes: z.int().openapi({ description: 'Size of the system disk when it was asked for' }),
    fault: Fault,
    created_at: Moment,
  })
  .openapi('Snapshot')

export const SnapshotListAnswer = z.object({ snapshots: z.array(SnapshotView) })
export const SnapshotAnswer = z.object({ snapshot: SnapshotView })
export const SnapshotUuidAnswer = z.object({ snapshot: z.object({ uuid: Uuid }) })

export const CreateSnapshotBody = z
  .strictObject({ snapshot: z.strictObject({ name: Name }) })
  .openapi('CreateSnapshot')
