// Reads the JSON body of a request, and no more of it than the limit: a larger one is refused by its
// Content-Length, or, where it has none, as soon as the limit is passed. The Content-Type may be
// missing (the documents' own examples leave it out), or the one that `curl -d` declares by itself; any
// other type than JSON is refused.

import { findJsonFault } from './json-fault.ts'
import { RequestFault } from './request-fault.ts'

export const BODY_BYTES_MAX = 1024 * 1024

const JSON_TYPE = /^application\/(?:[\w.+-]+\+)?json$/
const CURL_TYPE = 'application/x-www-form-urlencoded'
const UTF8_CHARSET = /^charset="?(?:utf-?8|us-ascii)"?$/

/** The value that the body holds; undefined when there is no body. */
export async function readJsonBody(request: Request): Promise<unknown> {
  refuseOtherTypes(request.headers.get('content-type'))
  const text = decode(await readBytes(request))
  if (text.trim() === '') return undefined
  try {
    return JSON.parse(text)
  } catch (cause) {
    const fault = findJsonFault(text)
    const where = fault
      ? ` at line ${fault.line}, column ${fault.column}: ${fault.message}`
      : `: ${cause instanceof Error ? cause.message : String(cause)}`
    throw new RequestFault('MALFORMED_JSON', `malformed JSON${where}`)
  }
}

function refuseOtherTypes(contentType: string | null): void {
  if (contentType === null || contentType.trim() === '') return
  const [type = '', ...parameters] = contentType
    .toLowerCase()
    .split(';')
    .map((part) => part.trim())
  if (!JSON_TYPE.test(type) && type !== CURL_TYPE) {
    throw new RequestFault(
      'UNSUPPORTED_MEDIA_TYPE',
      `the body is declared as ${type.slice(0, 100)}; send JSON, with the header Content-Type: application/json`,
    )
  }
  const charset = parameters.find((parameter) => parameter.startsWith('charset='))
  if (charset !== undefined && !UTF8_CHARSET.test(charset)) {
    throw new RequestFault('UNSUPPORTED_MEDIA_TYPE', `${charset.slice(0, 100)}: send JSON in UTF-8`)
  }
}

function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw new RequestFault('MALFORMED_JSON', 'malformed JSON: the body is not valid UTF-8', { cause })
  }
}

async function readBytes(request: Request): Promise<Uint8Array> {
  const { headers } = request
  if (Number(headers.get('content-length') ?? 0) > BODY_BYTES_MAX) throw tooLarge()
  try {
    // With a length that is known to fit, HTTP itself holds the client to it.
    if (headers.has('content-length') && !headers.has('transfer-encoding')) {
      return new Uint8Array(await request.arrayBuffer())
    }
    return await readUpToLimit(request.body)
  } catch (cause) {
    if (cause instanceof RequestFault) throw cause
    throw new RequestFault('UNREADABLE_BODY', 'the request ended before its body was complete', { cause })
  }
}

async function readUpToLimit(body: ReadableStream<Uint8Array> | null): Promise<Uint8Array> {
  if (body === null) return new Uint8Array()
  const reader = body.getReader()
  const chunks: Uint8Array[] = []
  let size = 0
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return Buffer.concat(chunks, size)
    size += value.length
    // The rest stays unread: the HTTP server throws it away, within its bounds, once we have answered.
    if (size > BODY_BYTES_MAX) throw tooLarge()
    chunks.push(value)
  }
}

function tooLarge(): RequestFault {
  return new RequestFault(
    'BODY_TOO_LARGE',
    `the body is larger than ${BODY_BYTES_MAX} bytes, the most that is taken`,
  )
}
