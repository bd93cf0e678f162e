// Where lost instances may go, by the rules that place all others.

import {
  type HostTable,
  type InstanceRecord,
  type PlacementRequest,
  place,
  type Reservation,
} from '@vpe/core'
import type { HaInstance, PlaceChoice, Placer } from '@vpe/core/ha'
import { reservationOf } from '../host-table-keeper.ts'
import { moveRequest } from '../service/move-request.ts'
import type { Store } from '../store/store.ts'

/** Lives for one step: what it was told is taken is given back by `end`, and taken for good by the commit of the records. */
export class StorePlacer implements Placer {
  readonly #store: Store
  readonly #table: HostTable
  readonly #taken: { readonly hostId: string; readonly reservation: Reservation }[] = []

  constructor(store: Store, table: HostTable) {
    this.#store = store
    this.#table = table
  }

  choose({ uuid }: HaInstance, hostIds: readonly string[]): PlaceChoice {
    const record = this.#store.instances.get(uuid)
    if (!record) return { hostId: null, why: 'it has no record' }
    const request = this.#requestOf(record, hostIds)
    if (!request) return { hostId: null, why: 'no host fits: none of those that it may be on is up' }
    const { leavingHostId, hostId } = record
    const on = [...new Set([hostId, leavingHostId].filter((each) => each !== null))]
    const result = this.#table.without(on, reservationOf(record), () => place(request, this.#table))
    return result.hostId === null ? { hostId: null, why: result.refusal } : { hostId: result.hostId }
  }

  take({ uuid }: HaInstance, hostId: string): void {
    const record = this.#store.instances.get(uuid)
    if (!record) return
    // Its disk is in a shared pool, and takes no more room there than before.
    const reservation = { ...reservationOf(record), diskBytes: 0 }
    this.#table.reserve(hostId, reservation)
    this.#taken.push({ hostId, reservation })
  }

  end(): void {
    for (const { hostId, reservation } of this.#taken.splice(0)) this.#table.release(hostId, reservation)
  }

  /** Null where no host is left that its user allows. */
  #requestOf(record: InstanceRecord, hostIds: readonly string[]): PlacementRequest | null {
    const allowed =
      record.hostIds.length === 0 ? hostIds : hostIds.filter((hostId) => record.hostIds.includes(hostId))
    return allowed.length === 0 ? null : moveRequest(this.#store, record, allowed)
  }
}
