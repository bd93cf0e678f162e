// Lets work begin in the order in which it came, a little in each turn of the event loop: between two turns everything
// else that has come in is done, above all calls that somebody waits for. The more wait, the more begin in a turn, so
// that under lasting load what begins keeps up with what comes, and callers are who is slowed down.

/** For so many that wait, one more begins in each turn. */
const WAITING_PER_ENTRY = 512

export class Turnstile {
  #waiting: (() => void)[] = []
  #isTurning = false
  #isClosed = false

  /** How many wait. */
  get waiting(): number {
    return this.#waiting.length
  }

  /** Resolves when it is the caller's turn: at once, where nobody has begun in this turn of the event loop. */
  pass(): Promise<void> {
    if (this.#isClosed) return Promise.resolve()
    if (!this.#isTurning) {
      this.#isTurning = true
      setImmediate(() => this.#turn())
      return Promise.resolve()
    }
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  /** Lets everybody through, from now on. */
  close(): void {
    this.#isClosed = true
    for (const begin of this.#waiting.splice(0)) begin()
  }

  #turn(): void {
    const count = 1 + Math.floor(this.#waiting.length / WAITING_PER_ENTRY)
    const entering = this.#waiting.splice(0, count)
    for (const begin of entering) begin()
    if (entering.length > 0) setImmediate(() => this.#turn())
    else this.#isTurning = false
  }
}
