// Which files of a disk pool belong to nobody. A file is judged by its name alone, and only names that vpe
// gives are looked at; in doubt it belongs to somebody, since what is wrongly called an orphan may be deleted.
//
// Whoever asks must have listed the files before it reads the records: a record is there before its first
// file is made, and until its last one is gone.

import type { DiskRecord } from './disk.ts'
import type { HostId } from './ids.ts'
import type { InstanceRecord } from './instance.ts'
import type { DiskPoolRecord, Orphan } from './resources.ts'

export const POOL_FILE_KINDS = ['system-disk', 'seed', 'data-disk', 'image', 'part'] as const
export type PoolFileKind = (typeof POOL_FILE_KINDS)[number]

/** A file that is named like one of vpe. */
export interface PoolFileRecord {
  readonly name: string
  readonly kind: PoolFileKind
  /** The instance, disk or image that the name speaks of. */
  readonly ownerUuid: string
  /** Space that it takes. */
  readonly sizeBytes: number
  readonly modifiedAtMs: number
}

/** What the records say; images and disks by whether they are there at all. */
export interface PoolOwners {
  instance(uuid: string): InstanceRecord | undefined
  isImage(uuid: string): boolean
  disk(uuid: string): Pick<DiskRecord, 'hostId' | 'instanceUuid'> | undefined
}

/** Whether a record owns a file that lies in a pool, on a host or, in a shared pool, on all of them. */
export function isOwned(
  file: PoolFileRecord,
  pool: Pick<DiskPoolRecord, 'uuid' | 'shared'>,
  hostId: HostId | null,
  owners: PoolOwners,
): boolean {
  const { ownerUuid } = file
  const instance = owners.instance(ownerUuid)
  if (file.kind === 'part' || instance === undefined) {
    return instance !== undefined || owners.isImage(ownerUuid) || isOfDisk(owners.disk(ownerUuid), hostId)
  }
  // What has a task may be on its way from one place to another.
  if (instance.task !== null) return true
  if (instance.diskPoolUuid !== pool.uuid) return false
  if (pool.shared || hostId === null) return true
  return [instance.hostId, instance.leavingHostId, ...instance.staleCopies].includes(hostId)
}

/** What moves along with an instance may be on two hosts for a while; what no instance has is on its own alone. */
function isOfDisk(disk: ReturnType<PoolOwners['disk']>, hostId: HostId | null): boolean {
  if (!disk) return false
  return disk.instanceUuid !== null || hostId === null || disk.hostId === null || disk.hostId === hostId
}

/** The orphans after a look; `before` those of the last one, which keep the time when they were found. */
export function findOrphans(
  files: readonly PoolFileRecord[],
  pool: Pick<DiskPoolRecord, 'uuid' | 'shared'>,
  hostId: HostId | null,
  owners: PoolOwners,
  before: readonly Orphan[],
  nowMs: number,
): Orphan[] {
  return files
    .filter((file) => !isOwned(file, pool, hostId, owners))
    .map((file) => {
      const known = before.find((orphan) => orphan.name === file.name && orphan.hostId === hostId)
      return { ...file, hostId, sinceMs: known?.sinceMs ?? nowMs }
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}
