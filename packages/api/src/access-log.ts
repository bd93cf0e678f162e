// One log line per request: who asked for what, how it ended and how long it took. No bodies and no
// queries: they may hold what does not belong in a log. A failure of vpe itself brings its cause along.

import type { MiddlewareHandler } from 'hono'
import type { Logger } from 'pino'
import type { ApiEnv } from './endpoint.ts'
import { toFault } from './error-response.ts'

export function accessLog(log: Logger): MiddlewareHandler<ApiEnv> {
  return async function logAccess(context, next) {
    const startedMs = performance.now()
    await next()
    const { status } = context.res
    const line = {
      request_id: context.get('requestId'),
      method: context.req.method,
      path: context.req.path,
      status,
      ms: Math.round((performance.now() - startedMs) * 10) / 10,
      ...(context.error ? { code: toFault(context.error).code } : {}),
    }
    if (status >= 500) log.error({ ...line, err: context.error }, 'request failed')
    else log.info(line, 'request')
  }
}
