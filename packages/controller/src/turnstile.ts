// Lets work begin in the order in which it came, behind what callers wait for. Where few wait for an answer, one piece
// begins in each turn of the event loop, and what has come in meanwhile is done between two turns. While there is a
// crowd of callers, only a share begins for each that is answered, whatever the event loop has time for: the machine
// that carries the work out, and the callers themselves, may need the time. The share grows with the queue, so that
// under lasting load as much begins as comes, and callers are who is slowed down.

/** More callers than this who wait for their answers are a crowd. */
const CROWD = 16
/** What begins for each caller of a crowd that is answered, at least; and how many wait when it is one for one. */
const LEAST_SHARE = 1 / 8
const WAITING_WHEN_EVEN = 16_384
/** Without a crowd: for so many that wait, one more begins in each turn. */
const WAITING_PER_ENTRY = 512
/** How long it is before a turn in which nothing may begin is followed by the next. */
const PAUSE_MS = 5

/** Who waits for an answer of this process. */
export interface Callers {
  readonly waiting: number
  /** How many have been answered so far. */
  readonly answered: number
}

export class Turnstile {
  readonly #callers: Callers
  #waiting: (() => void)[] = []
  #isTurning = false
  #isClosed = false
  #seenAnswered = 0
  #credit = 0

  constructor(callers: Callers) {
    this.#callers = callers
  }

  /** How many wait. */
  get waiting(): number {
    return this.#waiting.length
  }

  /** Resolves when it is the caller's turn: at once, where there is no crowd and nobody has begun in this turn. */
  pass(): Promise<void> {
    if (this.#isClosed) return Promise.resolve()
    const isFree = !this.#isTurning && this.#callers.waiting <= CROWD
    if (!this.#isTurning) {
      this.#isTurning = true
      this.#seenAnswered = this.#callers.answered
      setImmediate(() => this.#turn())
    }
    if (isFree) return Promise.resolve()
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  /** Lets everybody through, from now on. */
  close(): void {
    this.#isClosed = true
    for (const begin of this.#waiting.splice(0)) begin()
  }

  #turn(): void {
    if (this.#waiting.length === 0) {
      this.#isTurning = false
      return
    }
    const entering = this.#waiting.splice(0, this.#entries())
    for (const begin of entering) begin()
    if (entering.length > 0) setImmediate(() => this.#turn())
    else setTimeout(() => this.#turn(), PAUSE_MS)
  }

  /** How many may begin now. */
  #entries(): number {
    const { waiting, answered } = this.#callers
    const news = answered - this.#seenAnswered
    this.#seenAnswered = answered
    if (waiting <= CROWD) {
      this.#credit = 0
      return 1 + Math.floor(this.#waiting.length / WAITING_PER_ENTRY)
    }
    this.#credit += news * Math.max(LEAST_SHARE, this.#waiting.length / WAITING_WHEN_EVEN)
    const count = Math.floor(this.#credit)
    this.#credit -= count
    return count
  }
}
