// Webhooks, in the style of dialect 1.

import { z } from '@hono/zod-openapi'
import { EventFilter, Fault, Moment, ReceiverUrl, Uuid, WebhookSecret } from './fields.ts'

const Filters = z
  .array(EventFilter)
  .min(1)
  .max(64)
  .openapi({ description: 'An event is delivered when one of them fits' })

const fields = {
  uuid: Uuid,
  url: z.string(),
  events: z.array(z.string()),
  enabled: z.boolean(),
  position: z.string().nullable().openapi({ description: 'How far in the event log it has got' }),
  behind: z.int().nullable().openapi({
    description: 'Events of the log that it has not come to yet, whether it wants them or not',
  }),
  failures: z.int().openapi({ description: 'Attempts that failed since the last one that succeeded' }),
  last_success_at: Moment.nullable(),
  last_error: Fault,
  next_attempt_at: Moment.nullable(),
  last_gap: Fault.openapi({
    description: 'Which events it will never get, the last time that this happened',
  }),
  created_at: Moment,
}

export const WebhookView = z.object(fields).openapi('Webhook')

export const WebhookListAnswer = z.object({ webhooks: z.array(WebhookView) })
export const WebhookAnswer = z.object({ webhook: WebhookView })
export const CreatedWebhookAnswer = z.object({
  webhook: z.object({
    ...fields,
    secret: z.string().openapi({ description: 'Shown here and nowhere else' }),
  }),
})
export const WebhookUuidAnswer = z.object({ webhook: z.object({ uuid: Uuid }) })

export const CreateWebhookBody = z
  .strictObject({
    webhook: z.strictObject({
      url: ReceiverUrl,
      secret: WebhookSecret.optional(),
      events: Filters.optional(),
      enabled: z.boolean().optional(),
    }),
  })
  .openapi('CreateWebhook')

export const UpdateWebhookBody = z
  .strictObject({
    webhook: z.strictObject({
      url: ReceiverUrl.optional(),
      secret: WebhookSecret.optional(),
      events: Filters.optional(),
      enabled: z.boolean().optional(),
    }),
  })
  .openapi('UpdateWebhook')
