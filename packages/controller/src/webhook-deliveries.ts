// One courier for each webhook that is enabled, once NATS has been there. They know nothing of each other, so
// a receiver that is slow or away is waited for by its own courier alone.

import type { NatsConnection } from '@nats-io/nats-core'
import { EventLog } from '@vpe/bus'
import type { LogBounds } from '@vpe/core'
import { type CourierDeps, WebhookCourier } from './webhook-courier.ts'

export class WebhookDeliveries {
  readonly #deps: Omit<CourierDeps, 'eventLog'>
  readonly #couriers = new Map<string, WebhookCourier>()
  #eventLog: EventLog | null = null
  #isClosed = false

  constructor(deps: Omit<CourierDeps, 'eventLog'>) {
    this.#deps = deps
    deps.store.listen({ onWebhook: (uuid) => this.#look(uuid) })
  }

  /** Starts to deliver, once NATS is there. */
  async attach(connection: NatsConnection): Promise<void> {
    this.#eventLog = await EventLog.open(connection)
    for (const uuid of this.#deps.store.webhooks.keys()) this.#look(uuid)
  }

  /** What the log holds now; null while NATS does not say. */
  async bounds(): Promise<LogBounds | null> {
    return (await this.#eventLog?.bounds().catch(() => null)) ?? null
  }

  /** When the next attempt for a webhook is due; 0 while none has failed. */
  nextAttemptAtMs(uuid: string): number {
    return this.#couriers.get(uuid)?.nextAttemptAtMs ?? 0
  }

  /** Ends all deliveries. How far they got is committed when it returns, and nothing after that. */
  close(): void {
    this.#isClosed = true
    for (const courier of this.#couriers.values()) courier.end()
  }

  #look(uuid: string): void {
    if (!this.#eventLog || this.#isClosed) return
    const courier = this.#couriers.get(uuid)
    if (!this.#deps.store.webhooks.get(uuid)?.enabled) {
      this.#couriers.delete(uuid)
      courier?.end()
    } else if (courier) courier.look()
    else this.#couriers.set(uuid, new WebhookCourier(uuid, { ...this.#deps, eventLog: this.#eventLog }))
  }
}
