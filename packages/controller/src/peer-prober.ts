// Has hosts try whether guests can be sent between them, when one comes up and now and then, a few pairs at a time.
// What is found is a condition of the host.

import { choosePeers, type HostRecord, judgePeers, type PeerAttempt } from '@vpe/core'
import { fromClientError } from '@vpe/proto'
import type { Logger } from 'pino'
import type { Agents } from './agents.ts'
import type { HostDescriptions } from './host-descriptions.ts'
import { Slots } from './slots.ts'
import type { Store } from './store/store.ts'

const TICK_MS = 1_000
const INTERVAL_MS = 10 * 60_000
/** Where something did not work. */
const AGAIN_MS = 60_000
const TIMEOUT_MS = 15_000
/** Hosts that each host tries in one round. */
const PEERS = 2
const AT_ONCE = 32

interface Turn {
  round: number
  dueMs: number
  isRunning: boolean
}

export class PeerProber {
  readonly #store: Store
  readonly #agents: Agents
  readonly #descriptions: HostDescriptions
  readonly #now: () => number
  readonly #log: Logger
  readonly #turns = new Map<string, Turn>()
  readonly #slots = new Slots(AT_ONCE)
  #timer: NodeJS.Timeout | null = null

  constructor(store: Store, agents: Agents, descriptions: HostDescriptions, now: () => number, log: Logger) {
    this.#store = store
    this.#agents = agents
    this.#descriptions = descriptions
    this.#now = now
    this.#log = log
    store.listen({
      onHost: (before, after) => {
        if (!after) this.#turns.delete(before?.uuid ?? '')
        else if (after.state === 'up' && before?.state !== 'up') this.#turnOf(after.uuid).dueMs = this.#now()
      },
    })
  }

  start(): void {
    // Those that were there before this process are tried one after the other.
    const hosts = [...this.#store.hosts.keys()]
    for (const [index, uuid] of hosts.entries())
      this.#turnOf(uuid).dueMs = this.#now() + Math.round((INTERVAL_MS * index) / hosts.length)
    this.#timer = setInterval(() => this.#tick(), TICK_MS)
  }

  close(): void {
    if (this.#timer) clearInterval(this.#timer)
  }

  /** Has a host try others now, for somebody who waits for it. */
  async look(host: HostRecord): Promise<void> {
    await this.#look(host, this.#turnOf(host.uuid), true)
  }

  #tick(): void {
    for (const host of this.#store.hosts.values()) {
      const turn = this.#turnOf(host.uuid)
      if (host.state !== 'up' || turn.isRunning || turn.dueMs > this.#now()) continue
      turn.isRunning = true
      void this.#slots
        .run(() => this.#look(host, turn))
        .finally(() => {
          turn.isRunning = false
        })
    }
  }

  async #look(host: HostRecord, turn: Turn, isAsked = false): Promise<void> {
    const up = [...this.#store.hosts.values()].filter(({ state }) => state === 'up').map(({ uuid }) => uuid)
    const peers = choosePeers(host.uuid, up, turn.round++, PEERS)
    const tries = peers
      .flatMap((uuid) => this.#store.hosts.get(uuid) ?? [])
      .flatMap((peer) => [
        { peer: peer.name, direction: 'there' as const, tried: this.#try(host, peer) },
        { peer: peer.name, direction: 'here' as const, tried: this.#try(peer, host) },
      ])
    const attempts: PeerAttempt[] = []
    let ports = ''
    for (const { peer, direction, tried } of tries) {
      const outcome = await tried
      if (!outcome) continue
      ports = outcome.ports
      attempts.push({ peer, direction, faults: outcome.faults })
    }
    const isWell = attempts.every(({ faults }) => faults.length === 0)
    turn.dueMs = this.#now() + (isWell ? INTERVAL_MS : AGAIN_MS)
    if (attempts.length > 0) this.#descriptions.noteFinding(host.uuid, judgePeers(attempts, ports), isAsked)
  }

  /** Null where one of the two does not answer, which is found elsewhere, or receives no guests at all. */
  async #try(from: HostRecord, to: HostRecord) {
    const signal = AbortSignal.timeout(TIMEOUT_MS)
    try {
      const { port } = await this.#agents.client(to).openMigrationPort({}, { signal })
      if (!port) return null
      const { faults } = await this.#agents.client(from).tryPeer({ port }, { signal })
      return { faults, ports: port.ports }
    } catch (error) {
      this.#log.debug({ from: from.uuid, to: to.uuid, err: fromClientError(error) }, 'peers were not tried')
      return null
    }
  }

  #turnOf(hostId: string): Turn {
    const turn = this.#turns.get(hostId) ?? { round: 0, dueMs: this.#now(), isRunning: false }
    this.#turns.set(hostId, turn)
    return turn
  }
}
