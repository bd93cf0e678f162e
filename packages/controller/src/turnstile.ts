// Lets work begin in the order in which it came, behind what callers wait for. Where few wait for an answer, one piece
// begins in each turn of the event loop, and what has come in meanwhile is done between two turns. While there is a
// crowd of callers, only a share begins for each that is answered, whatever the event loop has time for: the machine
// that carries the work out, and the callers themselves, may need the time. The share grows with the queue, so that
// under lasting load as much begins as comes, and callers are who is slowed down.

/** More callers than this who wait for their answers are a crowd. */
const CROWD = 16
/** What begins for each caller of a crowd that is answered, at least; and how many wait when it is one for one. */
const LEAST_SHARE = 1 / 16
const WAITING_WHEN_EVEN = 32_768
/** Without a crowd: for so many that wait, one more begins in each turn. */
const WAITING_PER_ENTRY = 512
/** How long it is before a turn in which nothing may begin is followed by the next. */
const PAUSE_MS = 5
/**
 * A crowd is not gone before nobody has seen it for so long: all of it are answered at once when what they wait for is written, and
 * ask again as soon as their own process has its turn. Meanwhile one piece begins after each pause.
 */
const LULL_MS = 500

/** Who waits for an answer of this process. */
export interface Callers {
  readonly waiting: number
  /** How many have been answered so far. */
  readonly answered: number
}

export class Turnstile {
  readonly #callers: Callers
  readonly #nowMs: () => number
  #waiting: (() => void)[] = []
  #isTurning = false
  #isClosed = false
  #seenAnswered = 0
  #credit = 0
  #crowdSeenMs = Number.NEGATIVE_INFINITY

  constructor(callers: Callers, nowMs: () => number = () => performance.now()) {
    this.#callers = callers
    this.#nowMs = nowMs
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
    const nowMs = this.#nowMs()
    const isCrowd = this.#callers.waiting > CROWD
    if (isCrowd) this.#crowdSeenMs = nowMs
    const isCalm = nowMs - this.#crowdSeenMs >= LULL_MS
    const share = this.#share()
    const calm = 1 + Math.floor(this.#waiting.length / WAITING_PER_ENTRY)
    for (const begin of this.#waiting.splice(0, isCalm ? calm : Math.max(share, isCrowd ? 0 : 1))) begin()
    if (isCalm) setImmediate(() => this.#turn())
    else setTimeout(() => this.#turn(), PAUSE_MS)
  }

  /** How many may begin for those who were answered since it was asked for last. */
  #share(): number {
    const { answered } = this.#callers
    const each = Math.max(LEAST_SHARE, this.#waiting.length / WAITING_WHEN_EVEN)
    this.#credit += (answered - this.#seenAnswered) * each
    this.#seenAnswered = answered
    const count = Math.floor(this.#credit)
    this.#credit -= count
    return count
  }
}
