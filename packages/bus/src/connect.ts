// The NATS connection of a process: it reconnects for ever, since no process of vpe stops working
// because NATS is away.

import { readFileSync } from 'node:fs'
import type { PeerCertificate } from 'node:tls'
import type { NatsConnection } from '@nats-io/nats-core'
import { connect, credsAuthenticator } from '@nats-io/transport-node'

export interface BusTls {
  readonly caFile: string
  /** What is wrong with the certificate that the server shows. */
  readonly checkServerIdentity: (host: string, certificate: PeerCertificate) => Error | undefined
}

/** What a process shows and believes, where NATS does not take everyone. */
export interface BusAccess {
  /** Path of a credentials file; read at each connection, so that a renewed one counts. */
  readonly credentials?: string | undefined
  /** For tls:// URLs: the CA that NATS has its certificate of, and how it is told from others that have one. */
  readonly tls?: BusTls | undefined
}

/**
 * Connects to NATS. Waits for a server that is not there yet and comes back after any loss.
 * @param url one or more server URLs, separated by commas
 * @param name shown in the server's connection list
 * @param onStatus told when the connection is lost and when it is back
 */
export async function connectBus(
  url: string,
  name: string,
  onStatus: (status: 'disconnect' | 'reconnect') => void = () => {},
  access: BusAccess = {},
): Promise<NatsConnection> {
  const { credentials, tls } = access
  const connection = await connect({
    servers: url.split(','),
    name,
    maxReconnectAttempts: -1,
    // Two refusals, however far apart, would end the connection for good: a server that starts with the wrong
    // configuration, or is too busy for a hand-shake.
    ignoreAuthErrorAbort: true,
    reconnectTimeWait: 250,
    waitOnFirstConnect: true,
    pingInterval: 5_000,
    maxPingOut: 2,
    ...(credentials !== undefined && { authenticator: credsAuthenticator(() => readFileSync(credentials)) }),
    ...(url.startsWith('tls://') && { tls: tls ?? {} }),
  })
  void watchStatus(connection, onStatus)
  return connection
}

async function watchStatus(
  connection: NatsConnection,
  onStatus: (status: 'disconnect' | 'reconnect') => void,
) {
  for await (const status of connection.status()) {
    if (status.type === 'disconnect' || status.type === 'reconnect') onStatus(status.type)
  }
}
