// How every process of vpe opens a gRPC server and dials one: the same error translation, the same
// keep-alive, and no unencrypted listener off the machine.

import { VpeError } from '@vpe/core'
import {
  type CallContext,
  type Channel,
  type ClientFactory,
  createChannel,
  createClientFactory,
  createServer,
  Metadata,
  type Server,
  ServerError,
  type ServerMiddlewareCall,
} from 'nice-grpc'
import { errorDetailsClientMiddleware, errorDetailsServerMiddleware } from 'nice-grpc-error-details'
import { toServerError } from './error-status.ts'

/** A dead peer is noticed within about keepalive_time + keepalive_timeout, also while a call waits. */
const CONNECTION = {
  'grpc.keepalive_time_ms': 5_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.keepalive_permit_without_calls': 1,
  // A list of 100,000 instances is some 40 MiB; the usual limit of 4 MiB is for strangers.
  'grpc.max_receive_message_length': 256 * 1024 ** 2,
  // With HTTP/2's own 64 KiB, a page of a list crosses in five turns, each of which waits for both event loops.
  'grpc-node.flow_control_window': 1024 ** 2,
}

/**
 * A server whose methods may throw VpeError. Any other error is a defect: `onUnexpected` is told, and
 * the caller gets INTERNAL with the message.
 */
export function createRpcServer(onUnexpected: (error: unknown, method: string) => void): Server {
  async function* translateErrors<Request, Response>(
    call: ServerMiddlewareCall<Request, Response>,
    context: CallContext,
  ) {
    try {
      return yield* call.next(call.request, context)
    } catch (error) {
      if (error instanceof VpeError) throw toServerError(error)
      if (error instanceof ServerError || context.signal.aborted) throw error
      onUnexpected(error, call.method.path)
      const message = error instanceof Error ? error.message : String(error)
      throw toServerError(new VpeError('INTERNAL', message))
    }
  }
  return createServer({
    ...CONNECTION,
    'grpc.http2.min_ping_interval_without_data_ms': 1_000,
  })
    .use(errorDetailsServerMiddleware)
    .use(translateErrors)
}

const HOST_ID_HEADER = 'vpe-host-id'

/** For the default options of an agent's client: every call then says which host it is meant for. */
export function meantForHost(hostId: string): { metadata: Metadata } {
  return { metadata: Metadata({ [HOST_ID_HEADER]: hostId }) }
}

/**
 * Server middleware of an agent: refuses calls that are meant for another host (WRONG_HOST). Addresses get
 * swapped and reused; "absent is success" from the wrong machine would lose an instance.
 */
export function refuseOtherHosts(hostId: string) {
  return async function* refuse<Request, Response>(
    call: ServerMiddlewareCall<Request, Response>,
    context: CallContext,
  ) {
    const meant = context.metadata.get(HOST_ID_HEADER)
    if (meant !== undefined && meant !== hostId) {
      throw new VpeError('WRONG_HOST', `this is the agent of host ${hostId}, the call is meant for ${meant}`)
    }
    return yield* call.next(call.request, context)
  }
}

/** Clients from this factory throw errors that `fromClientError` understands whole. */
export function createRpcClientFactory(): ClientFactory {
  return createClientFactory().use(errorDetailsClientMiddleware)
}

/** A channel to host:port. It connects by itself, and again after a loss, within a second. */
export function createRpcChannel(address: string): Channel {
  return createChannel(address, undefined, {
    ...CONNECTION,
    'grpc.initial_reconnect_backoff_ms': 200,
    'grpc.max_reconnect_backoff_ms': 1_000,
  })
}

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\]):\d+$/

/**
 * Refuses an unencrypted listener that others than this machine can reach.
 * @throws VpeError INVALID_ARGUMENT when `address` (host:port) is not on loopback
 */
export function assertLoopback(address: string, setting: string): void {
  if (LOOPBACK.test(address)) return
  throw new VpeError(
    'INVALID_ARGUMENT',
    `${setting}=${address}: this listener is neither encrypted nor authenticated, so it must be on loopback; use 127.0.0.1:<port>`,
  )
}
