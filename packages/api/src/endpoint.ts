// An endpoint is declared once: its path, what it takes and what it answers, as schemas. The same
// declaration validates requests and describes the endpoint in the OpenAPI document. Routes are left
// with: take what was parsed, make one call, render the answer.

import { type OpenAPIHono, z } from '@hono/zod-openapi'
import { VpeError } from '@vpe/core'
import { type CallLimits, type ControllerCalls, createControllerCalls } from './controller-calls.ts'
import type { FaultCode } from './error-response.ts'
import { invalidInput, parseInput } from './input-fault.ts'
import { describeEndpoint, parameterNames } from './openapi.ts'
import { readJsonBody } from './request-body.ts'
import { isUuid } from './schemas/fields.ts'
import { uploadPieces } from './upload-body.ts'

type ParameterNames<Path extends string> = Path extends `${string}{${infer Name}}${infer Rest}`
  ? Name | ParameterNames<Rest>
  : never

type Output<Schema extends z.ZodType | undefined> = Schema extends z.ZodType ? z.output<Schema> : undefined

export interface EndpointSpec<
  Path extends string,
  Query extends z.ZodObject | undefined,
  Body extends z.ZodType | undefined,
  Answer extends z.ZodType,
> {
  readonly method: 'get' | 'post' | 'put' | 'delete'
  /** Parameters in braces; every one is a uuid, but those of `texts`. */
  readonly path: Path
  readonly texts?: readonly string[]
  readonly summary: string
  readonly query?: Query
  /** Without one, what a client sends as a body is not looked at. */
  readonly body?: Body
  /** The body is bytes, of whatever length: the handler reads them from `pieces`. */
  readonly isUpload?: true
  readonly answer: Answer
  /** The answer is a stream of Server-Sent Events. */
  readonly isEventStream?: true
  /** The answer holds what gives access: it is kept in no cache. */
  readonly isSecret?: true
  /** What it may be refused with beside what every endpoint of its kind is. */
  readonly codes?: readonly FaultCode[]
  /** Where the body has what the controller, in its own words, finds at fault. */
  readonly fields?: Readonly<Record<string, string>>
}

interface EndpointInput<Path extends string, Query, Body> {
  readonly params: Readonly<Record<ParameterNames<Path>, string>>
  readonly query: Query
  readonly body: Body
  /** The bytes of an upload. */
  readonly pieces: () => AsyncIterable<Uint8Array>
  /** Where the client has reached this node: scheme, host and port. */
  readonly origin: string
  readonly request: Request
  readonly requestId: string
  /** Ends the client's connection without a word. */
  readonly hangUp: () => void
}

export interface ApiEnv {
  /** Of the HTTP server; requests that come without one have none. */
  Bindings: { readonly outgoing?: { destroy(): void } }
  Variables: { requestId: string }
}

/** An answer that is JSON text already, for those that would cost too much to be written anew each time. */
export class JsonText {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }
}

/** Adds endpoints to an app. */
export type AddEndpoint = <
  const Path extends string,
  Answer extends z.ZodType,
  Query extends z.ZodObject | undefined = undefined,
  Body extends z.ZodType | undefined = undefined,
>(
  spec: EndpointSpec<Path, Query, Body, Answer>,
  handle: (
    input: EndpointInput<Path, Output<Query>, Output<Body>>,
    calls: ControllerCalls,
  ) => Promise<z.input<Answer> | JsonText>,
) => void

export function createAddEndpoint(app: OpenAPIHono<ApiEnv>, limits: CallLimits): AddEndpoint {
  return (spec, handle) => {
    describeEndpoint(app.openAPIRegistry, spec)
    const names = parameterNames(spec.path)
    const query = spec.query ?? z.strictObject({})
    const repeatable = repeatableNames(query)
    app.on(spec.method.toUpperCase(), spec.path.replaceAll(/\{(.+?)\}/g, ':$1'), async (context) => {
      const input = {
        params: Object.fromEntries(
          names.map((name) => {
            const value = context.req.param(name) ?? ''
            return [name, spec.texts?.includes(name) ? value : parseId(value)]
          }),
        ),
        query: parseInput(query, readQuery(context.req.url, repeatable), 'query'),
        body: spec.body && parseInput(spec.body, await readJsonBody(context.req.raw), 'body'),
        pieces: () => uploadPieces(context.req.raw),
        origin: new URL(context.req.url).origin,
        request: context.req.raw,
        requestId: context.get('requestId'),
        hangUp: () => void context.env.outgoing?.destroy(),
      }
      // The schemas that just parsed the input are the ones that its type is made from.
      const answer = await handle(
        input as unknown as Parameters<typeof handle>[0],
        createControllerCalls(context, limits),
      ).catch((error: unknown) => {
        throw renameFields(error, spec.fields ?? {})
      })
      if (answer instanceof ReadableStream) return context.body(answer, 200, EVENT_STREAM_HEADERS)
      if (spec.isSecret) context.header('cache-control', 'no-store')
      const text = answer instanceof JsonText ? answer.text : JSON.stringify(answer)
      return context.body(text, 200, { 'content-type': 'application/json' })
    })
  }
}

/** No proxy is to keep or to collect what is to be seen at once. */
const EVENT_STREAM_HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-store',
  'x-accel-buffering': 'no',
}

/** What is not a UUID is the id of nothing: not found, rather than badly asked. */
function parseId(id: string): string {
  if (isUuid(id)) return id.toLowerCase()
  const shown = JSON.stringify(id.slice(0, 64).toWellFormed())
  throw new VpeError('NOT_FOUND', `nothing has the id ${shown}: ids are UUIDs`)
}

/** What may be given more than once: where the schema has a list. */
function repeatableNames(query: z.ZodObject): ReadonlySet<string> {
  const isList = (schema: unknown): boolean =>
    schema instanceof z.ZodDefault || schema instanceof z.ZodOptional
      ? isList(schema.unwrap())
      : schema instanceof z.ZodArray
  return new Set(Object.keys(query.shape).filter((name) => isList(query.shape[name])))
}

function readQuery(url: string, repeatable: ReadonlySet<string>): Record<string, string | string[]> {
  const query = new Map<string, string | string[]>()
  for (const [name, value] of new URL(url).searchParams) {
    const before = query.get(name)
    if (repeatable.has(name)) {
      query.set(name, Array.isArray(before) ? [...before, value] : [value])
      continue
    }
    if (before !== undefined)
      throw invalidInput([{ field: name.slice(0, 64), message: 'is given more than once' }])
    query.set(name, value)
  }
  return Object.fromEntries(query)
}

/** The controller names a field as its own request has it; the client knows it by its place in the body. */
function renameFields(error: unknown, names: Readonly<Record<string, string>>): unknown {
  if (!(error instanceof VpeError) || error.fields.length === 0) return error
  const fields = error.fields.map(({ field, message }) => ({
    field: field.replace(/^\w+/, (name) => names[name] ?? name),
    message,
  }))
  return new VpeError(error.code, error.message, { fields, cause: error })
}
