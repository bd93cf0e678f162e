// So many requests at once from one address, and so many a second after that: what a guesser gets, and more
// than a machine that joins needs.

/** Addresses that are remembered; beyond them, all are forgotten. */
const ADDRESSES_MAX = 10_000

export class RequestRate {
  readonly #burst: number
  readonly #perSecond: number
  readonly #left = new Map<string, { readonly count: number; readonly atMs: number }>()

  constructor(burst: number, perSecond: number) {
    this.#burst = burst
    this.#perSecond = perSecond
  }

  /** Counts one request. */
  allows(address: string, nowMs: number): boolean {
    const before = this.#left.get(address) ?? { count: this.#burst, atMs: nowMs }
    const gained = (Math.max(0, nowMs - before.atMs) / 1_000) * this.#perSecond
    const count = Math.min(this.#burst, before.count + gained)
    if (this.#left.size >= ADDRESSES_MAX) this.#left.clear()
    this.#left.set(address, { count: Math.max(0, count - 1), atMs: nowMs })
    return count >= 1
  }
}
