// Loopback without tokens keeps other machines out, but not the web pages that a user of this machine
// has open. Two checks do: the Host header must name loopback, so that a foreign name that resolves to
// 127.0.0.1 (DNS rebinding) gets nothing; and a request that changes something must not come from a
// page of another origin, which browsers state in the Origin header. Programs send no Origin.

import type { MiddlewareHandler } from 'hono'
import { RequestFault } from './request-fault.ts'

const LOOPBACK_HOST = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?$/i

const SAFE_METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS'])

/** Refuses what only a browser under foreign influence would send. */
export function loopbackGuard(): MiddlewareHandler {
  return async function guardLoopback(context, next) {
    const hosts = [context.req.header('host'), new URL(context.req.url).host]
    assertOwnHost(hosts)
    if (!SAFE_METHODS.has(context.req.method)) assertOwnOrigin(context.req.header('origin'), hosts)
    await next()
  }
}

/** @throws RequestFault FOREIGN_HOST when one of the names that a request has for this node is not loopback */
export function assertOwnHost(hosts: readonly (string | undefined)[]): void {
  const foreign = hosts.find((host) => host !== undefined && !LOOPBACK_HOST.test(host))
  if (foreign !== undefined) {
    throw new RequestFault(
      'FOREIGN_HOST',
      `Host ${JSON.stringify(foreign.slice(0, 100))} is not a loopback name: this node takes no tokens yet, so it answers only requests to localhost, 127.0.0.1 or [::1] (this keeps web pages out that make their name resolve to this machine)`,
    )
  }
}

/** @throws RequestFault FOREIGN_ORIGIN when the request comes from a page that is not of this node */
export function assertOwnOrigin(origin: string | undefined, hosts: readonly (string | undefined)[]): void {
  if (origin !== undefined && !isOwnOrigin(origin, hosts)) {
    throw new RequestFault(
      'FOREIGN_ORIGIN',
      `a page of ${JSON.stringify(origin.slice(0, 100))} may not change anything here: this node takes no tokens yet, so requests that change something must come from a program, or from a page of this node itself`,
    )
  }
}

function isOwnOrigin(origin: string, hosts: readonly (string | undefined)[]): boolean {
  return hosts.some((host) => host !== undefined && origin.toLowerCase() === `http://${host.toLowerCase()}`)
}
