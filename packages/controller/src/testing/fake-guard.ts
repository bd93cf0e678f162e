// What guards a pretended host, and the storage that it shares with others: leases that are renewed until they are cut off, locks
// that go with the lease, and an agent that starts nothing it has let go of.

import { createHash } from 'node:crypto'
import { VpeError } from '@vpe/core'
import {
  type GetHaReportResponse,
  type HaOwnership,
  HaPhase,
  LeaseSight,
  type OrderHaRequest,
  type SightLeaseResponse,
} from '@vpe/proto'
import type { FakeAgent } from './fake-agent.ts'

/** One storage server for all hosts. */
export class FakeStorage {
  /** Since when hosts cannot reach it. */
  readonly #cutSinceMs = new Map<string, number>()
  readonly #holders = new Map<string, string>()
  readonly #revoked = new Set<string>()
  /** Whether anybody can write. */
  isUp = true
  /** After that the locks of a host that was cut off are given to others. */
  lockLeaseMs = Number.POSITIVE_INFINITY

  cut(hostId: string): void {
    this.#cutSinceMs.set(hostId, performance.now())
  }

  mend(hostId: string): void {
    this.#cutSinceMs.delete(hostId)
    this.#revoked.delete(hostId)
  }

  revoke(hostId: string): void {
    this.#revoked.add(hostId)
  }

  staleForMs(hostId: string): number {
    const sinceMs = this.#cutSinceMs.get(hostId)
    return sinceMs === undefined ? 0 : performance.now() - sinceMs
  }

  /** False where it is another's. */
  lock(uuid: string, hostId: string): boolean {
    const holder = this.#holders.get(uuid)
    if (holder !== undefined && holder !== hostId && !this.#isOut(holder)) return false
    this.#holders.set(uuid, hostId)
    return true
  }

  unlock(uuid: string, hostId: string): void {
    if (this.#holders.get(uuid) === hostId) this.#holders.delete(uuid)
  }

  #isOut(hostId: string): boolean {
    return this.#revoked.has(hostId) || this.staleForMs(hostId) >= this.lockLeaseMs
  }
}

interface Local {
  readonly generation: number
  readonly phase: HaPhase
  readonly why: string
}

export class FakeGuard {
  readonly storage: FakeStorage
  readonly orders: string[] = []
  readonly #agent: FakeAgent
  /** From which age a lease counts as stale. */
  readonly #tryMs: number
  #locals = new Map<string, Local>()
  readonly #closed = new Map<string, number>()

  constructor(agent: FakeAgent, storage: FakeStorage, tryMs: number) {
    this.#agent = agent
    this.storage = storage
    this.#tryMs = tryMs
  }

  get digest(): string {
    return createHash('sha256')
      .update(JSON.stringify([[...this.#locals], this.#others()]))
      .digest('hex')
  }

  report(): GetHaReportResponse {
    const { hostId, bootId } = this.#agent
    return {
      ...{ hostId, bootId, digest: this.digest, leases: [], guardFault: '', profile: 'default' },
      ...{ hasWatchdog: false, pausable: '', otherUuids: this.#others() },
      instances: [...this.#locals].map(([uuid, { generation, phase, why }]) => ({
        instance: { uuid, generation },
        phase,
        why,
      })),
    }
  }

  /** What comes of an apply for who has the instance. */
  apply(uuid: string, isOn: boolean, ownership: HaOwnership | undefined): void {
    if (!ownership) {
      this.#locals.delete(uuid)
      return
    }
    const { generation, bootId } = ownership
    if (!isOn) {
      this.#close(uuid, generation)
      return
    }
    if (bootId !== this.#agent.bootId) throw new VpeError('CONFLICT', 'it is for another boot')
    if ((this.#closed.get(uuid) ?? 0) >= generation)
      throw new VpeError('STALE_GENERATION', `generation ${generation} was let go of`)
    if (!this.storage.lock(uuid, this.#agent.hostId)) throw new VpeError('CONFLICT', 'its lock is held')
    this.set(uuid, generation, HaPhase.RUNNING)
  }

  expect(uuid: string, ownership: HaOwnership | undefined): void {
    if (ownership) this.set(uuid, ownership.generation, HaPhase.INCOMING)
  }

  arrive(uuid: string): void {
    const local = this.#locals.get(uuid)
    if (!local) return
    this.storage.lock(uuid, this.#agent.hostId)
    this.set(uuid, local.generation, HaPhase.RUNNING)
  }

  /** Its guest went to another host, or was stopped. */
  leave(uuid: string): void {
    const local = this.#locals.get(uuid)
    if (local) this.#close(uuid, local.generation)
  }

  set(uuid: string, generation: number, phase: HaPhase, why = ''): void {
    this.#locals.set(uuid, { generation, phase, why })
  }

  order({ order }: OrderHaRequest): void {
    if (order) this.orders.push(order.$case)
    switch (order?.$case) {
      case 'release': {
        const { uuid, generation } = order.value.instance ?? { uuid: '', generation: 0 }
        this.#agent.pull(uuid)
        this.#close(uuid, generation)
        break
      }
      case 'gate': {
        const { uuid, generation } = order.value.instance ?? { uuid: '', generation: 0 }
        const isFree = this.storage.lock(uuid, this.#agent.hostId)
        this.set(uuid, generation, HaPhase.GATED, isFree ? '' : 'its lock is held')
        break
      }
      case 'settle':
        for (const { instance } of order.value.owners) {
          const local = this.#locals.get(instance?.uuid ?? '')
          if (!instance) continue
          if (this.#others().includes(instance.uuid)) this.#agent.domains.delete(instance.uuid)
          if (!local || local.generation >= instance.generation) continue
          this.#agent.pull(instance.uuid)
          this.#close(instance.uuid, local.generation)
        }
    }
  }

  sight(hostId: string): SightLeaseResponse {
    const staleForMs = Math.floor(this.storage.staleForMs(hostId))
    const isStale = staleForMs >= this.#tryMs
    return {
      ...{ sight: isStale ? LeaseSight.STALE : LeaseSight.ALIVE, staleForMs },
      ...{ isPoolHealthy: this.storage.isUp, why: '', incarnation: hostId, bootId: 'boot' },
      ...{ selfMs: 400, watchdogMs: 300, isWatchdogArmed: false, ack: undefined },
      isGuestNetworkLost: false,
    }
  }

  /** Another boot of the host: what it had is gone. */
  reboot(): void {
    for (const uuid of this.#locals.keys()) this.storage.unlock(uuid, this.#agent.hostId)
    this.#locals = new Map()
  }

  /** What it has a domain of that it did not start, or has let go of. */
  #others(): string[] {
    const isKnown = (uuid: string) => (this.#locals.get(uuid)?.phase ?? HaPhase.CLOSED) !== HaPhase.CLOSED
    return [...this.#agent.domains.keys()].filter((uuid) => !isKnown(uuid))
  }

  #close(uuid: string, generation: number): void {
    this.#closed.set(uuid, Math.max(generation, this.#closed.get(uuid) ?? 0))
    this.storage.unlock(uuid, this.#agent.hostId)
    this.set(uuid, generation, HaPhase.CLOSED, 'asked for')
  }
}
