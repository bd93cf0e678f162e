// How every process of vpe opens a gRPC server and dials one: the same error translation, the same
// keep-alive, the same check of who calls, and no unencrypted listener off the machine.

import { createHash, X509Certificate } from 'node:crypto'
import type { PeerCertificate } from 'node:tls'
import { type ChannelCredentials, ServerInterceptingCall, type ServerInterceptor } from '@grpc/grpc-js'
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
import {
  type Caller,
  type ExpectedPeer,
  parsePeerUri,
  peerOfAltNames,
  peerUri,
  refuseCaller,
} from './peer.ts'
import type { TlsFolder } from './tls.ts'

/** A dead server is noticed within about keepalive_time + keepalive_timeout, also while a call waits. */
const CONNECTION = {
  'grpc.keepalive_time_ms': 5_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.keepalive_permit_without_calls': 1,
  // A list of 100,000 instances is some 40 MiB; the usual limit of 4 MiB is for strangers.
  'grpc.max_receive_message_length': 256 * 1024 ** 2,
  // With HTTP/2's own 64 KiB, a page of a list crosses in five turns, each of which waits for both event loops.
  'grpc-node.flow_control_window': 1024 ** 2,
  // Books about every call and channel, for a debugging service that nobody here serves.
  'grpc.enable_channelz': 0,
}

/** How a server shows itself, and whom it lets in: with a certificate of the cluster's CA, or anyone. */
export interface ServerTls {
  readonly folder: TlsFolder
  readonly clients: 'certified' | 'anyone'
  /** Why a key (SHA-256 of its SubjectPublicKeyInfo, in hex) counts no more, in ASCII; null where it does. */
  readonly whyRevoked?: (keySha256: string) => string | null
}

/** What anybody may send is held in memory before it is looked at. */
const FOR_STRANGERS = { 'grpc.max_receive_message_length': 64 * 1024, 'grpc.max_concurrent_streams': 4 }

/**
 * A server whose methods may throw VpeError. Any other error is a defect: `onUnexpected` is told, and
 * the caller gets INTERNAL with the message. With `tls` every call is held to the roles of peer.ts; without,
 * the server must be on loopback, where all callers count as this machine's operator.
 */
export function createRpcServer(
  onUnexpected: (error: unknown, method: string) => void,
  tls?: ServerTls,
): Server {
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
  const server = createServer({
    ...CONNECTION,
    // A client that has gone costs a server little, and one that is only busy would lose all its calls.
    'grpc.keepalive_time_ms': 30_000,
    'grpc.keepalive_timeout_ms': 20_000,
    'grpc.http2.min_ping_interval_without_data_ms': 1_000,
    ...(tls?.clients === 'anyone' && FOR_STRANGERS),
    interceptors: [stateCaller(tls !== undefined, tls?.whyRevoked)],
  })
    .use(errorDetailsServerMiddleware)
    .use(translateErrors)
    .use(checkCaller)
  return tls ? listeningWith(server, tls) : server
}

function listeningWith<Ext>(server: Server<Ext>, tls: ServerTls): Server<Ext> {
  return {
    ...server,
    use: (middleware) => listeningWith(server.use(middleware), tls),
    listen: (address) => server.listen(address, tls.folder.serverCredentials(tls.clients)),
  }
}

/** How the caller gets from the socket, which only interceptors see, to middleware and methods. */
const CALLER_HEADER = 'vpe-caller'
const REVOKED_HEADER = 'vpe-caller-revoked'

/** By the fingerprint of the certificate: to read it takes longer than most calls. */
const keysKnown = new Map<string, string>()
const KEYS_KNOWN_MAX = 20_000

function keySha256Of({ raw, fingerprint256 }: PeerCertificate): string {
  const known = keysKnown.get(fingerprint256)
  if (known !== undefined) return known
  const spki = new X509Certificate(raw).publicKey.export({ type: 'spki', format: 'der' })
  const sha256 = createHash('sha256').update(spki).digest('hex')
  if (keysKnown.size >= KEYS_KNOWN_MAX) keysKnown.clear()
  keysKnown.set(fingerprint256, sha256)
  return sha256
}

/** Writes down who calls, over whatever the caller wrote there itself. */
function stateCaller(isTls: boolean, whyRevoked?: (keySha256: string) => string | null): ServerInterceptor {
  return (_method, call) =>
    new ServerInterceptingCall(call, {
      start(next) {
        next({
          onReceiveMetadata(metadata, proceed) {
            const certificate = call.getAuthContext().sslPeerCertificate
            const peer = peerOfAltNames(certificate?.subjectaltname)
            metadata.remove(REVOKED_HEADER)
            const why = certificate && whyRevoked?.(keySha256Of(certificate))
            if (why) metadata.set(REVOKED_HEADER, why)
            metadata.set(CALLER_HEADER, !isTls ? 'loopback' : peer ? peerUri(peer) : 'stranger')
            proceed(metadata)
          },
        })
      },
    })
}

/** Who makes a call. */
export function callerOf(context: CallContext): Caller {
  const stated = context.metadata.get(CALLER_HEADER) ?? ''
  return stated === 'loopback' ? stated : (parsePeerUri(stated) ?? 'stranger')
}

async function* checkCaller<Request, Response>(
  call: ServerMiddlewareCall<Request, Response>,
  context: CallContext,
) {
  const why = refuseCaller(callerOf(context), call.method.path)
  if (why !== null) throw new VpeError('PERMISSION_DENIED', why)
  const whyRevoked = context.metadata.get(REVOKED_HEADER)
  if (whyRevoked !== undefined)
    throw new VpeError(
      'PERMISSION_DENIED',
      `this certificate was revoked: ${whyRevoked}; join with a new token`,
    )
  return yield* call.next(call.request, context)
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

/**
 * A channel to host:port. It connects by itself, and again after a loss, within a second.
 * @param tls shows this process's certificate, and refuses a server that is not the expected one
 */
export function createRpcChannel(
  address: string,
  tls?: { readonly folder: TlsFolder; readonly expected: ExpectedPeer },
): Channel {
  const credentials = tls?.folder.channelCredentials(tls.expected)
  return credentials
    ? createChannelWith(address, credentials)
    : createChannel(address, undefined, channelOptions())
}

/** A channel to a unix socket of this machine, by its absolute path. */
export function createUnixChannel(path: string): Channel {
  return createChannel(`unix://${path}`, undefined, channelOptions())
}

/** An encrypted channel by credentials of the caller's own, which look at roles and not at names. */
export function createChannelWith(address: string, credentials: ChannelCredentials): Channel {
  // Addresses are no names that TLS may ask for.
  return createChannel(address, credentials, { ...channelOptions(), 'grpc.ssl_target_name_override': 'vpe' })
}

function channelOptions() {
  return {
    ...CONNECTION,
    'grpc.initial_reconnect_backoff_ms': 200,
    'grpc.max_reconnect_backoff_ms': 1_000,
    // Each channel is to another address; in a pool that they share, each that closes looks through all the others.
    'grpc.use_local_subchannel_pool': 1,
  }
}

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\]):\d+$/

/**
 * Refuses an unencrypted listener that others than this machine can reach.
 * @param remedy what would make another address allowed, if anything does
 * @throws VpeError INVALID_ARGUMENT when `address` (host:port) is not on loopback
 */
export function assertLoopback(address: string, setting: string, remedy = ''): void {
  if (LOOPBACK.test(address)) return
  throw new VpeError(
    'INVALID_ARGUMENT',
    `${setting}=${address}: this listener is neither encrypted nor authenticated, so it must be on loopback; use 127.0.0.1:<port>${remedy && `, or ${remedy}`}`,
  )
}
