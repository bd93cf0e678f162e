// The mutation gate: each rule that safety hangs on, turned round, must be found out. A rule that may be broken without the
// simulator noticing is a rule that the simulator does not test.

import type { HaRules } from '@vpe/core/ha'
import type { FaultName } from './faults.ts'
import type { Focus } from './history.ts'
import type { LockServer } from './sim-pool.ts'

export interface Mutation {
  readonly rules: Partial<HaRules>
  readonly what: string
  /** Where its harm shows. */
  readonly focus: Focus
}

const timed: readonly LockServer[] = ['no-locks', 'nfs3-broken-test', 'nfs3-sticky']
const enforced: readonly LockServer[] = ['nfs4']
const any: readonly LockServer[] = [...enforced, ...timed]

const on = (lockServers: readonly LockServer[], ...faults: FaultName[]): Focus => ({ faults, lockServers })

export const mutations: Readonly<Record<string, Mutation>> = {
  'dead-too-early': {
    rules: { deadTooEarlyMs: 3_000 },
    what: 'T_dead is 3 s shorter',
    focus: on(timed, 'lateEnd'),
  },
  'age-from-read-start': {
    rules: { ageCountsFromReadEnd: false },
    what: 'the age of a lease counts from the start of the first read',
    focus: on(timed, 'slowReaders'),
  },
  'late-ack-revives': {
    rules: { expiryIsFinal: false },
    what: 'a late acknowledgement counts from when it comes, and cancels a fence',
    focus: on(timed, 'lateAck'),
  },
  'mailbox-not-read': {
    rules: { writerReadsMailbox: false },
    what: 'leases are renewed without a look into the mailbox',
    focus: on(any, 'agentDies'),
  },
  'no-permit': {
    rules: { writerNeedsPermit: false },
    what: 'leases are renewed without a guard',
    focus: on(any, 'guardDeath'),
  },
  'ack-before-drain': {
    rules: { ackFollowsDrain: false },
    what: 'a pill is answered before its guests are gone',
    focus: { ...on(timed, 'guestNetworkLost'), isolation: 'restart' },
  },
  'unknown-is-stale': {
    rules: { unknownIsNotStale: false },
    what: 'who does not know counts as having seen it stale',
    focus: on(any, 'poolOutage', 'managementCut'),
  },
  'pill-for-any-incarnation': {
    rules: { pillNamesIncarnation: false },
    what: 'a pill is obeyed by a later incarnation',
    focus: { ...on(any, 'guestNetworkLost'), isolation: 'restart' },
  },
  'no-settling': {
    rules: { settlesFirst: false },
    what: 'a controller judges as soon as it starts',
    focus: on(any, 'controllerDies', 'powerLoss'),
  },
  'ends-by-absence': {
    rules: { endsOnlyByRecord: false },
    what: 'what is not on a list is ended',
    focus: on(any, 'recordIsLost'),
  },
  'opens-before-checking': {
    rules: { guardChecksBeforeOpening: false },
    what: 'the guard opens the watchdog before it looks at the leases',
    focus: on(timed, 'lateEnd'),
  },
  'no-check-after-pet': {
    rules: { guardChecksAfterPet: false },
    what: 'no look at the leases after a pet',
    focus: on(timed, 'lateEnd'),
  },
  'no-positive-control': {
    rules: { needsHealthyPool: false },
    what: 'a pool that is down makes its hosts stale',
    focus: on(any, 'poolTakesNoWrites', 'managementCut'),
  },
  'no-wait-for-flight': {
    rules: { waitsForFlight: false },
    what: 'the last packets are not waited for',
    focus: on(timed, 'lingeringPackets'),
  },
  'old-epochs-obeyed': {
    rules: { refusesOldEpochs: false },
    what: 'a replaced controller is obeyed',
    focus: on(any, 'controllerHangs', 'reset'),
  },
  'no-threshold': {
    rules: { holdsAboveThreshold: false },
    what: 'any number of hosts is judged at once',
    focus: on(any, 'rackIsLost', 'rackIsLost'),
  },
  'no-limits': {
    rules: { limitsStarts: false },
    what: 'any number of instances is started at once',
    focus: on(any, 'powerLoss'),
  },
  'resumes-anyway': {
    rules: { resumesOnlyOwner: false },
    what: 'a guest goes on after an I/O error, whoever owns it',
    focus: on(enforced, 'isolation'),
  },
  'ends-in-silence': {
    rules: { survivesControllerLoss: false },
    what: 'guests end when no controller is heard',
    focus: on(any, 'managementCut'),
  },
  'proof-for-one-pool': {
    rules: { needsProofPerPool: false },
    what: 'a proof for one of several pools will do',
    focus: on(any, 'storageCut'),
  },
  'late-proof': {
    rules: { proofsAreOfVerdict: false },
    what: 'what an attempt of a former verdict comes to counts for the present one',
    focus: on(enforced, 'slowWord'),
  },
}
