// The data disks of a running guest: which it has, how one is taken from it, and how one grows under it.

import { type AttachedDisk, type LiveDisk, VpeError } from '@vpe/core'
import type { Hypervisor } from './hypervisor/hypervisor.ts'
import { insist } from './insist.ts'
import { dataDiskAt } from './pool/pool-files.ts'
import type { PoolFiles } from './pool/pool-workers.ts'
import type { GuestWatch } from './shut-down.ts'

interface DiskContext extends GuestWatch {
  readonly hypervisor: Hypervisor
  readonly files: PoolFiles
  readonly uuid: string
  readonly signal: AbortSignal
}

/** The data disks that a guest holds; none while it is off. */
export async function liveDisks(
  hypervisor: Pick<Hypervisor, 'guestDisks'>,
  instanceUuid: string,
): Promise<readonly LiveDisk[]> {
  const disks = await hypervisor.guestDisks(instanceUuid)
  return disks.flatMap(({ target, path }) => {
    const uuid = dataDiskAt(path)
    return uuid === null ? [] : { uuid, target }
  })
}

/**
 * Takes a disk from a guest. Resolves when the guest has it no more.
 * @throws VpeError DEVICE_BUSY when the guest does not let go in time
 */
export async function takeDisk(
  { uuid: diskUuid, target }: LiveDisk,
  graceMs: number,
  context: DiskContext,
): Promise<void> {
  const { hypervisor, uuid } = context
  const isDone = async () => !(await liveDisks(hypervisor, uuid)).some((disk) => disk.uuid === diskUuid)
  const ask = () => hypervisor.detachDisk(uuid, target)
  if (await insist(graceMs, { isDone, ask }, context)) return
  throw new VpeError(
    'DEVICE_BUSY',
    `the guest did not let go of disk ${diskUuid} within ${graceMs / 1000} s, so it is still attached; see that the guest's system runs and does not use it, or stop the instance and detach then`,
  )
}

/** Makes a disk larger, by way of the guest that has it, if one has. */
export async function growDisk(disk: AttachedDisk, context: DiskContext): Promise<void> {
  const { hypervisor, files, uuid } = context
  const live = (await liveDisks(hypervisor, uuid)).find((each) => each.uuid === disk.uuid)
  if (live) return hypervisor.growDisk(uuid, live.target, disk.sizeBytes)
  const pool = { uuid: disk.diskPoolUuid, path: disk.diskPoolPath }
  await files.request(pool, 'grow-data-disk', { diskUuid: disk.uuid, sizeBytes: disk.sizeBytes })
}
