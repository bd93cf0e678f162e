// What has been uploaded of an image, as a file that grows at its end. Its length is the only record of how
// far an upload is: it survives whoever wrote it, and whoever goes on is held to it.

import { constants } from 'node:fs'
import { type FileHandle, open, stat } from 'node:fs/promises'
import { VpeError } from '@vpe/core'
import { imagePartFile } from './pool-files.ts'
import type { PoolFolder } from './pool-folder.ts'
import type { PoolArguments } from './pool-protocol.ts'

/** The highest upload seen of each image: a write of an earlier one that comes late must not mix with it. */
const uploads = new Map<string, number>()

/**
 * Adds bytes at the end; at 0 the file is begun anew.
 * @throws VpeError SUPERSEDED when another upload has begun, CONFLICT when the end is elsewhere
 */
export async function writeImagePart(
  folder: PoolFolder,
  { uuid, upload, offset, data }: PoolArguments<'write-image-part'>,
): Promise<void> {
  if (upload < (uploads.get(uuid) ?? 0)) {
    throw new VpeError('SUPERSEDED', `another upload of image ${uuid} has begun`)
  }
  uploads.set(uuid, upload)
  if (offset + data.length > folder.imageBytesMax) {
    throw new VpeError('IMAGE_INVALID', `image ${uuid} does not end after ${offset} bytes`)
  }
  const mode = constants.O_WRONLY | constants.O_CREAT | (offset === 0 ? constants.O_TRUNC : 0)
  const file = await open(folder.path(imagePartFile(uuid)), mode, 0o600)
  try {
    const { size } = await file.stat()
    if (size !== offset) {
      throw new VpeError(
        'CONFLICT',
        `${size} bytes of image ${uuid} are here; go on from there, not from ${offset}`,
      )
    }
    await append(file, data, offset)
  } finally {
    await file.close()
  }
}

/** 0 where nothing has come. */
export async function sizeOfImagePart(folder: PoolFolder, uuid: string): Promise<number> {
  try {
    return (await stat(folder.path(imagePartFile(uuid)))).size
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0
    throw error
  }
}

/** All of it or nothing, as far as the disk lets us: where it is full, the length stays true. */
async function append(file: FileHandle, data: Uint8Array, offset: number): Promise<void> {
  try {
    for (let written = 0; written < data.length; ) {
      const { bytesWritten } = await file.write(data, written, data.length - written, offset + written)
      written += bytesWritten
    }
  } catch (error) {
    await file.truncate(offset)
    throw error
  }
}
