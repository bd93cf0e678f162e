// Calls that even out the load of hosts: a plan, a plan that is carried out, and an end to that. The Rebalancer does it.

import {
  REBALANCE_BOUND_PERCENT,
  REBALANCE_MOVES,
  REBALANCE_MOVES_MAX,
  REBALANCE_PARALLEL,
  REBALANCE_PARALLEL_MAX,
  type RebalanceMoveState,
  type RebalanceRecord,
  VpeError,
} from '@vpe/core'
import {
  ControllerServiceDefinition,
  type ControllerServiceImplementation,
  type Rebalance,
  type RebalanceHostsRequest,
  RebalanceMoveState as WireMoveState,
} from '@vpe/proto'
import { eventOf, type Rebalancer } from '../rebalancer.ts'
import type { Store } from '../store/store.ts'
import { change } from '../store/tables.ts'
import type { Mutations } from './mutation.ts'
import { assertBetween } from './references.ts'

export interface RebalanceServiceDeps {
  readonly store: Store
  readonly mutations: Mutations
  readonly rebalancer: Rebalancer
}

type RebalanceMethods = Pick<
  ControllerServiceImplementation,
  'rebalanceHosts' | 'getRebalance' | 'cancelRebalance'
>

const STATES = {
  waiting: WireMoveState.WAITING,
  moving: WireMoveState.MOVING,
  moved: WireMoveState.MOVED,
  failed: WireMoveState.FAILED,
  refused: WireMoveState.REFUSED,
  needless: WireMoveState.NEEDLESS,
} satisfies Record<RebalanceMoveState, WireMoveState>

export function rebalanceMethods({ store, mutations, rebalancer }: RebalanceServiceDeps): RebalanceMethods {
  const { methods } = ControllerServiceDefinition
  const nameOf = (hostId: string) => store.hosts.get(hostId)?.name ?? ''

  function toWire(record: RebalanceRecord): Rebalance {
    const { uuid, isPeriodic, isCancelled, endedAtMs, moves, ...rest } = record
    return {
      ...rest,
      operationUuid: uuid,
      periodic: isPeriodic,
      cancelled: isCancelled,
      endedAtMs: endedAtMs ?? 0,
      moves: moves.map(({ state, generation: _, ...move }) => ({
        ...move,
        fromHostName: nameOf(move.fromHostId),
        toHostName: nameOf(move.toHostId),
        state: STATES[state],
      })),
    }
  }

  function rebalance(request: RebalanceHostsRequest) {
    const boundPercent = request.boundPercent || REBALANCE_BOUND_PERCENT
    const maxMoves = request.maxMoves || REBALANCE_MOVES
    const parallel = request.parallel || REBALANCE_PARALLEL
    assertBetween('bound_percent', boundPercent, 1, 100)
    assertBetween('max_moves', maxMoves, 1, REBALANCE_MOVES_MAX)
    assertBetween('parallel', parallel, 1, REBALANCE_PARALLEL_MAX)
    const { running } = rebalancer
    if (running && !request.dryRun) {
      throw new VpeError(
        'CONFLICT',
        `a rebalance goes on, operation ${running.uuid}: wait until it has ended, or cancel it`,
      )
    }
    const plan = rebalancer.plan(boundPercent, maxMoves)
    const begun = request.dryRun
      ? null
      : rebalancer.begin({ plan, boundPercent, parallel, isPeriodic: false })
    const moves = plan.moves.map(({ instanceUuid, ...move }) => ({
      ...move,
      instanceUuid,
      instanceName: store.instances.get(instanceUuid)?.name ?? '',
      fromHostName: nameOf(move.fromHostId),
      toHostName: nameOf(move.toHostId),
    }))
    const { spreadBeforePercent, spreadAfterPercent, isBalanced: balanced, explanation } = plan
    return {
      changes: begun?.changes ?? [],
      events: begun?.events ?? [],
      response: {
        ...{ boundPercent, spreadBeforePercent, spreadAfterPercent, balanced, explanation, moves },
        operationUuid: begun?.record.uuid ?? '',
      },
    }
  }

  function latest(): RebalanceRecord {
    const { latest } = rebalancer
    if (!latest) throw new VpeError('NOT_FOUND', 'there was no rebalance: POST /hosts/rebalance begins one')
    return latest
  }

  return {
    rebalanceHosts: mutations.method(methods.rebalanceHosts, rebalance),
    async getRebalance() {
      await store.durable()
      return { rebalance: toWire(latest()) }
    },
    /** Of one that is over, or cancelled already, nothing changes. */
    cancelRebalance: mutations.method(methods.cancelRebalance, () => {
      const record = latest()
      const isChange = record.endedAtMs === null && !record.isCancelled
      const next = isChange ? { ...record, isCancelled: true } : record
      return {
        changes: isChange ? [change.rebalance(next)] : [],
        events: isChange ? [eventOf(next, 'cancelling', {})] : [],
        response: { rebalance: toWire(next), operationUuid: record.uuid },
      }
    }),
  }
}
