// The invariants of docs/ha.md, as the simulator sees them: it knows everything, and is asked after every event that could break one.

import type { Proof } from '@vpe/core/ha'
import { PROOFS_OF } from '@vpe/core/ha'

export type Invariant =
  | 'I1'
  | 'I2'
  | 'I3'
  | 'I4'
  | 'I5'
  | 'I6'
  | 'I7'
  | 'I8'
  | 'I9'
  | 'I10'
  | 'I11'
  | 'I12'
  | 'I13'

export class Violation extends Error {
  readonly invariant: Invariant
  readonly atMs: number

  constructor(invariant: Invariant, atMs: number, what: string) {
    super(`${invariant} at ${(atMs / 1000).toFixed(3)} s: ${what}`)
    this.invariant = invariant
    this.atMs = atMs
  }
}

/** The oracle in the disks: which generation of an instance has written last. */
export class WriteOracle {
  readonly #highest = new Map<string, number>()
  writes = 0

  /** Null when the write is in order, otherwise what it has overwritten. */
  write(pool: string, uuid: string, generation: number): string | null {
    this.writes++
    const key = `${pool} ${uuid}`
    const highest = this.#highest.get(key) ?? 0
    if (generation < highest)
      return `${uuid} was written as generation ${generation} in pool ${pool}, after generation ${highest} had written there`
    if (generation > highest) this.#highest.set(key, generation)
    return null
  }
}

/** Why these proofs do not allow a start elsewhere; null when they do (I3). */
export function whyUnproven(
  proofs: readonly Proof[],
  pools: readonly { readonly pool: string; readonly poolClass: 'E' | 'T' | 'N' }[],
): string | null {
  for (const { pool, poolClass } of pools) {
    const proof = proofs.find(
      (proof) => (proof.pool === null || proof.pool === pool) && PROOFS_OF[poolClass].includes(proof.kind),
    )
    if (!proof) return `pool ${pool} of class ${poolClass} has no proof`
  }
  return null
}
