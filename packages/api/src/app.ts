// The REST node as a function from request to response: every route, in both dialects, over one
// controller. Takes everything by argument and opens no port; main.ts does.

import { OpenAPIHono } from '@hono/zod-openapi'
import type { ControllerServiceClient } from '@vpe/proto'
import type { Context } from 'hono'
import { methodNotAllowed } from 'hono/method-not-allowed'
import { requestId } from 'hono/request-id'
import type { Logger } from 'pino'
import { Registry } from 'prom-client'
import { accessLog } from './access-log.ts'
import type { CallLimits } from './controller-calls.ts'
import { type ApiEnv, createAddEndpoint } from './endpoint.ts'
import { errorResponse, toFault } from './error-response.ts'
import { type EventStreamLimits, EventStreams } from './events/event-streams.ts'
import type { EventLogReader } from './events/log-connection.ts'
import { loopbackGuard } from './loopback-guard.ts'
import { serveDocument } from './openapi.ts'
import { RequestFault } from './request-fault.ts'
import { requestMetrics } from './request-metrics.ts'
import { consoleRoutes } from './routes/consoles.ts'
import { diskPoolRoutes } from './routes/disk-pools.ts'
import { diskRoutes } from './routes/disks.ts'
import { envelopeInstanceRoutes } from './routes/envelope-instance.ts'
import { eventRoutes } from './routes/events.ts'
import { flavorRoutes } from './routes/flavors.ts'
import { haRoutes } from './routes/ha.ts'
import { healthRoutes } from './routes/health.ts'
import { hostRoutes } from './routes/hosts.ts'
import { imageRoutes } from './routes/images.ts'
import { instanceMetricsRoutes } from './routes/instance-metrics.ts'
import { instanceRoutes } from './routes/instances.ts'
import { joinTokenRoutes } from './routes/join-tokens.ts'
import { lifecycleRoutes } from './routes/lifecycle.ts'
import { memberRoutes } from './routes/members.ts'
import { metricsRoute } from './routes/metrics.ts'
import { operationRoutes } from './routes/operations.ts'
import { pageRoutes } from './routes/pages.ts'
import { snapshotRoutes } from './routes/snapshots.ts'
import { webhookRoutes } from './routes/webhooks.ts'

export interface AppDeps {
  readonly controller: ControllerServiceClient
  readonly log: Logger
  /** @default 30 s for each call, and no stopping */
  readonly limits?: Partial<CallLimits>
  /** The event log, null while NATS is away. @default away */
  readonly currentLog?: () => EventLogReader | null
  readonly eventStreamLimits?: EventStreamLimits
  /** Shown at /metrics, beside what the app counts itself. */
  readonly registry?: Registry
}

export type App = OpenAPIHono<ApiEnv>

const DEADLINE_MS = 30_000

export function createApp({
  controller,
  log,
  limits = {},
  currentLog = () => null,
  eventStreamLimits = {},
  registry = new Registry(),
}: AppDeps): App {
  const { deadlineMs = DEADLINE_MS, stopping = new AbortController().signal } = limits
  const app: App = new OpenAPIHono<ApiEnv>()

  app.use(requestId())
  app.use(accessLog(log))
  app.use(requestMetrics(registry))
  app.use(loopbackGuard())
  app.use(
    methodNotAllowed({
      app,
      onMethodNotAllowed: (context, methods) => answerFault(wrongMethod(context, methods), context),
    }),
  )
  app.onError((error, context) => answerFault(error, context))
  app.notFound((context) => answerFault(unknownRoute(context), context))

  const add = createAddEndpoint(app, { deadlineMs, stopping })
  instanceRoutes(add, controller)
  lifecycleRoutes(add, controller)
  snapshotRoutes(add, controller)
  consoleRoutes(add, controller)
  instanceMetricsRoutes(add, controller)
  flavorRoutes(add, controller)
  imageRoutes(add, controller)
  diskPoolRoutes(add, controller)
  diskRoutes(add, controller)
  hostRoutes(add, controller)
  haRoutes(add, controller)
  joinTokenRoutes(add, controller)
  memberRoutes(add, controller)
  operationRoutes(add, controller)
  webhookRoutes(add, controller)
  eventRoutes(add, new EventStreams(log, stopping, registry, eventStreamLimits), currentLog)
  envelopeInstanceRoutes(add, controller)
  healthRoutes(app, controller, stopping)
  pageRoutes(app)
  metricsRoute(app, controller, registry, stopping)
  serveDocument(app)
  return app
}

function answerFault(error: unknown, context: Context<ApiEnv>): Response {
  const { method, path } = context.req
  return errorResponse(toFault(error), { method, path, requestId: context.get('requestId') })
}

function unknownRoute(context: Context): RequestFault {
  return new RequestFault(
    'UNKNOWN_ROUTE',
    `nothing is at ${context.req.path}; /openapi.json lists what there is`,
  )
}

function wrongMethod(context: Context, methods: readonly string[]): RequestFault {
  const allow = methods.join(', ')
  return new RequestFault(
    'METHOD_NOT_ALLOWED',
    `${context.req.path} takes ${allow}, not ${context.req.method}`,
    {
      headers: { allow },
    },
  )
}
