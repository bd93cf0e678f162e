// GET /metrics for Prometheus, on loopback. An agent without it works as well: when it cannot listen it
// says so, and goes on keeping guests.

import { createServer, type Server } from 'node:http'
import type { Logger } from 'pino'
import { collectDefaultMetrics, Registry } from 'prom-client'
import type { GuestMetrics } from './guest-metrics.ts'
import { type Checked, conditionRegistry } from './host-conditions.ts'
import { instanceRegistry } from './prometheus.ts'

/** Pages of other origins reach loopback by a name of their own that leads here. */
const LOOPBACK_HOST = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/

/** Listens at host:port. */
export function serveMetrics(
  address: string,
  { metrics, check }: { readonly metrics: Pick<GuestMetrics, 'all'>; readonly check: Checked },
  log: Logger,
): Server {
  const ofProcess = new Registry()
  collectDefaultMetrics({ register: ofProcess })
  const registry = Registry.merge([ofProcess, instanceRegistry(metrics), conditionRegistry(check)])
  const server = createServer(async (request, response) => {
    const answer = (status: number, text: string, type = 'text/plain; charset=utf-8') =>
      response.writeHead(status, { 'content-type': type }).end(text)
    if (!LOOPBACK_HOST.test(request.headers.host ?? ''))
      return answer(403, 'only loopback names are served\n')
    if (request.url !== '/metrics') return answer(404, 'only /metrics is here\n')
    if (request.method !== 'GET') return answer(405, 'only GET\n')
    try {
      return answer(200, await registry.metrics(), registry.contentType)
    } catch (error) {
      log.error({ err: error }, 'metrics could not be written')
      return answer(500, 'metrics could not be written\n')
    }
  })
  server.on('error', (error) => log.error({ err: error, address }, 'metrics are not served'))
  const colon = address.lastIndexOf(':')
  const host = address.slice(0, colon).replace(/^\[(.*)\]$/, '$1')
  return server.listen({ host, port: Number(address.slice(colon + 1)) })
}
