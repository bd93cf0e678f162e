// Waiting for an answer, but not for ever.

import type { Clock } from '../clock.ts'

/**
 * What the work comes to, or what it failed with; of work that takes longer, the fault says so. It goes on all the same.
 */
export async function attempt<T>(
  work: Promise<T>,
  deadlineMs: number,
  clock: Clock,
): Promise<{ readonly value: T } | { readonly fault: string }> {
  const over = new AbortController()
  const late = clock.sleep(deadlineMs, over.signal).then(
    () => ({ fault: `it did not answer within ${deadlineMs / 1_000} s` }),
    // Only the end of the work below ends the wait, and then nobody asks any more.
    () => ({ fault: '' }),
  )
  const done = work.then(
    (value) => ({ value }),
    (error: unknown) => ({ fault: error instanceof Error ? error.message : String(error) }),
  )
  try {
    return await Promise.race([done, late])
  } finally {
    over.abort()
  }
}
