// When an instance may be started on another host: for each of its pools there is a proof that its old owner – that boot of
// that host – cannot write there any more. Any one proof will do, and none is the only way: a BMC that does not answer
// is not the end of a recovery. What proves something depends on the class of the pool.

import type { HostId, InstanceId } from '../ids.ts'
import type { HostLease } from './blocks.ts'
import type { PoolClass } from './pool-class.ts'
import type { HaRules } from './rules.ts'
import { type HaTimings, leastDeadMs } from './timings.ts'

export const PROOF_KINDS = [
  /** Its own host has let go of it: gone, drained, and never to be started there again. */
  'released',
  /** P1: its locks were granted to another host. */
  'lock-gate',
  /** P2: the storage has shut the host out. */
  'revoked',
  /** P3: the host is powered off, and its power was read back as off. */
  'powered-off',
  /** P4: its lease is older than it can live. */
  'lease-expired',
  /** P5: the host has booted since, and runs nothing of it. */
  'rebooted',
  /** P6: the host has ended what a pill named. */
  'pill-obeyed',
  /** P7: a person says that the host is off. */
  'confirmed',
] as const
export type ProofKind = (typeof PROOF_KINDS)[number]

export interface Proof {
  readonly kind: ProofKind
  readonly hostId: HostId
  readonly bootId: string
  /** Null: for all of them. */
  readonly pool: string | null
  /** Null: for whatever ran there. */
  readonly uuid: InstanceId | null
  readonly generation: number | null
  /** When the controller learned it, on its own clock. */
  readonly atMs: number
  /** What it rests on, for whoever reads the event. */
  readonly why: string
}

/** What ends a guest's ability to write, by what keeps its pool. */
export const PROOFS_OF: Readonly<Record<PoolClass, readonly ProofKind[]>> = {
  E: ['released', 'lock-gate', 'revoked', 'powered-off', 'rebooted', 'pill-obeyed', 'confirmed'],
  T: ['released', 'revoked', 'powered-off', 'lease-expired', 'rebooted', 'pill-obeyed', 'confirmed'],
  N: ['released', 'powered-off', 'rebooted', 'confirmed'],
}

/** These are ordered by the storage itself, or have waited already. */
const WITHOUT_FLIGHT: readonly ProofKind[] = ['lock-gate', 'revoked', 'lease-expired']

export interface OldOwner {
  readonly uuid: InstanceId
  readonly generation: number
  readonly hostId: HostId
  readonly bootId: string
}

export type ProofVerdict =
  | { readonly kind: 'proven'; readonly proof: Proof }
  | { readonly kind: 'wait'; readonly untilMs: number; readonly proof: Proof }
  | { readonly kind: 'unproven' }

/** What the proofs at hand come to for one pool of an instance that was somewhere. */
export function judgeProofs(
  proofs: readonly Proof[],
  owner: OldOwner,
  pool: { readonly pool: string; readonly poolClass: PoolClass },
  nowMs: number,
  { flightMs }: HaTimings,
  rules: HaRules,
): ProofVerdict {
  let soonest: ProofVerdict = { kind: 'unproven' }
  for (const proof of proofs) {
    if (!isAbout(proof, owner, pool.pool) || !PROOFS_OF[pool.poolClass].includes(proof.kind)) continue
    const waitMs =
      pool.poolClass === 'E' || WITHOUT_FLIGHT.includes(proof.kind) || !rules.waitsForFlight ? 0 : flightMs
    const untilMs = proof.atMs + waitMs
    if (untilMs <= nowMs) return { kind: 'proven', proof }
    if (soonest.kind === 'unproven' || (soonest.kind === 'wait' && untilMs < soonest.untilMs))
      soonest = { kind: 'wait', untilMs, proof }
  }
  return soonest
}

function isAbout(proof: Proof, owner: OldOwner, pool: string): boolean {
  return (
    proof.hostId === owner.hostId &&
    proof.bootId === owner.bootId &&
    (proof.pool === null || proof.pool === pool) &&
    (proof.uuid === null || (proof.uuid === owner.uuid && proof.generation === owner.generation))
  )
}

/**
 * Whether a lease that has not changed for so long proves its host dead (P4). The time is computed from what the host itself promised
 * to keep to, and never less than what this cluster is set to.
 */
export function provesDeath(
  lease: HostLease,
  staleForMs: number,
  timings: HaTimings,
  rules: HaRules,
): boolean {
  if (!lease.isWatchdogArmed) return false
  const promised = leastDeadMs({ ...timings, selfMs: lease.selfMs, watchdogMs: lease.watchdogMs })
  return staleForMs >= Math.max(timings.deadMs, promised) - rules.deadTooEarlyMs
}

/** How many observers must agree, of so many hosts. */
export function observersNeeded(hosts: number): number {
  return Math.max(1, Math.min(2, hosts - 1))
}
