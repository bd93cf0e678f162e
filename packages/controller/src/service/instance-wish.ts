// A user's wish about one instance, from decision to what is committed: its row, its operation, its event.

import {
  type DiskRecord,
  endOperation,
  type InstanceDecision,
  type InstanceRecord,
  VpeError,
} from '@vpe/core'
import type { Instance } from '@vpe/proto'
import { commitOfDecision } from '../instance-commit.ts'
import { disksOf } from '../instance-disks.ts'
import type { Store } from '../store/store.ts'
import { change, type PlacementRecord } from '../store/tables.ts'
import { instanceToWire } from '../wire.ts'
import { assertNotCaptured, commitOfEndedCaptures } from './images.ts'
import { type Mutation, startOperation } from './mutation.ts'

/** Wishes that may be no affair of the host's: without a new generation, the commit itself fulfils them. */
const DONE_BY_COMMIT: ReadonlySet<string> = new Set(['instance.update', 'instance.lock', 'instance.unlock'])

export type CarryOut = (
  kind: string,
  instance: InstanceRecord,
  decision: InstanceDecision | null,
  /** Why it goes where the decision says. */
  placement?: PlacementRecord | null,
) => Mutation<{ instance: Instance; operationUuid: string }>

/** Makes a wish an operation; one that changes nothing ends where the instance comes to rest, or has ended already. */
export function createCarryOut(store: Store, now: () => number): CarryOut {
  return (kind, instance, decision, placement = null) => {
    const next = decision?.next ?? instance
    // What its host must carry out would end a copy of its disk, or change what is copied.
    const isStuck = kind === 'instance.delete' && store.hosts.get(instance.hostId)?.state === 'down'
    if (next.generation !== instance.generation) {
      // On a host that is down, a capture ends with neither waiting nor deleting its image.
      if (!isStuck) assertNotCaptured(store, instance)
      if (kind !== 'instance.delete') assertNotCloned(store, instance)
    }
    const disks = disksOf(store, instance.uuid)
    const note = kind === 'instance.delete' ? noteOfKept(disks) : ''
    const operation = startOperation(kind, instance.uuid, now(), {
      generation: next.generation,
      placementUuid: placement?.uuid ?? null,
      note,
    })
    const response = { instance: instanceToWire(store, next), operationUuid: operation.uuid }
    const running = store.runningOperationsOf(instance.uuid)
    if (DONE_BY_COMMIT.has(kind) && next.generation === instance.generation) {
      const done = change.operation(endOperation(operation, 'succeeded', now()))
      if (!decision) return { changes: [done], events: [], response }
      const { changes, events } = commitOfDecision(instance, decision, running, now(), disks)
      return { changes: [...changes, done], events, response }
    }
    const effective = decision ?? { next: instance, why: 'it is so already' }
    const { changes, events } = commitOfDecision(instance, effective, [...running, operation], now(), disks)
    const placed = placement ? [change.placement(placement)] : []
    const captures = decision && isStuck ? commitOfEndedCaptures(store, instance, now()) : null
    return {
      changes: decision
        ? [...changes, ...placed, ...(captures?.changes ?? [])]
        : changes.filter((each) => each.table === 'operations'),
      events: decision ? [...events, ...(captures?.events ?? [])] : [],
      response,
    }
  }
}

/** What a deletion leaves, for its operation. */
function noteOfKept(disks: readonly DiskRecord[]): string {
  if (disks.length === 0) return ''
  return `kept, and available once it is gone: data disk(s) ${disks.map(({ name }) => name).join(', ')}`
}

/** @throws VpeError CONFLICT while a clone waits for its copy of the system disk */
function assertNotCloned(store: Store, { uuid, name }: InstanceRecord): void {
  for (const { kind, resourceUuid } of store.operations.values()) {
    if (kind !== 'instance.create') continue
    const clone = store.instances.get(resourceUuid)
    if (clone?.diskSource?.instanceUuid !== uuid || clone.settledGeneration > 0) continue
    throw new VpeError(
      'CONFLICT',
      `instance ${name} is being cloned as ${clone.name}: wait until that is made, or delete it`,
    )
  }
}
