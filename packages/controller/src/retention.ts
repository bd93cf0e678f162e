// Forgets what nobody asks for any more: ended operations and placements after a week, the answers kept
// for idempotency keys after a day.

import type { Logger } from 'pino'
import type { Store } from './store/store.ts'

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
const OPERATIONS_MS = 7 * DAY_MS
const PLACEMENTS_MS = 7 * DAY_MS
const IDEMPOTENCY_KEYS_MS = DAY_MS

/** Prunes now and every hour, until the returned function is called. */
export function startRetention(store: Store, now: () => number, log: Logger): () => void {
  const prune = () => {
    store.backend
      .prune({
        operationsBeforeMs: now() - OPERATIONS_MS,
        placementsBeforeMs: now() - PLACEMENTS_MS,
        idempotencyKeysBeforeMs: now() - IDEMPOTENCY_KEYS_MS,
      })
      .then((pruned) => log.debug(pruned, 'pruned'))
      .catch((error: unknown) => log.error({ err: error }, 'pruning failed; it is tried again in an hour'))
  }
  prune()
  const timer = setInterval(prune, HOUR_MS)
  return () => clearInterval(timer)
}
