// Ends what a host may not run any more (`vpe-guard`: a unit of its own that touches no pool, no network and no libvirt).
// It owns the watchdog. Every guest that is highly available is armed here before it exists, and disarmed when its cgroup is empty and,
// in class T, a renewal that was begun after that has been completed: a process that is gone may have left writes in the kernel's queue.
//
// Class T: when the host's lease in a pool has expired, the guard stops petting the watchdog, kills the armed guests of that pool,
// waits until their cgroups are empty, and unmounts the pool by force, so that nothing queued can be written later. When that is done
// in time it pets again; otherwise the watchdog resets the host, which comes to the same. Expiry is final: others count from what they read.
//
// Class E: the storage itself refuses writes of who has lost its locks, so nothing is killed for being slow. Guests are marked as stalled,
// their network is cut where it seems to be this host alone, and one that an I/O error paused goes on only if the claim is still ours.

import type { InstanceId } from '../ids.ts'
import type { InstanceGeneration, Pill, PillAck } from './blocks.ts'
import type { HaContext, Step } from './rules.ts'
import { fenceMs, type HaTimings } from './timings.ts'

export interface ArmedPool {
  readonly pool: string
  readonly poolClass: 'E' | 'T'
  /** Whether I/O that is queued for it can be dropped (a network file system). Where not, only a reset ends it. */
  readonly canUnmount: boolean
}

export interface Arm extends InstanceGeneration {
  readonly pools: readonly ArmedPool[]
}

interface GuardedArm extends Arm {
  /**
   * Since when its claim has to be checked, and an answer that was asked for before says nothing: an I/O error has paused it, or nobody
   * knows what happened while the guard was away. Null where nothing is in doubt.
   */
  readonly doubtedMs: number | null
  /** An I/O error has paused it. */
  readonly isPaused: boolean
  readonly isNetworkCut: boolean
  readonly resumedMs: number | null
  /** It is being ended, and why. */
  readonly ending: KillReason | null
  /** Since when its cgroup is known to be empty. */
  readonly emptyMs: number | null
  readonly isLeaving: boolean
}

interface Fence {
  readonly why: 'expired' | 'pill'
  readonly sinceMs: number
  readonly stage: 'killing' | 'unmounting' | 'done'
  readonly pill: Pill | null
}

interface GuardedLease {
  readonly pool: string
  readonly poolClass: 'E' | 'T'
  readonly canUnmount: boolean
  /** Begin of the latest renewal that was completed. */
  readonly renewedMs: number | null
  readonly isExpired: boolean
  readonly fence: Fence | null
  readonly isStalled: boolean
}

/** What survives a restart of the guard, but not one of the host (a file in /run). */
export interface GuardRecord {
  readonly arms: readonly Arm[]
  readonly renewals: readonly { readonly pool: string; readonly renewedMs: number | null }[]
}

export interface GuardState {
  readonly phase: 'starting' | 'guarding' | 'condemned'
  readonly incarnation: string
  /** Only hosts with class T pools need one. */
  readonly needsWatchdog: boolean
  readonly watchdog: 'closed' | 'opening' | 'open'
  readonly arms: readonly GuardedArm[]
  readonly leases: readonly GuardedLease[]
  /** Latest renewals in pools that nothing was armed on yet. */
  readonly idle: ReadonlyMap<string, number>
  /** Since when it has not petted because a fence is not done. */
  readonly unpettedSinceMs: number | null
}

export type GuardEvent =
  | { readonly kind: 'start'; readonly record: GuardRecord }
  | { readonly kind: 'tick' }
  /** Right after the watchdog was petted, or opened with that timeout. */
  | { readonly kind: 'petted' }
  | { readonly kind: 'opened'; readonly timeoutMs: number }
  | { readonly kind: 'renewed'; readonly pool: string; readonly submittedMs: number }
  | {
      readonly kind: 'arm'
      readonly arm: Arm
      readonly askedMs: number
      /** Its guest runs already: what was armed of it in a generation before is this one now. */
      readonly isRunning?: boolean
    }
  | { readonly kind: 'disarm'; readonly instance: InstanceGeneration; readonly isEmpty: boolean }
  | { readonly kind: 'pill'; readonly pool: string; readonly pill: Pill; readonly nextIncarnation: string }
  /** Answer to look-at-cgroup; also when a guest has ended by itself. */
  | { readonly kind: 'cgroup'; readonly instance: InstanceGeneration; readonly isEmpty: boolean }
  | { readonly kind: 'unmounted'; readonly pool: string; readonly isVerified: boolean }
  | { readonly kind: 'io-error'; readonly instance: InstanceGeneration }
  | {
      readonly kind: 'claim'
      readonly instance: InstanceGeneration
      readonly askedMs: number
      readonly says: 'mine' | 'others' | 'unclear'
    }
  /** What the agent hears of others: whether the pool works for them, and whether anyone is to be reached at all. */
  | {
      readonly kind: 'neighbours'
      readonly pool: string
      readonly isHealthyForOthers: boolean
      readonly isAnyoneReachable: boolean
    }

export type GuardAction =
  | { readonly kind: 'open-watchdog' | 'pet' | 'permit' }
  | { readonly kind: 'reset-host'; readonly why: string }
  | { readonly kind: 'save'; readonly record: GuardRecord }
  | {
      readonly kind: 'armed'
      readonly instance: InstanceGeneration
      readonly askedMs: number
      readonly refusal: string | null
    }
  | { readonly kind: 'disarmed'; readonly instance: InstanceGeneration }
  | { readonly kind: 'kill-cgroup'; readonly instance: InstanceGeneration; readonly why: KillReason }
  | { readonly kind: 'look-at-cgroup'; readonly instance: InstanceGeneration }
  | { readonly kind: 'unmount'; readonly pool: string }
  | { readonly kind: 'ack-pill'; readonly pool: string; readonly ack: PillAck }
  /** It is gone, and nothing of it can be written any more. */
  | { readonly kind: 'fenced'; readonly instance: InstanceGeneration; readonly why: KillReason }
  | { readonly kind: 'cut-network' | 'restore-network'; readonly instance: InstanceGeneration }
  | {
      readonly kind: 'check-claim'
      readonly instance: InstanceGeneration
      readonly pool: string
      readonly askedMs: number
    }
  /** Only if an I/O error has paused it: what a user paused stays paused. */
  | { readonly kind: 'resume-after-io-error'; readonly instance: InstanceGeneration }

/** Why a guest is killed; there is no other reason (I6). */
export type KillReason = 'lease-expired' | 'pill' | 'newer-owner' | 'locks-lost'

type GuardStep = Step<GuardState, GuardAction>

export function startGuard(incarnation: string, needsWatchdog: boolean): GuardState {
  return {
    phase: 'starting',
    incarnation,
    needsWatchdog,
    watchdog: 'closed',
    arms: [],
    leases: [],
    idle: new Map(),
    unpettedSinceMs: null,
  }
}

/** One step of the guard; `nowMs` is the host's BOOTTIME. */
export function stepGuard(
  state: GuardState,
  event: GuardEvent,
  nowMs: number,
  context: HaContext,
): GuardStep {
  const { timings, rules } = context
  switch (event.kind) {
    case 'start':
      return start(state, event.record, nowMs, context)
    case 'tick':
      return tick(state, nowMs, context)
    case 'opened': {
      if (event.timeoutMs !== timings.watchdogMs)
        return { state: { ...state, watchdog: 'closed' }, actions: [] }
      return afterPet({ ...state, phase: 'guarding', watchdog: 'open' }, nowMs, context)
    }
    case 'petted':
      return afterPet(state, nowMs, context)
    case 'renewed':
      return renewed(state, event.pool, event.submittedMs, nowMs, context)
    case 'arm':
      return arm(state, event, nowMs, timings)
    case 'disarm': {
      const { instance } = event
      const known = state.arms.find((arm) => isSame(arm, instance))
      if (!known) return { state, actions: [{ kind: 'disarmed', instance }] }
      if (!event.isEmpty) return { state, actions: [] }
      const next = withArm(state, { ...known, isLeaving: true, emptyMs: known.emptyMs ?? nowMs })
      return dropDrained(next)
    }
    case 'pill':
      return takePill(state, event, nowMs, context)
    case 'cgroup':
      return event.isEmpty ? afterEmpty(state, event.instance, nowMs, context) : { state, actions: [] }
    case 'unmounted': {
      if (!event.isVerified) return { state, actions: [] }
      return finishFence(state, event.pool, context)
    }
    case 'io-error':
      return ioError(state, event.instance, nowMs, timings)
    case 'claim':
      return afterClaim(state, event, nowMs, rules.resumesOnlyOwner)
    case 'neighbours':
      return neighbours(state, event)
  }
}

/**
 * Opening the watchdog is a pet. A guard that comes back too late must not put off the reset that is due: it ends what it can and
 * has the host reset.
 */
function start(state: GuardState, record: GuardRecord, nowMs: number, context: HaContext): GuardStep {
  const arms = record.arms.map((arm) => ({ ...unguarded(arm), doubtedMs: nowMs }))
  const pools = new Map(arms.flatMap(({ pools }) => pools.map((pool) => [pool.pool, pool] as const)))
  const leases = [...pools.values()].map((pool) => ({
    ...freshLease(pool),
    renewedMs: record.renewals.find((renewal) => renewal.pool === pool.pool)?.renewedMs ?? null,
  }))
  const next: GuardState = { ...state, arms, leases }
  const expired = leases.filter((lease) => isPastEnd(next, lease, nowMs, context.timings.selfMs))
  if (expired.length > 0 && context.rules.guardChecksBeforeOpening) {
    const kills = arms.filter((arm) => expired.some(({ pool }) => uses(arm, pool)))
    return {
      state: { ...next, phase: 'condemned' },
      actions: [
        ...kills.map((instance) => kill(instance, 'lease-expired')),
        { kind: 'reset-host', why: 'the lease had expired when the guard came back' },
      ],
    }
  }
  if (!state.needsWatchdog) return { state: { ...next, phase: 'guarding' }, actions: [] }
  return { state: { ...next, watchdog: 'opening' }, actions: [{ kind: 'open-watchdog' }] }
}

function tick(before: GuardState, nowMs: number, { timings, rules }: HaContext): GuardStep {
  if (before.phase === 'condemned')
    return { state: before, actions: [{ kind: 'reset-host', why: 'it is condemned' }] }
  if (before.needsWatchdog && before.watchdog !== 'open') {
    if (before.watchdog === 'opening') return { state: before, actions: [] }
    return { state: { ...before, watchdog: 'opening' }, actions: [{ kind: 'open-watchdog' }] }
  }
  const actions: GuardAction[] = []
  let state = before
  for (const lease of before.leases) {
    // A look early, so that the check after the pet finds nothing that this one let pass.
    if (!lease.isExpired && isPastEnd(state, lease, nowMs, timings.selfMs - timings.guardMs)) {
      state = withLease(state, { ...lease, isExpired: true })
      const begun = beginFence(state, lease.pool, 'expired', lease.fence?.pill ?? null, nowMs)
      const done = continueFence(begun.state, lease.pool, { timings, rules })
      state = done.state
      actions.push(...begun.actions, ...done.actions)
    } else if (lease.fence) actions.push(...goOn(state, lease, lease.fence))
    else if (state.arms.some((arm) => uses(arm, lease.pool))) {
      const isStalled = lease.renewedMs === null || nowMs - lease.renewedMs > timings.tryMs
      if (isStalled !== lease.isStalled) state = withLease(state, { ...lease, isStalled })
      if (!isStalled)
        for (const arm of state.arms)
          if (arm.doubtedMs !== null && arm.ending === null && uses(arm, lease.pool))
            actions.push({ kind: 'check-claim', instance: idOf(arm), pool: lease.pool, askedMs: nowMs })
    }
  }
  for (const arm of state.arms)
    if (arm.ending !== null && arm.emptyMs === null && !isFencing(state, arm))
      actions.push({ kind: 'look-at-cgroup', instance: idOf(arm) })
  const isLate = state.leases.some(
    ({ poolClass, isExpired, fence }) => poolClass === 'T' && isExpired && fence?.stage !== 'done',
  )
  if (!isLate) {
    if (state.unpettedSinceMs !== null) state = { ...state, unpettedSinceMs: null }
    actions.push(state.needsWatchdog ? { kind: 'pet' } : { kind: 'permit' })
    return { state, actions }
  }
  const sinceMs = state.unpettedSinceMs ?? nowMs
  if (state.unpettedSinceMs === null) state = { ...state, unpettedSinceMs: nowMs }
  if (nowMs - sinceMs > fenceMs(timings)) {
    actions.push({ kind: 'reset-host', why: 'what it should have ended is not gone' })
    state = { ...state, phase: 'condemned' }
  }
  return { state, actions }
}

/** Between the look and the pet the guard may have been held up: then the pet came too late, and is taken back by a reset. */
function afterPet(state: GuardState, nowMs: number, { timings, rules }: HaContext): GuardStep {
  const late = state.leases.find(
    (lease) => lease.fence?.stage !== 'done' && isPastEnd(state, lease, nowMs, timings.selfMs),
  )
  if (late && rules.guardChecksAfterPet)
    return {
      state: { ...state, phase: 'condemned' },
      actions: [{ kind: 'reset-host', why: `it was petted after the lease in ${late.pool} had expired` }],
    }
  return { state, actions: [{ kind: 'permit' }] }
}

function renewed(
  state: GuardState,
  pool: string,
  submittedMs: number,
  nowMs: number,
  context: HaContext,
): GuardStep {
  const lease = state.leases.find((lease) => lease.pool === pool)
  if (!lease) return { state: { ...state, idle: new Map(state.idle).set(pool, submittedMs) }, actions: [] }
  if (lease.isExpired && lease.fence?.stage !== 'done') {
    if (context.rules.expiryIsFinal) return { state, actions: [] }
    const revived = { ...lease, isExpired: false, fence: null, renewedMs: nowMs }
    const next = withLease(state, revived)
    return { state: next, actions: [save(next)] }
  }
  // What was begun before the fence was done says nothing of after it.
  if (lease.isExpired && lease.fence && submittedMs < lease.fence.sinceMs) return { state, actions: [] }
  if (lease.fence && lease.fence.stage !== 'done') return { state, actions: [] }
  if (lease.renewedMs !== null && submittedMs <= lease.renewedMs) return { state, actions: [] }
  const wasStalled = lease.isStalled
  let next = withLease(state, {
    ...lease,
    renewedMs: context.rules.expiryIsFinal ? submittedMs : nowMs,
    isExpired: false,
    fence: null,
    isStalled: false,
  })
  if (wasStalled)
    next = {
      ...next,
      arms: next.arms.map((arm) =>
        uses(arm, pool) && arm.isNetworkCut ? { ...arm, doubtedMs: nowMs } : arm,
      ),
    }
  const { state: after, actions } = dropDrained(next)
  return { state: after, actions: actions.length > 0 ? actions : [save(after)] }
}

/** Lets go of guests that nobody wants here and that cannot write any more. */
function dropDrained(state: GuardState): GuardStep {
  const isDrained = (arm: GuardedArm) => {
    const { emptyMs } = arm
    if (emptyMs === null || !(arm.isLeaving || arm.ending !== null)) return false
    return state.leases.every(
      ({ pool, poolClass, fence, renewedMs }) =>
        !uses(arm, pool) ||
        (poolClass === 'E' && fence?.stage !== 'killing') ||
        (poolClass === 'T' && fence?.stage === 'done') ||
        (poolClass === 'T' && !fence && renewedMs !== null && renewedMs > emptyMs),
    )
  }
  const gone = state.arms.filter(isDrained)
  if (gone.length === 0) return { state, actions: [] }
  const next = { ...state, arms: state.arms.filter((arm) => !gone.includes(arm)) }
  return {
    state: next,
    actions: [
      save(next),
      ...gone.map(
        (arm): GuardAction =>
          arm.ending
            ? { kind: 'fenced', instance: idOf(arm), why: arm.ending }
            : { kind: 'disarmed', instance: idOf(arm) },
      ),
    ],
  }
}

/** A guest may be created once this is answered without a refusal: from then on the guard answers for it. */
function arm(
  state: GuardState,
  { arm, askedMs, isRunning = false }: Extract<GuardEvent, { kind: 'arm' }>,
  nowMs: number,
  { selfMs }: HaTimings,
): GuardStep {
  const instance = idOf(arm)
  const refuse = (refusal: string): GuardStep => ({
    state,
    actions: [{ kind: 'armed', instance, askedMs, refusal }],
  })
  if (state.phase !== 'guarding') return refuse('the guard is not ready')
  const known = state.arms.find(({ uuid }) => uuid === arm.uuid)
  if (known && (known.ending !== null || known.isLeaving)) return refuse('it is being ended')
  const isNewer = known !== undefined && isRunning && known.generation < arm.generation
  if (known && known.generation !== arm.generation && !isNewer)
    return refuse(`generation ${known.generation} of it is still here`)
  let next = state
  for (const pool of arm.pools) {
    const lease = next.leases.find((lease) => lease.pool === pool.pool)
    if (!lease) {
      const renewedMs = state.idle.get(pool.pool) ?? null
      next = { ...next, leases: [...next.leases, { ...freshLease(pool), renewedMs }] }
      continue
    }
    if (lease.fence && lease.fence.stage !== 'done') return refuse(`pool ${pool.pool} is being fenced`)
  }
  const missing = arm.pools.find(({ pool }) => {
    const renewedMs = next.leases.find((lease) => lease.pool === pool)?.renewedMs ?? null
    return renewedMs === null || nowMs > renewedMs + selfMs / 2
  })
  // The lease is remembered all the same, so that the next renewal counts.
  if (missing)
    return {
      state: next,
      actions: [
        { kind: 'armed', instance, askedMs, refusal: `the lease in pool ${missing.pool} is not fresh` },
      ],
    }
  if (!known) next = { ...next, arms: [...next.arms, unguarded(arm)] }
  else if (isNewer)
    next = {
      ...next,
      arms: next.arms.map((other) => (other === known ? { ...known, ...armOf(arm) } : other)),
    }
  else next = withArm(next, { ...known, emptyMs: null, doubtedMs: null, isPaused: false, resumedMs: null })
  return { state: next, actions: [save(next), { kind: 'armed', instance, askedMs, refusal: null }] }
}

function takePill(
  state: GuardState,
  { pool, pill, nextIncarnation }: Extract<GuardEvent, { kind: 'pill' }>,
  nowMs: number,
  context: HaContext,
): GuardStep {
  if (context.rules.pillNamesIncarnation && pill.targetIncarnation !== state.incarnation)
    return { state, actions: [] }
  let next = state
  // A drill ends nothing, whatever the class; a fence that is under way goes on. Nor is there anything where nothing was ever armed.
  if (pill.scope === 'none' || !next.leases.some((lease) => lease.pool === pool)) {
    const ack = { epoch: pill.epoch, nonce: pill.nonce }
    return {
      state: { ...next, incarnation: nextIncarnation },
      actions: [{ kind: 'ack-pill', pool, ack }],
    }
  }
  const lease = next.leases.find((lease) => lease.pool === pool)
  if (lease?.fence && lease.fence.stage !== 'done') return { state, actions: [] }
  const begun = beginFence(next, pool, 'pill', pill, nowMs)
  next = { ...begun.state, incarnation: nextIncarnation }
  if (!context.rules.ackFollowsDrain)
    return {
      state: next,
      actions: [{ kind: 'ack-pill', pool, ack: { epoch: pill.epoch, nonce: pill.nonce } }, ...begun.actions],
    }
  const done = continueFence(next, pool, context)
  return { state: done.state, actions: [...begun.actions, ...done.actions] }
}

function beginFence(
  state: GuardState,
  pool: string,
  why: Fence['why'],
  pill: Pill | null,
  nowMs: number,
): GuardStep {
  const lease = state.leases.find((lease) => lease.pool === pool)
  if (!lease) return { state, actions: [] }
  const reason: KillReason = why === 'pill' ? 'pill' : 'lease-expired'
  const isMeant = (arm: GuardedArm) => uses(arm, pool) && isNamed(lease, pill, arm)
  const actions = state.arms.filter(isMeant).map((arm) => kill(arm, reason))
  const arms = state.arms.map((arm) => (isMeant(arm) ? { ...arm, ending: arm.ending ?? reason } : arm))
  const fence: Fence = { why, sinceMs: nowMs, stage: 'killing', pill }
  return { state: withLease({ ...state, arms }, { ...lease, fence }), actions }
}

/** In class T nothing but the whole pool can be drained, so that a pill for some is one for all of it. */
function isNamed({ poolClass }: GuardedLease, pill: Pill | null, arm: GuardedArm): boolean {
  if (pill?.scope === 'none') return false
  if (pill === null || pill.scope === 'all' || poolClass === 'T') return true
  return pill.scope.some(({ uuid, generation }) => uuid === arm.uuid && generation >= arm.generation)
}

/** Asks again for whatever a fence waits for. */
function goOn(state: GuardState, { pool, canUnmount }: GuardedLease, { stage }: Fence): GuardAction[] {
  if (stage === 'unmounting') return canUnmount ? [{ kind: 'unmount', pool }] : []
  if (stage === 'done') return []
  return state.arms
    .filter((arm) => uses(arm, pool) && arm.ending !== null && arm.emptyMs === null)
    .map((arm) => ({ kind: 'look-at-cgroup', instance: idOf(arm) }))
}

function afterEmpty(
  state: GuardState,
  instance: InstanceGeneration,
  nowMs: number,
  context: HaContext,
): GuardStep {
  const arm = state.arms.find((arm) => isSame(arm, instance))
  if (!arm || arm.ending === null || arm.emptyMs !== null) return { state, actions: [] }
  let after: GuardState = withArm(state, { ...arm, emptyMs: nowMs })
  const actions: GuardAction[] = []
  for (const { pool } of arm.pools) {
    const step = continueFence(after, pool, context)
    after = step.state
    actions.push(...step.actions)
  }
  const dropped = dropDrained(after)
  return { state: dropped.state, actions: [...actions, ...dropped.actions] }
}

/** When the last guest of a fence has gone. */
function continueFence(state: GuardState, pool: string, context: HaContext): GuardStep {
  const lease = state.leases.find((lease) => lease.pool === pool)
  const fence = lease?.fence
  if (!lease || !fence) return { state, actions: [] }
  if (fence.stage !== 'killing') return { state, actions: [] }
  const isWaiting = (arm: GuardedArm) => uses(arm, pool) && arm.ending !== null && arm.emptyMs === null
  if (state.arms.some(isWaiting)) return { state, actions: [] }
  if (lease.poolClass === 'E') return finishFence(state, pool, context)
  // Where nothing that is queued can be dropped, only a reset will do: it stays in this stage, unpetted.
  const next = withLease(state, { ...lease, fence: { ...fence, stage: 'unmounting' } })
  return { state: next, actions: lease.canUnmount ? [{ kind: 'unmount', pool }] : [] }
}

function finishFence(state: GuardState, pool: string, context: HaContext): GuardStep {
  const lease = state.leases.find((lease) => lease.pool === pool)
  const fence = lease?.fence
  if (!lease || !fence || fence.stage === 'done') return { state, actions: [] }
  const fenced = withLease(state, {
    ...lease,
    fence: { ...fence, stage: 'done' },
    renewedMs: lease.poolClass === 'T' ? null : lease.renewedMs,
  })
  const { state: next, actions } = dropDrained(fenced)
  const { pill } = fence
  if (pill === null || !context.rules.ackFollowsDrain)
    return { state: next, actions: [save(next), ...actions] }
  const ack = { epoch: pill.epoch, nonce: pill.nonce }
  return { state: next, actions: [save(next), ...actions, { kind: 'ack-pill', pool, ack }] }
}

function ioError(
  state: GuardState,
  instance: InstanceGeneration,
  nowMs: number,
  { tryMs }: HaTimings,
): GuardStep {
  const arm = state.arms.find((arm) => isSame(arm, instance))
  if (!arm || arm.ending !== null) return { state, actions: [] }
  // It was let go on with its claim in order, and fails again: its image locks are what it has lost.
  if (arm.resumedMs !== null && nowMs - arm.resumedMs <= tryMs) return end(state, arm, 'locks-lost')
  // Told again and again of one that stays paused.
  if (arm.isPaused) return { state, actions: [] }
  return {
    state: withArm(state, { ...arm, doubtedMs: nowMs, isPaused: true }),
    actions: [],
  }
}

function afterClaim(
  state: GuardState,
  { instance, says, askedMs }: Extract<GuardEvent, { kind: 'claim' }>,
  nowMs: number,
  resumesOnlyOwner: boolean,
): GuardStep {
  const arm = state.arms.find((arm) => isSame(arm, instance))
  if (!arm || arm.ending !== null || arm.doubtedMs === null) return { state, actions: [] }
  if (says === 'unclear') return { state, actions: [] }
  if (says === 'others' && resumesOnlyOwner) return end(state, arm, 'newer-owner')
  // Its claim was in order before; since then the storage may have been away for long enough for another host to get it.
  if (askedMs < arm.doubtedMs && resumesOnlyOwner) return { state, actions: [] }
  const actions: GuardAction[] = [{ kind: 'resume-after-io-error', instance: idOf(arm) }]
  if (arm.isNetworkCut) actions.push({ kind: 'restore-network', instance: idOf(arm) })
  const next = withArm(state, {
    ...arm,
    doubtedMs: null,
    isPaused: false,
    isNetworkCut: false,
    resumedMs: arm.isPaused ? nowMs : arm.resumedMs,
  })
  return { state: next, actions }
}

function end(state: GuardState, arm: GuardedArm, why: KillReason): GuardStep {
  return { state: withArm(state, { ...arm, ending: why }), actions: [kill(arm, why)] }
}

/** Cuts the network of guests that stall here alone: another host may run them soon, and two must not have one address. */
function neighbours(
  state: GuardState,
  { pool, isHealthyForOthers, isAnyoneReachable }: Extract<GuardEvent, { kind: 'neighbours' }>,
): GuardStep {
  const lease = state.leases.find((lease) => lease.pool === pool)
  if (!lease?.isStalled || lease.poolClass !== 'E') return { state, actions: [] }
  if (isAnyoneReachable && !isHealthyForOthers) return { state, actions: [] }
  const cut = state.arms.filter((arm) => uses(arm, pool) && !arm.isNetworkCut && arm.ending === null)
  if (cut.length === 0) return { state, actions: [] }
  const arms = state.arms.map((arm) => (cut.includes(arm) ? { ...arm, isNetworkCut: true } : arm))
  return {
    state: { ...state, arms },
    actions: cut.map((arm) => ({ kind: 'cut-network', instance: idOf(arm) })),
  }
}

/** Past the time at which a holder must have stopped. A lease that was never renewed is past it, too. */
function isPastEnd(state: GuardState, lease: GuardedLease, nowMs: number, selfMs: number): boolean {
  if (lease.poolClass !== 'T' || !state.arms.some((arm) => uses(arm, lease.pool))) return false
  return lease.renewedMs === null || nowMs > lease.renewedMs + selfMs
}

function isFencing(state: GuardState, arm: GuardedArm): boolean {
  return state.leases.some(({ pool, fence }) => fence?.stage === 'killing' && uses(arm, pool))
}

function uses(arm: Arm, pool: string): boolean {
  return arm.pools.some((other) => other.pool === pool)
}

function isSame(a: InstanceGeneration, b: InstanceGeneration): boolean {
  return a.uuid === b.uuid && a.generation === b.generation
}

function idOf({ uuid, generation }: InstanceGeneration): { uuid: InstanceId; generation: number } {
  return { uuid, generation }
}

function armOf({ uuid, generation, pools }: Arm): Arm {
  return { uuid, generation, pools }
}

function kill(arm: InstanceGeneration, why: KillReason): GuardAction {
  return { kind: 'kill-cgroup', instance: idOf(arm), why }
}

function unguarded({ uuid, generation, pools }: Arm): GuardedArm {
  return {
    uuid,
    generation,
    pools,
    doubtedMs: null,
    isPaused: false,
    isNetworkCut: false,
    resumedMs: null,
    ending: null,
    emptyMs: null,
    isLeaving: false,
  }
}

function freshLease({ pool, poolClass, canUnmount }: ArmedPool): GuardedLease {
  return { pool, poolClass, canUnmount, renewedMs: null, isExpired: false, fence: null, isStalled: false }
}

function save({ arms, leases }: GuardState): GuardAction {
  return {
    kind: 'save',
    record: {
      arms: arms.map(({ uuid, generation, pools }) => ({ uuid, generation, pools })),
      renewals: leases.map(({ pool, renewedMs }) => ({ pool, renewedMs })),
    },
  }
}

function withLease(state: GuardState, lease: GuardedLease): GuardState {
  return { ...state, leases: state.leases.map((other) => (other.pool === lease.pool ? lease : other)) }
}

function withArm(state: GuardState, arm: GuardedArm): GuardState {
  return { ...state, arms: state.arms.map((other) => (isSame(other, arm) ? arm : other)) }
}
