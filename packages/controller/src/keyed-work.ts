// Work that is found by looking: at most one piece under way for each key, tried until nothing is left to
// do, with the pauses of `afterFailure` in between. It does not matter how often it is told to look.

import { type Attempts, afterFailure, isHopeless, type VpeError } from '@vpe/core'
import { fromClientError } from '@vpe/proto'

export interface KeyedWorkDeps {
  readonly now: () => number
  readonly isWanted: (key: string) => boolean
  readonly attempt: (key: string, signal: AbortSignal) => Promise<void>
  /** @param isOver no more tries are worth it */
  readonly failed: (key: string, error: VpeError, isOver: boolean) => void
  /** Told of a defect, or of a store that failed: the process must end. */
  readonly onFatal: (error: unknown) => void
}

interface Runner {
  readonly abort: AbortController
  /** Ends the pause before the next try. */
  wake: () => void
  ended: Promise<void>
}

export class KeyedWork {
  readonly #deps: KeyedWorkDeps
  readonly #runners = new Map<string, Runner>()
  #isClosed = false

  constructor(deps: KeyedWorkDeps) {
    this.#deps = deps
  }

  /** Starts what is wanted, or tries again at once what waits for its next try. */
  look(key: string): void {
    const running = this.#runners.get(key)
    if (running) running.wake()
    if (running || this.#isClosed || !this.#deps.isWanted(key)) return
    const runner: Runner = { abort: new AbortController(), wake: () => {}, ended: Promise.resolve() }
    this.#runners.set(key, runner)
    runner.ended = this.#run(key, runner).then(
      () => {
        this.#runners.delete(key)
        // A change that came between the last look and this line has no runner.
        if (!runner.abort.signal.aborted) this.look(key)
      },
      (error: unknown) => this.#deps.onFatal(error),
    )
  }

  /** Stops what is under way, and resolves when nothing of it is. What is wanted still waits for the next look. */
  async cancel(key: string): Promise<void> {
    const runner = this.#runners.get(key)
    runner?.abort.abort()
    runner?.wake()
    await runner?.ended
  }

  close(): void {
    this.#isClosed = true
    for (const { abort, wake } of this.#runners.values()) {
      abort.abort()
      wake()
    }
  }

  async #run(key: string, runner: Runner): Promise<void> {
    const { now, isWanted, attempt, failed } = this.#deps
    const { signal } = runner.abort
    let attempts: Attempts | null = null
    while (!signal.aborted && isWanted(key)) {
      try {
        await attempt(key, signal)
        attempts = null
      } catch (cause) {
        if (signal.aborted) return
        const error = fromClientError(cause)
        attempts = afterFailure(attempts, 0, error.code, now())
        failed(key, error, isHopeless(error.code, attempts))
        if (isWanted(key)) await this.#pause(runner, attempts.retryAtMs - now())
      }
    }
  }

  async #pause(runner: Runner, ms: number): Promise<void> {
    const woken = Promise.withResolvers<void>()
    const timer = setTimeout(woken.resolve, ms)
    runner.wake = woken.resolve
    await woken.promise
    runner.wake = () => {}
    clearTimeout(timer)
  }
}
