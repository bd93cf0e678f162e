// A keeper in memory: it shows what a test puts into it, and remembers what it is told.

import { VpeError } from '@vpe/core'
import { type HaInstance, type HostPool, newHaInstance, type WatchedHost } from '@vpe/core/ha'
import type { Disarm, DisarmScope, Failover, HaView } from '../ha/ports.ts'
import { isSameScope } from '../ha/show.ts'

export class MemoryHa implements HaView {
  readonly watched = new Map<string, WatchedHost>()
  readonly kept = new Map<string, HaInstance>()
  readonly ended: Failover[] = []
  readonly confirmed: { readonly hostId: string; readonly who: string }[] = []
  whyNot: string | null = null
  #disarms: readonly Disarm[] = []

  host(hostId: string) {
    return this.watched.get(hostId) ?? null
  }
  instance(uuid: string) {
    return this.kept.get(uuid) ?? null
  }
  hosts() {
    return this.watched.values()
  }
  instances() {
    return this.kept.values()
  }
  whyNoVerdicts() {
    return this.whyNot
  }
  failovers() {
    return this.ended
  }
  disarms() {
    return this.#disarms
  }
  async confirmFenced(hostId: string, who: string) {
    const host = this.watched.get(hostId)
    if (!host) throw new VpeError('NOT_FOUND', `there is no host ${hostId}`)
    if (host.phase === 'up') throw new VpeError('CONFLICT', 'the host is up')
    this.confirmed.push({ hostId, who })
  }
  async disarm(disarm: Disarm) {
    await this.arm(disarm.scope)
    this.#disarms = [...this.#disarms, disarm]
  }
  async arm(scope: DisarmScope) {
    this.#disarms = this.#disarms.filter((each) => !isSameScope(each.scope, scope))
  }
}

export function aHostPool(pool: string, over: Partial<HostPool> = {}): HostPool {
  return { pool, poolClass: 'E', canUnmount: true, canRevoke: true, ...over }
}

export function aWatchedHost(hostId: string, over: Partial<WatchedHost> = {}): WatchedHost {
  return {
    ...{ hostId, bootId: 'boot', pools: [], canPowerOff: false, phase: 'up', why: 'it is heard' },
    ...{ sinceMs: 0, lostMs: null, suspectedMs: null, verdict: null, proofs: [], report: null, heardMs: 0 },
    ...{ dial: null, dialledMs: 0, sightings: [], triedMs: new Map(), guestNetworkLostMs: null },
    ...over,
  }
}

export function aKeptInstance(uuid: string, hostId: string, over: Partial<HaInstance> = {}): HaInstance {
  const wish = { uuid, pools: [], priority: 'medium', memoryMib: 256, isolation: 'leave' } as const
  return { ...newHaInstance(wish, hostId, 'boot'), state: 'running', why: 'its host reports it', ...over }
}
