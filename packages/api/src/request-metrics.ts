// How many requests there were and how long they took, by route rather than by path: every uuid would be a
// series of its own.

import type { MiddlewareHandler } from 'hono'
import { routePath } from 'hono/route'
import { Histogram, type Registry } from 'prom-client'
import type { ApiEnv } from './endpoint.ts'

const BUCKETS_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]

/** Anything may stand in a request line, and each word would be a series. */
const METHODS: ReadonlySet<string> = new Set(['GET', 'POST', 'PUT', 'DELETE', 'HEAD', 'OPTIONS', 'PATCH'])

export function requestMetrics(registry: Registry): MiddlewareHandler<ApiEnv> {
  const seconds = new Histogram({
    name: 'vpe_http_request_duration_seconds',
    help: 'From the request to the head of the answer; its _count is how many requests there were',
    labelNames: ['method', 'route', 'status'],
    buckets: BUCKETS_SECONDS,
    registers: [registry],
  })
  return async function measureRequest(context, next) {
    const startedMs = performance.now()
    await next()
    const { method } = context.req
    const path = routePath(context, -1)
    seconds.observe(
      {
        method: METHODS.has(method) ? method : 'other',
        // Middleware is registered for all paths: what only it has matched is no route.
        route: path === '/*' || path === '*' ? 'none' : path,
        status: String(context.res.status),
      },
      (performance.now() - startedMs) / 1_000,
    )
  }
}
