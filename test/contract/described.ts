// Holds answers to the API's own OpenAPI document: each must have a status that its operation lists, and a
// body of the shape that is written there, with nothing beside it.

import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import { default as addFormats } from 'ajv-formats'

/** A JSON Schema, as far as this document uses it. */
export interface Schema {
  readonly $ref?: string
  readonly type?: string | readonly string[]
  readonly enum?: readonly unknown[]
  readonly const?: unknown
  readonly anyOf?: readonly Schema[]
  readonly oneOf?: readonly Schema[]
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly items?: Schema
  readonly format?: string
  readonly pattern?: string
  readonly example?: unknown
  readonly minLength?: number
  readonly maxLength?: number
  readonly minItems?: number
  readonly maxItems?: number
  readonly minimum?: number
  readonly maximum?: number
}

type Content = Readonly<Record<string, { readonly schema?: Schema }>>

export interface Operation {
  readonly method: string
  /** With parameters in braces. */
  readonly path: string
  readonly parameters: readonly {
    readonly name: string
    readonly in: string
    readonly required?: boolean
    readonly schema: Schema
  }[]
  readonly body: { readonly required: boolean; readonly schema: Schema } | null
  readonly responses: Readonly<Record<string, { readonly content?: Content }>>
}

interface Document {
  readonly paths: Readonly<
    Record<
      string,
      Readonly<
        Record<
          string,
          {
            readonly parameters?: Operation['parameters']
            readonly requestBody?: { readonly required?: boolean; readonly content: Content }
            readonly responses: Operation['responses']
          }
        >
      >
    >
  >
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> }
}

const ROOT = 'openapi.json'

export class DescribedApi {
  readonly operations: readonly Operation[]
  readonly #document: Document
  readonly #ajv = addFormats.default(new Ajv2020({ strict: false, allErrors: true }))
  readonly #validators = new Map<string, ValidateFunction>()

  /** @param text of /openapi.json */
  constructor(text: string) {
    this.#document = JSON.parse(text, closeObjects)
    this.#ajv.addSchema(this.#document, ROOT)
    this.operations = Object.entries(this.#document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, { parameters = [], requestBody, responses }]) => {
        const schema = requestBody?.content['application/json']?.schema
        const body = schema ? { required: requestBody?.required ?? false, schema } : null
        return { method: method.toUpperCase(), path, parameters, body, responses }
      }),
    )
  }

  resolve(schema: Schema): Schema {
    const name = schema.$ref?.replace('#/components/schemas/', '')
    return name === undefined ? schema : (this.#document.components.schemas[name] ?? {})
  }

  /** What of an answer is not as the document says; empty when all is. Paths that it does not describe may answer as they like. */
  faultsOf(
    method: string,
    path: string,
    status: number,
    contentType: string | null,
    body: unknown,
  ): string[] {
    const operation = this.operations.find((each) => each.method === method && matches(each.path, path))
    if (!operation) return []
    const response = operation.responses[status]
    if (!response) return [`${method} ${operation.path} does not say that it answers with ${status}`]
    const type = (contentType ?? '').replace(/;.*/, '')
    if (!response.content?.[type])
      return [`${method} ${operation.path} does not say that ${status} is ${type}`]
    const validate = this.#validator(operation, status, type)
    if (validate(body)) return []
    return (validate.errors ?? []).map(
      ({ instancePath, message, params }) =>
        `${method} ${operation.path} ${status}: ${instancePath} ${message} ${JSON.stringify(params)}`,
    )
  }

  #validator(operation: Operation, status: number, type: string): ValidateFunction {
    const steps = [
      'paths',
      operation.path,
      operation.method.toLowerCase(),
      'responses',
      String(status),
      'content',
      type,
    ]
    const pointer = [...steps, 'schema'].map((step) => step.replaceAll('~', '~0').replaceAll('/', '~1'))
    const ref = `${ROOT}#/${pointer.map(encodeURIComponent).join('/')}`
    const known = this.#validators.get(ref)
    if (known) return known
    const validator = this.#ajv.compile({ $ref: ref })
    this.#validators.set(ref, validator)
    return validator
  }
}

function matches(template: string, path: string): boolean {
  const steps = template.split('/')
  const given = path.replace(/\?.*/s, '').split('/')
  return (
    steps.length === given.length && steps.every((step, at) => step.startsWith('{') || step === given[at])
  )
}

/** What is not described must not be there. */
function closeObjects(_key: string, value: unknown): unknown {
  const isObject = typeof value === 'object' && value !== null && 'properties' in value && 'type' in value
  return isObject && !('additionalProperties' in value) ? { ...value, additionalProperties: false } : value
}
