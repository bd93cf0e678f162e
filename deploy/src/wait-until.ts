/**
 * Waits for a condition with a bound, never for a length of time. The check says either that all is
 * well (undefined) or what is still missing; the last such word becomes the error's reason.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Trouble } from './trouble.ts'

export interface WaitOptions {
  readonly what: string
  readonly timeoutMs: number
  readonly everyMs?: number
  readonly signal?: AbortSignal | undefined
  /** Told each new word of the check, for a progress display. */
  readonly onProgress?: (missing: string) => void
}

export async function waitUntil(
  check: () => Promise<string | undefined> | string | undefined,
  { what, timeoutMs, everyMs = 100, signal, onProgress }: WaitOptions,
): Promise<void> {
  const deadline = performance.now() + timeoutMs
  let last: string | undefined
  for (;;) {
    signal?.throwIfAborted()
    const missing = await check()
    if (missing === undefined) return
    if (missing !== last) onProgress?.(missing)
    last = missing
    if (performance.now() > deadline) {
      throw new Trouble(`${what} took longer than ${timeoutMs / 1000} s: ${missing}`)
    }
    await sleep(everyMs, undefined, signal ? { signal } : {})
  }
}
