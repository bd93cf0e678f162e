// Disks in local pools that move with their instance: which they are, what they are made of, and, where no guest runs
// on them, their files by way of this process from the one host to the other. Hosts talk to the controller alone, so
// no host has to trust another with its files (docs/adr/0027).

import { type HostRecord, type InstanceRecord, VpeError } from '@vpe/core'
import {
  type AttachedDisk,
  type DiskCopy,
  type DiskFile,
  fromClientError,
  type ReadDiskResponse,
  type WriteDiskRequest,
} from '@vpe/proto'
import type { Agents } from './agents.ts'
import { wantedDisks } from './instance-disks.ts'
import type { Store } from './store/store.ts'
import { diskPoolSpecToWire, diskSpecToWire, imageSourceToWire } from './wire.ts'

export class DiskCopier {
  readonly #store: Store
  readonly #agents: Agents

  constructor(store: Store, agents: Agents) {
    this.#store = store
    this.#agents = agents
  }

  /** What the disks are made of that are to be copied. */
  async describe(
    { uuid, diskPoolUuid }: InstanceRecord,
    from: HostRecord,
    signal: AbortSignal,
  ): Promise<DiskCopy[]> {
    const request = {
      uuid,
      diskPool: this.#localPool(diskPoolUuid, from),
      disks: this.#localDisks(uuid, from),
    }
    const { copies } = await this.#agents
      .client(from)
      .describeDisks(request, { signal })
      .catch((error: unknown) => {
        throw about(from, error)
      })
    return copies
  }

  /** Copies the files of an instance whose guest is off and has no domain anywhere; the image of its disk first. */
  async copy(
    instance: InstanceRecord,
    from: HostRecord,
    to: HostRecord,
    say: (step: string) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const copies = await this.describe(instance, from, signal)
    for (const [index, { target, diskUuid, imageUuid }] of copies.entries()) {
      if (imageUuid !== '') await this.#bringImage(instance, imageUuid, to, say, signal)
      const fileOn = (host: HostRecord): DiskFile => ({
        instanceUuid: instance.uuid,
        diskPool: this.#poolOf(instance, diskUuid, host),
        diskUuid,
      })
      const tell = (percent: number) =>
        say(`copying disk ${target} (${index + 1} of ${copies.length}) to ${to.name}, ${percent} %`)
      tell(0)
      await this.#copyFile(fileOn(from), from, fileOn(to), to, tell, signal)
    }
  }

  /** Has a host remove the files of an instance's disks. */
  async remove(instance: InstanceRecord, host: HostRecord, signal: AbortSignal): Promise<void> {
    const { uuid, generation, diskPoolUuid } = instance
    const request = {
      ...{ epoch: this.#store.epoch, uuid, generation },
      diskPool: this.#localPool(diskPoolUuid, host),
      disks: this.#localDisks(uuid, host).flatMap(({ disk }) => disk ?? []),
    }
    await this.#agents
      .client(host)
      .removeCopies(request, { signal })
      .catch((error: unknown) => {
        throw about(host, error)
      })
  }

  async #copyFile(
    source: DiskFile,
    from: HostRecord,
    target: DiskFile,
    to: HostRecord,
    tell: (percent: number) => void,
    signal: AbortSignal,
  ): Promise<void> {
    // Which of the two has broken: the one that reads tells by itself.
    let broken: VpeError | null = null
    const parts = this.#agents.client(from).readDisk({ file: source }, { signal })
    const { epoch } = this.#store
    async function* pass(): AsyncGenerator<WriteDiskRequest> {
      try {
        yield* asWritten(parts, epoch, target, tell)
      } catch (error) {
        broken = about(from, error)
        throw broken
      }
    }
    try {
      await this.#agents.client(to).writeDisk(pass(), { signal })
    } catch (error) {
      throw broken ?? about(to, error)
    }
  }

  async #bringImage(
    { uuid, imageUuid: ownImage }: InstanceRecord,
    imageUuid: string,
    to: HostRecord,
    say: (step: string) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const image = this.#store.images.get(imageUuid)
    if (!image || imageUuid !== ownImage) {
      const words = `its system disk lies on image ${imageUuid}, which is not the one that it has; rebuild it first`
      throw new VpeError('INVALID_ARGUMENT', `instance ${uuid}: ${words}`)
    }
    const instance = this.#store.instances.get(uuid)
    const request = {
      epoch: this.#store.epoch,
      image: imageSourceToWire(image),
      diskPool: this.#localPool(instance?.diskPoolUuid ?? '', to),
    }
    try {
      for await (const { update } of this.#agents.client(to).importImage(request, { signal }))
        if (update?.$case === 'progressPercent') say(`importing its image on ${to.name}, ${update.value} %`)
    } catch (error) {
      throw about(to, error)
    }
  }

  /** Undefined for a pool that is shared. */
  #localPool(uuid: string, host: HostRecord) {
    const pool = this.#store.diskPools.get(uuid)
    return pool && !pool.shared ? diskPoolSpecToWire(this.#store, pool, host.uuid) : undefined
  }

  #localDisks(instanceUuid: string, host: HostRecord): AttachedDisk[] {
    return wantedDisks(this.#store, instanceUuid)
      .filter(({ disk }) => disk.hostId !== null)
      .map(({ disk, target }) => ({ disk: diskSpecToWire(this.#store, disk, host.uuid), target }))
  }

  #poolOf({ diskPoolUuid }: InstanceRecord, diskUuid: string, host: HostRecord) {
    const disk = this.#store.disks.get(diskUuid)
    return this.#localPool(disk?.diskPoolUuid ?? diskPoolUuid, host)
  }
}

/** What one host reads of a file, as the other is told to write it. */
async function* asWritten(
  parts: AsyncIterable<ReadDiskResponse>,
  epoch: number,
  file: DiskFile,
  tell: (percent: number) => void,
): AsyncGenerator<WriteDiskRequest> {
  let fileBytes = 0
  for await (const { message } of parts) {
    if (message?.$case === 'fileBytes') {
      fileBytes = message.value
      yield { message: { $case: 'file', value: { epoch, file, fileBytes } } }
    } else if (message?.$case === 'part') {
      tell(Math.floor((100 * message.value.offset) / Math.max(1, fileBytes)))
      yield { message }
    }
  }
}

function about(host: HostRecord, cause: unknown): VpeError {
  const { code, message } = fromClientError(cause)
  return new VpeError(code, `host ${host.name}: ${message}`, { cause })
}
