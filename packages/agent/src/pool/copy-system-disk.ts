// Makes a system disk as a copy of another instance's, or of one of that one's snapshots. A copy of an overlay
// lies on the same image and holds only what differs from that. The caller sees to it that the other guest
// is off and stays off; should it not be, QEMU's lock on the disk refuses.

import { rm } from 'node:fs/promises'
import { basename } from 'node:path'
import { VpeError } from '@vpe/core'
import { assertOurs } from './capture-image.ts'
import { backingFileOf, virtualSizeOf } from './image-header.ts'
import type { ImportContext } from './import-image.ts'
import { systemDiskFile } from './pool-files.ts'
import type { PoolFolder } from './pool-folder.ts'
import type { PoolArguments } from './pool-protocol.ts'
import { convertToDisk, listSnapshots, resizeDisk } from './qemu-img.ts'
import { putInPlace, readHead } from './system-disk.ts'

export async function copySystemDisk(
  folder: PoolFolder,
  { instanceUuid, sourceUuid, snapshotUuid, diskBytes }: PoolArguments<'copy-system-disk'>,
  { signal, onProgress }: ImportContext,
): Promise<void> {
  const source = systemDiskFile(sourceUuid)
  await assertOurs(folder, source)
  if (
    snapshotUuid !== null &&
    !(await listSnapshots(folder.path(source), folder.root)).includes(snapshotUuid)
  ) {
    const words = `the system disk of instance ${sourceUuid} has no snapshot ${snapshotUuid}`
    throw new VpeError('NOT_FOUND', words)
  }
  const backingFile = backingFileOf(await readHead(folder, source))
  const part = folder.temporary(`instance-${instanceUuid}`)
  try {
    const from = { source, sourceFormat: 'qcow2', snapshot: snapshotUuid, backingFile } as const
    await convertToDisk({ folder: folder.root, path: part, ...from }, onProgress, signal)
    const sizeBytes = virtualSizeOf(await readHead(folder, basename(part)))
    if (sizeBytes !== null && sizeBytes < diskBytes) await resizeDisk(part, diskBytes, folder.root, signal)
    await putInPlace(folder, part, instanceUuid, signal)
  } finally {
    await rm(part, { force: true })
  }
}
