// Calls about operations, placements, and whether the controller can do its work.

import { type OperationRecord, VpeError } from '@vpe/core'
import type { ControllerServiceImplementation } from '@vpe/proto'
import type { DiskKeeper } from '../disk-keeper.ts'
import type { HostDrainer } from '../host-drainer.ts'
import type { ImageImporter } from '../image-importer.ts'
import type { InstanceReconciler } from '../instance-reconciler.ts'
import { tellDepartures } from '../pool-departures.ts'
import type { Rebalancer } from '../rebalancer.ts'
import type { SnapshotKeeper } from '../snapshot-keeper.ts'
import type { Store } from '../store/store.ts'
import { operationToWire, placementToWire } from '../wire.ts'
import { assertBetween } from './references.ts'

const WAIT_MAX_MS = 60_000
const LIST_DEFAULT = 100
const LIST_MAX = 1_000

type OperationMethods = Pick<
  ControllerServiceImplementation,
  'getOperation' | 'listOperations' | 'getPlacement' | 'getReadiness'
>

export interface OperationServiceDeps {
  readonly store: Store
  readonly reconciler: InstanceReconciler
  readonly importer: ImageImporter
  readonly diskKeeper: DiskKeeper
  readonly snapshotKeeper: SnapshotKeeper
  readonly drainer: HostDrainer
  readonly rebalancer: Rebalancer
  /** Why the controller cannot do all of its work; empty when it can. */
  readonly troubles: () => string[]
}

export function operationMethods(deps: OperationServiceDeps): OperationMethods {
  const { store, reconciler, importer, diskKeeper, snapshotKeeper, drainer, rebalancer, troubles } = deps
  const waiters = new Map<string, Set<() => void>>()
  store.listen({
    onOperationEnded: ({ uuid }) => {
      for (const wake of waiters.get(uuid) ?? []) wake()
    },
  })

  async function waitForEnd(uuid: string, ms: number, signal: AbortSignal): Promise<void> {
    const ended = Promise.withResolvers<void>()
    const timer = setTimeout(ended.resolve, Math.min(ms, WAIT_MAX_MS))
    signal.addEventListener('abort', () => ended.resolve(), { once: true })
    const others = waiters.get(uuid) ?? new Set()
    waiters.set(uuid, others.add(ended.resolve))
    await ended.promise
    clearTimeout(timer)
    others.delete(ended.resolve)
    if (others.size === 0) waiters.delete(uuid)
  }

  function show(operation: OperationRecord) {
    const { kind, resourceUuid } = operation
    if (kind.startsWith('image.')) {
      return operationToWire(operation, `importing ${importer.progressPercent(resourceUuid)} %`)
    }
    if (kind === 'host.drain') return operationToWire(operation, drainer.stepOf(resourceUuid))
    if (kind === 'host.rebalance') return operationToWire(operation, rebalancer.stepOf(resourceUuid))
    const pool = store.diskPools.get(resourceUuid)
    if (pool) return operationToWire(operation, tellDepartures(store, pool, operation.uuid))
    const holder = store.disks.get(resourceUuid)?.instanceUuid
    return operationToWire(
      operation,
      diskKeeper.stepOf(resourceUuid) ||
        snapshotKeeper.stepOf(resourceUuid) ||
        reconciler.stepOf(holder ?? resourceUuid),
    )
  }

  return {
    async getOperation({ uuid, waitMs }, context) {
      if (waitMs > 0 && store.operations.has(uuid)) await waitForEnd(uuid, waitMs, context.signal)
      await store.durable()
      const operation = store.operations.get(uuid) ?? (await store.backend.findOperation(uuid))
      if (!operation) throw new VpeError('NOT_FOUND', `there is no operation ${uuid}`)
      return { operation: show(operation) }
    },
    async listOperations({ resourceUuid, limit }) {
      await store.durable()
      assertBetween('limit', limit, 0, LIST_MAX)
      const bound = limit || LIST_DEFAULT
      const operations = await store.backend.listOperations(resourceUuid || null, bound)
      return { operations: operations.map(show) }
    },
    async getPlacement({ uuid }) {
      await store.durable()
      const placement = await store.backend.findPlacement(uuid)
      if (!placement) throw new VpeError('NOT_FOUND', `there is no placement ${uuid}`)
      return { placement: placementToWire(placement) }
    },
    async getReadiness() {
      const reasons = troubles()
      return { ready: reasons.length === 0, reasons }
    },
  }
}
