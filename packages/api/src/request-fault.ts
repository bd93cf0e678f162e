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
  'HOST_NOT_FOUND',
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

/** Dialect 2 is to delete an instance whose host is not there; its guest may run on, and have its addresses. */
export class HostNotFound extends RequestFault {
  readonly podIPs: readonly string[]

  constructor(podIPs: readonly string[], cause: unknown) {
    super('HOST_NOT_FOUND', cause instanceof Error ? cause.message : String(cause), { cause })
    this.podIPs = podIPs
  }
}
