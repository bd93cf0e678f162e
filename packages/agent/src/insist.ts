// Asking a guest for something that it may take its time with, or not hear at all: asked again now and
// then, for as long as it is given. Waits by events, and looks now and then, since events are hints.

import type { Clock } from './clock.ts'

/** It is asked at the start and after these parts of the time. */
const ASKED_AT = [0, 1 / 3, 2 / 3]
const LOOK_EVERY_MS = 1_000

export interface Waiting {
  readonly clock: Clock
  /** Resolves at the next sign that something about the instance changed; rejects when aborted. */
  readonly nextHint: (signal: AbortSignal) => Promise<void>
  readonly signal: AbortSignal
}

export interface Request {
  /** A fresh look. */
  readonly isDone: () => Promise<boolean>
  readonly ask: () => Promise<void>
}

/** Says whether the guest has done it before its time was over. */
export async function insist(forMs: number, { isDone, ask }: Request, waiting: Waiting): Promise<boolean> {
  const { clock } = waiting
  const startMs = clock.nowMs()
  let asked = 0
  while (!(await isDone())) {
    const passedMs = clock.nowMs() - startMs
    if (passedMs >= forMs) return false
    if (passedMs >= forMs * (ASKED_AT[asked] ?? 1)) {
      await ask()
      asked++
      continue
    }
    const nextMs = forMs * (ASKED_AT[asked] ?? 1) - passedMs
    await hintOrPause(Math.min(nextMs, LOOK_EVERY_MS), waiting)
  }
  return true
}

async function hintOrPause(pauseMs: number, { clock, nextHint, signal }: Waiting): Promise<void> {
  const over = new AbortController()
  const either = AbortSignal.any([signal, over.signal])
  const waits = [nextHint(either), clock.sleep(Math.max(1, pauseMs), either)]
  try {
    await Promise.race(waits)
  } finally {
    over.abort()
    await Promise.allSettled(waits)
  }
}
