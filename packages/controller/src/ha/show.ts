// What the keeper knows, as messages. It counts on a monotonic clock; people are told times of day.

import type { HostId, InstanceId } from '@vpe/core'
import type { HostPool, Proof, WatchedHost } from '@vpe/core/ha'
import type { Disarm, Failover, HaHost, HaInstance, HaPool, HaProof, HaSighting } from '@vpe/proto'
import type { Store } from '../store/store.ts'
import type { Disarm as DisarmRecord, DisarmScope, Failover as FailoverRecord, HaView } from './ports.ts'

export interface HaShowDeps {
  readonly store: Pick<Store, 'hosts' | 'instances' | 'diskPools'>
  readonly view: HaView
  /** Time of day, in milliseconds. */
  readonly now: () => number
}

export class HaShow {
  readonly #deps: HaShowDeps

  constructor(deps: HaShowDeps) {
    this.#deps = deps
  }

  /** Undefined where the keeper does not watch it. */
  host(hostId: HostId): HaHost | undefined {
    const host = this.#deps.view.host(hostId)
    if (!host) return undefined
    const { phase, why, sinceMs, heardMs, bootId, canPowerOff, pools, sightings, proofs } = host
    return {
      phase,
      why,
      sinceMs: this.#timeOf(sinceMs),
      heardMs: this.#timeOf(heardMs),
      bootId,
      canPowerOff,
      pools: pools.map((pool) => this.#pool(pool)),
      sightings: sightings.map((seen) => this.#sighting(seen)),
      proofs: proofs.map((proof) => this.#proof(proof)),
      disarmedUntilMs: this.disarmedUntilMs({ kind: 'host', hostId }),
    }
  }

  /** Undefined where the keeper does not look after it. */
  instance(uuid: InstanceId): HaInstance | undefined {
    const instance = this.#deps.view.instance(uuid)
    if (!instance) return undefined
    const { state, why, generation, hostId, pools, proofs, startedBy, relocations } = instance
    return {
      state,
      why,
      generation,
      hostId,
      hostName: this.hostName(hostId),
      pools: pools.map((pool) => this.#pool(pool)),
      proofs: proofs.map((proof) => this.#proof(proof)),
      startedBy: startedBy.map((proof) => this.#proof(proof)),
      relocations,
      disarmedUntilMs: this.disarmedUntilMs({ kind: 'instance', uuid }),
    }
  }

  failover({ clock, proofs, ...failover }: FailoverRecord): Failover {
    return {
      instanceUuid: failover.uuid,
      instanceName: failover.instanceName,
      generation: failover.generation,
      fromHostId: failover.fromHostId,
      fromHostName: this.hostName(failover.fromHostId),
      toHostId: failover.toHostId ?? '',
      toHostName: this.hostName(failover.toHostId ?? ''),
      why: failover.why,
      lastHeardMs: clock.lastHeardMs ?? 0,
      suspectedMs: clock.suspectedMs ?? 0,
      provenMs: clock.provenMs ?? 0,
      placedMs: clock.placedMs ?? 0,
      runningMs: clock.runningMs ?? 0,
      answeredMs: failover.answeredMs ?? 0,
      proofs: proofs.map(({ kind, why }) => ({ kind, why, diskPoolUuid: '', diskPoolName: '', atMs: 0 })),
    }
  }

  disarm({ scope, untilMs, who, why }: DisarmRecord): Disarm {
    const hostId = scope.kind === 'host' ? scope.hostId : ''
    const instanceUuid = scope.kind === 'instance' ? scope.uuid : ''
    const instanceName = this.#deps.store.instances.get(instanceUuid)?.name ?? ''
    return { hostId, hostName: this.hostName(hostId), instanceUuid, instanceName, untilMs, who, why }
  }

  /** Those that have not run out, the first to do so first. */
  disarms(): DisarmRecord[] {
    const { view, now } = this.#deps
    return view
      .disarms()
      .filter(({ untilMs }) => untilMs > now())
      .sort((a, b) => a.untilMs - b.untilMs)
  }

  /** 0 where it is armed. */
  disarmedUntilMs(scope: DisarmScope): number {
    return this.disarms().find((each) => isSameScope(each.scope, scope))?.untilMs ?? 0
  }

  hostName(hostId: HostId): string {
    return this.#deps.store.hosts.get(hostId)?.name ?? ''
  }

  #poolName(uuid: string): string {
    return this.#deps.store.diskPools.get(uuid)?.name ?? ''
  }

  #pool({ pool, poolClass, canRevoke }: HostPool): HaPool {
    return { uuid: pool, name: this.#poolName(pool), poolClass, canRevoke }
  }

  #proof({ kind, pool, why, atMs }: Proof): HaProof {
    const diskPoolUuid = pool ?? ''
    return { kind, why, diskPoolUuid, diskPoolName: this.#poolName(diskPoolUuid), atMs: this.#timeOf(atMs) }
  }

  #sighting({ observer, pool, sighting, atMs }: WatchedHost['sightings'][number]): HaSighting {
    return {
      observerId: observer,
      observerName: this.hostName(observer),
      diskPoolUuid: pool,
      diskPoolName: this.#poolName(pool),
      kind: sighting.kind,
      staleForMs: sighting.kind === 'stale' ? Math.round(sighting.staleForMs) : 0,
      poolHealthy: sighting.isPoolHealthy,
      why: sighting.kind === 'unknown' ? sighting.why : '',
      atMs: this.#timeOf(atMs),
    }
  }

  #timeOf(monotonicMs: number): number {
    return Math.round(this.#deps.now() - (performance.now() - monotonicMs))
  }
}

export function isSameScope(a: DisarmScope, b: DisarmScope): boolean {
  if (a.kind === 'host') return b.kind === 'host' && a.hostId === b.hostId
  if (a.kind === 'instance') return b.kind === 'instance' && a.uuid === b.uuid
  return b.kind === 'cluster'
}
