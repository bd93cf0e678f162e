// Waiting for a sign that something about an instance changed. A sign carries nothing: who waits looks
// for himself.

export class Hints {
  readonly #waiting = new Map<string, Set<() => void>>()

  /** Wakes everybody who waits for this instance. */
  give(uuid: string): void {
    for (const wake of this.#waiting.get(uuid) ?? []) wake()
  }

  /** Resolves at the next hint; rejects with the signal's reason when aborted. */
  async next(uuid: string, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const abort = () => reject(signal.reason)
    const waiting = this.#waiting.get(uuid) ?? new Set()
    this.#waiting.set(uuid, waiting.add(resolve))
    signal.addEventListener('abort', abort, { once: true })
    try {
      await promise
    } finally {
      signal.removeEventListener('abort', abort)
      waiting.delete(resolve)
      if (waiting.size === 0 && this.#waiting.get(uuid) === waiting) this.#waiting.delete(uuid)
    }
  }
}
