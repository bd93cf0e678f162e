// Forgets what nobody asks for any more: ended operations and placements after a week, the answers kept
// for idempotency keys after a day, join tokens a week after they have expired, and who was removed once no
// certificate of theirs can be good any more.

import { CERTIFICATE_DAYS } from '@vpe/pki'
import type { Logger } from 'pino'
import type { Store } from './store/store.ts'
import { change } from './store/tables.ts'

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
const OPERATIONS_MS = 7 * DAY_MS
const PLACEMENTS_MS = 7 * DAY_MS
const IDEMPOTENCY_KEYS_MS = DAY_MS
const JOIN_TOKENS_MS = 7 * DAY_MS
/** No certificate from before lasts that long. */
const REVOCATIONS_MS = (CERTIFICATE_DAYS + 1) * DAY_MS

/** Prunes now and every hour, until the returned function is called. */
export function startRetention(store: Store, now: () => number, log: Logger): () => void {
  const prune = () => {
    const old = [...store.joinTokens.values()].filter(
      ({ expiresAtMs }) => expiresAtMs < now() - JOIN_TOKENS_MS,
    )
    const forgotten = [...store.revocations.values()].filter(
      ({ revokedAtMs }) => revokedAtMs < now() - REVOCATIONS_MS,
    )
    // A store that fails is told of by itself.
    void store.commit([
      ...old.map(({ uuid }) => change.remove('joinTokens', uuid)),
      ...forgotten.map(({ keySha256 }) => change.remove('revocations', keySha256)),
    ])
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
