// What users asked of the disks of an instance, and its host cannot carry out. The instance itself is
// well, so it goes on without that, and the operations fail with the reason.

import { decideDiskFailed, decideDisksChange, type InstanceRecord } from '@vpe/core'
import type { Logger } from 'pino'
import { commitOfDiskDecision, joinCommits } from './disk-commit.ts'
import { commitOfDecision } from './instance-commit.ts'
import { disksOf } from './instance-disks.ts'
import type { Store } from './store/store.ts'

/** Takes such wishes back. False when there are none. */
export function takeBackDiskWishes(
  store: Store,
  instance: InstanceRecord,
  fault: string,
  nowMs: number,
  log: Logger,
): boolean {
  const now = store.instances.get(instance.uuid)
  if (now?.generation !== instance.generation || now.task === null || now.task === 'deleting') return false
  const disks = disksOf(store, now.uuid)
  const commits = disks.flatMap((disk) => {
    const operations = store.runningOperationsOn(disk.uuid)
    const decision = operations.length > 0 ? decideDiskFailed(disk, fault) : null
    return decision ? commitOfDiskDecision(disk, decision, operations, nowMs) : []
  })
  if (commits.length === 0) return false
  const decision = decideDisksChange(now, `a change of its disks is taken back: ${fault}`)
  const running = store.runningOperationsOf(now.uuid)
  const { changes, events } = joinCommits([
    ...commits,
    commitOfDecision(now, decision, running, nowMs, disks),
  ])
  void store.commit(changes, events)
  log.warn({ instance: now.uuid, why: decision.why }, 'instance moved')
  return true
}
