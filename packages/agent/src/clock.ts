// Time, as the one thing that every part takes by argument: real in production, driven by hand in tests.

import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

import { bootTimeMs } from '@vpe/core/ha'

export interface Clock {
  /** Milliseconds on a clock that never goes back. */
  nowMs(): number
  /** The time of day, in milliseconds since the epoch: to be shown, not to measure by. */
  dateMs(): number
  /** Resolves after a while; rejects when the signal is aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

/** Milliseconds since the host was started, its sleep included (CLOCK_BOOTTIME): the clock that the guard goes by. */
export function upMs(): number {
  return bootTimeMs(readFileSync('/proc/uptime', 'latin1'))
}

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  dateMs: () => Date.now(),
  sleep: (ms, signal) => sleep(ms, undefined, signal ? { signal } : {}),
}
