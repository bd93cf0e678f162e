// What can go wrong in a way that a caller is told of. One class; the code says what happened, the
// message says what was wrong, where, and what to do. docs/errors.md lists every code, and a test
// holds the two together.

export const ERROR_CODES = [
  'INVALID_ARGUMENT',
  'NOT_FOUND',
  'NAME_TAKEN',
  'AMBIGUOUS_NAME',
  'CONFLICT',
  'IN_USE',
  'NO_HOST_FITS',
  'NO_FAILOVER_ROOM',
  'IDEMPOTENCY_KEY_REUSED',
  'HOST_UNREACHABLE',
  'IMAGE_INVALID',
  'DISK_POOL_FAILED',
  'DISK_POOL_FULL',
  'DEVICE_BUSY',
  'HYPERVISOR_FAILED',
  'WRONG_HOST',
  'STALE_EPOCH',
  'STALE_GENERATION',
  'SUPERSEDED',
  'CONSOLE_TOKEN_REFUSED',
  'JOIN_TOKEN_REFUSED',
  'PERMISSION_DENIED',
  'UNAVAILABLE',
  'INTERNAL',
] as const

export type ErrorCode = (typeof ERROR_CODES)[number]

/** One field of a request that is at fault; `field` is the path as its caller wrote it. */
export interface FieldFault {
  readonly field: string
  readonly message: string
}

/** A failure with a code that programs can act on and a message that people can act on. */
export class VpeError extends Error {
  readonly code: ErrorCode
  readonly fields: readonly FieldFault[]

  constructor(
    code: ErrorCode,
    message: string,
    options: { readonly fields?: readonly FieldFault[]; readonly cause?: unknown } = {},
  ) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined)
    this.name = 'VpeError'
    this.code = code
    this.fields = options.fields ?? []
  }
}

/** Codes of failures that may pass by themselves: the same call may succeed later. */
const TRANSIENT: ReadonlySet<ErrorCode> = new Set([
  'UNAVAILABLE',
  'SUPERSEDED',
  // Another leader, or another machine at a host's address: an operator's to mend, and no fault of the instance.
  'STALE_EPOCH',
  'WRONG_HOST',
  'PERMISSION_DENIED',
])

/** Whether trying the same again later can help. */
export function isTransient(code: ErrorCode): boolean {
  return TRANSIENT.has(code)
}
