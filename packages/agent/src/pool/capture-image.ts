// Makes an image of an instance's system disk: flattened, so that it depends on no other image. The caller
// sees to it that the guest is off and stays off; should it not be, QEMU's lock on the disk refuses.

import { rm } from 'node:fs/promises'
import { VpeError } from '@vpe/core'
import { backingFileOf, inspectDisk } from './image-header.ts'
import { admitImage, findImage, hashFile, type ImportContext } from './import-image.ts'
import { imageOfFile, systemDiskFile } from './pool-files.ts'
import type { PoolFolder } from './pool-folder.ts'
import type { PoolArguments, PoolImage } from './pool-protocol.ts'
import { convertToDisk } from './qemu-img.ts'
import { readHead } from './system-disk.ts'

/** The image in the pool; made first if it is not there. */
export async function captureImage(
  folder: PoolFolder,
  { uuid, instanceUuid }: PoolArguments<'capture-image'>,
  context: ImportContext,
): Promise<PoolImage> {
  const present = await findImage(folder, uuid)
  if (present) return present
  const disk = systemDiskFile(instanceUuid)
  await assertOurs(folder, disk)
  const part = folder.temporary(`image-${uuid}`)
  const { signal, onProgress } = context
  try {
    const source = { source: disk, sourceFormat: 'qcow2' } as const
    await convertToDisk(
      { folder: folder.root, path: part, ...source },
      (percent) => onProgress(percent * 0.9),
      signal,
    )
    const { sha256, sizeBytes } = await hashFile(part, (percent) => onProgress(90 + percent * 0.09))
    const image = { uuid, url: '', sha256: '' }
    return await admitImage(folder, image, part, { sha256, sizeBytes }, signal)
  } finally {
    await rm(part, { force: true })
  }
}

/** What is copied is what this disk and an image of ours hold, and nothing else that a header may name. */
export async function assertOurs(folder: PoolFolder, disk: string): Promise<void> {
  const head = await readHead(folder, disk).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
    throw new VpeError('NOT_FOUND', `${disk} is not in ${folder.root}`, { cause: error })
  })
  const header = inspectDisk(head, head.length)
  if ('refused' in header) throw new VpeError('IMAGE_INVALID', `${disk} is refused: ${header.refused}`)
  const backingFile = backingFileOf(head)
  if (backingFile === null || imageOfFile(backingFile) !== null) return
  throw new VpeError('IMAGE_INVALID', `${disk} lies on ${backingFile}, which is no image of vpe`)
}
