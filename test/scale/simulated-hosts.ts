// Many simulated hosts in one process: each is a gRPC server of its own with a pretended hypervisor behind it,
// and beats and hints on NATS as an agent does. They share one NATS connection, which an agent has for itself;
// what the controller gets of it is the same.

import type { NatsConnection } from '@nats-io/transport-node'
import { changedSubject, encodeHeartbeat, HEARTBEAT_INTERVAL_MS, heartbeatSubject } from '@vpe/bus'
import { FakeAgent } from '@vpe/controller/testing/fake-agent'

/** So many parts of an interval have their share of the hosts beat, so that they do not beat all at once. */
const PHASES = 20

interface SimulatedHost {
  readonly agent: FakeAgent
  isThere: boolean
  /** Of what it would report now; null when that has changed since it was asked for. */
  digest: string | null
}

export interface HostSummary {
  readonly hostId: string
  readonly address: string
}

export class SimulatedHosts {
  readonly #bus: NatsConnection
  readonly #hosts: SimulatedHost[] = []
  readonly #timer: NodeJS.Timeout
  #phase = 0

  private constructor(bus: NatsConnection) {
    this.#bus = bus
    this.#timer = setInterval(() => this.#beat(), HEARTBEAT_INTERVAL_MS / PHASES)
  }

  /** @param ip the loopback address where all of them listen, each on a port of its own */
  static async start(
    bus: NatsConnection,
    count: number,
    size: { readonly cpus: number; readonly memoryMib: number },
    ip: string,
  ): Promise<SimulatedHosts> {
    const hosts = new SimulatedHosts(bus)
    for (let n = 0; n < count; n++) await hosts.#add(size, ip)
    return hosts
  }

  get summaries(): HostSummary[] {
    return this.#hosts.map(({ agent: { hostId, address } }) => ({ hostId, address }))
  }

  /** How often inventories were read, all together; and of how many hosts at least once. */
  get inventoriesRead(): { readonly total: number; readonly hosts: number } {
    const each = this.#hosts.map(({ agent }) => agent.inventoriesRead)
    return {
      total: each.reduce((sum, count) => sum + count, 0),
      hosts: each.filter((count) => count > 0).length,
    }
  }

  resetInventoriesRead(): void {
    for (const { agent } of this.#hosts) agent.inventoriesRead = 0
  }

  /** Uuids of the domains of each host, by its id. */
  get domains(): Record<string, string[]> {
    return Object.fromEntries(this.#hosts.map(({ agent }) => [agent.hostId, [...agent.domains.keys()]]))
  }

  /** Hosts lose their power: connections break, nobody listens, nothing beats. Their domains are kept. */
  vanish(count: number): void {
    for (const host of this.#hosts.slice(0, count)) {
      host.isThere = false
      host.agent.stop()
    }
  }

  async comeBack(): Promise<void> {
    for (const host of this.#hosts.filter(({ isThere }) => !isThere)) {
      await host.agent.listen()
      host.isThere = true
    }
  }

  close(): void {
    clearInterval(this.#timer)
    for (const { agent } of this.#hosts) agent.stop()
  }

  async #add(size: { readonly cpus: number; readonly memoryMib: number }, ip: string): Promise<void> {
    const agent = await FakeAgent.start(size, `${ip}:0`)
    const host: SimulatedHost = { agent, isThere: true, digest: null }
    agent.onChange = () => {
      host.digest = null
      if (host.isThere) this.#bus.publish(changedSubject(agent.hostId))
    }
    this.#hosts.push(host)
  }

  #beat(): void {
    this.#phase = (this.#phase + 1) % PHASES
    for (let index = this.#phase; index < this.#hosts.length; index += PHASES) {
      const host = this.#hosts[index]
      if (!host?.isThere) continue
      const { agent } = host
      host.digest ??= agent.inventoryDigest()
      const { hostId, bootId, digest: hostDigest } = agent
      // As the kernel has it, the load is another one every five seconds.
      const load1 = (Math.floor(Date.now() / 5_000) % 100) / 100
      const beat = encodeHeartbeat({ hostId, bootId, epoch: 1, digest: host.digest, hostDigest, load1 })
      this.#bus.publish(heartbeatSubject(hostId), beat)
    }
  }
}
