// The OpenAPI document on its own, for what is generated from it.

import type { ControllerServiceClient } from '@vpe/proto'
import { pino } from 'pino'
import { createApp } from './app.ts'

/** The text of /openapi.json. */
export async function openApiDocument(): Promise<string> {
  // Describing the routes calls no controller.
  const controller = {} as ControllerServiceClient
  const app = createApp({ controller, log: pino({ level: 'silent' }) })
  return await (await app.request('/openapi.json')).text()
}
