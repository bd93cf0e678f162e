// Pools in memory: which images and disks they hold, and failures on demand.

import { VpeError } from '@vpe/core'
import type { DiskFileName, PoolArguments, PoolOperation, PoolResult } from '../pool/pool-protocol.ts'
import type { PoolFiles, PoolRef, RequestOptions } from '../pool/pool-workers.ts'

type FakeArguments = Partial<
  Record<'uuid' | 'instanceUuid' | 'imageUuid' | 'sourceUuid' | 'diskUuid', string>
> &
  Partial<Record<'diskBytes' | 'sizeBytes', number>> & { snapshotUuid?: string | null; disk?: DiskFileName }

const IMAGE = { sha256: '0'.repeat(64), format: 'qcow2', sizeBytes: 1024, virtualSizeBytes: 2048 } as const

export class FakePoolFiles implements PoolFiles {
  readonly images = new Set<string>()
  /** The image that each system disk was made from. */
  readonly disks = new Map<string, string>()
  /** What they were last made or grown to, where a size was asked for. */
  readonly diskBytes = new Map<string, number>()
  /** Sizes of data disks. */
  readonly dataDisks = new Map<string, number>()
  /** Snapshots by disk, with the content of each: whatever `content` of the disk was then. */
  readonly snapshots = new Map<string, Map<string, string>>()
  readonly content = new Map<string, string>()
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
    return this.#results({ ...args } as FakeArguments)[operation]() as PoolResult<O>
  }

  async mount(): Promise<void> {}
  async unmount(): Promise<void> {}
  warm(): void {}
  release(): void {}
  close(): void {}

  #results(args: FakeArguments): Record<PoolOperation, () => unknown> {
    const { uuid = '', instanceUuid = '', imageUuid = '', sourceUuid = '', diskBytes = 0 } = args
    const { diskUuid = '', sizeBytes = 0, disk } = args
    const snapshotUuid = args.snapshotUuid ?? ''
    return {
      probe: () => ({ latencyMs: 2 }),
      check: () => ({ capacityBytes: 1e12, availableBytes: 5e11, marker: 'fake' }),
      'remove-marker': () => ({}),
      'list-files': () => ({ files: [], foreign: 0 }),
      'remove-file': () => ({}),
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
      'copy-system-disk': () => {
        this.#assertDisk(sourceUuid)
        const content = snapshotUuid
          ? this.snapshots.get(sourceUuid)?.get(snapshotUuid)
          : this.content.get(sourceUuid)
        this.content.set(instanceUuid, content ?? '')
        this.disks.set(instanceUuid, this.disks.get(sourceUuid) ?? '')
        return {}
      },
      'grow-system-disk': () => {
        this.diskBytes.set(instanceUuid, Math.max(diskBytes, this.diskBytes.get(instanceUuid) ?? 0))
        return { virtualSizeBytes: diskBytes }
      },
      'make-seed': () => ({}),
      'make-snapshot': () => {
        this.#assertDisk(instanceUuid)
        const made = this.snapshots.get(instanceUuid) ?? new Map()
        if (!made.has(snapshotUuid)) made.set(snapshotUuid, this.content.get(instanceUuid) ?? '')
        this.snapshots.set(instanceUuid, made)
        return {}
      },
      'remove-snapshot': () => {
        this.snapshots.get(instanceUuid)?.delete(snapshotUuid)
        return {}
      },
      'revert-system-disk': () => {
        const content = this.snapshots.get(instanceUuid)?.get(snapshotUuid)
        if (content === undefined) throw new VpeError('NOT_FOUND', `there is no snapshot ${snapshotUuid}`)
        this.content.set(instanceUuid, content)
        return {}
      },
      'remove-system-disk': () => {
        this.disks.delete(instanceUuid)
        this.snapshots.delete(instanceUuid)
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
      'describe-disk': () => ({ sizeBytes: 2048, allocatedBytes: 1024, imageUuid: null }),
      'make-copy-target': () => {
        if (disk?.kind === 'system') this.disks.set(disk.uuid, imageUuid)
        else if (disk) this.dataDisks.set(disk.uuid, sizeBytes)
        return {}
      },
      'read-disk': () => ({ data: new Uint8Array(1), fileBytes: 1 }),
      'begin-disk-copy': () => ({}),
      'write-disk-part': () => ({}),
      'end-disk-copy': () => ({}),
    }
  }

  #assertDisk(instanceUuid: string): void {
    if (!this.disks.has(instanceUuid))
      throw new VpeError('NOT_FOUND', `there is no disk of instance ${instanceUuid}`)
  }
}
