// Uploads: bytes from API nodes on their way to the host that takes an image in, a piece at a time. Nothing
// is kept here but who uploads what: how far an upload is, its file says. The latest to begin has it, since
// a client that was cut off comes back before anybody has noticed that it was gone.

import { type DiskPoolRecord, type HostRecord, type ImageRecord, VpeError } from '@vpe/core'
import { type FindImageResponse, fromClientError } from '@vpe/proto'
import type { Agents } from './agents.ts'
import type { Store } from './store/store.ts'
import { diskPoolSpecToWire } from './wire.ts'

/** For one piece; the agent gives a pool up by itself before. */
const AGENT_TIMEOUT_MS = 75_000
const PIECE_BYTES_MAX = 4 * 1024 ** 2

interface Upload {
  readonly id: number
  receivedBytes: number
  /** The write under way. */
  busy: Promise<unknown>
}

export class ImageUploads {
  readonly #store: Store
  readonly #agents: Agents
  readonly #now: () => number
  readonly #uploads = new Map<string, Upload>()
  #lastId = 0

  constructor(store: Store, agents: Agents, now: () => number) {
    this.#store = store
    this.#agents = agents
    this.#now = now
  }

  /** How much has arrived, as far as this process has seen it. */
  progressPercent({ uuid, sizeBytes }: ImageRecord): number {
    const received = this.#uploads.get(uuid)?.receivedBytes ?? 0
    return sizeBytes === 0 ? 0 : Math.min(99, Math.floor((received / sizeBytes) * 100))
  }

  /** How much has arrived. */
  async received(image: ImageRecord): Promise<number> {
    assertUploading(image)
    const { partBytes } = await this.#ask<FindImageResponse>(image, (client, common, signal) =>
      client.findImage({ imageUuid: image.uuid, diskPool: common.diskPool }, { signal }),
    )
    return partBytes
  }

  /**
   * Takes over from whoever uploads it.
   * @param offset where it goes on; 0 to begin anew
   */
  async begin(image: ImageRecord, offset: number): Promise<number> {
    assertUploading(image)
    // Whoever goes on from the wrong place takes nothing over: the one that runs is none the worse for it.
    if (offset > 0) await this.#assertReceived(image, offset)
    const before = this.#uploads.get(image.uuid)
    // Rises also over restarts of this process, and from one controller to the next.
    this.#lastId = Math.max(this.#lastId + 1, this.#now())
    const upload = { id: this.#lastId, receivedBytes: offset, busy: before?.busy ?? Promise.resolve() }
    this.#uploads.set(image.uuid, upload)
    await upload.busy.catch(() => {})
    // The one that was taken over may have written once more.
    if (offset > 0) await this.#assertReceived(image, offset)
    return upload.id
  }

  /** @throws VpeError CONFLICT when the end is elsewhere */
  async #assertReceived(image: ImageRecord, offset: number): Promise<void> {
    const received = await this.received(image)
    if (received === offset) return
    throw new VpeError(
      'CONFLICT',
      `${received} bytes of image ${image.name} have arrived: go on from there, not from ${offset}`,
    )
  }

  async write(image: ImageRecord, uploadId: number, offset: number, data: Uint8Array): Promise<void> {
    assertUploading(image)
    const upload = this.#current(image, uploadId)
    const end = offset + data.length
    if (data.length > PIECE_BYTES_MAX) {
      throw new VpeError('INVALID_ARGUMENT', `a piece may have ${PIECE_BYTES_MAX} bytes, not ${data.length}`)
    }
    if (image.sizeBytes > 0 && end > image.sizeBytes) {
      throw new VpeError(
        'INVALID_ARGUMENT',
        `the upload is longer than the ${image.sizeBytes} bytes that were announced`,
      )
    }
    const written = this.#ask(image, (client, common, signal) =>
      client.writeImagePart({ ...common, imageUuid: image.uuid, upload: uploadId, offset, data }, { signal }),
    )
    upload.busy = written
    await written
    upload.receivedBytes = end
  }

  /**
   * The upload is over, and its file as long as it should be.
   * @throws VpeError CONFLICT when there is more to come
   */
  async finish(image: ImageRecord, uploadId: number, sizeBytes: number): Promise<void> {
    assertUploading(image)
    this.#current(image, uploadId)
    if (image.sizeBytes > 0 && sizeBytes < image.sizeBytes) {
      throw new VpeError(
        'CONFLICT',
        `the upload ended after ${sizeBytes} of ${image.sizeBytes} bytes; send the rest with ?offset=${sizeBytes}`,
      )
    }
    if (sizeBytes === 0) throw new VpeError('INVALID_ARGUMENT', 'the upload is empty')
    const received = await this.received(image)
    if (received !== sizeBytes) {
      throw new VpeError('CONFLICT', `${received} of ${sizeBytes} bytes are there; go on from there`)
    }
    // Whoever has begun anew meanwhile has thrown these away.
    this.#current(image, uploadId)
  }

  /** For an image that is going, or is complete; resolves when nothing is under way. */
  async end(uuid: string): Promise<void> {
    const upload = this.#uploads.get(uuid)
    this.#uploads.delete(uuid)
    await upload?.busy.catch(() => {})
  }

  #current(image: ImageRecord, uploadId: number): Upload {
    const upload = this.#uploads.get(image.uuid)
    if (upload?.id === uploadId) return upload
    throw new VpeError(
      'SUPERSEDED',
      upload
        ? `another upload of image ${image.name} has begun`
        : `the upload of image ${image.name} was interrupted; ask how much has arrived and go on from there`,
    )
  }

  async #ask<Answer>(
    image: ImageRecord,
    call: (
      client: ReturnType<Agents['client']>,
      common: { epoch: number; diskPool: ReturnType<typeof diskPoolSpecToWire> },
      signal: AbortSignal,
    ) => Promise<Answer>,
  ): Promise<Answer> {
    const { host, pool } = this.#placeOf(image)
    try {
      const common = { epoch: this.#store.epoch, diskPool: diskPoolSpecToWire(this.#store, pool, host.uuid) }
      return await call(this.#agents.client(host), common, AbortSignal.timeout(AGENT_TIMEOUT_MS))
    } catch (cause) {
      const fault = fromClientError(cause)
      const code = fault.code === 'UNAVAILABLE' ? 'HOST_UNREACHABLE' : fault.code
      throw new VpeError(code, `host ${host.name}: ${fault.message}`, { cause })
    }
  }

  #placeOf(image: ImageRecord): { host: HostRecord; pool: DiskPoolRecord } {
    const host = this.#store.hosts.get(image.hostId)
    const pool = this.#store.diskPools.get(image.diskPoolUuid)
    if (!host || !pool) throw new VpeError('INTERNAL', `image ${image.uuid} has no host or pool record`)
    return { host, pool }
  }
}

function assertUploading({ name, status }: ImageRecord): void {
  if (status === 'uploading') return
  throw new VpeError('CONFLICT', `image ${name} takes no upload: it is ${status}`)
}
