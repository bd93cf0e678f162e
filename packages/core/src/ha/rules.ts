// The few decisions of the HA protocol on which safety hangs, each with a name. Production always takes HA_RULES. The
// simulator turns one of them round at a time, and must then find the harm that it does (test/sim/mutations.ts):
// a rule whose absence nobody notices would be a rule that nobody tests.

import type { HaTimings } from './timings.ts'

export interface HaRules {
  /** Taken off the time after which an observer takes a host for dead. */
  readonly deadTooEarlyMs: number
  /** A value's age counts from the end of the first read that returned it, since it may have been written during that read. */
  readonly ageCountsFromReadEnd: boolean
  /** A lease counts from before its renewal was submitted, and one that has expired stays so, whatever is acknowledged later. */
  readonly expiryIsFinal: boolean
  /** A lease is renewed only after a look into the host's own mailbox in the same cycle. */
  readonly writerReadsMailbox: boolean
  /** A lease is renewed only while the guard has said within the last second that it watches. */
  readonly writerNeedsPermit: boolean
  /** A pill is acknowledged when all that it names is gone and, in class T, nothing of it can be written any more. */
  readonly ackFollowsDrain: boolean
  /** Who does not know counts neither for nor against a host. */
  readonly unknownIsNotStale: boolean
  /** A pill is for one incarnation of a host. */
  readonly pillNamesIncarnation: boolean
  /** A controller that has just started, or heard nothing itself, judges nobody. */
  readonly settlesFirst: boolean
  /** A host that comes back ends only what an explicit, newer record names. */
  readonly endsOnlyByRecord: boolean
  /** The guard looks at the leases before it opens the watchdog, since opening it is a pet. */
  readonly guardChecksBeforeOpening: boolean
  /** The guard looks at the leases again after each pet, since it may have been held up between look and pet. */
  readonly guardChecksAfterPet: boolean
  /** A host is stale only where others write to the same pool at the same time. */
  readonly needsHealthyPool: boolean
  /** In class T a proof counts when the last packet of the host has been executed or dropped. */
  readonly waitsForFlight: boolean
  /** Commands of a controller that has been replaced are refused. */
  readonly refusesOldEpochs: boolean
  /** Many hosts that seem lost at once are a fault of ours until a person says otherwise. */
  readonly holdsAboveThreshold: boolean
  /** Starts at a time are limited per host and for the cluster. */
  readonly limitsStarts: boolean
  /** A guest that an I/O error paused goes on only if its claim and its locks are still its host's. */
  readonly resumesOnlyOwner: boolean
  /** Losing controller or NATS ends no guest. */
  readonly survivesControllerLoss: boolean
  /** A restart on another host has a proof for each pool. */
  readonly needsProofPerPool: boolean
  /** What was asked for because of one verdict proves nothing for a later one. */
  readonly proofsAreOfVerdict: boolean
}

export const HA_RULES: HaRules = Object.freeze({
  deadTooEarlyMs: 0,
  ageCountsFromReadEnd: true,
  expiryIsFinal: true,
  writerReadsMailbox: true,
  writerNeedsPermit: true,
  ackFollowsDrain: true,
  unknownIsNotStale: true,
  pillNamesIncarnation: true,
  settlesFirst: true,
  endsOnlyByRecord: true,
  guardChecksBeforeOpening: true,
  guardChecksAfterPet: true,
  needsHealthyPool: true,
  waitsForFlight: true,
  refusesOldEpochs: true,
  holdsAboveThreshold: true,
  limitsStarts: true,
  resumesOnlyOwner: true,
  survivesControllerLoss: true,
  needsProofPerPool: true,
  proofsAreOfVerdict: true,
})

/** What every step is given beside its state, its event and the time. */
export interface HaContext {
  readonly timings: HaTimings
  readonly rules: HaRules
}

/** What a step comes to: the state after it, and what is to be done, in this order. */
export interface Step<State, Action> {
  readonly state: State
  readonly actions: readonly Action[]
}
