// Time, as the one thing that every part takes by argument: real in production, driven by hand in tests.

import { setTimeout as sleep } from 'node:timers/promises'

export interface Clock {
  /** Milliseconds on a clock that never goes back. */
  nowMs(): number
  /** The time of day, in milliseconds since the epoch: to be shown, not to measure by. */
  dateMs(): number
  /** Resolves after a while; rejects when the signal is aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  dateMs: () => Date.now(),
  sleep: (ms, signal) => sleep(ms, undefined, signal ? { signal } : {}),
}
