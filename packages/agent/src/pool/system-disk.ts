// System disks in a pool: an overlay on the pool's copy of the image, or a copy of their own. A disk is
// built under another name and gets its own by rename, so that a disk that is there is whole.

import { constants } from 'node:fs'
import { chmod, link, open, readdir, rename, rm } from 'node:fs/promises'
import { VpeError } from '@vpe/core'
import { backingFileOf, HEADER_BYTES, virtualSizeOf } from './image-header.ts'
import { findImage, type ImportContext } from './import-image.ts'
import {
  imageFile,
  imageOfFile,
  imagePartFile,
  imageRecordFile,
  instanceOfSystemDisk,
  seedFile,
  systemDiskFile,
} from './pool-files.ts'
import { type PoolFolder, syncFile } from './pool-folder.ts'
import type { PoolArguments, PoolResult } from './pool-protocol.ts'
import { convertToDisk, createOverlay, resizeDisk } from './qemu-img.ts'

/** Whether the disk is there, and which image it lies on. */
export async function findSystemDisk(
  folder: PoolFolder,
  { instanceUuid }: PoolArguments<'find-system-disk'>,
): Promise<PoolResult<'find-system-disk'>> {
  try {
    const backingFile = await readBackingFile(folder, systemDiskFile(instanceUuid))
    return { isFound: true, imageUuid: backingFile === null ? null : imageOfFile(backingFile) }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { isFound: false, imageUuid: null }
    throw error
  }
}

/** Makes the disk, in place of the one that may be there. */
export async function makeSystemDisk(
  folder: PoolFolder,
  { instanceUuid, imageUuid, kind, diskBytes }: PoolArguments<'make-system-disk'>,
  { signal, onProgress }: ImportContext,
): Promise<PoolResult<'make-system-disk'>> {
  const image = await findImage(folder, imageUuid)
  if (!image) throw new VpeError('NOT_FOUND', `image ${imageUuid} is not in ${folder.root}`)
  if (diskBytes > 0 && diskBytes < image.virtualSizeBytes) {
    throw new VpeError(
      'INVALID_ARGUMENT',
      `a system disk of ${diskBytes} bytes cannot hold the image, which needs ${image.virtualSizeBytes}; choose a larger flavor`,
    )
  }
  const sizeBytes = Math.max(image.virtualSizeBytes, diskBytes)
  const imageName = imageFile(imageUuid, image.format)
  const part = folder.temporary(`instance-${instanceUuid}`)
  try {
    if (kind === 'overlay') {
      const backing = { backingFile: imageName, backingFormat: image.format }
      await createOverlay({ folder: folder.root, path: part, sizeBytes, ...backing }, signal)
    } else {
      await folder.assertRoom(image.sizeBytes, `a copy of image ${imageUuid}`)
      const source = { source: imageName, sourceFormat: image.format }
      await convertToDisk({ folder: folder.root, path: part, ...source }, onProgress, signal)
      if (sizeBytes > image.virtualSizeBytes) await resizeDisk(part, sizeBytes, folder.root, signal)
    }
    await putInPlace(folder, part, instanceUuid, signal)
  } finally {
    await rm(part, { force: true })
  }
  return { virtualSizeBytes: sizeBytes }
}

/** Gives a disk that is whole its name. */
export async function putInPlace(
  folder: PoolFolder,
  part: string,
  instanceUuid: string,
  signal: AbortSignal,
): Promise<void> {
  // What a guest writes is for nobody else's eyes; libvirt hands the file to the user that QEMU runs as.
  await chmod(part, 0o600)
  await syncFile(part)
  signal.throwIfAborted()
  await giveName(part, folder.path(systemDiskFile(instanceUuid)))
  await folder.sync()
}

/** Grows the disk of a guest that is off; one that is as large already is left as it is. */
export async function growSystemDisk(
  folder: PoolFolder,
  { instanceUuid, diskBytes }: PoolArguments<'grow-system-disk'>,
  { signal }: ImportContext,
): Promise<PoolResult<'grow-system-disk'>> {
  const name = systemDiskFile(instanceUuid)
  const sizeBytes = virtualSizeOf(await readHead(folder, name))
  if (sizeBytes === null) throw new VpeError('DISK_POOL_FAILED', `${folder.path(name)} is no qcow2 disk`)
  if (sizeBytes >= diskBytes) return { virtualSizeBytes: sizeBytes }
  await resizeDisk(folder.path(name), diskBytes, folder.root, signal)
  await syncFile(folder.path(name))
  return { virtualSizeBytes: diskBytes }
}

/** With the seed, which goes with it. */
export async function removeSystemDisk(
  folder: PoolFolder,
  { instanceUuid }: PoolArguments<'remove-system-disk'>,
): Promise<void> {
  for (const name of [systemDiskFile(instanceUuid), seedFile(instanceUuid)]) {
    await rm(folder.path(name), { force: true })
  }
}

/** Refuses while a disk in this pool lies on the image: taking it away would destroy that disk. */
export async function removeImage(
  folder: PoolFolder,
  { uuid }: PoolArguments<'remove-image'>,
): Promise<void> {
  await assertNoDiskOn(folder, uuid)
  const names = [imageFile(uuid, 'qcow2'), imageFile(uuid, 'raw'), imageRecordFile(uuid), imagePartFile(uuid)]
  for (const name of names) {
    await rm(folder.path(name), { force: true })
  }
}

/** @throws VpeError IN_USE while a system disk in this pool lies on an image */
export async function assertNoDiskOn(folder: PoolFolder, uuid: string): Promise<void> {
  for (const name of await readdir(folder.root)) {
    const instance = instanceOfSystemDisk(name)
    if (!instance) continue
    // One that cannot be read may lie on it.
    const backingFile = await readBackingFile(folder, name).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return null
      throw error
    })
    if (backingFile !== null && imageOfFile(backingFile) === uuid) {
      throw new VpeError('IN_USE', `the system disk of instance ${instance} lies on image ${uuid}`)
    }
  }
}

/**
 * link() first, which replaces nothing: should this process be given up while the call hangs in the
 * kernel, the call may still be carried out much later, when a guest runs on a disk of that name.
 */
async function giveName(part: string, path: string): Promise<void> {
  try {
    await link(part, path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    await rename(part, path)
  }
}

async function readBackingFile(folder: PoolFolder, name: string): Promise<string | null> {
  return backingFileOf(await readHead(folder, name))
}

/** The first HEADER_BYTES of a disk of vpe. */
export async function readHead(folder: PoolFolder, name: string): Promise<Buffer> {
  const file = await open(folder.path(name), constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    const head = Buffer.alloc(HEADER_BYTES)
    const { bytesRead } = await file.read(head, 0, HEADER_BYTES, 0)
    return head.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}
