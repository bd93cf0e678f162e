// What the store needs of a database. One implementation per database, each small: everything that
// decides anything lives above this line.

import type { StreamEntry } from '@vpe/bus'
import type { OperationRecord } from '@vpe/core'
import type { Change, IdempotencyKeyRecord, PlacementRecord, TableName, Tables } from './tables.ts'

/** Everything that the controller holds in memory; ended operations and the like are read when asked for. */
export interface LoadedState {
  /** Id of this store, made with it; names the outbox on the event stream. */
  readonly storeId: string
  /** Epoch of this opening: one more than the last. */
  readonly epoch: number
  /** The highest outbox position ever given out. */
  readonly lastPosition: number
  readonly rows: {
    readonly [Name in
      | 'flavors'
      | 'hostFencing'
      | 'images'
      | 'diskPools'
      | 'disks'
      | 'hosts'
      | 'instances'
      | 'joinTokens'
      | 'members'
      | 'poolLeases'
      | 'rebalances'
      | 'revocations'
      | 'snapshots'
      | 'webhooks'
      | 'haHosts'
      | 'haInstances'
      | 'haDisarms'
      | 'haFailovers']: Tables[Name][]
  }
  readonly runningOperations: OperationRecord[]
}

export interface StoreBackend {
  /** Raises the epoch, durably, and reads the state. Any earlier opener's next write fails. */
  open(): Promise<LoadedState>
  /** Writes all of it or nothing, durably. Rejects when a later opener has raised the epoch. */
  write(changes: readonly Change[], events: readonly StreamEntry[]): Promise<void>
  /** Outbox entries after a position, in order. */
  readOutbox(after: number, limit: number): Promise<StreamEntry[]>
  /** Deletes outbox entries up to and with a position. */
  trimOutbox(upTo: number): Promise<void>
  findOperation(uuid: string): Promise<OperationRecord | null>
  listOperations(resourceUuid: string | null, limit: number): Promise<OperationRecord[]>
  /** What the guest of an instance is to do; null when nothing was given. */
  findUserData(instanceUuid: string): Promise<string | null>
  findPlacement(uuid: string): Promise<PlacementRecord | null>
  findIdempotencyKey(key: string): Promise<IdempotencyKeyRecord | null>
  /** Deletes ended operations, placements and keys that are older than the given times. */
  prune(limits: {
    readonly operationsBeforeMs: number
    readonly placementsBeforeMs: number
    readonly idempotencyKeysBeforeMs: number
  }): Promise<Partial<Record<TableName, number>>>
  close(): Promise<void>
}
