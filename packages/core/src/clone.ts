// A clone is a new instance whose system disk begins as a copy of another's. The copy is read from the file,
// and only while no guest has it: what QEMU has in hand is not all in the file, and its lock says so.

import { VpeError } from './errors.ts'
import type { InstanceId, SnapshotId } from './ids.ts'
import { type InstanceRecord, phaseOf } from './instance.ts'
import type { SnapshotRecord } from './snapshot.ts'

/** What the first content of a system disk is copied from. */
export interface DiskSource {
  readonly instanceUuid: InstanceId
  /** Null for its content as it is. */
  readonly snapshotUuid: SnapshotId | null
}

/** @throws VpeError CONFLICT when its disk, or that snapshot, cannot be copied now */
export function assertClonable(source: InstanceRecord, snapshot: SnapshotRecord | null): void {
  const phase = phaseOf(source)
  if (phase !== 'shutoff') {
    const mend = source.task === null ? 'stop it' : 'wait until that has ended'
    const advice =
      phase === 'deleting' ? '' : `; ${mend}, then try again: its disk is copied while no guest has it`
    throw new VpeError('CONFLICT', `instance ${source.uuid} cannot be cloned: it is ${phase}${advice}`)
  }
  if (snapshot && snapshot.status !== 'available') {
    const words = `cannot be cloned from snapshot ${snapshot.name}: that is ${snapshot.status}`
    throw new VpeError('CONFLICT', `instance ${source.uuid} ${words}`)
  }
}
