// What a schema has against an input, as faults of fields: which field, what was expected, and what
// was found instead, without repeating long input back.

import { z } from '@hono/zod-openapi'
import { type FieldFault, VpeError } from '@vpe/core'

/** An answer that lists more faults than this helps nobody. */
const FAULTS_MAX = 20

/**
 * The input as the schema reads it.
 * @param whole what the input as a whole is called, where no field of it is at fault
 * @throws VpeError INVALID_ARGUMENT with the fields at fault
 */
export function parseInput<Schema extends z.ZodType>(
  schema: Schema,
  input: unknown,
  whole: string,
): z.output<Schema> {
  const result = schema.safeParse(input, { error: describeIssue })
  if (result.success) return result.data
  throw invalidInput(result.error.issues.flatMap((issue) => toFaults(issue, whole)))
}

/** The error for fields at fault; its message names them too, for those who read only that. */
export function invalidInput(faults: readonly FieldFault[]): VpeError {
  const fields = faults.slice(0, FAULTS_MAX)
  const shown = fields.slice(0, 3).map((fault) => `${fault.field}: ${fault.message}`)
  const rest = faults.length - shown.length
  const message = shown.join('; ') + (rest > 0 ? `; and ${rest} more` : '')
  return new VpeError('INVALID_ARGUMENT', message, { fields })
}

function toFaults(issue: z.core.$ZodIssue, whole: string): FieldFault[] {
  const paths =
    issue.code === 'unrecognized_keys' ? issue.keys.map((key) => [...issue.path, clip(key)]) : [issue.path]
  return paths.map((path) => ({ field: fieldName(path) || whole, message: issue.message }))
}

/** `instance.tags[3]`, as a caller would write it. */
function fieldName(path: readonly PropertyKey[]): string {
  return path.reduce<string>((name, part) => {
    if (typeof part === 'number') return `${name}[${part}]`
    return name === '' ? String(part) : `${name}.${String(part)}`
  }, '')
}

function describeIssue(issue: z.core.$ZodRawIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return issue.input === undefined
        ? `is required: expected ${kindOf(issue.expected)}`
        : `expected ${kindOf(issue.expected)}, got ${describe(issue.input)}`
    case 'invalid_value':
      return issue.input === undefined
        ? `is required: expected ${oneOf(issue.values)}`
        : `expected ${oneOf(issue.values)}, got ${describe(issue.input)}`
    case 'unrecognized_keys':
      return `unknown field; ${knownFields(issue.inst)}`
    case 'too_small':
      return `must be at least ${issue.minimum}${unitOf(issue.origin)}, got ${sizeOf(issue.input)}`
    case 'too_big':
      return `must be at most ${issue.maximum}${unitOf(issue.origin)}, got ${sizeOf(issue.input)}`
    default:
      return issue.message ?? 'is not valid'
  }
}

const KINDS: Readonly<Record<string, string>> = {
  string: 'a string',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
}

function kindOf(expected: string): string {
  return KINDS[expected] ?? expected
}

function oneOf(values: readonly unknown[]): string {
  return `${values.length > 1 ? 'one of ' : ''}${values.map((value) => JSON.stringify(value)).join(', ')}`
}

function describe(input: unknown): string {
  if (input === null) return 'null'
  if (Array.isArray(input)) return 'a list'
  if (typeof input === 'object') return 'an object'
  if (typeof input === 'string') return `the string ${JSON.stringify(clip(input))}`
  return String(input)
}

function unitOf(origin: string): string {
  if (origin === 'array') return ' entries'
  return origin === 'string' ? ' characters' : ''
}

function sizeOf(input: unknown): string {
  return Array.isArray(input) || typeof input === 'string' ? String(input.length) : String(input)
}

function knownFields(schema: unknown): string {
  const fields = schema instanceof z.ZodObject ? Object.keys(schema.shape) : []
  return fields.length > 0 ? `known here: ${fields.join(', ')}` : 'none is expected here'
}

function clip(text: string): string {
  return text.length > 64 ? `${text.slice(0, 64).toWellFormed()}…` : text
}
