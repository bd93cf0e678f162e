// Disk pools, in the style of dialect 1.

import { z } from '@hono/zod-openapi'
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
