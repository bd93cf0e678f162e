// Delivers the events of the log to one webhook, in order, from where it got to. An event that the receiver
// does not take is tried again without end, and nothing behind it is read meanwhile: what waits is the log's,
// not this process's. The place in the log is written a moment after it was reached, so a crash may
// repeat the last few deliveries, and never leaves one out.

import { setTimeout as sleep } from 'node:timers/promises'
import { type CloudEvent, decodeEvent, type EventLog, type LogItem, partsOfEventSubject } from '@vpe/bus'
import {
  afterAttempt,
  delayAfterFailures,
  formatPosition,
  isEventWanted,
  type LogGap,
  parsePosition,
  type WebhookPolicy,
  type WebhookRecord,
} from '@vpe/core'
import type { Logger } from 'pino'
import type { Store } from './store/store.ts'
import { change } from './store/tables.ts'
import { attemptDelivery, type Delivery } from './webhook-attempt.ts'

const SAVE_MS = 500

/** What no receiver can bring about is a defect, but one that must not end the deliveries. */
const DEFECT_PAUSE_MS = 5_000

/** How far the clocks of NATS and controller may be apart. */
const CLOCKS_APART_MS = 60_000

export interface CourierDeps {
  readonly store: Store
  readonly eventLog: EventLog
  readonly policy: WebhookPolicy
  readonly now: () => number
  readonly log: Logger
}

export class WebhookCourier {
  readonly #deps: CourierDeps
  readonly #uuid: string
  readonly #ending = new AbortController()
  /** When the next attempt is due; 0 while none has failed. */
  nextAttemptAtMs = 0
  #waiting: { readonly url: string; readonly wake: AbortController } | null = null
  #unsaved: Partial<WebhookRecord> = {}
  #saving: NodeJS.Timeout | null = null

  constructor(uuid: string, deps: CourierDeps) {
    this.#uuid = uuid
    this.#deps = deps
    void this.#run()
  }

  /** Tells it that the record has changed: a mended address is tried at once. */
  look(): void {
    if (this.#waiting && this.#record?.url !== this.#waiting.url) this.#waiting.wake.abort()
  }

  /** Stops at once, and has written how far it got. What was under way is delivered again another time. */
  end(): void {
    if (this.#ending.signal.aborted) return
    this.#ending.abort()
    this.#save()
  }

  get #record(): WebhookRecord | undefined {
    return this.#deps.store.webhooks.get(this.#uuid)
  }

  async #run(): Promise<void> {
    const { signal } = this.#ending
    while (!signal.aborted) {
      try {
        await this.#deliverAll()
        return
      } catch (error) {
        this.#deps.log.error({ webhook: this.#uuid, err: error }, 'deliveries broke off; they go on soon')
        await sleep(DEFECT_PAUSE_MS, null, { signal }).catch(() => {})
      }
    }
  }

  async #deliverAll(): Promise<void> {
    const { eventLog, log } = this.#deps
    const { signal } = this.#ending
    const record = this.#record
    if (!record) return
    const start = parsePosition(record.position) ?? { sinceMs: record.createdAtMs - CLOCKS_APART_MS }
    const onTrouble = (error: unknown) => log.debug({ webhook: this.#uuid, err: error }, 'the event log')
    for await (const item of eventLog.follow(start, { signal, onTrouble })) {
      const delivery = this.#deliveryOf(item)
      if (delivery && !(await this.#deliver(delivery))) return
      this.#note({
        position: formatPosition(item.position),
        ...(item.kind === 'gap' ? { lastGap: sentenceOf(item.gap) } : {}),
      })
    }
  }

  /** What is to be sent for an item of the log; null for nothing. */
  #deliveryOf(item: LogItem): Delivery | null {
    const record = this.#record
    if (!record || item.kind === 'idle') return null
    if (item.kind === 'gap') return this.#gapDelivery(item.gap)
    const event = partsOfEventSubject(item.subject)
    if (!event || !isEventWanted(record.events, event.kind, event.what)) return null
    const { id, time } = decodeEvent(item.text) ?? { id: '', time: '' }
    // Both times are the controller's own, so what was before the webhook is told by them exactly. What has no
    // time was put there by somebody else.
    return Date.parse(time) >= record.createdAtMs ? { id, body: item.text } : null
  }

  #gapDelivery({ after, resumesAfter, why }: LogGap): Delivery {
    const { store, now } = this.#deps
    const id = `${store.storeId}-gap-${formatPosition(after)}`
    const event: CloudEvent = {
      specversion: '1.0',
      id,
      source: `vpe/${store.storeId}`,
      type: 'vpe.events.gap',
      subject: `webhook/${this.#uuid}`,
      time: new Date(now()).toISOString(),
      datacontenttype: 'application/json',
      data: {
        uuid: this.#uuid,
        after: formatPosition(after),
        resumes_after: formatPosition(resumesAfter),
        why,
      },
    }
    return { id, body: JSON.stringify(event) }
  }

  /** Resolves to true once the receiver has it, to false when deliveries end before that. */
  async #deliver(delivery: Delivery): Promise<boolean> {
    const { store, policy, now } = this.#deps
    const { signal } = this.#ending
    for (;;) {
      await store.durable()
      const target = this.#record
      if (!target || signal.aborted) return false
      const outcome = await attemptDelivery(target, delivery, {
        nowMs: now(),
        limitMs: policy.attemptMs,
        signal,
      })
      // Ended meanwhile: the one that comes after this courier begins with this event.
      const before = this.#record
      if (!before || signal.aborted) return false
      const after = afterAttempt({ ...before, ...this.#unsaved }, outcome, now())
      const { failures, lastError, lastSuccessAtMs } = after
      this.#note({ failures, lastError, lastSuccessAtMs })
      this.nextAttemptAtMs = 0
      if (outcome.kind === 'delivered') {
        if (before.failures > 0) this.#save()
        return true
      }
      if (outcome.kind === 'gone') {
        this.#disable()
        return false
      }
      this.#save()
      this.#deps.log.warn({ webhook: this.#uuid, failures, why: lastError }, 'not delivered; will try again')
      await this.#pause(target.url, delayAfterFailures(failures, policy, Math.random()))
    }
  }

  async #pause(url: string, ms: number): Promise<void> {
    const wake = new AbortController()
    this.#waiting = { url, wake }
    this.nextAttemptAtMs = this.#deps.now() + ms
    await sleep(ms, null, { signal: AbortSignal.any([wake.signal, this.#ending.signal]) }).catch(() => {})
    this.#waiting = null
  }

  #disable(): void {
    this.#save({ enabled: false }, 'disabled')
    this.#deps.log.warn({ webhook: this.#uuid }, 'webhook disabled: its receiver answered 410 Gone')
  }

  /** Remembers what is to be written, soon and together with what comes until then. */
  #note(changes: Partial<WebhookRecord>): void {
    Object.assign(this.#unsaved, changes)
    if (this.#ending.signal.aborted) return
    this.#saving ??= setTimeout(() => this.#save(), SAVE_MS)
  }

  #save(more: Partial<WebhookRecord> = {}, what: string | null = null): void {
    if (this.#saving) clearTimeout(this.#saving)
    this.#saving = null
    const before = this.#record
    const changes = { ...this.#unsaved, ...more }
    this.#unsaved = {}
    const isNews = Object.entries(changes).some(
      ([key, value]) => before?.[key as keyof WebhookRecord] !== value,
    )
    if (!before || !isNews) return
    const events = what
      ? [{ kind: 'webhook' as const, id: this.#uuid, what, data: { uuid: this.#uuid } }]
      : []
    void this.#deps.store.commit([change.webhook({ ...before, ...changes })], events)
  }
}

function sentenceOf({ after, resumesAfter, why }: LogGap): string {
  return `events after ${formatPosition(after)} up to ${formatPosition(resumesAfter)} cannot be delivered: ${why}`
}
