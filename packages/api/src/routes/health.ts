// For supervisors: /healthz says that this process answers, /readyz that the cluster behind it can work.

import type { OpenAPIHono } from '@hono/zod-openapi'
import type { ControllerServiceClient } from '@vpe/proto'
import { createControllerCalls } from '../controller-calls.ts'
import type { ApiEnv } from '../endpoint.ts'
import { toFault } from '../error-response.ts'

/** Whoever asks for readiness wants to know now. */
const READINESS_DEADLINE_MS = 3_000

export function healthRoutes(
  app: OpenAPIHono<ApiEnv>,
  controller: ControllerServiceClient,
  stopping: AbortSignal,
): void {
  app.get('/healthz', (context) => context.json({ status: 'ok' }))

  app.get('/readyz', async (context) => {
    const { read } = createControllerCalls(context, { deadlineMs: READINESS_DEADLINE_MS, stopping })
    const readiness = await read((options) => controller.getReadiness({}, options)).catch(
      (error: unknown) => ({
        ready: false,
        reasons: [toFault(error).message],
      }),
    )
    const { ready, reasons } = readiness
    return context.json({ ready, reasons }, ready ? 200 : 503)
  })
}
