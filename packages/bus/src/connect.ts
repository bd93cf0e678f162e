// The NATS connection of a process: it reconnects for ever, since no process of vpe stops working
// because NATS is away.

import type { NatsConnection } from '@nats-io/nats-core'
import { connect } from '@nats-io/transport-node'

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
): Promise<NatsConnection> {
  const connection = await connect({
    servers: url.split(','),
    name,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 250,
    waitOnFirstConnect: true,
    pingInterval: 5_000,
    maxPingOut: 2,
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
