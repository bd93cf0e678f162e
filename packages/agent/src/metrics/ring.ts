// The last so many of a kind: what comes beyond pushes the oldest out.

export class Ring<T> {
  readonly #capacity: number
  readonly #values: T[] = []
  /** Where the next value goes, once the ring is full: the place of the oldest. */
  #next = 0

  constructor(capacity: number) {
    this.#capacity = capacity
  }

  push(value: T): void {
    this.#values[this.#next] = value
    this.#next = (this.#next + 1) % this.#capacity
  }

  /** Oldest first. */
  values(): T[] {
    const isFull = this.#values.length === this.#capacity
    return isFull
      ? [...this.#values.slice(this.#next), ...this.#values.slice(0, this.#next)]
      : [...this.#values]
  }
}
