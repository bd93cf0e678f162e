// Disks in pools of a host's own that go with their instance to another host. What they are made of the old host
// says; the new one makes files for them, which a live migration fills, or takes them whole; and when the move is
// over, the host that has files too many removes them (docs/adr/0027).

import {
  type AttachedDisk,
  type DesiredInstance,
  type DiskCopy,
  isUp,
  type ObservedDomain,
  VpeError,
} from '@vpe/core'
import type { HostParts } from './converge.ts'
import type { DiskFileName } from './pool/pool-protocol.ts'
import type { PoolRef } from './pool/pool-workers.ts'

const MIB = 1024 ** 2
const PART_BYTES = MIB

/** The disks of an instance that are to be copied. */
export interface CopiedDisks {
  readonly uuid: string
  /** Of the system disk; null where that stays where it is. */
  readonly diskPool: PoolRef | null
  readonly disks: readonly { readonly uuid: string; readonly diskPool: PoolRef; readonly target: string }[]
}

/** The file of one disk. */
export interface DiskFile {
  readonly instanceUuid: string
  readonly diskPool: PoolRef
  readonly file: DiskFileName
}

/** Says what disks are made of, whether a guest runs on them or not. */
export async function describeDisks(
  { uuid, diskPool, disks }: CopiedDisks,
  { diskPools, files }: HostParts,
): Promise<DiskCopy[]> {
  const describe = async (pool: PoolRef, target: string, diskUuid: string | null): Promise<DiskCopy> => {
    await diskPools.ensure(pool)
    const file =
      diskUuid === null ? { kind: 'system' as const, uuid } : { kind: 'data' as const, uuid: diskUuid }
    return { target, diskUuid, ...(await files.request(pool, 'describe-disk', file)) }
  }
  return Promise.all([
    ...(diskPool ? [describe(diskPool, 'vda', null)] : []),
    ...disks.map((disk) => describe(disk.diskPool, disk.target, disk.uuid)),
  ])
}

/**
 * Makes empty files for the disks that a guest brings along, with the image that its system disk lies on.
 * @throws VpeError DISK_POOL_FULL where there is no room for what they hold
 */
export async function makeCopyTargets(
  desired: DesiredInstance,
  copies: readonly DiskCopy[],
  host: HostParts,
  signal: AbortSignal,
): Promise<void> {
  const { diskPools, files } = host
  const placed = copies.map((copy) => ({ copy, pool: poolOf(desired, copy) }))
  for (const pool of new Map(placed.map((each) => [each.pool.uuid, each.pool])).values()) {
    const needed = placed.filter((each) => each.pool.uuid === pool.uuid)
    const bytes = needed.reduce((sum, { copy }) => sum + copy.allocatedBytes, 0)
    const { availableBytes } = await diskPools.inspect(pool)
    if (bytes <= availableBytes) continue
    const words = `${Math.ceil(bytes / MIB)} MiB are to be copied to ${pool.path}, and ${Math.floor(availableBytes / MIB)} MiB are free there`
    throw new VpeError('DISK_POOL_FULL', `instance ${desired.uuid}: ${words}`)
  }
  for (const { copy, pool } of placed) {
    if (copy.imageUuid !== null) await ensureImage(desired, copy.imageUuid, pool, host, signal)
    const { sizeBytes, imageUuid } = copy
    await files.request(
      pool,
      'make-copy-target',
      { disk: nameOf(desired, copy), sizeBytes, imageUuid },
      { signal },
    )
  }
  if (copies.some(({ diskUuid }) => diskUuid === null)) await makeSeed(desired, host, signal)
}

/** Its seed goes with the system disk, and is made anew: it says the same. */
async function makeSeed(
  { uuid, seed, diskPool }: DesiredInstance,
  { files }: HostParts,
  signal: AbortSignal,
): Promise<void> {
  if (!seed) return
  const { hostname, sshKeys, userData } = seed
  const request = { instanceUuid: uuid, hostname, sshKeys: [...sshKeys], userData }
  await files.request(diskPool, 'make-seed', request, { signal })
}

async function ensureImage(
  { uuid, image }: DesiredInstance,
  imageUuid: string,
  pool: PoolRef,
  { files }: HostParts,
  signal: AbortSignal,
): Promise<void> {
  if (image.uuid !== imageUuid) {
    const words = `its system disk lies on image ${imageUuid}, not on ${image.uuid}; rebuild it first`
    throw new VpeError('CONFLICT', `instance ${uuid}: ${words}`)
  }
  await files.request(pool, 'import-image', { ...image }, { signal })
}

/** The file as it is, where no guest runs on it: first its length, then what is not all zeros. */
export async function* readDisk(
  { instanceUuid, diskPool, file }: DiskFile,
  { inventory, diskPools, files }: HostParts,
  signal: AbortSignal,
): AsyncGenerator<{ readonly fileBytes: number } | { readonly offset: number; readonly data: Uint8Array }> {
  const domain = await inventory.look(instanceUuid)
  if (domain && domain.guest.power !== 'off') throw runs(domain)
  await diskPools.ensure(diskPool)
  const read = (offset: number) =>
    files.request(diskPool, 'read-disk', { disk: file, offset, length: PART_BYTES }, { signal })
  for (let offset = 0, fileBytes = 1; offset < fileBytes; offset += PART_BYTES) {
    const part = await read(offset)
    fileBytes = part.fileBytes
    if (offset === 0) yield { fileBytes }
    if (part.data.length > 0) yield { offset, data: part.data }
  }
}

/** Takes a file whole, or nothing of it. */
export async function writeDisk(
  { instanceUuid, diskPool, file }: DiskFile,
  fileBytes: number,
  parts: AsyncIterable<{ readonly offset: number; readonly data: Uint8Array }>,
  { inventory, diskPools, files }: HostParts,
): Promise<void> {
  const domain = await inventory.look(instanceUuid)
  if (domain) throw new VpeError('CONFLICT', `instance ${instanceUuid} has a domain on this host`)
  await diskPools.ensure(diskPool)
  await files.request(diskPool, 'begin-disk-copy', { disk: file, fileBytes })
  let isWhole = false
  try {
    for await (const { offset, data } of parts)
      await files.request(diskPool, 'write-disk-part', { disk: file, offset, data })
    isWhole = true
  } finally {
    await files.request(diskPool, 'end-disk-copy', { disk: file, isWhole })
  }
}

/** @throws VpeError where a guest runs on these files after all, or its domain is newer than the wish to remove them */
export function assertNoGuest(domain: ObservedDomain | null, generation: number): void {
  if (!domain) return
  const { mark, guest } = domain
  // One that has come with its disks and was never let go on stands still, and is wanted so.
  const isHeld = guest.power === 'paused' && mark.power === 'paused'
  if (isUp(guest) && !isHeld) throw runs(domain)
  if (mark.generation < generation) return
  const words = `generation ${generation} is too late: this host has ${mark.generation}`
  throw new VpeError('STALE_GENERATION', `instance ${mark.uuid}: ${words}`)
}

function runs({ mark }: ObservedDomain): VpeError {
  return new VpeError('CONFLICT', `instance ${mark.uuid} runs on this host, at generation ${mark.generation}`)
}

function nameOf({ uuid }: DesiredInstance, { diskUuid }: DiskCopy): DiskFileName {
  return diskUuid === null ? { kind: 'system', uuid } : { kind: 'data', uuid: diskUuid }
}

function poolOf({ uuid, diskPool, dataDisks }: DesiredInstance, { diskUuid }: DiskCopy): PoolRef {
  if (diskUuid === null) return diskPool
  const disk: AttachedDisk | undefined = dataDisks.find((each) => each.uuid === diskUuid)
  if (!disk) throw new VpeError('INVALID_ARGUMENT', `instance ${uuid} is to have no disk ${diskUuid}`)
  return { uuid: disk.diskPoolUuid, path: disk.diskPoolPath }
}
