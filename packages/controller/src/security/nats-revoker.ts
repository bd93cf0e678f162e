// Takes NATS away from members that were removed. Their credentials are signed words, good until they end, so nats-server
// has to be told which count no more: at once over its system account, and by its configuration, for its next start.

import { setTimeout as sleep } from 'node:timers/promises'
import type { NatsConnection } from '@nats-io/nats-core'
import type { Logger } from 'pino'
import type { Store } from '../store/store.ts'
import type { NatsAccounts, RevokedUsers } from './nats-accounts.ts'

const ANSWER_MS = 5_000
const RETRY_MS = 10_000

export interface NatsRevokerDeps {
  readonly store: Store
  readonly accounts: NatsAccounts
  readonly log: Logger
}

export class NatsRevoker {
  readonly #deps: NatsRevokerDeps
  readonly #closed = new AbortController()
  #connection: NatsConnection | null = null
  #isDue = false
  #underWay: Promise<void> | null = null

  constructor(deps: NatsRevokerDeps) {
    this.#deps = deps
    deps.store.listen({ onRevocation: () => this.apply() })
  }

  /** Gives it a connection of the system account, or tells it that this is back. */
  attach(connection: NatsConnection): void {
    this.#connection = connection
    this.apply()
  }

  /** Tells nats-server what counts no more: soon, and again until it has agreed. */
  apply(): void {
    this.#isDue = true
    this.#underWay ??= this.#applyAll().finally(() => {
      this.#underWay = null
    })
  }

  close(): void {
    this.#closed.abort()
  }

  async #applyAll(): Promise<void> {
    const { store, accounts, log } = this.#deps
    const { signal } = this.#closed
    while (this.#isDue && !signal.aborted) {
      this.#isDue = false
      try {
        await store.durable()
        const revoked = revokedUsers(store)
        await accounts.noteRevoked(revoked)
        if (this.#connection) await tell(this.#connection, accounts, revoked)
      } catch (error) {
        log.warn({ err: error }, 'nats-server was not told who is no member any more; it is tried again')
        this.#isDue = true
        await sleep(RETRY_MS, null, { signal }).catch(() => {})
      }
    }
  }
}

/** Users by their public key, each with the second up to which what it was given counts no more. */
function revokedUsers(store: Store): RevokedUsers {
  const revoked: Record<string, number> = {}
  for (const { natsUsers, revokedAtMs } of store.revocations.values())
    for (const user of natsUsers) revoked[user] = Math.floor(revokedAtMs / 1_000)
  return revoked
}

async function tell(
  connection: NatsConnection,
  accounts: NatsAccounts,
  revoked: RevokedUsers,
): Promise<void> {
  const { subject, jwt } = await accounts.accountUpdate(revoked)
  const answer = (await connection.request(subject, jwt, { timeout: ANSWER_MS })).json<{
    readonly error?: { readonly description?: string }
  }>()
  if (answer.error) throw new Error(`nats-server refuses the account: ${answer.error.description}`)
}
