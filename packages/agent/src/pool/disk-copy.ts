// Copies of disks that come from another host's pool. One that a live migration fills is made empty, and QEMU
// writes into it; the file of one that nobody runs on comes whole, under another name until it is.

import { constants } from 'node:fs'
import { chmod, open, rename, rm, stat } from 'node:fs/promises'
import { VpeError } from '@vpe/core'
import { backingFileOf, virtualSizeOf } from './image-header.ts'
import { findImage } from './import-image.ts'
import { dataDiskFile, imageFile, imageOfFile, systemDiskFile } from './pool-files.ts'
import { type PoolFolder, syncFile } from './pool-folder.ts'
import type { DiskFileName, PoolArguments, PoolResult } from './pool-protocol.ts'
import { createDisk, createOverlay } from './qemu-img.ts'
import { readHead } from './system-disk.ts'

/** What the units of `stat` are. */
const BLOCK_BYTES = 512

export async function describeDisk(
  folder: PoolFolder,
  disk: DiskFileName,
): Promise<PoolResult<'describe-disk'>> {
  const name = nameOf(disk)
  const { size, blocks } = await statOf(folder, disk)
  const allocatedBytes = blocks * BLOCK_BYTES
  if (disk.kind === 'data') return { sizeBytes: size, allocatedBytes, imageUuid: null }
  const head = await readHead(folder, name)
  const sizeBytes = virtualSizeOf(head)
  const backingFile = backingFileOf(head)
  const imageUuid = backingFile === null ? null : imageOfFile(backingFile)
  if (sizeBytes === null || (backingFile !== null && imageUuid === null))
    throw new VpeError('DISK_POOL_FAILED', `${folder.path(name)} is no disk that vpe has made`)
  return { sizeBytes, allocatedBytes, imageUuid }
}

export async function makeCopyTarget(
  folder: PoolFolder,
  { disk, sizeBytes, imageUuid }: PoolArguments<'make-copy-target'>,
  signal: AbortSignal,
): Promise<void> {
  const part = folder.temporary(`${prefixOf(disk)}-${disk.uuid}`)
  try {
    if (disk.kind === 'data') {
      const file = await open(part, 'w', 0o600)
      await file.truncate(sizeBytes).finally(() => file.close())
    } else if (imageUuid === null) {
      await createDisk(part, sizeBytes, folder.root, signal)
    } else {
      const image = await findImage(folder, imageUuid)
      if (!image) throw new VpeError('NOT_FOUND', `image ${imageUuid} is not in ${folder.root}`)
      const backing = { backingFile: imageFile(imageUuid, image.format), backingFormat: image.format }
      await createOverlay({ folder: folder.root, path: part, sizeBytes, ...backing }, signal)
    }
    await giveName(folder, part, disk, signal)
  } finally {
    await rm(part, { force: true })
  }
}

export async function readDisk(
  folder: PoolFolder,
  { disk, offset, length }: PoolArguments<'read-disk'>,
): Promise<PoolResult<'read-disk'>> {
  const { size } = await statOf(folder, disk)
  const file = await open(folder.path(nameOf(disk)), constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    const data = Buffer.alloc(Math.max(0, Math.min(length, size - offset)))
    let read = 0
    while (read < data.length) {
      const { bytesRead } = await file.read(data, read, data.length - read, offset + read)
      if (bytesRead === 0) throw new VpeError('DISK_POOL_FAILED', `${nameOf(disk)} has become shorter`)
      read += bytesRead
    }
    return { data: data.equals(Buffer.alloc(data.length)) ? Buffer.alloc(0) : data, fileBytes: size }
  } finally {
    await file.close()
  }
}

export async function beginDiskCopy(
  folder: PoolFolder,
  { disk, fileBytes }: PoolArguments<'begin-disk-copy'>,
): Promise<void> {
  const file = await open(partOf(folder, disk), 'w', 0o600)
  await file.truncate(fileBytes).finally(() => file.close())
}

/** @throws VpeError UNAVAILABLE where the copy was not begun by this process: it is to be begun anew */
export async function writeDiskPart(
  folder: PoolFolder,
  { disk, offset, data }: PoolArguments<'write-disk-part'>,
): Promise<void> {
  const file = await openPart(folder, disk)
  try {
    const { size } = await file.stat()
    if (offset + data.length > size)
      throw new VpeError('INVALID_ARGUMENT', `${nameOf(disk)} was to have ${size} bytes, and has more`)
    for (let written = 0; written < data.length; ) {
      const { bytesWritten } = await file.write(data, written, data.length - written, offset + written)
      written += bytesWritten
    }
  } finally {
    await file.close()
  }
}

export async function endDiskCopy(
  folder: PoolFolder,
  { disk, isWhole }: PoolArguments<'end-disk-copy'>,
  signal: AbortSignal,
): Promise<void> {
  const part = partOf(folder, disk)
  try {
    if (!isWhole) return
    await (await openPart(folder, disk)).close()
    await giveName(folder, part, disk, signal)
  } finally {
    await rm(part, { force: true })
  }
}

async function openPart(folder: PoolFolder, disk: DiskFileName) {
  try {
    return await open(partOf(folder, disk), constants.O_WRONLY | constants.O_NOFOLLOW)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw cause
    throw new VpeError('UNAVAILABLE', `the copy of ${nameOf(disk)} was given up; it begins anew`, { cause })
  }
}

/** The caller sees to it that nobody runs on a file of that name. */
async function giveName(
  folder: PoolFolder,
  part: string,
  disk: DiskFileName,
  signal: AbortSignal,
): Promise<void> {
  // What a guest writes is for nobody else's eyes; libvirt hands the file to the user that QEMU runs as.
  await chmod(part, 0o600)
  await syncFile(part)
  signal.throwIfAborted()
  await rename(part, folder.path(nameOf(disk)))
  await folder.sync()
}

async function statOf(folder: PoolFolder, disk: DiskFileName) {
  try {
    return await stat(folder.path(nameOf(disk)))
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw cause
    throw new VpeError('NOT_FOUND', `${nameOf(disk)} is not in ${folder.root}`, { cause })
  }
}

function nameOf({ kind, uuid }: DiskFileName): string {
  return kind === 'system' ? systemDiskFile(uuid) : dataDiskFile(uuid)
}

function prefixOf({ kind }: DiskFileName): 'instance' | 'disk' {
  return kind === 'system' ? 'instance' : 'disk'
}

function partOf(folder: PoolFolder, disk: DiskFileName): string {
  return folder.temporary(`${prefixOf(disk)}-${disk.uuid}`, 'copy')
}
