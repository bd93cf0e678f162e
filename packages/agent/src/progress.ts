// What is being done, told to everyone who waits for it. Who joins late is told the latest first.

export class Progress {
  readonly #listeners = new Set<(step: string) => void>()
  #latest: string | null = null

  /** Tells a step; the same one is told once. */
  say(step: string): void {
    if (step === this.#latest) return
    this.#latest = step
    for (const listener of this.#listeners) listener(step)
  }

  /** Returns how to stop listening. */
  listen(listener: (step: string) => void): () => void {
    this.#listeners.add(listener)
    if (this.#latest !== null) listener(this.#latest)
    return () => this.#listeners.delete(listener)
  }
}

/** A piece of work under way. */
export interface Running<T> {
  readonly result: Promise<T>
  readonly progress: Progress
}

/**
 * The steps of a piece of work until it ends, for a gRPC stream. Ends without a word when `signal` is
 * aborted: that listener has left, the work goes on. Rejects when the work fails.
 */
export async function* stepsOf(running: Running<unknown>, signal: AbortSignal): AsyncGenerator<string> {
  const waiting: string[] = []
  let wake = Promise.withResolvers<void>()
  let isOver = false
  const end = () => {
    isOver = true
    wake.resolve()
  }
  const stopListening = running.progress.listen((step) => {
    waiting.push(step)
    wake.resolve()
  })
  signal.addEventListener('abort', end, { once: true })
  running.result.then(end, end)
  try {
    for (;;) {
      yield* waiting.splice(0)
      if (isOver) break
      await wake.promise
      wake = Promise.withResolvers()
    }
    yield* waiting.splice(0)
    if (!signal.aborted) await running.result
  } finally {
    stopListening()
    signal.removeEventListener('abort', end)
  }
}
