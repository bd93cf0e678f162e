// Requests made from the OpenAPI document: right ones, and ones with something spoilt.

import fc from 'fast-check'
import type { DescribedApi, Operation, Schema } from './described.ts'

export interface MadeRequest {
  readonly method: string
  readonly path: string
  /** Undefined for none. */
  readonly body: unknown
  readonly headers: Readonly<Record<string, string>>
}

/** What there is: ids and names by the path that lists them. */
export type Known = ReadonlyMap<string, readonly string[]>

/**
 * What is put in the place of `known-0`, `known-1` … in a request: what is known when it is sent. Ids in a
 * path are mostly of what is listed there.
 */
export function fillIn({ method, path, body, headers }: MadeRequest, known: Known): MadeRequest {
  const all = [...known.values()].flat()
  const here = known.get(`/${path.split('/')[1]}`) ?? all
  const fill = (text: string, write: (value: string) => string, from = all) =>
    text.replaceAll(/known-(\d+)/g, (_, at) => write(from[Number(at) % from.length] ?? ''))
  const headerText = (value: string) => value.replaceAll(/[^\x20-\x7e]/g, '?').trim() || '?'
  return {
    method,
    path: fill(path, encodeURIComponent, path.length % 5 === 0 ? all : [...here]),
    body: body === undefined ? undefined : JSON.parse(fill(JSON.stringify(body), jsonInner)),
    headers: Object.fromEntries(
      Object.entries(headers).map(([name, value]) => [name, headerText(fill(value, String))]),
    ),
  }
}

function jsonInner(value: string): string {
  return JSON.stringify(value).slice(1, -1)
}

/** Strings to choose from, for fields that only few values suit. */
export interface Vocabulary {
  /** Ids and names of what there is; or places for them, to be filled in later. */
  readonly known: readonly string[]
  /** By the name of the field or parameter. */
  readonly ofField: Readonly<Record<string, readonly string[]>>
}

/** Any request to one of the operations. */
export function anyRequest(api: DescribedApi, vocabulary: Vocabulary): fc.Arbitrary<MadeRequest> {
  const makers = api.operations.map((operation) => requestTo(operation, api, vocabulary))
  return fc.oneof(...makers)
}

function requestTo(
  operation: Operation,
  api: DescribedApi,
  vocabulary: Vocabulary,
): fc.Arbitrary<MadeRequest> {
  const made = (schema: Schema, name: string) => anyValue(schema, name, api, vocabulary)
  const parameters = operation.parameters.map(({ name, in: place, required, schema }) => {
    const value = fc.oneof({ weight: 9, arbitrary: made(schema, name) }, { weight: 1, arbitrary: spoilt })
    const isLeftOut = place === 'path' || required ? fc.constant(false) : fc.boolean()
    return fc.record({ name: fc.constant(name), place: fc.constant(place), value, isLeftOut })
  })
  const right = operation.body ? made(operation.body.schema, '') : fc.constant(undefined)
  const body = fc.oneof(
    { weight: 6, arbitrary: right },
    {
      weight: 3,
      arbitrary: fc.tuple(right, fc.nat(), spoilt).map(([value, at, bad]) => spoil(value, at, bad)),
    },
    { weight: 1, arbitrary: spoilt },
  )
  return fc.tuple(fc.tuple(...parameters), body).map(([given, content]) => {
    let path = operation.path
    const query = new URLSearchParams()
    const headers: Record<string, string> = {}
    for (const { name, place, value, isLeftOut } of given) {
      if (isLeftOut) continue
      const texts = (Array.isArray(value) ? value : [value]).map(asText)
      if (place === 'path') path = path.replace(`{${name}}`, encodeURIComponent(texts.join()) || '-')
      if (place === 'query') for (const text of texts) query.append(name, text)
      if (place === 'header') headers[name] = texts.join()
    }
    const search = query.size > 0 ? `?${query}` : ''
    return {
      method: operation.method,
      path: path + search,
      body: operation.body ? content : undefined,
      headers,
    }
  })
}

/** A value that the schema allows, or nearly so: patterns are met by trying. */
function anyValue(
  schema: Schema,
  name: string,
  api: DescribedApi,
  vocabulary: Vocabulary,
): fc.Arbitrary<unknown> {
  const { type, properties, items, ...rules } = api.resolve(schema)
  const variants = rules.anyOf ?? rules.oneOf
  if (variants) return fc.oneof(...variants.map((variant) => anyValue(variant, name, api, vocabulary)))
  if ('const' in rules) return fc.constant(rules.const)
  if (rules.enum) return fc.constantFrom(...rules.enum)
  if (Array.isArray(type)) {
    const whole = { ...rules, ...(properties && { properties }), ...(items && { items }) }
    return fc.oneof(...type.map((one) => anyValue({ ...whole, type: one }, name, api, vocabulary)))
  }
  switch (type) {
    case 'object': {
      const fields = Object.entries(properties ?? {}).map(
        ([key, field]) => [key, anyValue(field, key, api, vocabulary)] as const,
      )
      return fc.record(Object.fromEntries(fields), { requiredKeys: [...(rules.required ?? [])] })
    }
    case 'array': {
      const length = { minLength: rules.minItems ?? 0, maxLength: Math.min(rules.maxItems ?? 4, 4) }
      return fc.array(anyValue(items ?? {}, name, api, vocabulary), length)
    }
    case 'integer':
      return fc.integer({ min: rules.minimum ?? -10, max: Math.min(rules.maximum ?? 1e6, 2 ** 31 - 1) })
    case 'number':
      return fc.double({ min: rules.minimum ?? -10, max: rules.maximum ?? 1e6, noNaN: true })
    case 'boolean':
      return fc.boolean()
    case 'null':
      return fc.constant(null)
    default:
      return anyText(rules, name, vocabulary)
  }
}

function anyText(rules: Schema, name: string, { known, ofField }: Vocabulary): fc.Arbitrary<string> {
  const words = ofField[name]
  if (words) return fc.constantFrom(...words)
  if (rules.format === 'uuid') return fc.oneof({ weight: 8, arbitrary: fc.constantFrom(...known) }, fc.uuid())
  const examples = typeof rules.example === 'string' ? [rules.example] : []
  const maxLength = Math.min(rules.maxLength ?? 64, 200)
  return fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(...known, ...examples) },
    { weight: 3, arbitrary: fc.stringMatching(/^[a-z][a-z0-9-]{0,20}$/) },
    { weight: 1, arbitrary: fc.string({ unit: 'grapheme', minLength: rules.minLength ?? 0, maxLength }) },
  )
}

/** What is right nowhere, or hardly anywhere. */
const spoilt: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    true,
    -1,
    0,
    1.5,
    2 ** 53,
    1e308,
    '',
    ' ',
    '\u0000',
    '../..',
    'ünïcödé',
    '%',
  ),
  fc.constantFrom<unknown>([], {}, [null], { a: 1 }, 'x'.repeat(10_000), '__proto__', 'constructor'),
  fc.string({ unit: 'binary', maxLength: 20 }),
  fc.json({ maxDepth: 2 }).map((text) => JSON.parse(text)),
)

/** Puts something bad in the place of one of the values, or beside them, or takes one away. */
function spoil(value: unknown, at: number, bad: unknown): unknown {
  if (typeof value !== 'object' || value === null) return bad
  const keys = Object.keys(value)
  const key = keys[at % (keys.length + 1)]
  if (key === undefined) return Array.isArray(value) ? [...value, bad] : { ...value, unheard_of: bad }
  const inner = (value as Record<string, unknown>)[key]
  const isDeep = typeof inner === 'object' && inner !== null && at % 5 !== 0
  const entries = Object.entries(value).flatMap(([name, each]) => {
    if (name !== key) return [[name, each] as const]
    if (!isDeep && at % 3 === 0) return []
    return [[name, isDeep ? spoil(inner, Math.floor(at / 7), bad) : bad] as const]
  })
  return Array.isArray(value) ? entries.map(([, each]) => each) : Object.fromEntries(entries)
}

/** Not by String: an object whose own toString is no function has none. */
function asText(value: unknown): string {
  return typeof value === 'object' ? (value === null ? '' : JSON.stringify(value)) : String(value)
}
