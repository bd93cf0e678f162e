// What can be wrong with a request before it reaches the model: its transport, not its meaning. Codes
// of meaning are core's; these are the API node's own, and docs/errors.md lists both.

export const REQUEST_FAULT_CODES = [
  'MALFORMED_JSON',
  'UNREADABLE_BODY',
  'BODY_TOO_LARGE',
  'UNSUPPORTED_MEDIA_TYPE',
  'FOREIGN_HOST',
  'FOREIGN_ORIGIN',
  'UNKNOWN_ROUTE',
  'METHOD_NOT_ALLOWED',
  'CLIENT_GONE',
] as const

export type RequestFaultCode = (typeof REQUEST_FAULT_CODES)[number]

/** A request that no route can take; `headers` go out with the answer. */
export class RequestFault extends Error {
  readonly code: RequestFaultCode
  readonly headers: Readonly<Record<string, string>>

  constructor(
    code: RequestFaultCode,
    message: string,
    options: { readonly headers?: Readonly<Record<string, string>>; readonly cause?: unknown } = {},
  ) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined)
    this.name = 'RequestFault'
    this.code = code
    this.headers = options.headers ?? {}
  }
}
