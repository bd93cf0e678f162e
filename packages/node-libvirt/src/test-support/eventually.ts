// Waiting for a condition, with a bound, in tests.

import { setTimeout as delay } from 'node:timers/promises'

/** Resolves once `condition` holds. Rejects after `timeoutMs`, naming what did not come about. */
export async function eventually(
  condition: () => boolean | Promise<boolean>,
  what: string,
  timeoutMs = 20_000,
): Promise<void> {
  const deadline = performance.now() + timeoutMs
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`)
    await delay(20)
  }
}
