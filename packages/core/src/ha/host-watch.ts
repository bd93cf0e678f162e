// What the controller believes of each host, and why (ha.md 7.5, 7.6). Silence makes a host suspect and nothing more: what
// happens then is up to what others see of its leases in the storage. A lease that is renewed means that its guests are
// well, whoever cannot reach their host; one that is not renewed, where others renew theirs, is a verdict; where nobody can
// renew, it is the pool. And where many hosts seem lost at once, it is probably us.

import type { HostId, InstanceId } from '../ids.ts'
import type { LocalPhase } from './agent-ha.ts'
import type { InstanceGeneration } from './blocks.ts'
import { type Disarms, isClusterDisarmed, isHostDisarmed, NO_DISARMS } from './disarm.ts'
import type { PoolClass } from './pool-class.ts'
import type { Sighting } from './pool-reader.ts'
import { observersNeeded, type Proof, provesDeath } from './proofs.ts'
import type { HaContext, Step } from './rules.ts'

export const HOST_PHASES = [
  'up',
  /** Not heard, and does not answer; or it says that it has lost a pool. */
  'suspect',
  /** Not to be reached, but its leases are renewed: its guests run on. */
  'isolated',
  /** Nobody's leases are renewed there: nothing follows for any host. */
  'pool-outage',
  /** It would be a verdict, but too many hosts are lost for that. A person decides. */
  'hold',
  /** The verdict: proofs are sought. */
  'stale',
  /** Proven for all the pools of the verdict. */
  'fenced',
  /** It is back, and first ends what others have now. */
  'quarantined',
] as const
export type HostPhase = (typeof HOST_PHASES)[number]

export interface HostReport {
  readonly hostId: HostId
  readonly bootId: string
  readonly lostPools: readonly string[]
  /** Why it can guard nothing; empty or left out where it can. */
  readonly guardFault?: string
  readonly instances: readonly (InstanceGeneration & { readonly phase: LocalPhase; readonly why: string })[]
  /** Instances that it has a domain of, running or not, which are none of `instances`, or closed there. */
  readonly others?: readonly InstanceId[]
}

export interface HostPool {
  readonly pool: string
  readonly poolClass: PoolClass
  readonly canUnmount: boolean
  /** There is a way to shut a host out at the storage. */
  readonly canRevoke: boolean
}

interface Seen {
  readonly observer: HostId
  readonly pool: string
  readonly sighting: Sighting
  readonly atMs: number
}

export interface Verdict {
  readonly bootId: string
  /** When it was made: what an attempt of an earlier one comes to proves nothing for this one. */
  readonly madeMs: number
  readonly pools: readonly string[]
  /** Who saw what: kept with the verdict, so that it can be gone through later. */
  readonly evidence: readonly { observer: HostId; pool: string; kind: Sighting['kind']; staleForMs: number }[]
}

export interface WatchedHost {
  readonly hostId: HostId
  readonly pools: readonly HostPool[]
  readonly canPowerOff: boolean
  readonly phase: HostPhase
  readonly why: string
  readonly sinceMs: number
  /** When it left `up`; null while it is. */
  readonly lostMs: number | null
  readonly suspectedMs: number | null
  readonly bootId: string
  readonly verdict: Verdict | null
  readonly proofs: readonly Proof[]
  readonly report: HostReport | null
  readonly heardMs: number
  readonly dial: { readonly atMs: number; readonly isOk: boolean } | null
  readonly dialledMs: number
  readonly sightings: readonly Seen[]
  /** Attempts at revoking and powering off, and when. */
  readonly triedMs: ReadonlyMap<string, number>
  readonly guestNetworkLostMs: number | null
}

export interface HostWatchState {
  readonly hosts: ReadonlyMap<HostId, WatchedHost>
  readonly settleUntilMs: number
  readonly tickedMs: number
  readonly disarms: Disarms
}

export type HostWatchEvent =
  | {
      readonly kind: 'tick'
      /** Hosts that have something to lose: no other is shut out or switched off. */
      readonly owners: ReadonlySet<HostId>
    }
  /** All hosts that take part. */
  | {
      readonly kind: 'hosts'
      readonly hosts: readonly Pick<WatchedHost, 'hostId' | 'bootId' | 'pools' | 'canPowerOff'>[]
    }
  | { readonly kind: 'report'; readonly report: HostReport }
  /** What was heard in a while: of `heard` no more than that their latest reports still hold, and when, on the controller's clock. */
  | {
      readonly kind: 'reports'
      readonly heard: ReadonlyMap<HostId, number>
      readonly reports: readonly HostReport[]
    }
  | { readonly kind: 'dialled'; readonly hostId: HostId; readonly isOk: boolean }
  | {
      readonly kind: 'sighting'
      readonly observer: HostId
      readonly hostId: HostId
      readonly pool: string
      readonly sighting: Sighting
    }
  | {
      readonly kind: 'revoked'
      readonly hostId: HostId
      readonly bootId: string
      /** `madeMs` of the verdict that it was asked for. */
      readonly verdictMs: number
      readonly pool: string
      readonly isOk: boolean
    }
  | {
      readonly kind: 'powered-off'
      readonly hostId: HostId
      readonly bootId: string
      readonly verdictMs: number
      readonly isOff: boolean
    }
  /** A person has powered it off. */
  | { readonly kind: 'confirm-fenced'; readonly hostId: HostId; readonly who?: string }
  /** The bus was gone: what was not heard says nothing. */
  | { readonly kind: 'deaf' }
  /** All that is disarmed now. */
  | { readonly kind: 'disarm'; readonly disarms: Disarms }

export type HostWatchAction =
  | { readonly kind: 'dial'; readonly hostId: HostId }
  | { readonly kind: 'ask-lease'; readonly observer: HostId; readonly hostId: HostId; readonly pool: string }
  | {
      readonly kind: 'revoke'
      readonly hostId: HostId
      readonly bootId: string
      readonly verdictMs: number
      readonly pool: string
    }
  | {
      readonly kind: 'power-off'
      readonly hostId: HostId
      readonly bootId: string
      readonly verdictMs: number
    }
  /** For the event log, and for whoever is on call where it says so. */
  | {
      readonly kind: 'host-changed'
      readonly hostId: HostId
      readonly from: HostPhase
      readonly to: HostPhase
      readonly why: string
    }
  | { readonly kind: 'host-proven'; readonly proof: Proof }

type WatchStep = Step<HostWatchState, HostWatchAction>

/** Lost hosts that count together. */
const TOGETHER_MS = 120_000
const DIAL_EVERY_MS = 2_000
/** After that nothing is lost by looking less often: what is still open waits for a person, or for a lease to run out. */
const DOUBT_MS = 60_000
const ATTEMPT_EVERY_MS = 10_000
const SIGHTING_FRESH_MS = 4_000
/** More than need to agree: some may not know. */
const OBSERVERS_ASKED = 6

/** What is written down of a host, for the next controller. */
export type HostRecord = Pick<
  WatchedHost,
  'hostId' | 'pools' | 'canPowerOff' | 'phase' | 'why' | 'bootId' | 'verdict' | 'proofs'
>

/** A controller that starts: it knows what is written, has heard nobody, and judges nobody until it has listened. */
export function startHostWatch(
  records: readonly HostRecord[],
  nowMs: number,
  { timings, rules }: HaContext,
): HostWatchState {
  const hosts = new Map(
    records.map((record) => [
      record.hostId,
      {
        ...newcomer(record, nowMs),
        ...record,
        lostMs: record.phase === 'up' ? null : nowMs,
        // That there is a new controller does not bring a lost host back.
        heardMs: record.phase === 'up' ? nowMs : nowMs - timings.suspectMs - 1,
        // The clock that they were noted by is gone: what has to wait waits anew.
        proofs: record.proofs.map((proof) => ({ ...proof, atMs: nowMs })),
      },
    ]),
  )
  const settleUntilMs = rules.settlesFirst ? nowMs + timings.settleMs : nowMs
  return { hosts, settleUntilMs, tickedMs: nowMs, disarms: NO_DISARMS }
}

/** A host that nothing is known of yet: it gets the whole time to be heard. */
function newcomer(
  { hostId, bootId, pools, canPowerOff }: Pick<WatchedHost, 'hostId' | 'bootId' | 'pools' | 'canPowerOff'>,
  nowMs: number,
): WatchedHost {
  return {
    hostId,
    pools,
    canPowerOff,
    phase: 'up',
    why: '',
    sinceMs: nowMs,
    lostMs: null,
    suspectedMs: null,
    bootId,
    verdict: null,
    proofs: [],
    report: null,
    heardMs: nowMs,
    dial: null,
    dialledMs: Number.NEGATIVE_INFINITY,
    sightings: [],
    triedMs: new Map(),
    guestNetworkLostMs: null,
  }
}

/** One step; `nowMs` is the controller's monotonic clock. */
export function stepHostWatch(
  state: HostWatchState,
  event: HostWatchEvent,
  nowMs: number,
  context: HaContext,
): WatchStep {
  switch (event.kind) {
    case 'tick':
      return tick(state, event.owners, nowMs, context)
    case 'hosts':
      return { state: withHosts(state, event.hosts, nowMs), actions: [] }
    case 'report':
      return afterReports(state, new Map(), [event.report], nowMs)
    case 'reports':
      return afterReports(state, event.heard, event.reports, nowMs)
    case 'dialled': {
      const host = state.hosts.get(event.hostId)
      if (!host) return { state, actions: [] }
      const { isOk } = event
      const heardMs = isOk ? nowMs : host.heardMs
      return { state: put(state, { ...host, heardMs, dial: { atMs: nowMs, isOk } }), actions: [] }
    }
    case 'sighting': {
      const host = state.hosts.get(event.hostId)
      if (!host || host.phase === 'up') return { state, actions: [] }
      const { observer, pool, sighting } = event
      const others = host.sightings.filter((seen) => seen.observer !== observer || seen.pool !== pool)
      const sightings = [...others, { observer, pool, sighting, atMs: nowMs }]
      return { state: put(state, { ...host, sightings }), actions: [] }
    }
    case 'revoked':
      if (!event.isOk || !isOfVerdict(state, event, context)) return { state, actions: [] }
      return prove(
        state,
        event.hostId,
        event.bootId,
        'revoked',
        event.pool,
        'the storage confirmed it',
        nowMs,
      )
    case 'powered-off':
      if (!event.isOff || !isOfVerdict(state, event, context)) return { state, actions: [] }
      return prove(
        state,
        event.hostId,
        event.bootId,
        'powered-off',
        null,
        'its power was read back as off',
        nowMs,
      )
    case 'confirm-fenced': {
      const host = state.hosts.get(event.hostId)
      if (!host || host.phase === 'up' || host.phase === 'quarantined') return { state, actions: [] }
      const why = `${event.who || 'a person'} confirmed it`
      const proven = prove(state, host.hostId, host.bootId, 'confirmed', null, why, nowMs)
      const confirmed = proven.state.hosts.get(event.hostId)
      if (!confirmed) return proven
      const moved = move(confirmed, 'fenced', 'a person has powered it off', nowMs)
      const verdict: Verdict = {
        bootId: host.bootId,
        madeMs: nowMs,
        pools: host.pools.map(({ pool }) => pool),
        evidence: [],
      }
      return {
        state: put(proven.state, { ...moved.host, verdict }),
        actions: [...proven.actions, ...moved.actions],
      }
    }
    case 'deaf':
      return {
        state: context.rules.settlesFirst
          ? { ...state, settleUntilMs: nowMs + context.timings.settleMs }
          : state,
        actions: [],
      }
    case 'disarm':
      return { state: { ...state, disarms: event.disarms }, actions: [] }
  }
}

/** Whether verdicts are made now, and if not, why. */
export function whyNoVerdicts(state: HostWatchState, nowMs: number, { rules }: HaContext): string | null {
  if (nowMs < state.settleUntilMs) return 'the controller has not listened for long enough'
  if (isClusterDisarmed(state.disarms, nowMs)) return 'a person has disarmed it'
  if (!rules.holdsAboveThreshold) return null
  const total = state.hosts.size
  let lost = 0
  let gone = 0
  for (const { phase, lostMs } of state.hosts.values()) {
    if (phase === 'up' || phase === 'quarantined') continue
    gone++
    if (lostMs !== null && nowMs - lostMs <= TOGETHER_MS) lost++
  }
  const limit = Math.max(1, Math.floor(total * 0.3))
  if (lost > limit) return `${lost} of ${total} hosts were lost within two minutes, and ${limit} is the limit`
  if (total - gone < total / 2) return `only ${total - gone} of ${total} hosts are left`
  return null
}

/**
 * Whether something hangs in the air that the next look may decide: a host is being asked whether it is there, or was lost a moment ago.
 * Each look that comes late then makes an outage longer.
 */
export function isInDoubt({ hosts }: HostWatchState, nowMs: number): boolean {
  for (const { phase, lostMs, dialledMs, heardMs } of hosts.values()) {
    if (phase === 'quarantined') continue
    if (phase === 'up' ? dialledMs > heardMs : lostMs !== null && nowMs - lostMs < DOUBT_MS) return true
  }
  return false
}

/** What is to be written down. */
export function recordOfHost(host: WatchedHost): HostRecord {
  const { hostId, pools, canPowerOff, phase, why, bootId, verdict, proofs } = host
  return { hostId, pools, canPowerOff, phase, why, bootId, verdict, proofs }
}

/** Whether it has changed in what is to be written down, or in what was tried: who has been replaced shall find out before it tries anything. */
export function isHostNews(before: WatchedHost | undefined, after: WatchedHost): boolean {
  return (
    before !== after &&
    (before?.phase !== after.phase ||
      before.bootId !== after.bootId ||
      before.verdict !== after.verdict ||
      before.proofs !== after.proofs ||
      before.pools !== after.pools ||
      before.canPowerOff !== after.canPowerOff ||
      before.triedMs !== after.triedMs)
  )
}

function withHosts(
  state: HostWatchState,
  wanted: Extract<HostWatchEvent, { kind: 'hosts' }>['hosts'],
  nowMs: number,
): HostWatchState {
  const hosts = wanted.map((traits) => {
    const { hostId, pools, canPowerOff } = traits
    const known = state.hosts.get(hostId)
    if (!known) return newcomer(traits, nowMs)
    const isSame = known.canPowerOff === canPowerOff && arePoolsSame(known.pools, pools)
    return isSame ? known : { ...known, pools, canPowerOff }
  })
  return { ...state, hosts: new Map(hosts.map((host) => [host.hostId, host])) }
}

function arePoolsSame(a: readonly HostPool[], b: readonly HostPool[]): boolean {
  if (a.length !== b.length) return false
  return a.every((pool, index) => {
    const other = b[index]
    return (
      pool.pool === other?.pool &&
      pool.poolClass === other.poolClass &&
      pool.canUnmount === other.canUnmount &&
      pool.canRevoke === other.canRevoke
    )
  })
}

function tick(
  before: HostWatchState,
  owners: ReadonlySet<HostId>,
  nowMs: number,
  context: HaContext,
): WatchStep {
  const { timings, rules } = context
  // A loop that was held up has not heard what was said meanwhile.
  const isHeldUp = nowMs - before.tickedMs > 3_000
  let state: HostWatchState = {
    ...before,
    tickedMs: nowMs,
    settleUntilMs:
      isHeldUp && rules.settlesFirst
        ? Math.max(before.settleUntilMs, nowMs + timings.settleMs)
        : before.settleUntilMs,
  }
  const actions: HostWatchAction[] = []
  const hosts = new Map(before.hosts)
  // First who is heard, then what follows: who is judged must not depend on the order of a list.
  for (const host of before.hosts.values()) {
    const step = listen(host, nowMs, context)
    if (step.host !== host) hosts.set(host.hostId, step.host)
    actions.push(...step.actions)
  }
  state = { ...state, hosts }
  const observers = [...hosts.values()].filter(({ phase }) => phase === 'up')
  for (const { hostId } of before.hosts.values()) {
    const host = hosts.get(hostId)
    if (!host || host.phase === 'up') continue
    // Each is judged in sight of what the former were.
    const step = look(state, host, { observers, isOwner: owners.has(hostId) }, nowMs, context)
    if (step.host !== host) hosts.set(hostId, step.host)
    actions.push(...step.actions)
  }
  return { state, actions }
}

/** What is known of a host on the management network, and whether it matters. */
interface Management {
  readonly isSilent: boolean
  readonly isUnreachable: boolean
  readonly lostPools: readonly string[]
  readonly isOwner: boolean
}

interface HostStep {
  readonly host: WatchedHost
  readonly actions: readonly HostWatchAction[]
}

/** Silence is asked about; only a call that is not answered either makes a host suspect. */
function listen(before: WatchedHost, nowMs: number, { timings }: HaContext): HostStep {
  let host = before
  const actions: HostWatchAction[] = []
  const { isUnreachable, lostPools } = managementOf(host, nowMs, timings.suspectMs)
  // A call that is not answered takes its time: asked only when the silence is long enough, it would make the outage longer.
  const isQuiet = nowMs - host.heardMs > timings.suspectMs / 2
  if (isQuiet && nowMs - host.dialledMs >= DIAL_EVERY_MS) {
    host = { ...host, dialledMs: nowMs }
    actions.push({ kind: 'dial', hostId: host.hostId })
  }
  if (host.phase === 'quarantined' && isUnreachable) {
    const moved = move(host, 'suspect', 'it is silent again', nowMs)
    return { host: moved.host, actions: [...actions, ...moved.actions] }
  }
  if (host.phase !== 'up' || (!isUnreachable && lostPools.length === 0)) return { host, actions }
  const why = isUnreachable ? 'it is silent and does not answer' : `it has lost pool ${lostPools.join(', ')}`
  const moved = move({ ...host, suspectedMs: nowMs }, 'suspect', why, nowMs)
  return { host: moved.host, actions: [...actions, ...moved.actions] }
}

function managementOf(host: WatchedHost, nowMs: number, suspectMs: number): Omit<Management, 'isOwner'> {
  const isSilent = nowMs - host.heardMs > suspectMs
  const isUnreachable = isSilent && host.dial !== null && !host.dial.isOk && host.dial.atMs > host.heardMs
  return { isSilent, isUnreachable, lostPools: host.report?.lostPools ?? [] }
}

function look(
  state: HostWatchState,
  host: WatchedHost,
  { observers, isOwner }: { observers: readonly WatchedHost[]; isOwner: boolean },
  nowMs: number,
  context: HaContext,
): HostStep {
  const actions: HostWatchAction[] = []
  if (host.phase !== 'quarantined')
    for (const { pool, poolClass } of host.pools) {
      if (poolClass === 'N') continue
      for (const observer of observersOf(observers, host, pool))
        actions.push({ kind: 'ask-lease', observer, hostId: host.hostId, pool })
    }
  const management = { ...managementOf(host, nowMs, context.timings.suspectMs), isOwner }
  const next = judge(state, host, management, nowMs, context)
  return { host: next.host, actions: [...actions, ...next.actions] }
}

/** A few, the same ones from tick to tick: where all were asked, a thousand would be for each that is lost. */
function observersOf(
  observers: readonly WatchedHost[],
  { hostId }: WatchedHost,
  pool: string,
): readonly HostId[] {
  const ids: HostId[] = []
  for (const observer of observers) {
    if (observer.hostId === hostId || !observer.pools.some((other) => other.pool === pool)) continue
    ids.push(observer.hostId)
    if (ids.length === OBSERVERS_ASKED) break
  }
  return ids
}

function judge(
  state: HostWatchState,
  host: WatchedHost,
  mgmt: Management,
  nowMs: number,
  context: HaContext,
): HostStep {
  const isWell = !mgmt.isSilent && mgmt.lostPools.length === 0
  switch (host.phase) {
    case 'up':
      return { host, actions: [] }
    case 'quarantined':
      return { host, actions: [] }
    case 'suspect':
    case 'isolated':
    case 'pool-outage':
    case 'hold': {
      // One that was judged has not shown yet that it has ended what is elsewhere.
      if (isWell && host.verdict) return move(host, 'quarantined', 'it is back', nowMs)
      if (isWell) return move(cleared(host), 'up', 'it is heard again', nowMs)
      if (host.phase === 'hold') return { host, actions: [] }
      return judgeLeases(state, host, mgmt, nowMs, context)
    }
    case 'stale': {
      if (isWell) return move(host, 'quarantined', 'it is back', nowMs)
      return seek(state, host, mgmt, nowMs, context)
    }
    case 'fenced':
      if (isWell) return move(host, 'quarantined', 'it is back', nowMs)
      return { host, actions: [] }
  }
}

/** What the leases say of a host that cannot be asked, or says that it has lost its storage. */
function judgeLeases(
  state: HostWatchState,
  before: WatchedHost,
  mgmt: Management,
  nowMs: number,
  context: HaContext,
): HostStep {
  const { isUnreachable, lostPools } = mgmt
  const host = noteGuestNetwork(before, nowMs)
  const pools = host.pools.filter(
    ({ pool, poolClass }) => poolClass !== 'N' && (isUnreachable || lostPools.includes(pool)),
  )
  const findings = pools.map(({ pool }) => ({ pool, finding: findingOf(host, pool, state, nowMs, context) }))
  const stale = findings.filter(({ finding }) => finding === 'stale').map(({ pool }) => pool)
  if (stale.length > 0) {
    if (isHostDisarmed(state.disarms, host.hostId, nowMs)) return { host, actions: [] }
    const hindrance = whyNoVerdicts(state, nowMs, context)
    if (hindrance !== null) {
      if (nowMs < state.settleUntilMs) return { host, actions: [] }
      return move(host, 'hold', hindrance, nowMs)
    }
    const evidence = evidenceOf(host, stale, nowMs)
    const verdict: Verdict = { bootId: host.bootId, madeMs: nowMs, pools: stale, evidence }
    const moved = move({ ...host, verdict }, 'stale', `its lease in ${stale.join(', ')} is stale`, nowMs)
    const sought = seek(state, moved.host, mgmt, nowMs, context)
    return { host: sought.host, actions: [...moved.actions, ...sought.actions] }
  }
  // Before that, one that died as it fell silent would be taken for one that is cut off.
  const { tryMs, readMs } = context.timings
  const wouldBeStale = nowMs - host.heardMs > tryMs + 3 * readMs
  if (findings.some(({ finding }) => finding === 'alive') && isUnreachable && wouldBeStale)
    return move(host, 'isolated', 'its leases are renewed', nowMs)
  if (findings.some(({ finding }) => finding === 'outage'))
    return move(host, 'pool-outage', 'nobody can renew leases there', nowMs)
  return { host, actions: [] }
}

function findingOf(
  host: WatchedHost,
  pool: string,
  state: HostWatchState,
  nowMs: number,
  { rules }: HaContext,
): 'alive' | 'stale' | 'outage' | 'unknown' {
  const seen = freshOf(host, pool, nowMs)
  if (seen.some(({ sighting }) => sighting.kind === 'alive')) return 'alive'
  const users = [...state.hosts.values()].filter(({ pools }) => pools.some((other) => other.pool === pool))
  const counts = seen.filter(
    ({ sighting }) =>
      (sighting.kind === 'stale' && sighting.isPoolHealthy) ||
      (sighting.kind === 'unknown' && !rules.unknownIsNotStale),
  )
  if (counts.length >= observersNeeded(users.length)) return 'stale'
  if (seen.length > 0 && seen.every(({ sighting }) => !sighting.isPoolHealthy)) return 'outage'
  return 'unknown'
}

/** Seeks proofs, all kinds at once; those that do harm to a host only here, after the verdict. */
function seek(
  { disarms, settleUntilMs }: HostWatchState,
  before: WatchedHost,
  { isSilent, isOwner }: Management,
  nowMs: number,
  { timings, rules }: HaContext,
): HostStep {
  let host = before
  const actions: HostWatchAction[] = []
  const { hostId, bootId, verdict } = host
  if (!verdict) return { host, actions }
  // A pool that has become stale since belongs to the verdict.
  const later = host.pools.filter(
    ({ pool, poolClass }) =>
      poolClass !== 'N' &&
      !verdict.pools.includes(pool) &&
      freshOf(host, pool, nowMs).filter(({ sighting }) => sighting.kind === 'stale' && sighting.isPoolHealthy)
        .length >= 2,
  )
  if (later.length > 0) {
    const pools = [...verdict.pools, ...later.map(({ pool }) => pool)]
    host = { ...host, verdict: { ...verdict, pools, evidence: evidenceOf(host, pools, nowMs) } }
  }
  // A controller that has just started has not listened whether the host is back.
  const isHeldBack = nowMs < settleUntilMs || isHostDisarmed(disarms, hostId, nowMs)
  const isDue = (key: string) =>
    !isHeldBack && nowMs - (host.triedMs.get(key) ?? Number.NEGATIVE_INFINITY) >= ATTEMPT_EVERY_MS
  const mark = (key: string) => {
    host = { ...host, triedMs: new Map(host.triedMs).set(key, nowMs) }
  }
  for (const { pool, canRevoke } of host.pools) {
    if (!host.verdict?.pools.includes(pool)) continue
    if (canRevoke && isOwner && !isProvenBy(host, 'revoked', pool) && isDue(`revoke ${pool}`)) {
      mark(`revoke ${pool}`)
      actions.push({ kind: 'revoke', hostId, bootId, verdictMs: verdict.madeMs, pool })
    }
    const dead = freshOf(host, pool, nowMs).find(
      ({ sighting }) =>
        sighting.kind === 'stale' && provesDeath(sighting.lease, sighting.staleForMs, timings, rules),
    )
    if (dead?.sighting.kind === 'stale' && !isProvenBy(host, 'lease-expired', pool)) {
      const why = `host ${dead.observer} has seen no renewal for ${Math.round(dead.sighting.staleForMs)} ms`
      const proof = hostProof(host, 'lease-expired', pool, why, nowMs)
      host = { ...host, proofs: [...host.proofs, proof] }
      actions.push({ kind: 'host-proven', proof })
    }
  }
  // One that can be spoken to ends its guests itself.
  if (
    host.canPowerOff &&
    isOwner &&
    isSilent &&
    !isProvenBy(host, 'powered-off', null) &&
    isDue('power-off')
  ) {
    mark('power-off')
    actions.push({ kind: 'power-off', hostId, bootId, verdictMs: verdict.madeMs })
  }
  const isFenced = host.verdict?.pools.every((pool) =>
    host.proofs.some((proof) => proof.bootId === bootId && (proof.pool === null || proof.pool === pool)),
  )
  if (!isFenced) return { host, actions }
  const moved = move(host, 'fenced', 'there is a proof for each of its stale pools', nowMs)
  return { host: moved.host, actions: [...actions, ...moved.actions] }
}

/** One copy for all that was heard: there may be thousands. */
function afterReports(
  state: HostWatchState,
  heard: ReadonlyMap<HostId, number>,
  reports: readonly HostReport[],
  nowMs: number,
): WatchStep {
  const hosts = new Map(state.hosts)
  const actions: HostWatchAction[] = []
  for (const [hostId, heardMs] of heard) {
    const host = hosts.get(hostId)
    if (host && heardMs > host.heardMs) hosts.set(hostId, { ...host, heardMs })
  }
  for (const report of reports) {
    const host = hosts.get(report.hostId)
    if (!host) continue
    const step = afterReport(host, report, nowMs)
    hosts.set(report.hostId, step.host)
    actions.push(...step.actions)
  }
  return { state: { ...state, hosts }, actions }
}

function afterReport(host: WatchedHost, report: HostReport, nowMs: number): HostStep {
  const heard = { ...host, report, heardMs: nowMs }
  if (report.bootId === host.bootId) return { host: heard, actions: [] }
  // What is left of an older boot does not speak for a newer one.
  if (host.proofs.some((proof) => proof.kind === 'rebooted' && proof.bootId === report.bootId))
    return { host, actions: [] }
  const proof = hostProof(host, 'rebooted', null, `it has booted as ${report.bootId}`, nowMs)
  const moved = move(
    {
      ...heard,
      bootId: report.bootId,
      verdict: null,
      sightings: [],
      proofs: [...host.proofs.slice(-16), proof],
    },
    'quarantined',
    'it has booted anew',
    nowMs,
  )
  return { host: moved.host, actions: [{ kind: 'host-proven', proof }, ...moved.actions] }
}

/** A host in quarantine has shown that it has nothing any more that is another's. */
export function admitHost(state: HostWatchState, hostId: HostId, nowMs: number): WatchStep {
  const host = state.hosts.get(hostId)
  if (host?.phase !== 'quarantined') return { state, actions: [] }
  const moved = move(cleared(host), 'up', 'it has nothing of what is elsewhere now', nowMs)
  return { state: put(state, moved.host), actions: moved.actions }
}

/**
 * What was asked for may take longer than its reason lasts: a host that was let in again meanwhile has everything anew, and a proof of
 * before would count when it is lost the next time.
 */
function isOfVerdict(
  { hosts }: HostWatchState,
  { hostId, verdictMs }: { readonly hostId: HostId; readonly verdictMs: number },
  { rules }: HaContext,
): boolean {
  return hosts.get(hostId)?.verdict?.madeMs === verdictMs || !rules.proofsAreOfVerdict
}

function prove(
  state: HostWatchState,
  hostId: HostId,
  bootId: string,
  kind: Proof['kind'],
  pool: string | null,
  why: string,
  nowMs: number,
): WatchStep {
  const host = state.hosts.get(hostId)
  if (!host || host.bootId !== bootId || isProvenBy(host, kind, pool)) return { state, actions: [] }
  const proof = hostProof(host, kind, pool, why, nowMs)
  return {
    state: put(state, { ...host, proofs: [...host.proofs, proof] }),
    actions: [{ kind: 'host-proven', proof }],
  }
}

function isProvenBy(host: WatchedHost, kind: Proof['kind'], pool: string | null): boolean {
  return host.proofs.some(
    (proof) => proof.kind === kind && proof.bootId === host.bootId && proof.pool === pool,
  )
}

function hostProof(
  { hostId, bootId }: WatchedHost,
  kind: Proof['kind'],
  pool: string | null,
  why: string,
  atMs: number,
): Proof {
  return { kind, hostId, bootId, pool, uuid: null, generation: null, atMs, why }
}

/** Since when its guests' network is known to be gone, as its lease says. */
function noteGuestNetwork(host: WatchedHost, nowMs: number): WatchedHost {
  const leases = host.sightings.filter(({ atMs }) => nowMs - atMs <= SIGHTING_FRESH_MS)
  const isLost = leases.some(({ sighting }) => sighting.kind === 'alive' && !sighting.lease.isGuestNetworkOk)
  if (!isLost) return host.guestNetworkLostMs === null ? host : { ...host, guestNetworkLostMs: null }
  return host.guestNetworkLostMs === null ? { ...host, guestNetworkLostMs: nowMs } : host
}

export function freshOf(host: WatchedHost, pool: string, nowMs: number): readonly Seen[] {
  return host.sightings.filter((seen) => seen.pool === pool && nowMs - seen.atMs <= SIGHTING_FRESH_MS)
}

function evidenceOf(host: WatchedHost, pools: readonly string[], nowMs: number): Verdict['evidence'] {
  return pools.flatMap((pool) =>
    freshOf(host, pool, nowMs).map(({ observer, sighting }) => ({
      observer,
      pool,
      kind: sighting.kind,
      staleForMs: sighting.kind === 'stale' ? sighting.staleForMs : 0,
    })),
  )
}

/** What was found out about its time away is over with it. Proofs about this boot above all: they say nothing of what it starts from now on. */
function cleared(host: WatchedHost): WatchedHost {
  return {
    ...host,
    proofs: host.proofs.filter(({ bootId }) => bootId !== host.bootId),
    verdict: null,
    sightings: [],
    triedMs: new Map(),
    suspectedMs: null,
    guestNetworkLostMs: null,
  }
}

function move(host: WatchedHost, phase: HostPhase, why: string, nowMs: number): HostStep {
  if (host.phase === phase) return { host, actions: [] }
  const isBack = phase === 'up'
  const lostMs = isBack ? null : (host.lostMs ?? nowMs)
  return {
    host: { ...host, phase, why, sinceMs: nowMs, lostMs },
    actions: [{ kind: 'host-changed', hostId: host.hostId, from: host.phase, to: phase, why }],
  }
}

function put(state: HostWatchState, host: WatchedHost): HostWatchState {
  return { ...state, hosts: new Map(state.hosts).set(host.hostId, host) }
}
