// Where a console can be opened, as dialect 1 writes it.

import { z } from '@hono/zod-openapi'
import { Uuid } from './fields.ts'

const ConsoleUrl = z.url().openapi({
  description: 'Opens the console in a browser; once, and within a minute of the answer',
})

export const VncAnswer = z.object({ instance: z.object({ uuid: Uuid, vnc_url: ConsoleUrl }) })
export const SerialAnswer = z.object({ instance: z.object({ uuid: Uuid, serial_url: ConsoleUrl }) })
