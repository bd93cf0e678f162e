// Brings every image that is `importing` into its pool, by way of a host that reaches the pool, and
// records what was learned of it. Starts again from nothing after a restart: the agent resumes or
// finds the finished copy.

import { type DiskPoolRecord, endOperation, type HostRecord, type ImageRecord, VpeError } from '@vpe/core'
import type { ImportedImage } from '@vpe/proto'
import type { Logger } from 'pino'
import type { Agents } from './agents.ts'
import { KeyedWork } from './keyed-work.ts'
import { byWayOf } from './pool-reach.ts'
import type { Store } from './store/store.ts'
import { type Change, change } from './store/tables.ts'
import { diskFormatFromWire, diskPoolSpecToWire, imageSourceToWire } from './wire.ts'

export class ImageImporter {
  readonly #store: Store
  readonly #agents: Agents
  readonly #now: () => number
  readonly #log: Logger
  readonly #work: KeyedWork
  readonly #progress = new Map<string, number>()

  /** @param onFatal told of a defect, or of a store that failed: the process must end */
  constructor(
    store: Store,
    agents: Agents,
    now: () => number,
    log: Logger,
    onFatal: (error: unknown) => void,
  ) {
    this.#store = store
    this.#agents = agents
    this.#now = now
    this.#log = log
    this.#work = new KeyedWork({
      now,
      onFatal,
      isWanted: (uuid) => store.images.get(uuid)?.status === 'importing',
      attempt: (uuid, signal) => this.#attempt(uuid, signal),
      failed: (uuid, error, isOver) => this.#failed(uuid, error, isOver),
    })
    store.listen({ onImage: (image) => image && this.look(image.uuid) })
  }

  lookAtAll(): void {
    for (const uuid of this.#store.images.keys()) this.look(uuid)
  }

  progressPercent(imageUuid: string): number {
    return this.#progress.get(imageUuid) ?? 0
  }

  /** Stops an import, for an image that is going; resolves when nothing of it is under way. */
  cancel(imageUuid: string): Promise<void> {
    return this.#work.cancel(imageUuid)
  }

  close(): void {
    this.#work.close()
  }

  /** Imports an image if that is what it waits for. */
  look(uuid: string): void {
    this.#work.look(uuid)
  }

  async #attempt(uuid: string, signal: AbortSignal): Promise<void> {
    await this.#store.durable()
    const image = this.#store.images.get(uuid)
    if (image?.status !== 'importing') return
    try {
      const imported = await this.#import(image, signal)
      this.#end(uuid, (now) => ({
        ...now,
        status: 'active',
        sha256: imported.sha256,
        format: diskFormatFromWire(imported.format),
        sizeBytes: imported.sizeBytes,
        virtualSizeBytes: imported.virtualSizeBytes,
      }))
    } finally {
      this.#progress.delete(uuid)
    }
  }

  #failed(uuid: string, error: VpeError, isOver: boolean): void {
    this.#log.warn({ image: uuid, code: error.code, isOver }, error.message)
    if (isOver) this.#end(uuid, (now) => ({ ...now, status: 'error', fault: error.message }))
  }

  async #import(image: ImageRecord, signal: AbortSignal): Promise<ImportedImage> {
    const pool = this.#store.diskPools.get(image.diskPoolUuid)
    if (!pool)
      throw new VpeError('INTERNAL', `disk pool ${image.diskPoolUuid} of image ${image.uuid} has no record`)
    // For an image without a URL, only the host that took it in.
    return byWayOf(this.#store, pool, image.hostId || null, signal, (host) =>
      this.#importBy(host, image, pool, signal),
    )
  }

  async #importBy(
    host: HostRecord,
    image: ImageRecord,
    pool: DiskPoolRecord,
    signal: AbortSignal,
  ): Promise<ImportedImage> {
    const client = this.#agents.client(host)
    const [epoch, diskPool] = [this.#store.epoch, diskPoolSpecToWire(this.#store, pool, host.uuid)]
    const { uuid: imageUuid, instanceUuid } = image
    const updates = instanceUuid
      ? client.captureImage({ epoch, diskPool, imageUuid, instanceUuid }, { signal })
      : client.importImage({ epoch, diskPool, image: imageSourceToWire(image) }, { signal })
    for await (const { update } of updates) {
      if (update?.$case === 'progressPercent') this.#progress.set(image.uuid, update.value)
      if (update?.$case === 'imported') return update.value
    }
    throw new VpeError('UNAVAILABLE', `${host.name} ended the import without a result`)
  }

  #end(uuid: string, conclude: (now: ImageRecord) => ImageRecord): void {
    const now = this.#store.images.get(uuid)
    if (now?.status !== 'importing') return
    const next = conclude(now)
    const changes: Change[] = [change.image(next)]
    for (const operation of this.#store.operations.values()) {
      if (operation.resourceUuid !== uuid) continue
      const status = next.status === 'active' ? 'succeeded' : 'failed'
      changes.push(change.operation(endOperation(operation, status, this.#now(), next.fault)))
    }
    const what = next.status === 'active' ? 'imported' : 'failed'
    const data = { uuid, name: next.name, status: next.status, fault: next.fault || null }
    void this.#store.commit(changes, [{ kind: 'image', id: uuid, what, data }])
    this.#log.info({ image: uuid, status: next.status }, 'image moved')
  }
}
