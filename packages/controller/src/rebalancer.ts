// Plans how the load of hosts is evened out, and carries plans out: a few moves at a time, each judged again before it
// begins. All of it is seen from the records, at each change of them, so a restart at any line goes on.

import { randomUUID } from 'node:crypto'
import type { VpeEvent } from '@vpe/bus'
import {
  checkMove,
  endOperation,
  type HostTable,
  type InstanceRecord,
  outcomeOfRebalance,
  planRebalance,
  planRebalanceStep,
  REBALANCE_MOVES,
  REBALANCE_PARALLEL,
  type RebalanceInstance,
  type RebalancePlan,
  type RebalanceRecord,
  type RebalanceRunMove,
  rebalanceOf,
  tellRebalance,
  VpeError,
} from '@vpe/core'
import type { Logger } from 'pino'
import { reservationOf } from './host-table-keeper.ts'
import { hasLocalDisks } from './instance-disks.ts'
import type { StartMove } from './service/migrations.ts'
import { moveRequest } from './service/move-request.ts'
import { startOperation } from './service/mutation.ts'
import type { Store } from './store/store.ts'
import { type Change, change } from './store/tables.ts'

/** Rebalances that nobody asks for. */
export interface RebalancePolicy {
  /** 0 for none. */
  readonly everyMs: number
  readonly boundPercent: number
}

export interface RebalancerDeps {
  readonly store: Store
  /** All hosts, as placement reads them. */
  readonly hosts: HostTable
  readonly startMove: StartMove
  /** What is being done for an instance, for people. */
  readonly stepOf: (instanceUuid: string) => string
  readonly policy: RebalancePolicy
  readonly now: () => number
  readonly log: Logger
  /** Told of a defect: the process must end. */
  readonly onFatal: (error: unknown) => void
}

interface BeginWish {
  readonly plan: RebalancePlan
  readonly boundPercent: number
  readonly parallel: number
  readonly isPeriodic: boolean
}

export class Rebalancer {
  readonly #deps: RebalancerDeps
  #isDue = false
  #isClosed = false
  #timer: NodeJS.Timeout | null = null

  constructor(deps: RebalancerDeps) {
    this.#deps = deps
    deps.store.listen({
      onRebalance: () => this.look(),
      onInstance: (before, after) => {
        const uuid = (after ?? before)?.uuid
        if (this.running?.moves.some(({ instanceUuid }) => instanceUuid === uuid)) this.look()
      },
    })
  }

  start(): void {
    const { policy, onFatal } = this.#deps
    this.look()
    if (policy.everyMs === 0) return
    this.#timer = setInterval(() => {
      try {
        this.#beginByItself()
      } catch (error) {
        onFatal(error)
      }
    }, policy.everyMs)
  }

  close(): void {
    this.#isClosed = true
    if (this.#timer) clearInterval(this.#timer)
  }

  /** The latest that was begun; null where there was none. */
  get latest(): RebalanceRecord | null {
    return [...this.#deps.store.rebalances.values()].at(-1) ?? null
  }

  get running(): RebalanceRecord | null {
    const { latest } = this
    return latest?.endedAtMs === null ? latest : null
  }

  /** How far a rebalance is, for people; empty where it is over. */
  stepOf(uuid: string): string {
    const { running } = this
    return running?.uuid === uuid ? tellRebalance(running, this.#deps.stepOf) : ''
  }

  plan(boundPercent: number, maxMoves: number): RebalancePlan {
    const { store, hosts } = this.#deps
    const instancesOn = (hostId: string) =>
      [...store.usage.instancesOfHost(hostId)].flatMap((uuid) => {
        const instance = store.instances.get(uuid)
        return instance ? seenByRebalance(store, instance) : []
      })
    return planRebalance({ table: hosts, instancesOn, boundPercent, maxMoves })
  }

  /** What begins to carry a plan out, in place of the rebalance before it, which is over. */
  begin({ plan, boundPercent, parallel, isPeriodic }: BeginWish): {
    record: RebalanceRecord
    changes: Change[]
    events: VpeEvent[]
  } {
    const { store, now } = this.#deps
    const uuid = randomUUID()
    const nameOf = (instanceUuid: string) => store.instances.get(instanceUuid)?.name ?? instanceUuid
    const more = { uuid, isPeriodic, boundPercent, parallel, startedAtMs: now() }
    const record = rebalanceOf(plan, nameOf, more)
    const operation = { ...startOperation('host.rebalance', uuid, now()), uuid }
    return {
      record,
      changes: [
        ...[...store.rebalances.keys()].map((before) => change.remove('rebalances', before)),
        change.rebalance(record),
        change.operation(operation),
      ],
      events: [eventOf(record, 'started', { moves: record.moves.length })],
    }
  }

  /** Looks again: soon, once however often this is called meanwhile. */
  look(): void {
    if (this.#isDue || this.#isClosed || !this.running) return
    this.#isDue = true
    setImmediate(() => {
      this.#isDue = false
      if (this.#isClosed) return
      try {
        while (this.#goOn());
      } catch (error) {
        this.#deps.onFatal(error)
      }
    })
  }

  #beginByItself(): void {
    const { store, policy, log } = this.#deps
    if (this.running) return
    const plan = this.plan(policy.boundPercent, REBALANCE_MOVES)
    if (plan.moves.length === 0) return
    const { boundPercent } = policy
    const begun = this.begin({ plan, boundPercent, parallel: REBALANCE_PARALLEL, isPeriodic: true })
    log.info({ rebalance: begun.record.uuid, moves: plan.moves.length }, plan.explanation)
    void store.commit(begun.changes, begun.events)
  }

  /** Takes one step. False where nothing more can be done now. */
  #goOn(): boolean {
    const { store } = this.#deps
    const record = this.running
    if (!record) return false
    const { moves, next, isOver } = planRebalanceStep(record, (uuid) => store.instances.get(uuid) ?? null)
    const seen = { ...record, moves }
    if (isOver) {
      this.#end(seen)
      return false
    }
    const move = next === null ? undefined : moves[next]
    if (next === null || !move) {
      if (JSON.stringify(moves) !== JSON.stringify(record.moves)) void store.commit([change.rebalance(seen)])
      return false
    }
    const begun = this.#tryMove(seen, move)
    const after = { ...seen, moves: moves.with(next, begun.move) }
    void store.commit([...begun.changes, change.rebalance(after)], begun.events)
    return true
  }

  /** What begins one move, if it is still to be made. */
  #tryMove(
    { moves, boundPercent, spreadBeforePercent }: RebalanceRecord,
    move: RebalanceRunMove,
  ): { move: RebalanceRunMove; changes: readonly Change[]; events: readonly VpeEvent[] } {
    const { store, hosts, startMove, log } = this.#deps
    const instance = store.instances.get(move.instanceUuid)
    if (!instance) throw new Error(`a move is to begin whose instance is gone: ${move.instanceUuid}`)
    const underWay = moves.flatMap(({ state, instanceUuid, fromHostId }) => {
      const load = store.instances.get(instanceUuid)
      return state === 'moving' && load ? { load, fromHostId } : []
    })
    const verdict = checkMove({
      ...{ table: hosts, underWay, boundPercent, spreadMaxPercent: spreadBeforePercent },
      ...{ instance: seenByRebalance(store, instance), fromHostId: move.fromHostId, toHostId: move.toHostId },
    })
    if (verdict.kind !== 'go')
      return { move: { ...move, state: verdict.kind, why: verdict.why }, changes: [], events: [] }
    try {
      const started = startMove(instance, { wanted: move.toHostId })
      return { ...started, move: { ...move, state: 'moving', generation: instance.generation + 1 } }
    } catch (error) {
      if (!(error instanceof VpeError)) throw error
      log.debug({ instance: instance.uuid, code: error.code }, error.message)
      return { move: { ...move, state: 'refused', why: error.message }, changes: [], events: [] }
    }
  }

  #end(record: RebalanceRecord): void {
    const { store, now, log } = this.#deps
    const ended = { ...record, endedAtMs: now() }
    const { status, fault } = outcomeOfRebalance(record)
    const operation = store.operations.get(record.uuid)
    const done = operation ? [change.operation(endOperation(operation, status, now(), fault))] : []
    const moves = record.moves.map(({ instanceUuid, instanceName, fromHostId, toHostId, state, why }) => ({
      ...{ instance_uuid: instanceUuid, name: instanceName },
      ...{ from_host_uuid: fromHostId, to_host_uuid: toHostId, state, why },
    }))
    void store.commit([change.rebalance(ended), ...done], [eventOf(ended, status, { moves })])
    log.info({ rebalance: record.uuid, status, fault }, 'rebalance over')
  }
}

export function eventOf(record: RebalanceRecord, what: string, data: Record<string, unknown>): VpeEvent {
  const { uuid, isPeriodic, boundPercent } = record
  return {
    ...{ kind: 'rebalance', id: uuid, what },
    data: { operation_uuid: uuid, periodic: isPeriodic, bound_percent: boundPercent, ...data },
  }
}

function seenByRebalance(store: Store, instance: InstanceRecord): RebalanceInstance {
  const { uuid, hostIds, memoryMib, status } = instance
  return {
    uuid,
    request: moveRequest(store, instance, hostIds),
    reservation: reservationOf(instance),
    copiedMib: status === 'active' ? memoryMib : 0,
    stays: whyItStays(store, instance),
  }
}

/** In the words that come after a number of instances; null where it may move. */
function whyItStays(store: Store, instance: InstanceRecord): string | null {
  const { task, status, power, diskGeneration, settledGeneration } = instance
  if (task !== null || instance.leavingHostId !== null) return 'with a task'
  if (status === 'paused' || power === 'paused') return 'paused'
  if (status === 'error') return 'in error'
  if (diskGeneration > settledGeneration) return 'to be rebuilt'
  return hasLocalDisks(store, instance) ? 'with disks in a local pool' : null
}
