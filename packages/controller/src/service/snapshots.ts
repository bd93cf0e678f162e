// Calls about snapshots of system disks. What they mean is decided in core; making and removing them is the
// keeper's affair, and reverting to one the reconciler's.

import { randomUUID } from 'node:crypto'
import {
  decideRevert,
  decideSnapshotCreate,
  decideSnapshotDelete,
  explainMisfit,
  type InstanceRecord,
  type SnapshotRecord,
  VpeError,
} from '@vpe/core'
import { ControllerServiceDefinition, type ControllerServiceImplementation } from '@vpe/proto'
import { commitOfSnapshotDecision } from '../snapshot-commit.ts'
import { change } from '../store/tables.ts'
import { snapshotToWire } from '../wire.ts'
import { createCarryOut } from './instance-wish.ts'
import type { InstanceServiceDeps } from './instances.ts'
import { inPlace } from './lifecycle.ts'
import { startOperation } from './mutation.ts'
import { assertName, getOr404 } from './references.ts'

type SnapshotMethods = Pick<
  ControllerServiceImplementation,
  'createSnapshot' | 'getSnapshot' | 'listSnapshots' | 'revertInstance' | 'deleteSnapshot'
>

export function snapshotMethods(deps: InstanceServiceDeps): SnapshotMethods {
  const { store, mutations, now } = deps
  const { methods } = ControllerServiceDefinition
  const carryOut = createCarryOut(store, now)

  /** One of the snapshots of an instance. */
  function find(instance: InstanceRecord, uuid: string): SnapshotRecord {
    const snapshot = store.snapshots.get(uuid)
    if (snapshot?.instanceUuid === instance.uuid) return snapshot
    throw new VpeError('NOT_FOUND', `instance ${instance.uuid} has no snapshot ${uuid}`)
  }

  return {
    createSnapshot: mutations.method(methods.createSnapshot, (request) => {
      const instance = getOr404(store.instances, 'instance', request.instanceUuid)
      assertName('name', request.name)
      const others = store.snapshotIndex.ofInstance(instance.uuid)
      const fresh = { uuid: randomUUID(), name: request.name, createdAtMs: now() }
      const decision = decideSnapshotCreate(instance, others, fresh)
      assertRoom(deps, instance)
      const operation = startOperation('snapshot.create', fresh.uuid, now())
      const commit = commitOfSnapshotDecision(null, decision, [operation], now())
      return {
        ...commit,
        response: {
          snapshot: decision.next ? snapshotToWire(decision.next) : undefined,
          operationUuid: operation.uuid,
        },
      }
    }),
    deleteSnapshot: mutations.method(methods.deleteSnapshot, (request) => {
      const instance = getOr404(store.instances, 'instance', request.instanceUuid)
      const snapshot = find(instance, request.uuid)
      const decision = decideSnapshotDelete(instance, snapshot)
      const operation = startOperation('snapshot.delete', snapshot.uuid, now())
      const response = { snapshot: snapshotToWire(decision?.next ?? snapshot), operationUuid: operation.uuid }
      // It is going already, and ends this operation, too.
      if (!decision) return { changes: [change.operation(operation)], events: [], response }
      const running = store.runningOperationsOn(snapshot.uuid)
      return { ...commitOfSnapshotDecision(snapshot, decision, [...running, operation], now()), response }
    }),
    revertInstance: mutations.method(methods.revertInstance, (request) => {
      const instance = getOr404(store.instances, 'instance', request.uuid)
      const snapshot = find(instance, request.snapshotUuid)
      const decision = decideRevert(instance, snapshot, store.snapshotIndex.ofInstance(instance.uuid))
      return carryOut('instance.revert', instance, decision)
    }),
    async getSnapshot({ instanceUuid, uuid }) {
      await store.durable()
      return { snapshot: snapshotToWire(find(getOr404(store.instances, 'instance', instanceUuid), uuid)) }
    },
    async listSnapshots({ instanceUuid, name }) {
      await store.durable()
      const { uuid } = getOr404(store.instances, 'instance', instanceUuid)
      const some = store.snapshotIndex.ofInstance(uuid).filter((each) => name === '' || each.name === name)
      return { snapshots: some.map(snapshotToWire) }
    },
  }
}

/** What a snapshot may come to hold back is as large as the disk, and is promised like that. */
function assertRoom({ store, hosts }: InstanceServiceDeps, instance: InstanceRecord): void {
  const host = getOr404(store.hosts, 'host', instance.hostId)
  const request = inPlace(instance, { vcpus: 0, memoryMib: 0, diskBytes: instance.diskBytes })
  // One that is down now may make it later.
  const misfit = explainMisfit(request, hosts, host.uuid, true)
  if (misfit === null) return
  throw new VpeError(
    'CONFLICT',
    `instance ${instance.uuid} cannot have a snapshot made on host ${host.name}: it ${misfit}`,
  )
}
