// The only table from error code to HTTP status, and how each dialect says no: dialect 1 by a problem
// document (RFC 9457), dialect 2 by its envelope. Which of the two is the path's to say, so that a
// client is always answered in the dialect that it speaks, also before any route was found.
// docs/errors.md explains every code; a test holds the two together.

import type { z } from '@hono/zod-openapi'
import { type ErrorCode, VpeError } from '@vpe/core'
import { HostNotFound, RequestFault, type RequestFaultCode } from './request-fault.ts'
import type { EnvelopeFailure } from './schemas/envelope.ts'
import type { Problem } from './schemas/problem.ts'

export type FaultCode = ErrorCode | RequestFaultCode

interface Meaning {
  readonly status: number
  readonly title: string
}

// 5xx means that vpe itself cannot do its work now. A refusal that the user's own choice brings about
// (no host fits, the agent at this address does not answer) is a conflict with the present state: 409.
export const MEANING_OF_CODE: Readonly<Record<FaultCode, Meaning>> = {
  INVALID_ARGUMENT: { status: 400, title: 'The request is not valid' },
  NOT_FOUND: { status: 404, title: 'There is no such thing' },
  NAME_TAKEN: { status: 409, title: 'The name is taken' },
  AMBIGUOUS_NAME: { status: 409, title: 'The name stands for more than one thing' },
  CONFLICT: { status: 409, title: 'The state does not allow it' },
  IN_USE: { status: 409, title: 'It is in use' },
  NO_HOST_FITS: { status: 409, title: 'No host fits' },
  NO_FAILOVER_ROOM: { status: 409, title: 'The cluster has no room for it if a host is lost' },
  IDEMPOTENCY_KEY_REUSED: { status: 422, title: 'The Idempotency-Key belongs to another request' },
  HOST_UNREACHABLE: { status: 409, title: 'The host does not answer' },
  IMAGE_INVALID: { status: 422, title: 'The image cannot be used' },
  DISK_POOL_FAILED: { status: 409, title: 'The disk pool cannot be used' },
  DISK_POOL_FULL: { status: 409, title: 'The disk pool has no room' },
  DEVICE_BUSY: { status: 409, title: 'The guest does not let go of the device' },
  HYPERVISOR_FAILED: { status: 502, title: 'The hypervisor failed' },
  WRONG_HOST: { status: 503, title: 'Another host answers at this address' },
  STALE_EPOCH: { status: 503, title: 'The controller has been replaced' },
  STALE_GENERATION: { status: 409, title: 'A newer change came first' },
  SUPERSEDED: { status: 409, title: 'A later request replaced this one' },
  CONSOLE_TOKEN_REFUSED: { status: 403, title: 'The token does not open this console' },
  JOIN_TOKEN_REFUSED: { status: 403, title: 'The token lets nobody in' },
  PERMISSION_DENIED: { status: 403, title: 'The role may not do this' },
  UNAVAILABLE: { status: 503, title: 'It cannot be answered now' },
  INTERNAL: { status: 500, title: 'vpe failed' },
  MALFORMED_JSON: { status: 400, title: 'The body is not JSON' },
  UNREADABLE_BODY: { status: 400, title: 'The body cannot be read' },
  BODY_TOO_LARGE: { status: 413, title: 'The body is too large' },
  UNSUPPORTED_MEDIA_TYPE: { status: 415, title: 'The body is not declared as JSON' },
  FOREIGN_HOST: { status: 403, title: 'The Host header is not a loopback name' },
  FOREIGN_ORIGIN: { status: 403, title: 'The request comes from a page of another origin' },
  UNKNOWN_ROUTE: { status: 404, title: 'There is nothing at this path' },
  METHOD_NOT_ALLOWED: { status: 405, title: 'The path does not take this method' },
  HOST_NOT_FOUND: { status: 404, title: 'The host of the instance is not there' },
  CLIENT_GONE: { status: 499, title: 'The client went away' },
}

/** Where dialect 2 departs from the table: its document has one status, 500, for every failed attempt. */
const ENVELOPE_STATUS: Partial<Record<FaultCode, number>> = {
  NO_HOST_FITS: 500,
  NO_FAILOVER_ROOM: 500,
  HOST_UNREACHABLE: 500,
  DISK_POOL_FAILED: 500,
  DISK_POOL_FULL: 500,
  HYPERVISOR_FAILED: 500,
  WRONG_HOST: 500,
  STALE_EPOCH: 500,
  UNAVAILABLE: 500,
}

/** What an answer needs to know of its request. */
export interface FailedRequest {
  readonly method: string
  readonly path: string
  readonly requestId: string
}

/** The fault that anything thrown stands for. What is none of ours is a defect, and is told as one. */
export function toFault(error: unknown): VpeError | RequestFault {
  if (error instanceof VpeError || error instanceof RequestFault) return error
  return new VpeError('INTERNAL', 'unexpected failure in the API node; its log has it under the request id', {
    cause: error,
  })
}

/** The answer for a fault, in the dialect of the request's path. */
export function errorResponse(fault: VpeError | RequestFault, request: FailedRequest): Response {
  const response = isEnvelopePath(request.path)
    ? envelopeResponse(fault, request)
    : problemResponse(fault, request)
  response.headers.set('x-request-id', request.requestId)
  return response
}

/** The HTTP status of a code, in the dialect of a path. */
export function statusOf(code: FaultCode, path: string): number {
  const { status } = MEANING_OF_CODE[code]
  return isEnvelopePath(path) ? (ENVELOPE_STATUS[code] ?? status) : status
}

/** Whether a path speaks dialect 2. */
export function isEnvelopePath(path: string): boolean {
  return path === '/api/v1' || path.startsWith('/api/v1/')
}

function problemResponse(fault: VpeError | RequestFault, request: FailedRequest): Response {
  const { status, title } = MEANING_OF_CODE[fault.code]
  const errors = fault instanceof VpeError ? fault.fields : []
  const problem: Problem = {
    type: `urn:vpe:error:${fault.code.toLowerCase().replaceAll('_', '-')}`,
    title,
    status,
    detail: fault.message,
    instance: request.path,
    code: fault.code,
    ...(errors.length > 0 ? { errors: [...errors] } : {}),
    request_id: request.requestId,
  }
  return jsonResponse(problem, status, 'application/problem+json', fault)
}

const FAILED_MESSAGE: Readonly<Record<string, string>> = {
  POST: 'create failed',
  // The document says "create" of updates too.
  PUT: 'create failed',
  GET: 'get failed',
  HEAD: 'get failed',
  DELETE: 'delete failed',
}

function envelopeResponse(fault: VpeError | RequestFault, request: FailedRequest): Response {
  const status = statusOf(fault.code, request.path)
  const failure: z.infer<typeof EnvelopeFailure> = {
    code: status,
    message: FAILED_MESSAGE[request.method] ?? 'request failed',
    data: envelopeData(fault, request.method),
  }
  return jsonResponse(failure, status, 'application/json', fault)
}

function envelopeData(fault: VpeError | RequestFault, method: string): { error: string; podIPs?: string[] } {
  switch (fault.code) {
    case 'NAME_TAKEN':
      return { error: 'database conflict' }
    case 'NOT_FOUND':
      return method === 'DELETE'
        ? { error: 'host id not fount', podIPs: [] }
        : { error: 'instance not found' }
    case 'HOST_NOT_FOUND':
      return { error: 'host id not fount', podIPs: fault instanceof HostNotFound ? [...fault.podIPs] : [] }
    case 'NO_HOST_FITS':
      return {
        error: /^no host fits/i.test(fault.message) ? fault.message : `no host fits: ${fault.message}`,
      }
    default:
      return { error: fault.message }
  }
}

function jsonResponse(body: unknown, status: number, type: string, fault: VpeError | RequestFault): Response {
  const headers = new Headers({ 'content-type': type })
  if (MEANING_OF_CODE[fault.code].status === 503) headers.set('retry-after', '1')
  if (fault instanceof RequestFault) {
    for (const [name, value] of Object.entries(fault.headers)) headers.set(name, value)
  }
  return new Response(JSON.stringify(body), { status, headers })
}
