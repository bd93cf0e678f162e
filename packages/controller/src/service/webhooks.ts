// Calls about webhooks. A secret goes out once, in the answer to its creation.

import { randomUUID } from 'node:crypto'
import { EVENT_KINDS, type VpeEvent } from '@vpe/bus'
import {
  endOperation,
  parseEventFilter,
  parsePosition,
  VpeError,
  type WebhookRecord,
  webhookSecretFault,
  webhookUrlFault,
} from '@vpe/core'
import { ControllerServiceDefinition, type ControllerServiceImplementation } from '@vpe/proto'
import type { Store } from '../store/store.ts'
import { change } from '../store/tables.ts'
import type { WebhookDeliveries } from '../webhook-deliveries.ts'
import { newWebhookSecret } from '../webhook-signature.ts'
import { webhookToWire } from '../wire.ts'
import { type Mutations, startOperation } from './mutation.ts'
import { getOr404, invalid } from './references.ts'

/** Each has a courier and a consumer of its own. */
const WEBHOOKS_MAX = 64
const FILTERS_MAX = 64

type WebhookMethods = Pick<
  ControllerServiceImplementation,
  `${'create' | 'get' | 'update' | 'delete'}Webhook` | 'listWebhooks'
>

export interface WebhookServiceDeps {
  readonly store: Store
  readonly mutations: Mutations
  readonly deliveries: WebhookDeliveries
  readonly now: () => number
}

export function webhookMethods({ store, mutations, deliveries, now }: WebhookServiceDeps): WebhookMethods {
  const { methods } = ControllerServiceDefinition

  const wire = (webhook: WebhookRecord, behind: number | null) =>
    webhookToWire(webhook, behind, deliveries.nextAttemptAtMs(webhook.uuid))

  /** What a change is committed with, and what is answered in any case. */
  function committed(what: 'created' | 'updated' | 'deleted', webhook: WebhookRecord) {
    const verb = { created: 'create', updated: 'update', deleted: 'delete' }[what]
    const operation = endOperation(startOperation(`webhook.${verb}`, webhook.uuid, now()), 'succeeded', now())
    const { uuid } = webhook
    const row = what === 'deleted' ? change.remove('webhooks', uuid) : change.webhook(webhook)
    const event: VpeEvent = { kind: 'webhook', id: uuid, what, data: { uuid } }
    return {
      changes: [row, change.operation(operation)],
      events: [event],
      response: { webhook: wire(webhook, null), operationUuid: operation.uuid },
    }
  }

  /** Webhooks as they are shown: with how far the log is ahead of them. */
  async function shown(webhooks: readonly WebhookRecord[]) {
    const bounds = webhooks.length > 0 ? await deliveries.bounds() : null
    return webhooks.map((webhook) => {
      const position = parsePosition(webhook.position)
      const isKnown = bounds !== null && position !== null && position.epoch === bounds.epoch
      return wire(webhook, isKnown ? Math.max(0, bounds.last - position.sequence) : null)
    })
  }

  return {
    createWebhook: mutations.method(methods.createWebhook, (request) => {
      if (store.webhooks.size >= WEBHOOKS_MAX)
        throw new VpeError('CONFLICT', `there are ${WEBHOOKS_MAX} webhooks already; delete one first`)
      assertUrl(request.url)
      if (request.secret !== '') assertSecret(request.secret)
      assertFilters(request.events)
      const webhook: WebhookRecord = {
        uuid: randomUUID(),
        url: request.url,
        secret: request.secret || newWebhookSecret(),
        events: request.events.length > 0 ? request.events : ['*'],
        enabled: !request.disabled,
        position: '',
        failures: 0,
        lastSuccessAtMs: null,
        lastError: '',
        lastGap: '',
        createdAtMs: now(),
      }
      const { response, ...rest } = committed('created', webhook)
      return { ...rest, response: { ...response, secret: webhook.secret } }
    }),
    updateWebhook: mutations.method(methods.updateWebhook, (request) => {
      const before = getOr404(store.webhooks, 'webhook', request.uuid)
      const { url = before.url, secret = before.secret, enabled = before.enabled } = request
      const events = request.events?.values ?? before.events
      assertUrl(url)
      assertSecret(secret)
      assertFilters(events)
      if (events.length === 0) throw invalid('events', 'name at least one filter, such as *')
      return committed('updated', { ...before, url, secret, enabled, events })
    }),
    deleteWebhook: mutations.method(methods.deleteWebhook, ({ uuid }) =>
      committed('deleted', getOr404(store.webhooks, 'webhook', uuid)),
    ),
    async getWebhook({ uuid }) {
      await store.durable()
      const [webhook] = await shown([getOr404(store.webhooks, 'webhook', uuid)])
      return { webhook }
    },
    async listWebhooks() {
      await store.durable()
      const webhooks = [...store.webhooks.values()].sort(
        (a, b) => a.createdAtMs - b.createdAtMs || (a.uuid < b.uuid ? -1 : 1),
      )
      return { webhooks: await shown(webhooks) }
    },
  }
}

function assertUrl(url: string): void {
  const fault = webhookUrlFault(url)
  if (fault) throw invalid('url', fault)
}

function assertSecret(secret: string): void {
  const fault = webhookSecretFault(secret)
  if (fault) throw invalid('secret', fault)
}

function assertFilters(filters: readonly string[]): void {
  if (filters.length > FILTERS_MAX) throw invalid('events', `at most ${FILTERS_MAX} filters are allowed`)
  const known: ReadonlySet<string> = new Set(['*', ...EVENT_KINDS])
  for (const filter of filters) {
    const parsed = parseEventFilter(filter)
    if (!parsed || !known.has(parsed.kind)) {
      const kinds = EVENT_KINDS.join(', ')
      throw invalid(
        'events',
        `${JSON.stringify(filter.slice(0, 64))} is no filter: expected <kind>.<what> such as instance.started, * for either, or * alone; kinds are ${kinds}`,
      )
    }
  }
}
