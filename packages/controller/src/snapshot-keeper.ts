// Has snapshots made and removed by the hosts of their instances. What is left to do it finds in the
// records, so a restart at any line takes it up again; the name of each, its uuid, makes doing it twice the
// same as doing it once.

import {
  decideSnapshotFailed,
  decideSnapshotSettled,
  type InstanceRecord,
  type SnapshotRecord,
  VpeError,
} from '@vpe/core'
import type { Logger } from 'pino'
import type { Agents } from './agents.ts'
import { KeyedWork } from './keyed-work.ts'
import { commitSnapshotDecision } from './snapshot-commit.ts'
import type { Store } from './store/store.ts'
import { diskPoolSpecToWire } from './wire.ts'

const TIMEOUT_MS = 90_000

const STEPS = { creating: 'making the snapshot', deleting: 'removing the snapshot' } as const

export class SnapshotKeeper {
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
    store.listen({
      onSnapshot: (snapshot) => snapshot && this.#work.look(snapshot.uuid),
      onInstance: (before, after) => {
        if (before && after && isBetweenHosts(before) && !isBetweenHosts(after))
          this.#lookAtInstance(before.uuid)
      },
    })
  }

  lookAtAll(): void {
    for (const uuid of this.#store.snapshots.keys()) this.#work.look(uuid)
  }

  /** A host can be reached again: what waits for it is tried at once. */
  lookAtHost(hostId: string): void {
    for (const instance of this.#store.usage.instancesOfHost(hostId)) {
      this.#lookAtInstance(instance)
    }
  }

  /** What is being done to a snapshot at this moment, for people. */
  stepOf(uuid: string): string {
    const task = this.#taskOf(uuid)
    const trouble = this.#troubles.get(uuid)
    return task === null ? '' : trouble ? `will try again: ${trouble}` : STEPS[task]
  }

  close(): void {
    this.#work.close()
  }

  #lookAtInstance(instanceUuid: string): void {
    for (const { uuid } of this.#store.snapshotIndex.ofInstance(instanceUuid)) this.#work.look(uuid)
  }

  /** Nothing, once its instance is going: that takes all of it away. And nothing while that is between two hosts. */
  #taskOf(uuid: string): keyof typeof STEPS | null {
    const snapshot = this.#store.snapshots.get(uuid)
    const instance = this.#store.instances.get(snapshot?.instanceUuid ?? '')
    if (!snapshot || !instance || instance.task === 'deleting' || isBetweenHosts(instance)) return null
    const { status } = snapshot
    return status === 'creating' || status === 'deleting' ? status : null
  }

  async #attempt(uuid: string, signal: AbortSignal): Promise<void> {
    await this.#store.durable()
    const snapshot = this.#store.snapshots.get(uuid)
    const task = this.#taskOf(uuid)
    if (!snapshot || task === null) return
    const { host, pool } = this.#placeOf(snapshot)
    const request = {
      epoch: this.#store.epoch,
      instanceUuid: snapshot.instanceUuid,
      snapshotUuid: uuid,
      diskPool: diskPoolSpecToWire(this.#store, pool, host.uuid),
    }
    const options = { signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]) }
    const client = this.#agents.client(host)
    if (task === 'creating') await client.ensureSnapshot(request, options)
    else await client.removeSnapshot(request, options)
    this.#troubles.delete(uuid)
    // What was done counts for what was asked: one that is to go by now is not available.
    const now = this.#store.snapshots.get(uuid)
    const decision = now && this.#taskOf(uuid) === task ? decideSnapshotSettled(now) : null
    if (now && decision) commitSnapshotDecision(this.#store, now, decision, this.#now(), this.#log)
  }

  #failed(uuid: string, error: VpeError, isOver: boolean): void {
    this.#log.warn({ snapshot: uuid, code: error.code, isOver }, error.message)
    this.#troubles.set(uuid, error.message)
    const snapshot = this.#store.snapshots.get(uuid)
    const decision =
      isOver && snapshot && this.#taskOf(uuid) ? decideSnapshotFailed(snapshot, error.message) : null
    if (snapshot && decision) commitSnapshotDecision(this.#store, snapshot, decision, this.#now(), this.#log)
    if (this.#taskOf(uuid) === null) this.#troubles.delete(uuid)
  }

  #placeOf({ uuid, instanceUuid }: SnapshotRecord) {
    const instance = this.#store.instances.get(instanceUuid)
    const host = this.#store.hosts.get(instance?.hostId ?? '')
    const pool = this.#store.diskPools.get(instance?.diskPoolUuid ?? '')
    if (!host || !pool)
      throw new VpeError('INTERNAL', `the instance of snapshot ${uuid} has no host or pool record`)
    return { host, pool }
  }
}

/** Until it has arrived, nobody knows which host has the disk open. */
function isBetweenHosts({ task, leavingHostId }: InstanceRecord): boolean {
  return task === 'migrating' || leavingHostId !== null
}
