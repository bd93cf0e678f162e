// What users want of the recovery of an instance.

import type { InstanceRecord } from '../instance.ts'
import type { HaInstance, Priority } from './recovery.ts'

export const ISOLATIONS = ['leave', 'restart'] as const
export type Isolation = (typeof ISOLATIONS)[number]

export const DEFAULT_PRIORITY: Priority = 'medium'
export const DEFAULT_ISOLATION: Isolation = 'leave'

/** What its user wants of the recovery of an instance, as recovery knows it. */
export function recoveryWishOf({
  haPriority,
  haIsolation,
}: Pick<InstanceRecord, 'haPriority' | 'haIsolation'>): Pick<HaInstance, 'priority' | 'isolation'> {
  return { priority: haPriority, isolation: haIsolation }
}
