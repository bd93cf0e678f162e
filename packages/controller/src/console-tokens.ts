// The tokens that open consoles. Each is for one console of one instance, may be used once, and must be
// used soon: it travels in a URL, and URLs end up in chats and histories. They live in the memory of the
// controller alone, so that every API node can redeem them and a restart makes them void.
//
// Pure: time and the random token come by argument.

import { VpeError } from '@vpe/core'

/** How long a token may wait for its use. */
export const TOKEN_VALID_MS = 60_000

/** For so long after that it is known why a token is refused; then it is simply unknown. */
const REMEMBERED_MS = 600_000

/** Many times what people open in ten minutes; beyond it the oldest go first. */
const TOKENS_MAX = 10_000

export interface ConsoleGrant {
  readonly uuid: string
  readonly kind: 'vnc' | 'serial'
}

interface Issued {
  readonly grant: ConsoleGrant
  readonly issuedAtMs: number
  isUsed: boolean
}

export class ConsoleTokens {
  /** In the order of their issue, which is the order of their end. */
  readonly #issued = new Map<string, Issued>()

  /** @param token that nobody can guess */
  issue(grant: ConsoleGrant, token: string, nowMs: number): void {
    this.#forget(nowMs)
    this.#issued.set(token, { grant, issuedAtMs: nowMs, isUsed: false })
  }

  /**
   * Uses a token up, whatever it was used for: a token in the wrong place is in the wrong hands.
   * @throws VpeError CONSOLE_TOKEN_REFUSED with the reason
   */
  redeem(token: string, wanted: ConsoleGrant, nowMs: number): void {
    const known = this.#issued.get(token)
    if (!known) throw refusal('it is unknown, or vpe was restarted since')
    if (known.isUsed) throw refusal('it has been used, and each opens a console once')
    known.isUsed = true
    if (nowMs - known.issuedAtMs > TOKEN_VALID_MS) {
      throw refusal(`it is more than ${TOKEN_VALID_MS / 1000} s old`)
    }
    if (known.grant.uuid !== wanted.uuid || known.grant.kind !== wanted.kind) {
      throw refusal('it is for another console')
    }
  }

  #forget(nowMs: number): void {
    for (const [token, { issuedAtMs }] of this.#issued) {
      const isPast = nowMs - issuedAtMs > TOKEN_VALID_MS + REMEMBERED_MS
      if (!isPast && this.#issued.size < TOKENS_MAX) return
      this.#issued.delete(token)
    }
  }
}

function refusal(why: string): VpeError {
  return new VpeError(
    'CONSOLE_TOKEN_REFUSED',
    `the token does not open this console: ${why}; ask for a new URL`,
  )
}
