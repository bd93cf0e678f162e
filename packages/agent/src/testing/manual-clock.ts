// Time that stands still until a test moves it.

import type { Clock } from '../clock.ts'

interface Sleeper {
  readonly atMs: number
  readonly wake: () => void
}

const DATE_MS = Date.UTC(2016, 10, 22)

export class ManualClock implements Clock {
  #nowMs = 1_000_000
  readonly #sleepers = new Set<Sleeper>()

  nowMs(): number {
    return this.#nowMs
  }

  dateMs(): number {
    return DATE_MS + this.#nowMs
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    if (signal?.aborted) {
      reject(signal.reason)
      return promise
    }
    const sleeper = { atMs: this.#nowMs + ms, wake: resolve }
    this.#sleepers.add(sleeper)
    const abort = () => {
      this.#sleepers.delete(sleeper)
      reject(signal?.reason)
    }
    signal?.addEventListener('abort', abort, { once: true })
    return promise.finally(() => signal?.removeEventListener('abort', abort))
  }

  /** Moves on, and wakes whoever is due on the way, in order; what they do comes to rest before time goes on. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms
    await settle()
    for (;;) {
      const [next] = [...this.#sleepers].filter(({ atMs }) => atMs <= endMs).sort((a, b) => a.atMs - b.atMs)
      if (!next) break
      this.#nowMs = next.atMs
      this.#sleepers.delete(next)
      next.wake()
      await settle()
    }
    this.#nowMs = endMs
  }
}

/** Lets everything that needs no time come to rest. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
}
