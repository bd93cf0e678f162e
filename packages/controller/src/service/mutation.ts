// Every mutating call goes through here. With an idempotency key, the answer is written in the same
// transaction as the change it answers for, so that the same call, made again after any failure on any
// side, gets the same answer and changes nothing. A refused call leaves no trace and may be repeated.

import { createHash, randomUUID } from 'node:crypto'
import type { VpeEvent } from '@vpe/bus'
import { type OperationRecord, VpeError } from '@vpe/core'
import type { CallContext } from 'nice-grpc'
import type { Store } from '../store/store.ts'
import { type Change, change } from '../store/tables.ts'
import type { Callers } from '../turnstile.ts'

export interface Mutation<Response> {
  readonly changes: readonly Change[]
  readonly events: readonly VpeEvent[]
  readonly response: Response
}

/** A mutation, or the promise of a function that decides on one, called in the turn that commits it. */
export type Decided<Response> = Mutation<Response> | Promise<() => Mutation<Response>>

interface Codec<Message> {
  encode(message: Message): { finish(): Uint8Array }
  decode(bytes: Uint8Array): Message
}

interface MethodDefinition<Request, Response> {
  readonly name: string
  readonly requestType: Codec<Request>
  readonly responseType: Codec<Response>
}

interface CallUnderWay {
  readonly requestSha256: string
  readonly response: Promise<unknown>
}

export class Mutations implements Callers {
  readonly #store: Store
  readonly #now: () => number
  readonly #underWay = new Map<string, CallUnderWay>()
  #waiting = 0
  #answered = 0

  constructor(store: Store, now: () => number) {
    this.#store = store
    this.#now = now
  }

  /** How many calls wait until what they have changed is on disk. */
  get waiting(): number {
    return this.#waiting
  }

  get answered(): number {
    return this.#answered
  }

  /**
   * The service method for a mutation. `decide` validates and decides in one go, from memory, and is
   * committed in the same turn, so that no other decision comes between. One that has to wait for
   * something first resolves to the function that then decides.
   */
  method<Request, Response>(
    definition: MethodDefinition<Request, Response>,
    decide: (request: Request) => Decided<Response>,
  ): (request: Request, context: CallContext) => Promise<Response> {
    return async (request, context) => {
      const key = context.metadata.get('idempotency-key')
      if (!key) {
        return this.#commit(decide(request), () => [])
      }
      const requestSha256 = createHash('sha256')
        .update(definition.requestType.encode(request).finish())
        .digest('hex')
      return this.#once(key, definition, requestSha256, () => decide(request))
    }
  }

  async #once<Request, Response>(
    key: string,
    definition: MethodDefinition<Request, Response>,
    requestSha256: string,
    decide: () => Decided<Response>,
  ): Promise<Response> {
    const fingerprint = `${definition.name} ${requestSha256}`
    const other = this.#underWay.get(key)
    if (other) {
      if (other.requestSha256 !== fingerprint) throw keyReused(key)
      return (await other.response) as Response
    }
    const response = this.#answer(key, definition, requestSha256, decide)
    this.#underWay.set(key, { requestSha256: fingerprint, response })
    try {
      return await response
    } finally {
      this.#underWay.delete(key)
    }
  }

  async #answer<Request, Response>(
    key: string,
    definition: MethodDefinition<Request, Response>,
    requestSha256: string,
    decide: () => Decided<Response>,
  ): Promise<Response> {
    const kept = await this.#store.backend.findIdempotencyKey(key)
    if (kept) {
      if (kept.method !== definition.name || kept.requestSha256 !== requestSha256) throw keyReused(key)
      return definition.responseType.decode(kept.response)
    }
    return this.#commit(decide(), (response) => [
      change.idempotencyKey({
        key,
        method: definition.name,
        requestSha256,
        response: Buffer.from(definition.responseType.encode(response).finish()),
        createdAtMs: this.#now(),
      }),
    ])
  }

  async #commit<Response>(
    decided: Decided<Response>,
    more: (response: Response) => readonly Change[],
  ): Promise<Response> {
    const { changes, events, response } = decided instanceof Promise ? (await decided)() : decided
    this.#waiting++
    try {
      await this.#store.commit([...changes, ...more(response)], events)
    } finally {
      this.#waiting--
      this.#answered++
    }
    return response
  }
}

function keyReused(key: string): VpeError {
  return new VpeError(
    'IDEMPOTENCY_KEY_REUSED',
    `the Idempotency-Key "${key}" was used for another request; send a new key with each new request`,
  )
}

/** A new operation, running. */
export function startOperation(
  kind: string,
  resourceUuid: string,
  nowMs: number,
  more: Partial<Pick<OperationRecord, 'generation' | 'placementUuid' | 'note'>> = {},
): OperationRecord {
  return {
    uuid: randomUUID(),
    kind,
    resourceUuid,
    generation: 0,
    status: 'running',
    fault: '',
    createdAtMs: nowMs,
    endedAtMs: null,
    placementUuid: null,
    note: '',
    ...more,
  }
}
