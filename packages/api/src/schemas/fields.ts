// The kinds of field that requests and answers are made of. Each rule is stated once: the same schema
// refuses bad input with words that say what was expected, and describes itself in the OpenAPI document.

import { z } from '@hono/zod-openapi'
import { EVENT_KINDS } from '@vpe/bus'
import {
  hostnameFault,
  type LogPosition,
  parseEventFilter,
  parsePosition,
  SSH_KEYS_MAX,
  sshKeyFault,
  USER_DATA_BYTES_MAX,
  userDataFault,
  webhookSecretFault,
  webhookUrlFault,
} from '@vpe/core'

/** Control characters, halves of surrogate pairs (they do not survive UTF-8) and line separators. */
const UNPRINTABLE = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/u

const TEXT_PATTERN = '^(?!\\s)[^\\p{Cc}\\p{Cs}\\p{Zl}\\p{Zp}]+(?<!\\s)$'

/** What is wrong with a text of people's making; null when nothing is. Lengths are in characters, not UTF-16 units. */
function textFault(text: string, charsMax: number): string | null {
  if (text.length === 0) return 'must not be empty'
  const chars = [...text].length
  if (chars > charsMax) return `is ${chars} characters long; at most ${charsMax} are allowed`
  if (UNPRINTABLE.test(text)) return 'must not contain control characters or line breaks'
  if (text.trim() === '') return 'must not be blank'
  if (text.trim() !== text) return 'must not begin or end with a blank'
  return null
}

/** A string that `faultOf` finds nothing wrong with. */
function checkedString(faultOf: (value: string) => string | null) {
  return z.string().check((context) => {
    const fault = faultOf(context.value)
    if (fault !== null) context.issues.push({ code: 'custom', message: fault, input: context.value })
  })
}

function text(charsMax: number, description: string) {
  return checkedString((value) => textFault(value, charsMax)).openapi({
    minLength: 1,
    maxLength: charsMax,
    pattern: TEXT_PATTERN,
    description,
  })
}

export const Name = text(128, 'A name: 1 to 128 characters, no control characters, no blank at either end')

/** Names something that exists: the controller looks it up by either. */
export const Reference = text(128, 'The uuid or the name of something that exists')

export const Tags = z
  .array(text(128, 'A tag'))
  .max(64)
  .openapi({ description: 'At most 64 tags of 1 to 128 characters' })

/** `?tag=a&tag=b` */
export const TagQuery = z
  .array(text(128, 'A tag'))
  .max(64)
  .openapi({ description: 'Only those that carry this tag; may be repeated, then all of them must be there' })

export const Hostname = checkedString(hostnameFault).openapi({
  minLength: 1,
  maxLength: 253,
  description:
    'What the guest is told it is called (RFC 1123); made from the name where others of its kind are given',
})

export const SshKeys = z.array(checkedString(sshKeyFault)).max(SSH_KEYS_MAX).openapi({
  description: 'Public keys as OpenSSH writes them, one a line, for the default user of the guest',
})

export const UserData = checkedString((value) =>
  value === '' ? 'must not be empty' : userDataFault(value),
).openapi({
  minLength: 1,
  maxLength: USER_DATA_BYTES_MAX,
  description: 'What cloud-init in the guest shall do: text, such as #cloud-config or a script',
})

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

export function isUuid(text: string): boolean {
  return UUID.test(text)
}

export const Uuid = checkedString((value) => (isUuid(value) ? null : 'is not a UUID')).openapi({
  format: 'uuid',
})

/** Searches: what is looked for may be any text, blanks included, but no longer than a name can be. */
export const NameQuery = z.string().max(128)

/** The shape in which dialect 1 writes every moment: UTC, to the second. */
export const Moment = z.string().openapi({ example: '2016-11-22 10:22:32', description: 'UTC' })

/** Why something is in error, in words that its user can act on; null while nothing is wrong. */
export const Fault = z.string().nullable()

const DURATION = /^(\d{1,6})(ms|s)?$/

/** A time to wait: `30s`, `500ms`, or `30` for seconds; read as milliseconds. */
export function waitUpTo(secondsMax: number) {
  return z
    .string()
    .transform((value, context) => {
      const [, amount, unit] = DURATION.exec(value) ?? []
      const ms = amount === undefined ? Number.NaN : Number(amount) * (unit === 'ms' ? 1 : 1000)
      if (ms >= 0 && ms <= secondsMax * 1000) return ms
      context.issues.push({
        code: 'custom',
        message: `expected a time up to ${secondsMax}s, such as 30s or 500ms`,
        input: value,
      })
      return z.NEVER
    })
    .openapi({ type: 'string', example: '30s' })
}

const SPAN = /^(\d{1,6})(s|m|h)?$/
const SPAN_UNIT_MS = { s: 1_000, m: 60_000, h: 3_600_000 } as const

/** `90s`, `15m`, `1h`, or `90` for seconds, as milliseconds; null when it is none. */
function spanMs(value: string): number | null {
  const [, amount, unit = 's'] = SPAN.exec(value) ?? []
  return amount === undefined ? null : Number(amount) * SPAN_UNIT_MS[unit as keyof typeof SPAN_UNIT_MS]
}

/** A length of time, read as milliseconds. */
export function span(secondsMin: number, secondsMax: number) {
  return z
    .string()
    .transform((value, context) => {
      const ms = spanMs(value)
      if (ms !== null && ms >= secondsMin * 1000 && ms <= secondsMax * 1000) return ms
      context.issues.push({
        code: 'custom',
        message: `expected a time from ${secondsMin}s to ${secondsMax}s, such as 30s or 5m`,
        input: value,
      })
      return z.NEVER
    })
    .openapi({ type: 'string', example: '1m' })
}

const MOMENT = /^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.\d{1,3})?Z?$/

type Since = { readonly atMs: number } | { readonly agoMs: number }

/** A moment: as dialects 1 and 2 write it, or how long ago it was; null when it is neither. */
function readSince(value: string): Since | null {
  const agoMs = spanMs(value)
  if (agoMs !== null) return { agoMs }
  const atMs = MOMENT.test(value) ? Date.parse(`${value.replace(' ', 'T').replace('Z', '')}Z`) : Number.NaN
  return Number.isNaN(atMs) ? null : { atMs }
}

/** A moment, read in milliseconds. */
export const SinceQuery = z
  .string()
  .transform((value, context): Since => {
    const since = readSince(value)
    if (since) return since
    context.issues.push({
      code: 'custom',
      message: 'expected how long ago, such as 15m, or a moment in UTC, such as 2016-11-22T10:22:32Z',
      input: value,
    })
    return z.NEVER
  })
  .openapi({ type: 'string', example: '15m' })

/** A whole number written in a query. */
export function wholeNumber(min: number, max: number) {
  return z
    .string()
    .transform((value, context) => {
      const number = /^\d{1,9}$/.test(value) ? Number(value) : Number.NaN
      if (number >= min && number <= max) return number
      context.issues.push({
        code: 'custom',
        message: `expected a whole number from ${min} to ${max}`,
        input: value,
      })
      return z.NEVER
    })
    .openapi({ type: 'integer', minimum: min, maximum: max })
}

const URL_CHARS_MAX = 2048

/** Where an image is fetched from. Without credentials, since the address is shown and logged. */
export const ImageUrl = checkedString((value) => {
  if (value.length > URL_CHARS_MAX)
    return `is ${value.length} characters long; at most ${URL_CHARS_MAX} are allowed`
  const url = URL.parse(value)
  if (!url || UNPRINTABLE.test(value) || !['http:', 'https:', 'file:'].includes(url.protocol)) {
    return 'expected an http://, https:// or file:// URL'
  }
  if (url.username || url.password)
    return 'must not carry a user name or a password: it is shown to every user'
  return null
}).openapi({ format: 'uri', maxLength: URL_CHARS_MAX })

export const Sha256 = z
  .string()
  .regex(/^[0-9a-fA-F]{64}$/, 'expected 64 hexadecimal digits')
  .transform((value) => value.toLowerCase())
  .openapi({ type: 'string', pattern: '^[0-9a-fA-F]{64}$' })

const PATH_CHARS_MAX = 1024

/** A folder on a host. */
export const FolderPath = checkedString((value) => {
  if (!value.startsWith('/')) return 'expected an absolute path, such as /var/lib/vpe/pool'
  if (value.length > PATH_CHARS_MAX)
    return `is ${value.length} characters long; at most ${PATH_CHARS_MAX} are allowed`
  if (UNPRINTABLE.test(value)) return 'must not contain control characters or line breaks'
  if (value.split('/').some((part) => part === '.' || part === '..'))
    return 'must not contain . or .. as a folder'
  return null
}).openapi({ maxLength: PATH_CHARS_MAX, example: '/var/lib/vpe/pool' })

const ADDRESS = /^(\[[0-9a-fA-F:.]+\]|[0-9A-Za-z._-]+):(\d{1,5})$/

/** host:port of an agent. */
export const AgentAddress = checkedString((value) => {
  const port = Number(ADDRESS.exec(value)?.[2] ?? 0)
  if (value.length > 255 || port < 1 || port > 65_535) return 'expected host:port, such as 127.0.0.1:7702'
  return null
}).openapi({ maxLength: 255, example: '127.0.0.1:7702' })

/** Where events are delivered. */
export const ReceiverUrl = checkedString(webhookUrlFault).openapi({
  format: 'uri',
  maxLength: 2048,
  example: 'https://example.org/vpe-events',
})

export const WebhookSecret = checkedString(webhookSecretFault).openapi({
  description: 'whsec_ and 24 to 64 bytes in base64; never shown again',
  pattern: '^whsec_[A-Za-z0-9+/]{32,86}={0,2}$',
})

const FILTER_KINDS: ReadonlySet<string> = new Set(['*', ...EVENT_KINDS])

/** Which events a webhook is told of. */
export const EventFilter = checkedString((value) => {
  const filter = parseEventFilter(value)
  if (filter && FILTER_KINDS.has(filter.kind)) return null
  return `expected <kind>.<what> such as instance.started, * for either, or * alone; kinds are ${EVENT_KINDS.join(', ')}`
}).openapi({ example: 'instance.*' })

/** Where in the event log: behind an event, or a moment. */
export const LogPlaceQuery = z
  .string()
  .transform((value, context): LogPosition | Since => {
    const place = parsePosition(value) ?? readSince(value)
    if (place) return place
    context.issues.push({
      code: 'custom',
      message:
        'expected the id of an event, how long ago, such as 15m, or a moment in UTC, such as 2016-11-22T10:22:32Z',
      input: value,
    })
    return z.NEVER
  })
  .openapi({ type: 'string', example: '15m' })

/** What a client had last, as its stream gave it. */
export const LogPositionText = z
  .string()
  .transform((value, context): LogPosition => {
    const position = parsePosition(value)
    if (position) return position
    context.issues.push({
      code: 'custom',
      message: 'expected an id that this stream gave before, such as 1763781234567-42',
      input: value,
    })
    return z.NEVER
  })
  .openapi({ type: 'string', example: '1763781234567-42' })
