// Internal snapshots of a system disk whose guest is off. Each is named after its uuid, so that what was
// asked for twice is there once. None is cut short by a cancelled request: they are quick, and qemu-img, when
// it is killed in between, leaves clusters behind that belong to nobody.

import { VpeError } from '@vpe/core'
import { systemDiskFile } from './pool-files.ts'
import { type PoolFolder, syncFile } from './pool-folder.ts'
import type { PoolArguments } from './pool-protocol.ts'
import { changeSnapshot, listSnapshots } from './qemu-img.ts'
import { growSystemDisk } from './system-disk.ts'

/** Makes it, unless it is there. */
export async function makeSnapshot(folder: PoolFolder, args: PoolArguments<'make-snapshot'>): Promise<void> {
  const { disk, isThere } = await find(folder, args)
  // qemu-img would make a second one of the same name.
  if (isThere) return
  await changeSnapshot('create', disk, args.snapshotUuid, folder.root)
  await syncFile(disk)
}

/** Removes it; that of a disk that is gone has gone with it. */
export async function removeSnapshot(
  folder: PoolFolder,
  args: PoolArguments<'remove-snapshot'>,
): Promise<void> {
  const found = await find(folder, args).catch((error: unknown) => {
    if (error instanceof VpeError && error.code === 'NOT_FOUND') return null
    throw error
  })
  if (!found?.isThere) return
  await changeSnapshot('delete', found.disk, args.snapshotUuid, folder.root)
  await syncFile(found.disk)
}

/** The disk had perhaps another size then: what it has grown by since is empty again. */
export async function revertSystemDisk(
  folder: PoolFolder,
  args: PoolArguments<'revert-system-disk'>,
): Promise<void> {
  const { disk, isThere } = await find(folder, args)
  if (!isThere) {
    throw new VpeError(
      'NOT_FOUND',
      `the system disk of instance ${args.instanceUuid} has no snapshot ${args.snapshotUuid}`,
    )
  }
  await changeSnapshot('apply', disk, args.snapshotUuid, folder.root)
  await syncFile(disk)
  await growSystemDisk(folder, args, { signal: new AbortController().signal, onProgress: () => {} })
}

async function find(
  folder: PoolFolder,
  { instanceUuid, snapshotUuid }: PoolArguments<'make-snapshot'>,
): Promise<{ disk: string; isThere: boolean }> {
  const disk = folder.path(systemDiskFile(instanceUuid))
  const names = await listSnapshots(disk, folder.root)
  return { disk, isThere: names.includes(snapshotUuid) }
}
