// VpeError <-> gRPC status. The code travels as google.rpc.ErrorInfo.reason and the fields as
// google.rpc.BadRequest, so that the receiver acts on a code and never reads prose.

import { ERROR_CODES, type ErrorCode, VpeError } from '@vpe/core'
import { ClientError, Status } from 'nice-grpc'
import { BadRequest, ErrorInfo, RichClientError, RichServerError } from 'nice-grpc-error-details'

/** Names who the reasons belong to, as google.rpc.ErrorInfo wants it. */
const ERROR_DOMAIN = 'vpe'

const STATUS_OF_CODE: Record<ErrorCode, Status> = {
  INVALID_ARGUMENT: Status.INVALID_ARGUMENT,
  NOT_FOUND: Status.NOT_FOUND,
  NAME_TAKEN: Status.ALREADY_EXISTS,
  AMBIGUOUS_NAME: Status.FAILED_PRECONDITION,
  CONFLICT: Status.FAILED_PRECONDITION,
  IN_USE: Status.FAILED_PRECONDITION,
  NO_HOST_FITS: Status.RESOURCE_EXHAUSTED,
  NO_FAILOVER_ROOM: Status.RESOURCE_EXHAUSTED,
  IDEMPOTENCY_KEY_REUSED: Status.INVALID_ARGUMENT,
  HOST_UNREACHABLE: Status.FAILED_PRECONDITION,
  IMAGE_INVALID: Status.FAILED_PRECONDITION,
  DISK_POOL_FAILED: Status.FAILED_PRECONDITION,
  DISK_POOL_FULL: Status.RESOURCE_EXHAUSTED,
  DEVICE_BUSY: Status.FAILED_PRECONDITION,
  HYPERVISOR_FAILED: Status.INTERNAL,
  WRONG_HOST: Status.FAILED_PRECONDITION,
  STALE_EPOCH: Status.ABORTED,
  STALE_GENERATION: Status.ABORTED,
  SUPERSEDED: Status.ABORTED,
  CONSOLE_TOKEN_REFUSED: Status.PERMISSION_DENIED,
  JOIN_TOKEN_REFUSED: Status.PERMISSION_DENIED,
  PERMISSION_DENIED: Status.PERMISSION_DENIED,
  UNAVAILABLE: Status.UNAVAILABLE,
  INTERNAL: Status.INTERNAL,
}

/** The error to throw from a service method, for an error of ours. */
export function toServerError(error: VpeError): RichServerError {
  const info = ErrorInfo.fromPartial({ reason: error.code, domain: ERROR_DOMAIN })
  const fieldViolations = error.fields.map((fault) => ({ field: fault.field, description: fault.message }))
  return new RichServerError(STATUS_OF_CODE[error.code], error.message, [
    info,
    ...(fieldViolations.length > 0 ? [BadRequest.fromPartial({ fieldViolations })] : []),
  ])
}

/**
 * The error that a failed call stands for. A status without our ErrorInfo comes from the transport or
 * from a peer of another version: UNAVAILABLE when the peer did not answer, INTERNAL otherwise.
 */
export function fromClientError(error: unknown): VpeError {
  if (error instanceof VpeError) return error
  if (error instanceof RichClientError) {
    const info = error.extra.find((detail): detail is ErrorInfo => detail.$type === ErrorInfo.$type)
    const code = ERROR_CODES.find((known) => known === info?.reason)
    if (info?.domain === ERROR_DOMAIN && code) {
      const bad = error.extra.find((detail): detail is BadRequest => detail.$type === BadRequest.$type)
      const fields = (bad?.fieldViolations ?? []).map((v) => ({ field: v.field, message: v.description }))
      return new VpeError(code, error.details, { fields, cause: error })
    }
  }
  if (error instanceof ClientError) {
    const silent =
      [Status.UNAVAILABLE, Status.DEADLINE_EXCEEDED, Status.CANCELLED].includes(error.code) || isCutOff(error)
    return new VpeError(
      silent ? 'UNAVAILABLE' : 'INTERNAL',
      `${error.path}: ${error.details || Status[error.code]}`,
      {
        cause: error,
      },
    )
  }
  if (error instanceof Error && (error.name === 'TimeoutError' || error.name === 'AbortError')) {
    return new VpeError('UNAVAILABLE', 'no answer in time', { cause: error })
  }
  return new VpeError('INTERNAL', error instanceof Error ? error.message : String(error), { cause: error })
}

/** The connection went before the answer came, which grpc-js calls INTERNAL: nobody has refused anything. */
function isCutOff({ code, details }: ClientError): boolean {
  return code === Status.INTERNAL && details.startsWith('Received RST_STREAM')
}
