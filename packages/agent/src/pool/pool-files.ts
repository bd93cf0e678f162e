// What files of vpe in a pool are called. Names are all that tells them apart from files of others, so
// nothing else is ever opened, changed or deleted there.

import { basename, join } from 'node:path'
import type { DiskFormat, PoolFileKind } from '@vpe/core'

const uuid = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}'
const temporary = new RegExp(
  `^(?:image|instance|disk)-${uuid}\\.(${uuid})\\.(\\d+)\\.(\\d+)(?:\\.\\w+)?\\.tmp$`,
)
const systemDisk = new RegExp(`^instance-(${uuid})\\.qcow2$`)
const dataDisk = new RegExp(`^disk-(${uuid})\\.raw$`)
const image = new RegExp(`^image-(${uuid})\\.(?:qcow2|raw)$`)

/** Says which pool a folder is, so that the folder below an unmounted share is not taken for it. */
export const MARKER_FILE = '.vpe-pool'

const KINDS: readonly (readonly [RegExp, PoolFileKind])[] = [
  [systemDisk, 'system-disk'],
  [new RegExp(`^instance-(${uuid})\\.seed\\.iso$`), 'seed'],
  [dataDisk, 'data-disk'],
  [new RegExp(`^image-(${uuid})\\.(?:qcow2|raw|json)$`), 'image'],
  [new RegExp(`^image-(${uuid})\\.(?:part|claim)$`), 'part'],
  [new RegExp(`^(?:image|instance|disk)-(${uuid})\\..+\\.tmp$`), 'part'],
]

/** What a file is and whom its name belongs to; null for files of others. */
export function classifyFile(name: string): { kind: PoolFileKind; ownerUuid: string } | null {
  if (!/^[\w.-]+$/.test(name)) return null
  for (const [pattern, kind] of KINDS) {
    const ownerUuid = pattern.exec(name)?.[1]
    if (ownerUuid) return { kind, ownerUuid }
  }
  return null
}

/** While an image is being brought in: who does it, so that nobody else does the same. */
export function imageClaimFile(imageUuid: string): string {
  return `image-${imageUuid}.claim`
}

/** Who writes a temporary file: another host of a shared pool must not take it for a leftover of its own. */
export interface TemporaryOwner {
  readonly hostId: string
  readonly pid: number
  /** Start time of the process in clock ticks: a pid alone comes back. */
  readonly startTicks: string
}

export function imageFile(imageUuid: string, format: DiskFormat): string {
  return `image-${imageUuid}.${format}`
}

/** What is known of an image, beside it. */
export function imageRecordFile(imageUuid: string): string {
  return `image-${imageUuid}.json`
}

/** What has been uploaded of an image that is none yet. */
export function imagePartFile(imageUuid: string): string {
  return `image-${imageUuid}.part`
}

export function systemDiskFile(instanceUuid: string): string {
  return `instance-${instanceUuid}.qcow2`
}

/** For the domain's definition: a name, nothing is touched. */
export function systemDiskPath(poolPath: string, instanceUuid: string): string {
  return join(poolPath, systemDiskFile(instanceUuid))
}

/** What the guest is told at its first boot, as an image for its CD-ROM drive. */
export function seedFile(instanceUuid: string): string {
  return `instance-${instanceUuid}.seed.iso`
}

export function seedPath(poolPath: string, instanceUuid: string): string {
  return join(poolPath, seedFile(instanceUuid))
}

export function dataDiskFile(diskUuid: string): string {
  return `disk-${diskUuid}.raw`
}

/** For the domain's definition. */
export function dataDiskPath(poolPath: string, diskUuid: string): string {
  return join(poolPath, dataDiskFile(diskUuid))
}

/** The data disk that lies at a path; null for any other file. */
export function dataDiskAt(path: string): string | null {
  return dataDisk.exec(basename(path))?.[1] ?? null
}

/** A file under construction; `what` is `image-<uuid>`, `instance-<uuid>` or `disk-<uuid>`. */
export function temporaryFile(what: string, owner: TemporaryOwner, part = ''): string {
  return `${what}.${owner.hostId}.${owner.pid}.${owner.startTicks}${part && `.${part}`}.tmp`
}

/** Who wrote a temporary file; null for any other file. */
export function temporaryOwner(name: string): TemporaryOwner | null {
  const [, hostId, pid, startTicks] = temporary.exec(name) ?? []
  return hostId && pid && startTicks ? { hostId, pid: Number(pid), startTicks } : null
}

/** The instance whose system disk this is; null for any other file. */
export function instanceOfSystemDisk(name: string): string | null {
  return systemDisk.exec(name)?.[1] ?? null
}

/** The image that this is a copy of; null for any other file. */
export function imageOfFile(name: string): string | null {
  return image.exec(name)?.[1] ?? null
}
