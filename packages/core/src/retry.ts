// How a failed call to an agent is tried again. A host that is away is waited for without end, since
// only an operator can say that it will not come back; what the hypervisor itself refuses is tried
// a few times and then reported.

import { type ErrorCode, isTransient } from './errors.ts'
import type { Attempts, PlannedAction } from './plan.ts'

const FIRST_DELAY_MS = 250
const LONGEST_DELAY_MS = 15_000

/** Refusals by a hypervisor may be momentary (a lock, a busy device); more than this are not. */
const HYPERVISOR_TRIES = 4

/** How often a live migration is tried while a host does not answer: its guest runs on without it. */
const MIGRATION_TRIES = 8

/** Codes that no second try can mend. */
const FINAL: ReadonlySet<ErrorCode> = new Set([
  'INVALID_ARGUMENT',
  'IMAGE_INVALID',
  'NOT_FOUND',
  'STALE_GENERATION',
  // The guest had its time, and would get no more by another try.
  'DEVICE_BUSY',
])

/** The attempts after one more failure, with this code. */
export function afterFailure(
  attempts: Attempts | null,
  generation: number,
  code: ErrorCode,
  nowMs: number,
): Attempts {
  const before = attempts?.generation === generation ? attempts : { failures: 0, refusals: 0 }
  const failures = before.failures + 1
  const refusals = before.refusals + (isTransient(code) ? 0 : 1)
  const delay = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** (failures - 1))
  return { generation, failures, refusals, retryAtMs: nowMs + delay }
}

/** Whether to give up after a failure with this code. */
export function isHopeless(code: ErrorCode, { refusals }: Attempts): boolean {
  return FINAL.has(code) || refusals >= HYPERVISOR_TRIES
}

/**
 * Whether to give up what was to be done for an instance. Never the search for who has its guest: until that is known,
 * nothing else can be done that might not stop it. Nor the removal of what a move has left: nobody else knows of it.
 */
export function isGivenUp(kind: PlannedAction['kind'], code: ErrorCode, attempts: Attempts): boolean {
  if (kind === 'end-migration' || kind === 'sweep') return false
  return isHopeless(code, attempts) || (kind === 'migrate' && attempts.failures >= MIGRATION_TRIES)
}
