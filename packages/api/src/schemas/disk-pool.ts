// Disk pools, in the style of dialect 1.

import { z } from '@hono/zod-openapi'
import { LEASE_SLOTS, LEASE_SLOTS_MAX, LOST_LOCKS, WANTED_CLASSES } from '@vpe/core/ha'
import { Fault, FolderPath, Moment, Name, Reference, Uuid } from './fields.ts'

const HostOfPool = z.object({
  host_uuid: Uuid,
  state: z.enum(['pending', 'ready', 'error', 'leaving']).openapi({
    description: 'leaving: it is to let go of it, and has not yet said that it has; fault says what keeps it',
  }),
  fault: Fault,
  capacity_bytes: z.int(),
  available_bytes: z.int(),
})

const NfsSource = z.object({ server: z.string(), export: z.string(), options: z.string() })
const RbdSource = z.object({
  monitors: z.array(z.string()),
  pool: z.string(),
  user: z.string(),
  secret_uuid: Uuid,
})

const Protection = z.object({
  class: z.enum(['E', 'T', 'N']).openapi({
    description:
      'E: the storage refuses writes of who has lost its locks; T: time and watchdogs; N: a person decides, and nothing is started elsewhere by itself',
  }),
  reason: z.string().openapi({ description: 'Why it is of that class' }),
  probed_at: Moment.nullable().openapi({ description: 'When its locks were last tried to the end' }),
  can_revoke: z.boolean().openapi({ description: 'There is a hook that may shut hosts out at the storage' }),
  slots: z.int().openapi({ description: 'How many hosts can have a lease; 0 where none can' }),
  slots_taken: z.int(),
})

const HaClass = z.enum(WANTED_CLASSES).openapi({
  description: 'auto: as it is found; T still needs watchdogs, and E is only found, never set',
})
const LostLocks = z.enum(LOST_LOCKS).openapi({
  description:
    'Of storage that vpe does not recognise, fenced: it refuses writes of a host whose locks it has dropped',
})
const Linearizable = z.boolean().openapi({
  description:
    'Whether a write that was acknowledged is what every host reads: one server, or one file system',
})

export const DiskPoolView = z
  .object({
    uuid: Uuid,
    name: z.string(),
    kind: z.string(),
    path: z.string().openapi({ description: 'On each of its hosts; empty for kind rbd' }),
    nfs: NfsSource.nullable(),
    rbd: RbdSource.nullable(),
    orphans: z.int().openapi({ description: 'Files that no record owns, as the last look found them' }),
    shared: z.boolean().openapi({ description: 'Whether all its hosts see the same files' }),
    system_disks: z.enum(['overlay', 'copy']),
    deleting: z.boolean().openapi({ description: 'It goes once no host has it any more' }),
    hosts: z.array(HostOfPool),
    ha: Protection.openapi({ description: 'What keeps two hosts from writing it' }),
    ha_class: HaClass,
    lost_locks: LostLocks,
    linearizable: Linearizable,
    created_at: Moment,
  })
  .openapi('DiskPool')

export const DiskPoolListAnswer = z.object({ disk_pools: z.array(DiskPoolView) })
export const DiskPoolAnswer = z.object({ disk_pool: DiskPoolView })
export const DiskPoolUuidAnswer = z.object({ disk_pool: z.object({ uuid: Uuid }) })

const SourceText = z.string().max(1_024)

export const AttachDiskPoolHostBody = z.strictObject({ host: Reference }).openapi('AttachDiskPoolHost')

export const OrphanView = z
  .object({
    file: z.string(),
    host_uuid: Uuid.nullable().openapi({ description: 'Null in a shared pool' }),
    host: z.string().nullable(),
    kind: z.enum(['system-disk', 'seed', 'data-disk', 'image', 'part']),
    owner_uuid: Uuid.openapi({ description: 'The instance, disk or image that the name speaks of' }),
    size_bytes: z.int(),
    modified_at: Moment,
    since: Moment.openapi({ description: 'When it was first found without an owner' }),
  })
  .openapi('Orphan')

export const OrphanListAnswer = z.object({
  orphans: z.array(OrphanView),
  foreign: z.int().openapi({ description: 'Files of others, which are not looked at' }),
  silent_hosts: z.array(z.string()),
})

export const OrphanQuery = z.strictObject({
  host: Reference.optional().openapi({
    description: 'The host that it lies on; not needed in a shared pool',
  }),
})

export const CreateDiskPoolBody = z
  .strictObject({
    disk_pool: z
      .strictObject({
        name: Name,
        kind: z.enum(['dir', 'nfs', 'rbd']).default('dir'),
        path: FolderPath.optional().openapi({
          description: 'Needed for kind dir; where each host mounts the export for kind nfs',
        }),
        nfs: z
          .strictObject({
            server: SourceText,
            export: SourceText,
            options: SourceText.default('').openapi({ description: 'As mount -o takes them: vers=4.2,hard' }),
          })
          .optional(),
        rbd: z
          .strictObject({
            monitors: z.array(SourceText).min(1).max(32),
            pool: SourceText,
            user: SourceText,
            secret_uuid: Uuid,
          })
          .optional(),
        shared: z.boolean().default(false),
        system_disks: z.enum(['overlay', 'copy']).default('overlay'),
        hosts: z.array(Reference).max(10_000).default([]).openapi({ description: 'Empty for every host' }),
        ha_class: HaClass.optional(),
        lost_locks: LostLocks.optional(),
        linearizable: Linearizable.optional(),
        ha_slots: z
          .int()
          .min(2)
          .max(LEASE_SLOTS_MAX)
          .optional()
          .openapi({
            description: `How many hosts can have a lease in it, for good; ${LEASE_SLOTS} where it is not given`,
          }),
      })
      .refine(({ kind, path }) => kind !== 'dir' || path !== undefined, {
        path: ['path'],
        message: 'is missing: a disk pool of kind dir lies in a folder',
      })
      .refine(({ kind, nfs }) => kind !== 'nfs' || nfs !== undefined, {
        path: ['nfs'],
        message: 'is missing: a disk pool of kind nfs needs its server and export',
      })
      .refine(({ kind, rbd }) => kind !== 'rbd' || rbd !== undefined, {
        path: ['rbd'],
        message: 'is missing: a disk pool of kind rbd needs its monitors, pool, user and secret',
      }),
  })
  .openapi('CreateDiskPool')

export const UpdateDiskPoolBody = z
  .strictObject({
    disk_pool: z.strictObject({
      ha_class: HaClass.optional(),
      lost_locks: LostLocks.optional(),
      linearizable: Linearizable.optional(),
      release_slots_of: z.array(Uuid).max(LEASE_SLOTS_MAX).default([]).openapi({
        description:
          'Hosts that were removed without letting go of the pool, and will never write there again',
      }),
    }),
  })
  .openapi('UpdateDiskPool')
