// Webhooks: which events one is told of, and when a delivery is tried again. A receiver is waited for
// without end: events stay in the log, and only the log's own limits may lose one.

export interface WebhookRecord {
  readonly uuid: string
  readonly url: string
  /** `whsec_` and the key in base64, as the Standard Webhooks specification writes it. */
  readonly secret: string
  /** Filters: `<kind>.<what>`, `*` for either of them, or `*` alone. One that fits is enough. */
  readonly events: readonly string[]
  readonly enabled: boolean
  /** How far in the log it has got, as text; empty as long as it has not begun. */
  readonly position: string
  /** Deliveries that failed since the last one that succeeded. */
  readonly failures: number
  readonly lastSuccessAtMs: number | null
  /** Why the last attempt failed; empty when it succeeded. */
  readonly lastError: string
  /** Which events it will never get, the last time that this happened; empty for none. */
  readonly lastGap: string
  readonly createdAtMs: number
}

/** How an attempt to deliver ended. */
export type DeliveryOutcome =
  | { readonly kind: 'delivered' }
  /** The receiver wants no more: 410 Gone. */
  | { readonly kind: 'gone' }
  | { readonly kind: 'failed'; readonly error: string }

export interface WebhookPolicy {
  /** How long a receiver may take to answer. */
  readonly attemptMs: number
  readonly firstDelayMs: number
  readonly longestDelayMs: number
}

export const DEFAULT_WEBHOOK_POLICY: WebhookPolicy = {
  attemptMs: 15_000,
  firstDelayMs: 1_000,
  longestDelayMs: 60_000,
}

const FILTER = /^(?:\*|(?<kind>\*|[a-z_]{1,32})\.(?<what>\*|[a-z_]{1,32}))$/

/** The two halves of a filter; null when it is none. */
export function parseEventFilter(filter: string): { readonly kind: string; readonly what: string } | null {
  const match = FILTER.exec(filter)
  return match && { kind: match.groups?.kind ?? '*', what: match.groups?.what ?? '*' }
}

/** Whether one of the filters lets an event through. */
export function isEventWanted(filters: readonly string[], kind: string, what: string): boolean {
  return filters.some((filter) => {
    const wanted = parseEventFilter(filter)
    return wanted !== null && isIn(wanted.kind, kind) && isIn(wanted.what, what)
  })
}

function isIn(wanted: string, word: string): boolean {
  return wanted === '*' || wanted === word
}

const URL_CHARS_MAX = 2048

/** What is wrong with the address of a receiver; null when nothing is. */
export function webhookUrlFault(text: string): string | null {
  if (text.length > URL_CHARS_MAX)
    return `is ${text.length} characters long; at most ${URL_CHARS_MAX} are allowed`
  const url = URL.canParse(text) && !/[\s\p{Cc}]/u.test(text) ? new URL(text) : null
  if (url?.protocol !== 'http:' && url?.protocol !== 'https:') return 'expected an http:// or https:// URL'
  if (url.username || url.password)
    return 'must not carry a user name or a password: it is shown to every user, and deliveries are signed'
  return null
}

/** `whsec_` and a key of 24 to 64 bytes, as the specification demands. */
const SECRET = /^whsec_(?=(?:.{4})+$)[A-Za-z0-9+/]{32,86}={0,2}$/

/** What is wrong with a secret, without repeating it; null when nothing is. */
export function webhookSecretFault(secret: string): string | null {
  return SECRET.test(secret) ? null : 'expected whsec_ and 24 to 64 bytes in base64'
}

/** The webhook after an attempt; the position is the caller's to move. */
export function afterAttempt(webhook: WebhookRecord, outcome: DeliveryOutcome, nowMs: number): WebhookRecord {
  switch (outcome.kind) {
    case 'delivered':
      return { ...webhook, failures: 0, lastError: '', lastSuccessAtMs: nowMs }
    case 'gone':
      return {
        ...webhook,
        enabled: false,
        failures: webhook.failures + 1,
        lastError: 'the receiver answered 410 Gone: it wants no more events, so the webhook was disabled',
      }
    case 'failed':
      return { ...webhook, failures: webhook.failures + 1, lastError: outcome.error }
    default:
      throw new Error(`no such outcome: ${JSON.stringify(outcome satisfies never)}`)
  }
}

/**
 * How long to wait after so many failures in a row: twice as long each time, and a random half of it, so that
 * the webhooks of one receiver that was away do not all come back at once.
 * @param random from 0 to 1
 */
export function delayAfterFailures(failures: number, policy: WebhookPolicy, random: number): number {
  const delay = Math.min(policy.longestDelayMs, policy.firstDelayMs * 2 ** (failures - 1))
  return Math.round(delay * (0.5 + random / 2))
}
