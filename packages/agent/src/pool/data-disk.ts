// Data disks in a pool: raw files, whose length is the disk's size and whose contents nobody but the
// guest ever reads (ADR 0010). A disk is made under another name and gets its own by link, so that a
// disk that is there is whole, and none is ever replaced.

import { constants } from 'node:fs'
import { type FileHandle, link, open, rm } from 'node:fs/promises'
import { VpeError } from '@vpe/core'
import { dataDiskFile } from './pool-files.ts'
import type { PoolFolder } from './pool-folder.ts'
import type { PoolArguments, PoolResult } from './pool-protocol.ts'

/** Makes an empty disk. One that is there keeps its contents. */
export async function makeDataDisk(
  folder: PoolFolder,
  { diskUuid, sizeBytes }: PoolArguments<'make-data-disk'>,
): Promise<PoolResult<'make-data-disk'>> {
  const part = folder.temporary(`disk-${diskUuid}`)
  try {
    // What a guest writes is for nobody else's eyes; libvirt hands the file to the user that QEMU runs as.
    const file = await open(part, 'w', 0o600)
    await lengthen(file, sizeBytes)
    await link(part, folder.path(dataDiskFile(diskUuid)))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  } finally {
    await rm(part, { force: true })
  }
  await folder.sync()
  return {}
}

/** Makes a disk larger. One that is as large already is left as it is: a disk never shrinks. */
export async function growDataDisk(
  folder: PoolFolder,
  { diskUuid, sizeBytes }: PoolArguments<'grow-data-disk'>,
): Promise<PoolResult<'grow-data-disk'>> {
  const path = folder.path(dataDiskFile(diskUuid))
  try {
    await lengthen(await open(path, constants.O_RDWR | constants.O_NOFOLLOW), sizeBytes)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    const message = `the file of disk ${diskUuid} is not in ${folder.root}; bring it back, or delete the disk`
    throw new VpeError('NOT_FOUND', message, { cause: error })
  }
  return {}
}

export async function removeDataDisk(
  folder: PoolFolder,
  { diskUuid }: PoolArguments<'remove-data-disk'>,
): Promise<PoolResult<'remove-data-disk'>> {
  await rm(folder.path(dataDiskFile(diskUuid)), { force: true })
  await folder.sync()
  return {}
}

async function lengthen(file: FileHandle, sizeBytes: number): Promise<void> {
  try {
    const { size } = await file.stat()
    if (size < sizeBytes) await file.truncate(sizeBytes)
    await file.sync()
  } finally {
    await file.close()
  }
}
