// /webhooks: receivers that are told of events.

import type { ControllerServiceClient } from '@vpe/proto'
import type { AddEndpoint } from '../endpoint.ts'
import {
  CreatedWebhookAnswer,
  CreateWebhookBody,
  UpdateWebhookBody,
  WebhookAnswer,
  WebhookListAnswer,
  WebhookUuidAnswer,
} from '../schemas/webhook.ts'
import { given, showWebhook } from '../view.ts'

const FIELDS = { url: 'webhook.url', secret: 'webhook.secret', events: 'webhook.events' }

export function webhookRoutes(add: AddEndpoint, controller: ControllerServiceClient): void {
  add(
    {
      method: 'get',
      path: '/webhooks',
      summary: 'List webhooks, oldest first',
      answer: WebhookListAnswer,
    },
    async (_input, { read }) => {
      const answer = await read((options) => controller.listWebhooks({}, options))
      return { webhooks: answer.webhooks.map(showWebhook) }
    },
  )

  add(
    {
      method: 'get',
      path: '/webhooks/{uuid}',
      summary: 'Show one webhook, and how its deliveries go',
      answer: WebhookAnswer,
    },
    async ({ params }, { read }) => {
      const answer = await read((options) => controller.getWebhook(params, options))
      return { webhook: showWebhook(given(answer.webhook, 'the webhook')) }
    },
  )

  add(
    {
      method: 'post',
      path: '/webhooks',
      summary: 'Tell a receiver of what happens from now on; the answer shows the secret, once',
      body: CreateWebhookBody,
      answer: CreatedWebhookAnswer,
      isSecret: true,
      codes: ['CONFLICT'],
      fields: FIELDS,
    },
    async ({ body }, { change }) => {
      const { url, secret = '', events = [], enabled = true } = body.webhook
      const request = { url, secret, events, disabled: !enabled }
      const answer = await change((options) => controller.createWebhook(request, options))
      return { webhook: { ...showWebhook(given(answer.webhook, 'the webhook')), secret: answer.secret } }
    },
  )

  add(
    {
      method: 'put',
      path: '/webhooks/{uuid}',
      summary: 'Change a webhook; deliveries go on where they were',
      body: UpdateWebhookBody,
      answer: WebhookAnswer,
      fields: FIELDS,
    },
    async ({ params, body }, { change }) => {
      const { events, ...rest } = body.webhook
      const request = { ...params, ...rest, ...(events && { events: { values: events } }) }
      const answer = await change((options) => controller.updateWebhook(request, options))
      return { webhook: showWebhook(given(answer.webhook, 'the webhook')) }
    },
  )

  add(
    {
      method: 'delete',
      path: '/webhooks/{uuid}',
      summary: 'End the deliveries to a receiver',
      answer: WebhookUuidAnswer,
    },
    async ({ params }, { change }) => {
      await change((options) => controller.deleteWebhook(params, options))
      return { webhook: { uuid: params.uuid } }
    },
  )
}
