// Instances in the order of their lists: oldest first, those of one millisecond by uuid. Neither of the
// two ever changes, so a position in this order stays good while instances come and go, that of a deleted
// one too: what pages are cut by.

import type { InstanceRecord } from '@vpe/core'

export type InstancePosition = Pick<InstanceRecord, 'createdAtMs' | 'uuid'>

export class InstanceOrder {
  readonly #positions: InstancePosition[] = []

  /** Takes one record out and puts another in. */
  replace(before: InstancePosition | null, after: InstancePosition | null): void {
    if (before?.uuid === after?.uuid) return
    if (before) this.#positions.splice(this.#indexAfter(before) - 1, 1)
    if (after) {
      const { createdAtMs, uuid } = after
      this.#positions.splice(this.#indexAfter(after), 0, { createdAtMs, uuid })
    }
  }

  /** Those after a position, or all of them. To be read within one turn of the event loop. */
  *after(position: InstancePosition | null): Generator<InstancePosition> {
    const first = position ? this.#indexAfter(position) : 0
    for (let index = first; index < this.#positions.length; index++) {
      const next = this.#positions[index]
      if (next) yield next
    }
  }

  /** The index of the first that comes after a position. */
  #indexAfter(position: InstancePosition): number {
    let [low, high] = [0, this.#positions.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      const other = this.#positions[middle]
      if (other && compare(other, position) <= 0) low = middle + 1
      else high = middle
    }
    return low
  }
}

function compare(a: InstancePosition, b: InstancePosition): number {
  if (a.createdAtMs !== b.createdAtMs) return a.createdAtMs - b.createdAtMs
  if (a.uuid === b.uuid) return 0
  return a.uuid < b.uuid ? -1 : 1
}
