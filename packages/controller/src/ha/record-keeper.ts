// What recovery decides, in the records of instances: each change is one commit with its event, in the transaction that also
// writes down who has the instance.

import {
  decideCutOff,
  decideFailed,
  decideGiven,
  decideGuard,
  decideLetGo,
  decideMigrationFailed,
  decideReleased,
  type HostId,
  type InstanceDecision,
  type InstanceRecord,
  isLeavingLive,
} from '@vpe/core'
import {
  type HaControllerAction,
  type HaControllerState,
  type HaInstance,
  type HostPool,
  onOtherClock,
} from '@vpe/core/ha'
import type { Logger } from 'pino'
import { commitDecision, type Telling } from '../instance-commit.ts'
import type { Store } from '../store/store.ts'
import { type Change, change } from '../store/tables.ts'
import { showRecovery } from './ha-events.ts'

/** So many are kept, over all instances. */
export const FAILOVERS_KEPT = 500

type Changed = Extract<HaControllerAction, { kind: 'instance-changed' }>

export class RecordKeeper {
  readonly #store: Store
  readonly #poolsOf: (uuid: string) => readonly HostPool[] | null
  readonly #now: () => number
  readonly #log: Logger
  readonly #named: (text: string) => string

  /**
   * @param poolsOf where the disks of an instance lie; null where it is not recovered
   * @param named puts names of hosts and pools in place of their ids
   */
  constructor(
    store: Store,
    poolsOf: (uuid: string) => readonly HostPool[] | null,
    now: () => number,
    log: Logger,
    named: (text: string) => string,
  ) {
    this.#named = named
    this.#store = store
    this.#poolsOf = poolsOf
    this.#now = now
    this.#log = log
  }

  /** @param dayOffsetMs from the machine's clock to the time of day */
  carryOut(
    { instance, from }: Changed,
    before: HaControllerState,
    { watch }: HaControllerState,
    dayOffsetMs: number,
  ): void {
    const { uuid, state, why, hostId, generation } = instance
    const record = this.#store.instances.get(uuid)
    if (!record) return
    const ha = onOtherClock(instance, dayOffsetMs)
    const oldHostId = before.recovery.instances.get(uuid)?.hostId ?? null
    switch (state) {
      case 'lost':
        this.#commit(record, decideCutOff(record, this.#lostText(instance, watch)), {
          what: 'lost',
          data: { recovery: showRecovery({ ...ha, startedBy: [] }, hostId) },
        })
        return
      case 'starting': {
        // Its host is back, and has it still.
        if (generation <= record.generation) return
        const telling = { what: 'recovering', data: { recovery: showRecovery(ha, oldHostId) } }
        this.#commit(record, decideGiven(record, hostId, generation, this.#named(why)), telling)
        this.#keepFailover(record, ha, oldHostId ?? hostId)
        return
      }
      case 'running': {
        const failover = this.#store.haFailovers.get(failoverKey(ha))
        if (from !== 'starting' || !failover || failover.clock.runningMs !== null) return
        const recovered = { ...failover, clock: ha.clock }
        const recovery = showRecovery(ha, failover.fromHostId)
        this.#commit(
          record,
          { next: record, why: 'it runs again, on another host' },
          { what: 'recovered', data: { recovery }, changes: [change.haFailover(recovered)] },
        )
        return
      }
      case 'off':
        if (generation > record.generation) this.#rest(record, instance)
        return
      case 'error':
        this.#commit(record, decideFailed(record, this.#named(why)))
        return
      case 'releasing':
        return
      default:
        throw new Error(`no such state: ${state satisfies never}`)
    }
  }

  /** Says of a lost one what it waits for, and has a move end that cannot go on. */
  explain(ha: HaInstance, { watch }: HaControllerState): void {
    const record = this.#store.instances.get(ha.uuid)
    if (!record) return
    if (ha.migration?.isCancelled && isLeavingLive(record) && record.migration?.end === null)
      this.#commit(record, decideMigrationFailed(record, 'a host of it is not to be relied on', false))
    else if (ha.state === 'lost' && record.task === 'recovering')
      this.#commit(record, decideCutOff(record, this.#lostText(ha, watch)), { what: 'lost' })
  }

  /** Its guest has an address on the network: the first sign of itself after a failover is its answer (T5). */
  noteAnswer(ha: HaInstance | undefined): void {
    const failover = ha && this.#store.haFailovers.get(failoverKey(ha))
    if (!failover || failover.clock.runningMs === null || failover.answeredMs !== null) return
    void this.#store.commit([change.haFailover({ ...failover, answeredMs: this.#now() })])
  }

  /** Has its host told that it can be guarded; false where something else is under way. */
  guard(record: InstanceRecord): boolean {
    const decision = record.power === 'on' ? decideGuard(record) : null
    this.#commit(record, decision)
    return decision !== null
  }

  /** Deletions of what nobody has go on on a host that is well and reaches its pools. */
  rehome({ watch, recovery }: HaControllerState): void {
    for (const { uuid, state } of recovery.instances.values()) {
      if (state !== 'off') continue
      const record = this.#store.instances.get(uuid)
      if (record?.task !== 'deleting') continue
      const phase = watch.hosts.get(record.hostId)?.phase
      if (phase !== 'stale' && phase !== 'fenced') continue
      const pools = this.#poolsOf(uuid) ?? []
      const other = [...watch.hosts.values()].find(
        (host) =>
          host.phase === 'up' && pools.every(({ pool }) => host.pools.some((each) => each.pool === pool)),
      )
      if (!other) continue
      const why = `its host is ${phase}: another one removes it`
      this.#commit(record, decideGiven(record, other.hostId, record.generation + 1, why))
    }
  }

  /** It was taken from its host, and is not wanted on. */
  #rest(record: InstanceRecord, { generation, hostId, why }: HaInstance): void {
    // A move in which it is off in between goes on: there is nothing to be let go of any more.
    const released = record.leavingHostId === hostId ? decideReleased(record) : null
    const decision = released?.next
      ? { next: { ...released.next, generation }, why: this.#named(why) }
      : decideLetGo(record, generation, this.#named(why))
    this.#commit(record, decision)
  }

  #keepFailover(record: InstanceRecord, ha: HaInstance, fromHostId: HostId): void {
    const changes: Change[] = []
    const excess = this.#store.haFailovers.size + 1 - FAILOVERS_KEPT
    for (const key of [...this.#store.haFailovers.keys()].slice(0, Math.max(0, excess)))
      changes.push(change.remove('haFailovers', key))
    const { uuid, generation, clock, hostId, startedBy } = ha
    const why = this.#named(ha.why)
    const proofs = startedBy.map((proof) => ({ kind: proof.kind, why: this.#named(proof.why) }))
    changes.push(
      change.haFailover({
        ...{ key: failoverKey(ha), uuid, instanceName: record.name, generation },
        ...{ fromHostId, toHostId: hostId, why, clock, proofs, answeredMs: null },
      }),
    )
    void this.#store.commit(changes)
  }

  #lostText({ hostId, why }: HaInstance, { hosts }: HaControllerState['watch']): string {
    const name = this.#store.hosts.get(hostId)?.name ?? hostId
    const phase = hosts.get(hostId)?.phase
    return this.#named(`it was on host ${name}${phase ? ` (${phase})` : ''}: ${why}`)
  }

  #commit(record: InstanceRecord, decision: InstanceDecision | null, telling?: Telling): void {
    if (decision) commitDecision(this.#store, record, decision, this.#now(), this.#log, telling)
  }
}

function failoverKey({ uuid, generation }: HaInstance): string {
  return `${uuid}/${generation}`
}
