// Carries out what is wanted of data disks that no instance has: makes, grows and removes their files, by
// way of a host that reaches them. What is wanted of an attached disk is its instance's affair. Finds all
// of it in the records, so a restart at any line takes it up again.

import { decideDiskFailed, decideDiskSettled, VpeError } from '@vpe/core'
import type { Logger } from 'pino'
import type { Agents } from './agents.ts'
import { commitDiskDecision } from './disk-commit.ts'
import { KeyedWork } from './keyed-work.ts'
import { byWayOf } from './pool-reach.ts'
import type { Store } from './store/store.ts'
import { diskSpecToWire } from './wire.ts'

const TIMEOUT_MS = 90_000

const STEPS = {
  creating: 'making the disk',
  resizing: 'making the disk larger',
  deleting: 'removing the disk',
}

export class DiskKeeper {
  readonly #store: Store
  readonly #agents: Agents
  readonly #now: () => number
  readonly #log: Logger
  readonly #work: KeyedWork
  readonly #troubles = new Map<string, string>()

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
      isWanted: (uuid) => this.#taskOf(uuid) !== null,
      attempt: (uuid, signal) => this.#attempt(uuid, signal),
      failed: (uuid, error, isOver) => this.#failed(uuid, error, isOver),
    })
    store.listen({ onDisk: (disk) => disk && this.#work.look(disk.uuid) })
  }

  lookAtAll(): void {
    for (const uuid of this.#store.disks.keys()) this.#work.look(uuid)
  }

  /** A host can be reached again: what may wait for it is tried at once. */
  lookAtHost(hostId: string): void {
    for (const { uuid, hostId: home } of this.#store.disks.values()) {
      if (home === null || home === hostId) this.#work.look(uuid)
    }
  }

  /** What is being done to a disk at this moment, for people. */
  stepOf(uuid: string): string {
    const task = this.#taskOf(uuid)
    const trouble = this.#troubles.get(uuid)
    return task === null ? '' : trouble ? `will try again: ${trouble}` : STEPS[task]
  }

  close(): void {
    this.#work.close()
  }

  #taskOf(uuid: string): keyof typeof STEPS | null {
    const disk = this.#store.disks.get(uuid)
    if (!disk || disk.instanceUuid !== null) return null
    const { status } = disk
    return status === 'creating' || status === 'resizing' || status === 'deleting' ? status : null
  }

  async #attempt(uuid: string, signal: AbortSignal): Promise<void> {
    await this.#store.durable()
    const disk = this.#store.disks.get(uuid)
    const task = this.#taskOf(uuid)
    if (!disk || task === null) return
    const pool = this.#store.diskPools.get(disk.diskPoolUuid)
    if (!pool) throw new VpeError('INTERNAL', `disk pool ${disk.diskPoolUuid} of disk ${uuid} has no record`)
    await byWayOf(this.#store, pool, disk.hostId, signal, async (host) => {
      const client = this.#agents.client(host)
      const request = { epoch: this.#store.epoch, disk: diskSpecToWire(this.#store, disk, host.uuid) }
      const options = { signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]) }
      if (task === 'creating') await client.ensureDisk(request, options)
      else if (task === 'resizing') await client.growDisk(request, options)
      else await client.removeDisk(request, options)
    })
    this.#troubles.delete(uuid)
    // What was done counts for what was asked: a disk that is to go by now is not made, and so on.
    const now = this.#store.disks.get(uuid)
    if (now?.status !== disk.status || now.sizeBytes !== disk.sizeBytes || this.#taskOf(uuid) !== task) return
    const decision = decideDiskSettled(now)
    if (decision) commitDiskDecision(this.#store, now, decision, this.#now(), this.#log)
  }

  #failed(uuid: string, error: VpeError, isOver: boolean): void {
    this.#log.warn({ disk: uuid, code: error.code, isOver }, error.message)
    this.#troubles.set(uuid, error.message)
    const disk = this.#store.disks.get(uuid)
    const decision = isOver && disk && this.#taskOf(uuid) ? decideDiskFailed(disk, error.message) : null
    if (disk && decision) commitDiskDecision(this.#store, disk, decision, this.#now(), this.#log)
    if (this.#taskOf(uuid) === null) this.#troubles.delete(uuid)
  }
}
