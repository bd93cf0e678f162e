// How a request calls the controller: with a deadline, with the caller's Idempotency-Key, and with
// failures as VpeErrors. Nothing is retried here: only the client knows whether to ask again, and the
// key makes that safe.

import { VpeError } from '@vpe/core'
import { fromClientError } from '@vpe/proto'
import type { Context } from 'hono'
import { type CallOptions, ClientError, Metadata } from 'nice-grpc-common'
import { RequestFault } from './request-fault.ts'

export interface CallLimits {
  /** How long the controller may take to answer. */
  readonly deadlineMs: number
  /** Aborts when this node stops: calls that wait for something end at once. */
  readonly stopping: AbortSignal
}

export interface ControllerCalls {
  /** Asks. Ends early when the client goes away; `waitMs` is time that the controller was asked to wait. */
  read<Answer>(send: (options: CallOptions) => Promise<Answer>, waitMs?: number): Promise<Answer>
  /** Changes something, and answers with the header Operation-Id. Goes on when the client goes away. */
  change<Answer extends { readonly operationUuid: string }>(
    send: (options: CallOptions) => Promise<Answer>,
  ): Promise<Answer>
}

const IDEMPOTENCY_KEY = /^[\x20-\x7e]{1,255}$/

/** The calls that one request makes. */
export function createControllerCalls(context: Context, limits: CallLimits): ControllerCalls {
  return {
    async read(send, waitMs = 0) {
      const deadline = AbortSignal.timeout(limits.deadlineMs + waitMs)
      const client = context.req.raw.signal
      // A stop lets short questions end by themselves; only waits are cut.
      const signal = AbortSignal.any([deadline, client, ...(waitMs > 0 ? [limits.stopping] : [])])
      try {
        return await send({ signal })
      } catch (error) {
        if (client.aborted) throw new RequestFault('CLIENT_GONE', 'the client went away', { cause: error })
        if (deadline.aborted) throw late(limits.deadlineMs + waitMs, '', error)
        if (waitMs > 0 && limits.stopping.aborted) {
          throw new VpeError('UNAVAILABLE', 'this API node is stopping; ask again', { cause: error })
        }
        throw refusal(error, '')
      }
    },

    async change(send) {
      const signal = AbortSignal.timeout(limits.deadlineMs)
      const metadata = idempotencyMetadata(context.req.header('idempotency-key'))
      try {
        const answer = await send({ signal, metadata })
        if (answer.operationUuid) context.header('Operation-Id', answer.operationUuid)
        return answer
      } catch (error) {
        if (signal.aborted) throw late(limits.deadlineMs, UNKNOWN_OUTCOME, error)
        throw refusal(error, UNKNOWN_OUTCOME)
      }
    },
  }
}

const UNKNOWN_OUTCOME =
  '; the change may have been made: send the same request with the same Idempotency-Key to learn its outcome'

/** What the controller said; or, where the connection failed under it, that nothing was said. */
function refusal(error: unknown, outcome: string): VpeError {
  const fault = fromClientError(error)
  const isOfTransport = error instanceof ClientError && error.name === 'ClientError'
  if (fault.code !== 'UNAVAILABLE' || !isOfTransport) return fault
  return new VpeError('UNAVAILABLE', `the controller does not answer${outcome}`, { cause: error })
}

function late(ms: number, outcome: string, cause: unknown): VpeError {
  return new VpeError('UNAVAILABLE', `the controller did not answer within ${ms / 1000} s${outcome}`, {
    cause,
  })
}

/** @throws VpeError INVALID_ARGUMENT when the key is not one */
function idempotencyMetadata(key: string | undefined): Metadata {
  if (key === undefined) return Metadata()
  if (!IDEMPOTENCY_KEY.test(key)) {
    const message = 'expected 1 to 255 printable ASCII characters, such as a UUID'
    throw new VpeError('INVALID_ARGUMENT', `header Idempotency-Key: ${message}`, {
      fields: [{ field: 'Idempotency-Key', message }],
    })
  }
  return Metadata({ 'idempotency-key': key })
}
