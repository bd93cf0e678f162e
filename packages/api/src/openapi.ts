// The OpenAPI document, from the declarations of the endpoints. Which refusals an endpoint may answer with
// follows from what it takes; what each status means, from the table of error codes.

import { type OpenAPIHono, z } from '@hono/zod-openapi'
import type { ApiEnv, EndpointSpec } from './endpoint.ts'
import { type FaultCode, isEnvelopePath, statusOf } from './error-response.ts'
import { EnvelopeFailure } from './schemas/envelope.ts'
import { Uuid } from './schemas/fields.ts'
import { ProblemView } from './schemas/problem.ts'

const INFO = {
  title: 'vpe',
  version: '0.1.0',
  description:
    'Two dialects over the same instances. Paths below `/api/v1` speak dialect 2, the envelope; all others dialect 1. What is refused is answered in the dialect of the path.',
  license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
}

type AnyEndpoint = EndpointSpec<string, z.ZodObject | undefined, z.ZodType | undefined, z.ZodType>
type Registry = OpenAPIHono<ApiEnv>['openAPIRegistry']

const IdempotencyKeyHeader = z.string().min(1).max(255).optional().openapi({
  description: 'The same key with the same request makes its change only once',
  pattern: '^[\\x20-\\x7e]+$',
})

const UPLOAD = {
  'application/octet-stream': { schema: z.string().openapi({ type: 'string', format: 'binary' }) },
}

/** Enters an endpoint into the document. */
export function describeEndpoint(registry: Registry, spec: AnyEndpoint): void {
  const names = parameterNames(spec.path)
  const isChange = spec.method !== 'get'
  registry.registerPath({
    method: spec.method,
    path: spec.path,
    tags: [tagOf(spec.path)],
    summary: spec.summary,
    request: {
      ...(names.length > 0 && {
        params: z.object(
          Object.fromEntries(names.map((name) => [name, spec.texts?.includes(name) ? z.string() : Uuid])),
        ),
      }),
      ...(spec.query && { query: spec.query }),
      ...(spec.body && {
        body: {
          required: !spec.body.safeParse(undefined).success,
          content: { 'application/json': { schema: spec.body } },
        },
      }),
      ...(spec.isUpload && { body: { required: true, content: UPLOAD } }),
      ...(isChange && { headers: z.object({ 'Idempotency-Key': IdempotencyKeyHeader }) }),
    },
    responses: {
      200: {
        description: isChange ? 'Done, or durably under way' : 'What is there',
        content: { [spec.isEventStream ? 'text/event-stream' : 'application/json']: { schema: spec.answer } },
        ...(isChange && {
          headers: {
            'Operation-Id': {
              description: 'The operation that carries it out: GET /operations/{uuid} tells of its end',
              schema: { type: 'string', format: 'uuid' },
            },
          },
        }),
      },
      ...refusals(spec),
    },
  })
}

/** The names in the braces of a path. */
export function parameterNames(path: string): string[] {
  return [...path.matchAll(/\{(.+?)\}/g)].map(([, name = '']) => name)
}

/** Puts the document at /openapi.json. */
export function serveDocument(app: OpenAPIHono<ApiEnv>): void {
  app.doc31('/openapi.json', { openapi: '3.1.0', info: INFO })
}

/** Every status that an endpoint refuses with, and the codes that may stand behind it. */
function refusals(spec: AnyEndpoint) {
  const isEnvelope = isEnvelopePath(spec.path)
  const content = isEnvelope
    ? { 'application/json': { schema: EnvelopeFailure } }
    : { 'application/problem+json': { schema: ProblemView } }
  const byStatus = Map.groupBy(codesOf(spec), (code) => statusOf(code, spec.path))
  return Object.fromEntries(
    [...byStatus]
      .sort(([a], [b]) => a - b)
      .map(([status, codes]) => [status, { description: codes.join(', '), content }]),
  )
}

function codesOf(spec: AnyEndpoint): FaultCode[] {
  const isChange = spec.method !== 'get'
  const namesSomething = spec.path.includes('{') || isEnvelopePath(spec.path)
  return [
    'INVALID_ARGUMENT',
    ...(spec.body ? BODY_CODES : []),
    ...(spec.isUpload ? UPLOAD_CODES : []),
    'FOREIGN_HOST',
    ...(isChange ? CHANGE_CODES : []),
    ...(namesSomething ? (['NOT_FOUND'] as const) : []),
    ...(spec.codes ?? []),
    'INTERNAL',
    'UNAVAILABLE',
  ]
}

const BODY_CODES = [
  'MALFORMED_JSON',
  'UNREADABLE_BODY',
  'BODY_TOO_LARGE',
  'UNSUPPORTED_MEDIA_TYPE',
] as const satisfies FaultCode[]

const UPLOAD_CODES = ['UNREADABLE_BODY', 'UNSUPPORTED_MEDIA_TYPE'] as const satisfies FaultCode[]

const CHANGE_CODES = [
  'FOREIGN_ORIGIN',
  'IDEMPOTENCY_KEY_REUSED',
  'STALE_EPOCH',
] as const satisfies FaultCode[]

function tagOf(path: string): string {
  return isEnvelopePath(path) ? 'dialect 2' : (path.split('/')[1] ?? '').replaceAll('_', ' ')
}
