// Choices from a seed (mulberry32): the same seed chooses alike, as far as the cluster answers alike.

export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  /** From 0, below 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }

  below(bound: number): number {
    return Math.floor(this.next() * bound)
  }

  chance(probability: number): boolean {
    return this.next() < probability
  }

  pick<T>(from: readonly T[]): T | undefined {
    return from[this.below(from.length)]
  }

  /** One of them, the likelier the higher its weight. */
  weighted<T extends { readonly weight: number }>(from: readonly T[]): T | undefined {
    let rest = this.next() * from.reduce((sum, { weight }) => sum + weight, 0)
    return from.find(({ weight }) => {
      rest -= weight
      return rest < 0
    })
  }
}
