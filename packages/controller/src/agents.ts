// gRPC connections to the agents, one for each address that is in use.

import type { HostRecord } from '@vpe/core'
import {
  type AgentServiceClient,
  AgentServiceDefinition,
  createRpcChannel,
  createRpcClientFactory,
  meantForHost,
  type TlsFolder,
} from '@vpe/proto'
import type { Channel } from 'nice-grpc'

export interface AgentConnection {
  readonly client: AgentServiceClient
  close(): void
}

/** Dials an agent at host:port; with a host id, another host's agent there refuses every call. */
export type AgentDialer = (address: string, hostId?: string) => AgentConnection

export const dialAgent: AgentDialer = agentDialer()

/** @param folder the controller's certificate; with it, only the certificate of the host that is meant will do */
export function agentDialer(folder?: TlsFolder): AgentDialer {
  return (address, hostId) => {
    const expected =
      hostId === undefined ? { role: 'agent' as const } : { role: 'agent' as const, name: hostId }
    const channel: Channel = createRpcChannel(address, folder && { folder, expected })
    const options = hostId === undefined ? {} : { '*': meantForHost(hostId) }
    const client = createRpcClientFactory().create(AgentServiceDefinition, channel, options)
    return { client, close: () => channel.close() }
  }
}

export class Agents {
  readonly #dial: AgentDialer
  readonly #connections = new Map<
    string,
    { readonly address: string; readonly connection: AgentConnection }
  >()

  constructor(dial: AgentDialer = dialAgent) {
    this.#dial = dial
  }

  /** The client for a host; dials when there is none yet or its address has changed. */
  client(host: Pick<HostRecord, 'uuid' | 'address'>): AgentServiceClient {
    const known = this.#connections.get(host.uuid)
    if (known?.address === host.address) return known.connection.client
    known?.connection.close()
    const connection = this.#dial(host.address, host.uuid)
    this.#connections.set(host.uuid, { address: host.address, connection })
    return connection.client
  }

  /** A connection that belongs to no host yet; the caller closes it. */
  dial(address: string): AgentConnection {
    return this.#dial(address)
  }

  forget(hostId: string): void {
    this.#connections.get(hostId)?.connection.close()
    this.#connections.delete(hostId)
  }

  close(): void {
    for (const { connection } of this.#connections.values()) connection.close()
    this.#connections.clear()
  }
}
