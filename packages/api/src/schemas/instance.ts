// Instances as dialect 1 writes them: field for field, and in the order of, the document
// (docs/api.md names it). What the document does not have comes after its fields.

import { z } from '@hono/zod-openapi'
import { DISKS_PER_INSTANCE_MAX, INSTANCE_STATUSES, INSTANCE_TASKS } from '@vpe/core'
import { Fault, Hostname, Moment, Name, Reference, SshKeys, Tags, UserData, Uuid } from './fields.ts'
import { HaIsolation, HaPriority, InstanceRecoveryView } from './ha.ts'
import { PlacementAnswer } from './operation.ts'

export const Status = z.enum(INSTANCE_STATUSES).openapi({ description: 'What is observed' })

const Task = z
  .enum(INSTANCE_TASKS)
  .nullable()
  .openapi({ description: 'What is being done to it now; null when nothing is' })

const Disks = z
  .array(z.object({ uuid: Uuid, name: z.string() }))
  .openapi({ description: 'The data disks attached' })

export const Locked = z
  .boolean()
  .openapi({ description: 'It refuses to be deleted, rebuilt or reverted, and to lose a snapshot' })

/** What list and show answer with. */
export const InstanceView = z
  .object({
    uuid: Uuid,
    name: z.string(),
    image: z.string(),
    image_uuid: Uuid,
    disk_pool: z.string().openapi({ description: 'Name of the pool that holds the system disk' }),
    disk_pool_uuid: Uuid,
    status: Status,
    task: Task,
    flavor_uuid: Uuid,
    flavor: z.string(),
    ha: z.boolean(),
    tags: z.array(z.string()),
    created_at: Moment,
    disks: Disks,
    fault: Fault,
    host: z.string().nullable().openapi({ description: 'Name of the host that it is placed on' }),
    host_uuid: Uuid.nullable(),
    namespace: z.string(),
    addresses: z.array(z.string()).openapi({ description: 'Where its guest is reached, as its host knows' }),
    locked: Locked,
    hostname: z.string().nullable().openapi({ description: 'What its guest is told it is called' }),
    ssh_keys: z.array(z.string()),
    user_data_sha256: z
      .string()
      .nullable()
      .openapi({ description: 'The user data themselves are not shown' }),
    unprotected: z.string().nullable().openapi({
      description:
        'Why it stays down when its host is lost, until a person acts; null where it is started elsewhere by itself, and where ha is false',
    }),
    ha_priority: HaPriority,
    ha_isolation: HaIsolation,
  })
  .openapi('Instance')

/** What show answers with: lists leave out what changes by itself. */
export const WholeInstanceView = z
  .object({
    ...InstanceView.shape,
    recovery: InstanceRecoveryView.nullable().openapi({
      description: 'How high availability stands with it; null while it does not look after it',
    }),
  })
  .openapi('WholeInstance')

/** What create and update answer with: here `disk_pool` is the pool's uuid, as in the request. */
export const ChangedInstanceView = z
  .object({
    uuid: Uuid,
    name: z.string(),
    created_at: Moment,
    status: Status,
    task: Task,
    flavor_uuid: Uuid,
    image_uuid: Uuid,
    disk_pool: Uuid,
    ha: z.boolean(),
    tags: z.array(z.string()),
    disks: Disks,
    fault: Fault,
  })
  .openapi('ChangedInstance')

export const InstanceListAnswer = z.object({
  instances: z.array(InstanceView),
  next_marker: z.string().nullable().optional().openapi({
    description: 'Only where a limit was given: the marker of the next page; null where this is the last',
  }),
})
export const InstanceAnswer = z.object({ instance: WholeInstanceView })
export const ChangedInstanceAnswer = z.object({ instance: ChangedInstanceView })
export const DeletedInstanceAnswer = z.object({
  instance: z.object({
    uuid: Uuid,
    kept_disks: Disks.optional().openapi({
      description: 'Its data disks, which stay; only where it has some',
    }),
  }),
})
export const InstanceUuidAnswer = z.object({ instance: z.object({ uuid: Uuid }) })

export const CreateInstanceBody = z
  .strictObject({
    instance: z.strictObject({
      name: Name,
      flavor_uuid: Reference,
      image_uuid: Reference,
      disk_pool: Reference.optional(),
      ha: z.boolean().default(false),
      ha_priority: HaPriority.optional().openapi({ description: 'medium where it is not given' }),
      ha_isolation: HaIsolation.optional().openapi({ description: 'leave where it is not given' }),
      tags: Tags.default([]),
      disks: z.array(Reference).max(DISKS_PER_INSTANCE_MAX).default([]),
      hostname: Hostname.optional(),
      ssh_keys: SshKeys.default([]),
      user_data: UserData.optional(),
    }),
  })
  .openapi('CreateInstance')

export const CreateInstanceQuery = z.strictObject({
  dry_run: z.enum(['true', 'false']).optional().openapi({
    description: 'Only tell where it would go, and why: `placement` instead of `instance`. Nothing is made',
  }),
})

export const CreateInstanceAnswer = z.union([ChangedInstanceAnswer, PlacementAnswer])

export const CloneInstanceBody = z
  .strictObject({
    instance: z.strictObject({
      name: Name,
      snapshot_uuid: Uuid.optional().openapi({
        description: 'One of its snapshots; without it, its disk as it is now',
      }),
      flavor_uuid: Reference.optional().openapi({ description: 'Its own size, where none is given' }),
      ha: z.boolean().default(false),
      ha_priority: HaPriority.optional(),
      ha_isolation: HaIsolation.optional(),
      tags: Tags.default([]),
      hostname: Hostname.optional(),
      ssh_keys: SshKeys.default([]),
      user_data: UserData.optional(),
    }),
  })
  .openapi('CloneInstance')

export const UpdateInstanceBody = z
  .strictObject({
    instance: z.strictObject({
      name: Name.optional(),
      ha: z.boolean().optional(),
      ha_priority: HaPriority.optional(),
      ha_isolation: HaIsolation.optional(),
      tags: Tags.optional(),
    }),
  })
  .openapi('UpdateInstance')

/** Actions without a choice take `{}`, or nothing at all. */
export const EmptyBody = z.strictObject({}).optional()
