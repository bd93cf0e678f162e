// What those who carry out records (reconciler, monitor) have to know of who has an instance.

import type { InstanceDecision, InstanceRecord, PlannedAction } from '@vpe/core'
import type { HaOwnership } from '@vpe/proto'

export interface Ownerships {
  /** Why nothing may be done for an instance by way of its host now; null where it may. */
  whyHeld(instance: InstanceRecord, action: PlannedAction['kind']): string | null
  /**
   * By what it may run on its host, for its spec; undefined where it needs no such thing. What is given by that is in the store,
   * and durable after `Store.durable`.
   * @throws VpeError UNAVAILABLE where it may not be started there now
   */
  own(instance: InstanceRecord): HaOwnership | undefined
  /** Whether what its host reports counts: not that of one which is to let go of it, nor that it gives up on what recovery tries elsewhere. */
  isBelieved(instance: InstanceRecord, decision: InstanceDecision): boolean
  /**
   * Its host answers, and cannot do what a start takes.
   * @returns whether that is recovery's affair, which tries elsewhere
   */
  noteStartFailed(instance: InstanceRecord, why: string): boolean
}
