// Where a lost instance may go. Recovery says which hosts could have it as far as the protocol goes; which of them it fits is
// up to whoever knows what fits.

import type { HostId } from '../ids.ts'
import type { HaInstance } from './recovery.ts'

export type PlaceChoice =
  | { readonly hostId: HostId }
  /** `why` completes a sentence for people: "no host fits: …". */
  | { readonly hostId: null; readonly why: string }

/** Lives for one step. */
export interface Placer {
  /** The best of some hosts for an instance. */
  choose(instance: HaInstance, hostIds: readonly HostId[]): PlaceChoice
  /** It gets that place: choices that follow see it taken. */
  take(instance: HaInstance, hostId: HostId): void
}

/** Chooses by free memory alone; for the simulator. */
export function memoryPlacer(totalMib: ReadonlyMap<HostId, number>, instances: Iterable<HaInstance>): Placer {
  const room = new Map(totalMib)
  const counted = new Map<string, HostId>()
  const take = ({ memoryMib }: HaInstance, hostId: HostId) => {
    room.set(hostId, (room.get(hostId) ?? 0) - memoryMib)
  }
  for (const instance of instances)
    if (instance.state !== 'lost' && instance.state !== 'error' && instance.state !== 'off') {
      take(instance, instance.hostId)
      counted.set(instance.uuid, instance.hostId)
    }
  return {
    choose({ uuid, memoryMib }, hostIds) {
      // One that has been lost since leaves room where it was.
      const freeOn = (hostId: HostId) =>
        (room.get(hostId) ?? 0) + (counted.get(uuid) === hostId ? memoryMib : 0)
      let best: HostId | null = null
      for (const hostId of hostIds) {
        const free = freeOn(hostId)
        if (free >= memoryMib && (best === null || free > freeOn(best))) best = hostId
      }
      return best === null ? { hostId: null, why: 'no host has room for it now' } : { hostId: best }
    },
    take,
  }
}
