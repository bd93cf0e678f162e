// The call that plans how the load of hosts is evened out. It makes no move: a user makes those that suit them.

import {
  type HostTable,
  type InstanceRecord,
  planRebalance,
  REBALANCE_BOUND_PERCENT,
  REBALANCE_MOVES,
  REBALANCE_MOVES_MAX,
  type RebalanceInstance,
  VpeError,
} from '@vpe/core'
import type { ControllerServiceImplementation } from '@vpe/proto'
import { reservationOf } from '../host-table-keeper.ts'
import { disksOf } from '../instance-disks.ts'
import type { Store } from '../store/store.ts'
import { moveRequest } from './move-request.ts'
import { assertBetween } from './references.ts'

export interface RebalanceServiceDeps {
  readonly store: Store
  /** All hosts, as placement reads them. */
  readonly hosts: HostTable
}

export function rebalanceMethods({
  store,
  hosts,
}: RebalanceServiceDeps): Pick<ControllerServiceImplementation, 'rebalanceHosts'> {
  const instancesOn = (hostId: string) =>
    [...store.usage.instancesOfHost(hostId)].flatMap((uuid) => {
      const instance = store.instances.get(uuid)
      return instance ? seenByRebalance(store, instance) : []
    })

  return {
    async rebalanceHosts(request) {
      const boundPercent = request.boundPercent || REBALANCE_BOUND_PERCENT
      const maxMoves = request.maxMoves || REBALANCE_MOVES
      assertBetween('bound_percent', boundPercent, 1, 100)
      assertBetween('max_moves', maxMoves, 1, REBALANCE_MOVES_MAX)
      if (!request.dryRun) {
        const cure = 'ask with dry_run=true for the plan, and migrate its instances one by one'
        throw new VpeError('CONFLICT', `plans to rebalance are not carried out by themselves; ${cure}`)
      }
      await store.durable()
      const plan = planRebalance({ table: hosts, instancesOn, boundPercent, maxMoves })
      const nameOf = (hostId: string) => store.hosts.get(hostId)?.name ?? ''
      return {
        boundPercent,
        spreadBeforePercent: plan.spreadBeforePercent,
        spreadAfterPercent: plan.spreadAfterPercent,
        balanced: plan.isBalanced,
        explanation: plan.explanation,
        moves: plan.moves.map(({ instanceUuid, fromHostId, toHostId, copiedMib, reason, spreadPercent }) => ({
          instanceUuid,
          instanceName: store.instances.get(instanceUuid)?.name ?? '',
          fromHostId,
          fromHostName: nameOf(fromHostId),
          toHostId,
          toHostName: nameOf(toHostId),
          copiedMib,
          reason,
          spreadPercent,
        })),
      }
    },
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
  const { task, status, power, diskGeneration, settledGeneration, diskPoolUuid, uuid } = instance
  if (task !== null || instance.leavingHostId !== null) return 'with a task'
  if (status === 'paused' || power === 'paused') return 'paused'
  if (status === 'error') return 'in error'
  if (diskGeneration > settledGeneration) return 'to be rebuilt'
  const isLocal =
    !store.diskPools.get(diskPoolUuid)?.shared || disksOf(store, uuid).some(({ hostId }) => hostId !== null)
  return isLocal ? 'with disks in a local pool' : null
}
