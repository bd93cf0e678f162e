// One attempt to deliver one event: a POST, signed anew each time. What the receiver answers is its status
// and nothing more: redirects are not followed and bodies are not looked at, so that an address that somebody
// was talked into says nothing about what is behind it.

import type { DeliveryOutcome, WebhookRecord } from '@vpe/core'
import { signWebhook } from './webhook-signature.ts'

/** An answer is read up to here, only so that its connection can serve again. */
const ANSWER_BYTES_MAX = 16 * 1024

export interface Delivery {
  /** The id of the event: the same in each attempt, by it a receiver knows what it had already. */
  readonly id: string
  /** The CloudEvent, as it is on the stream. */
  readonly body: string
}

export async function attemptDelivery(
  { url, secret }: Pick<WebhookRecord, 'url' | 'secret'>,
  { id, body }: Delivery,
  { nowMs, limitMs, signal }: { nowMs: number; limitMs: number; signal: AbortSignal },
): Promise<DeliveryOutcome> {
  const late = AbortSignal.timeout(limitMs)
  const timestamp = Math.floor(nowMs / 1000)
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: {
        'content-type': 'application/cloudevents+json; charset=utf-8',
        'user-agent': 'vpe',
        'webhook-id': id,
        'webhook-timestamp': String(timestamp),
        'webhook-signature': signWebhook(secret, id, timestamp, body),
      },
      body,
      redirect: 'manual',
      signal: AbortSignal.any([late, signal]),
    })
    await discard(response.body)
    if (response.ok) return { kind: 'delivered' }
    if (response.status === 410) return { kind: 'gone' }
    const hint = response.status >= 300 && response.status < 400 ? ': redirects are not followed' : ''
    return { kind: 'failed', error: `the receiver answered ${response.status}${hint}` }
  } catch (error) {
    if (late.aborted) return { kind: 'failed', error: `no answer within ${limitMs / 1000} s` }
    return { kind: 'failed', error: `no answer: ${reasonOf(error)}` }
  }
}

/** Takes the rest of an answer away. One that is long, or breaks off, takes nothing back: the status stands. */
async function discard(body: ReadableStream<Uint8Array> | null): Promise<void> {
  let size = 0
  try {
    for await (const chunk of body ?? []) {
      size += chunk.length
      if (size > ANSWER_BYTES_MAX) return
    }
  } catch {
    return
  }
}

/** What `fetch` says is that it failed; why, says the cause. */
function reasonOf(error: unknown): string {
  const { cause, message } = error as Error & { cause?: unknown }
  return cause instanceof Error ? cause.message || String((cause as { code?: string }).code) : message
}
