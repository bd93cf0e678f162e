// Instances that nobody starts elsewhere, on hosts that do not answer: their users are told why. Nothing is done about them; when
// their host is back, what it reports of them counts as ever.

import { decideCutOff, type HostRecord, hostOfGuest, type InstanceRecord } from '@vpe/core'
import { describeStay, type HaInstance, type StaysBecause, type WatchedHost } from '@vpe/core/ha'
import type { Logger } from 'pino'
import { commitDecision } from '../instance-commit.ts'
import { disksOf } from '../instance-disks.ts'
import type { Store } from '../store/store.ts'
import type { HaPools } from './ports.ts'

export interface HaSight {
  host(hostId: string): WatchedHost | null
  instance(uuid: string): HaInstance | null
}

/** What is believed of a silent host may change. */
const LOOK_MS = 5_000

export class SilentHosts {
  readonly #store: Store
  readonly #pools: HaPools | null
  readonly #sight: HaSight | null
  readonly #now: () => number
  readonly #log: Logger
  #timer: NodeJS.Timeout | null = null

  /** @param pools null where nothing guards anything */
  constructor(store: Store, pools: HaPools | null, sight: HaSight | null, now: () => number, log: Logger) {
    this.#store = store
    this.#pools = pools
    this.#sight = sight
    this.#now = now
    this.#log = log
    store.listen({
      onHost: (before, after) => {
        if (after?.state === 'down' && before?.state === 'up') this.look()
      },
    })
  }

  start(): void {
    this.#timer = setInterval(() => this.look(), LOOK_MS)
  }

  close(): void {
    if (this.#timer) clearInterval(this.#timer)
  }

  /** Tells of what has changed since: which hosts are silent, and what is believed of them. */
  look(): void {
    for (const host of this.#store.hosts.values()) {
      if (host.state !== 'down') continue
      for (const uuid of this.#store.usage.instancesOfHost(host.uuid)) {
        const record = this.#store.instances.get(uuid)
        if (record && hostOfGuest(record) === host.uuid) this.#tell(host, record)
      }
    }
  }

  #tell(host: HostRecord, record: InstanceRecord): void {
    const because = this.#whyStays(record)
    if (!because) return
    const fault = describeStay(host.name, this.#sight?.host(host.uuid) ?? undefined, because)
    const decision = decideCutOff(record, fault)
    if (decision)
      commitDecision(this.#store, record, decision, this.#now(), this.#log, { what: 'unreachable' })
  }

  /** Null where recovery looks after it. */
  #whyStays(record: InstanceRecord): StaysBecause | null {
    if (!record.ha) return { kind: 'not-ha' }
    const uuids = [record.diskPoolUuid, ...disksOf(this.#store, record.uuid).map((disk) => disk.diskPoolUuid)]
    const pools = uuids.flatMap((uuid) => this.#store.diskPools.get(uuid) ?? [])
    const local = pools.find(({ shared }) => !shared)
    if (local) return { kind: 'local-pool', poolName: local.name }
    const ha = this.#sight?.instance(record.uuid)
    if (ha?.state === 'lost' || ha?.state === 'releasing') return null
    for (const { uuid, name } of pools) {
      const armed = ha?.pools.find(({ pool }) => pool === uuid)
      if (armed && armed.poolClass !== 'N') continue
      const why = armed || !ha ? this.#pools?.classOf(uuid).why : 'its guest is not armed there'
      return { kind: 'unguarded-pool', poolName: name, why: why ?? 'no agent here has a guard' }
    }
    return null
  }
}
