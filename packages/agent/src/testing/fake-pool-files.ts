// Pools in memory: which images and disks they hold, and failures on demand.

import { VpeError } from '@vpe/core'
import type { PoolArguments, PoolOperation, PoolResult } from '../pool/pool-protocol.ts'
import type { PoolFiles, PoolRef, RequestOptions } from '../pool/pool-workers.ts'

const IMAGE = { sha256: '0'.repeat(64), format: 'qcow2', sizeBytes: 1024, virtualSizeBytes: 2048 } as const

export class FakePoolFiles implements PoolFiles {
  readonly images = new Set<string>()
  /** The image that each system disk was made from. */
  readonly disks = new Map<string, string>()
  /** What they were last made or grown to, where a size was asked for. */
  readonly diskBytes = new Map<string, number>()
  /** Sizes of data disks. */
  readonly dataDisks = new Map<string, number>()
  readonly calls: string[] = []
  readonly failures: { readonly operation: PoolOperation; readonly error: VpeError }[] = []
  beforeCall: (operation: PoolOperation) => Promise<void> | void = () => {}

  async request<O extends PoolOperation>(
    _pool: PoolRef,
    operation: O,
    args: PoolArguments<O>,
    { signal, onProgress }: RequestOptions = {},
  ): Promise<PoolResult<O>> {
    await this.beforeCall(operation)
    signal?.throwIfAborted()
    const index = this.failures.findIndex((failure) => failure.operation === operation)
    const [failure] = index < 0 ? [] : this.failures.splice(index, 1)
    if (failure) throw failure.error
    this.calls.push(operation)
    if (operation === 'import-image') onProgress?.(50)
    return this.#results(args)[operation]() as PoolResult<O>
  }

  warm(): void {}
  release(): void {}
  close(): void {}

  #results(
    args: Partial<Record<'uuid' | 'instanceUuid' | 'imageUuid' | 'diskUuid', string>> &
      Partial<Record<'diskBytes' | 'sizeBytes', number>>,
  ): Record<PoolOperation, () => unknown> {
    const { uuid = '', instanceUuid = '', imageUuid = '', diskBytes = 0 } = args
    const { diskUuid = '', sizeBytes = 0 } = args
    return {
      check: () => ({ capacityBytes: 1e12, availableBytes: 5e11 }),
      'import-image': () => {
        this.images.add(uuid)
        return IMAGE
      },
      'write-image-part': () => ({}),
      'capture-image': () => {
        this.images.add(uuid)
        return IMAGE
      },
      'find-image': () => ({ image: this.images.has(uuid) ? IMAGE : null, partBytes: 0 }),
      'remove-image': () => {
        this.images.delete(uuid)
        return {}
      },
      'find-system-disk': () => ({
        isFound: this.disks.has(instanceUuid),
        imageUuid: this.disks.get(instanceUuid) ?? null,
      }),
      'make-system-disk': () => {
        if (!this.images.has(imageUuid))
          throw new VpeError('NOT_FOUND', `image ${imageUuid} is not in the pool`)
        this.disks.set(instanceUuid, imageUuid)
        this.diskBytes.set(instanceUuid, diskBytes)
        return { virtualSizeBytes: IMAGE.virtualSizeBytes }
      },
      'grow-system-disk': () => {
        this.diskBytes.set(instanceUuid, Math.max(diskBytes, this.diskBytes.get(instanceUuid) ?? 0))
        return { virtualSizeBytes: diskBytes }
      },
      'make-seed': () => ({}),
      'remove-system-disk': () => {
        this.disks.delete(instanceUuid)
        return {}
      },
      'make-data-disk': () => {
        if (!this.dataDisks.has(diskUuid)) this.dataDisks.set(diskUuid, sizeBytes)
        return {}
      },
      'grow-data-disk': () => {
        this.dataDisks.set(diskUuid, Math.max(sizeBytes, this.dataDisks.get(diskUuid) ?? 0))
        return {}
      },
      'remove-data-disk': () => {
        this.dataDisks.delete(diskUuid)
        return {}
      },
    }
  }
}
