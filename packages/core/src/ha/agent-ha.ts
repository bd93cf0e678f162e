// What an agent does about highly available instances: starts a generation that the controller has given to this boot of this
// host, brings a guest back that went off, lets go of one for good, and says what it has. It never touches a pool or a
// watchdog itself: claims go through the claim holder, and no guest is created that the guard has not been told of.
//
// Commands say what is wanted and come again until it is seen in a report; so each may be lost, come twice or late. What an
// agent has let go of it remembers (on disk), and never starts again, whoever asks.

import type { HostId, InstanceId } from '../ids.ts'
import { decideRestart } from '../restart-policy.ts'
import type { InstanceGeneration } from './blocks.ts'
import type { ClaimJob, ClaimResult } from './claim-holder.ts'
import type { Arm, ArmedPool, KillReason } from './guard.ts'
import type { HaContext, Step } from './rules.ts'

/** What a report says of an instance on this host. */
export type LocalPhase =
  /** Its claim locks are held here, so that it runs nowhere; nothing was started (class E). */
  | 'gated'
  | 'starting'
  /** A guest comes here from another host as it runs. */
  | 'incoming'
  | 'running'
  /** It went off, and will be brought back. */
  | 'restarting'
  /** The start did not succeed; it is tried again when the controller asks again. */
  | 'failed'
  /** It went off too often. */
  | 'given-up'
  | 'closing'
  /** It is gone, cannot write any more, and will never be started here in that generation. */
  | 'closed'

export interface LocalInstance extends InstanceGeneration {
  readonly pools: readonly ArmedPool[]
  readonly phase: LocalPhase
  readonly why: string
  /** What it waits for, and since when. */
  readonly waitsFor: null | 'claim' | 'arm' | 'create' | 'gone' | 'release' | 'disarm'
  /** Which of its pools the claim is asked for. */
  readonly poolIndex: number
  readonly hasDomain: boolean
  /** Local starts, for the budget. */
  readonly restartsAtMs: readonly number[]
  readonly offSinceMs: number
  readonly isIncoming: boolean
  /** It has pools in which claim and lease are needed; of any other the guard is told nothing. */
  readonly isGuarded: boolean
  /** Somebody stops its guest on purpose, and says what comes then: nobody brings it back before. */
  readonly isHeld: boolean
  /** It was asked to be started: it is not one of the restarts that are counted. */
  readonly isCommanded: boolean
  /** Rises with each wish of a user: one that came after it was given up is a new beginning. */
  readonly wish: number
  /** Counts the guests that were started for it here: news of one says nothing of the next. */
  readonly run: number
  /** Of the latest command about it. */
  readonly askedMs: number
}

/** Kept on the host's own disk. */
export interface AgentRecord {
  readonly epoch: number
  /** The highest generation of each instance that this host has let go of. */
  readonly closed: ReadonlyMap<InstanceId, number>
}

export interface AgentHaState {
  readonly hostId: HostId
  readonly bootId: string
  readonly record: AgentRecord
  readonly instances: ReadonlyMap<InstanceId, LocalInstance>
  /** Begin of the latest completed renewal in each pool. */
  readonly renewals: ReadonlyMap<string, number>
  /** Since when the guard answers without a break; null while it does not. */
  readonly guardSinceMs: number | null
  /** The latest renewal in each pool that was lost when the guard went away: it stays lost until there is a newer one. */
  readonly lostAtMs: ReadonlyMap<string, number>
  readonly controllerHeardMs: number
}

export interface StartCommand extends InstanceGeneration {
  readonly kind: 'start'
  readonly epoch: number
  /** For that boot of the host, and no other. */
  readonly bootId: string
  readonly pools: readonly ArmedPool[]
  /** Its guest will be handed over by the host that has it. */
  readonly isIncoming: boolean
  /** Its guest runs here already, unowned or in a generation before: it is armed and claimed as it runs. */
  readonly hasGuest?: boolean
  /** See LocalInstance. */
  readonly wish?: number
}

export type AgentCommand =
  | StartCommand
  | {
      readonly kind: 'release'
      readonly epoch: number
      readonly instance: InstanceGeneration
      readonly pools: readonly ArmedPool[]
    }
  | {
      readonly kind: 'gate'
      readonly epoch: number
      readonly bootId: string
      readonly instance: InstanceGeneration
      readonly pools: readonly ArmedPool[]
    }
  /** What a host that came back has to know of instances that it shows. */
  | { readonly kind: 'settle'; readonly epoch: number; readonly records: readonly OwnerRecord[] }

/** Who has an instance, as the controller has it written down. */
export interface OwnerRecord extends InstanceGeneration {
  readonly hostId: HostId
}

/** A guest that an agent finds when it starts. */
export interface RunningGuest extends Arm {
  readonly run: number
  /** It waits to be handed over by another host. */
  readonly isIncoming: boolean
  /** It went off while there was no agent, and may not be gone. */
  readonly isOff?: boolean
  /** See LocalInstance. */
  readonly isHeld?: boolean
  readonly wish?: number
}

export type AgentEvent =
  /** After a start of the agent: what runs on this host. Later: what turns out to. What is known already stays as it is. */
  | { readonly kind: 'start'; readonly running: readonly RunningGuest[] }
  /** Its guest is about to be stopped on purpose, within its ownership; or it is to be kept on again. */
  | { readonly kind: 'hold'; readonly instance: InstanceGeneration; readonly isHeld: boolean }
  | { readonly kind: 'tick' }
  | { readonly kind: 'command'; readonly command: AgentCommand }
  | { readonly kind: 'renewed'; readonly pool: string; readonly submittedMs: number }
  | { readonly kind: 'guard'; readonly isAnswering: boolean }
  | {
      readonly kind: 'claim'
      readonly pool: string
      readonly job: ClaimJob
      readonly result: ClaimResult
    }
  | {
      readonly kind: 'armed'
      readonly instance: InstanceGeneration
      readonly askedMs: number
      readonly refusal: string | null
    }
  | { readonly kind: 'disarmed'; readonly instance: InstanceGeneration }
  | { readonly kind: 'fenced'; readonly instance: InstanceGeneration; readonly why: KillReason }
  | {
      readonly kind: 'created'
      readonly instance: InstanceGeneration
      /** Busy: somebody else is at work on it. */
      readonly result: 'ok' | 'image-locked' | 'failed' | 'busy'
      readonly why?: string
    }
  /** libvirt has lost its guest, or has handed it over. */
  | {
      readonly kind: 'ended'
      readonly instance: InstanceGeneration
      readonly run: number
      readonly cause: 'crashed' | 'guest-off' | 'killed' | 'handed-over'
      readonly isEmpty: boolean
    }
  /** Answer to look-at-cgroup. */
  | { readonly kind: 'cgroup'; readonly instance: InstanceGeneration; readonly isEmpty: boolean }
  /** The guest that was on its way runs here now. */
  | { readonly kind: 'arrived'; readonly instance: InstanceGeneration }

export type AgentAction =
  | { readonly kind: 'save'; readonly record: AgentRecord }
  | { readonly kind: 'claim'; readonly pool: string; readonly job: ClaimJob }
  | { readonly kind: 'forget-claim'; readonly pool: string; readonly uuid: InstanceId }
  /** Answered with the same time. */
  | { readonly kind: 'arm'; readonly arm: Arm; readonly askedMs: number; readonly isRunning: boolean }
  | { readonly kind: 'disarm'; readonly instance: InstanceGeneration }
  | { readonly kind: 'create'; readonly arm: Arm; readonly run: number; readonly isIncoming: boolean }
  | { readonly kind: 'kill'; readonly instance: InstanceGeneration; readonly why: AgentKillReason }
  | { readonly kind: 'look-at-cgroup'; readonly instance: InstanceGeneration }
  /** Of one without pools: no other host is asked to take it, so that its own keeps the reason for people. */
  | { readonly kind: 'give-up'; readonly instance: InstanceGeneration; readonly why: string }

/** `silence` never happens: no guest ends because nobody is heard (I5). The simulator tries what if it did. */
export type AgentKillReason = 'released' | 'newer-record' | 'not-recorded' | 'silence'

type AgentStep = Step<AgentHaState, AgentAction>

/**
 * So many that were let go of are remembered on disk: far more than can be let go of while a command is on its way. A command of a
 * controller that has been replaced is refused by its epoch.
 */
export const CLOSED_REMEMBERED = 4_096
/** And so many of them are in reports. */
export const CLOSED_SHOWN = 256

export function startAgentHa(
  hostId: HostId,
  bootId: string,
  record: AgentRecord,
  nowMs: number,
): AgentHaState {
  return {
    hostId,
    bootId,
    record,
    instances: new Map(),
    renewals: new Map(),
    guardSinceMs: null,
    lostAtMs: new Map(),
    controllerHeardMs: nowMs,
  }
}

/** One step of the agent; `nowMs` is the host's BOOTTIME. */
export function stepAgentHa(
  state: AgentHaState,
  event: AgentEvent,
  nowMs: number,
  context: HaContext,
): AgentStep {
  switch (event.kind) {
    case 'start': {
      const instances = new Map(state.instances)
      for (const arm of event.running)
        if (!instances.has(arm.uuid)) instances.set(arm.uuid, found(arm, nowMs))
      return { state: { ...state, instances }, actions: [] }
    }
    case 'hold': {
      const local = find(state, event.instance)
      return local ? put(state, { ...local, isHeld: event.isHeld }) : { state, actions: [] }
    }
    case 'tick':
      return tick(state, nowMs, context)
    case 'command':
      return takeCommand({ ...state, controllerHeardMs: nowMs }, event.command, nowMs, context)
    case 'renewed':
      return {
        state: { ...state, renewals: new Map(state.renewals).set(event.pool, event.submittedMs) },
        actions: [],
      }
    case 'claim':
      return afterClaim(state, event.pool, event.job, event.result, nowMs)
    case 'guard':
      return { state: noteGuard(state, event.isAnswering, nowMs, context.timings), actions: [] }
    case 'armed': {
      const local = find(state, event.instance)
      if (local?.waitsFor !== 'arm') return { state, actions: [] }
      if (local.phase === 'closing') return close(state, local)
      if (event.refusal !== null) return put(state, failed(local, event.refusal))
      // The guard answers for a guest from when it was asked; an agent that was held up since asks again.
      if (nowMs - event.askedMs > context.timings.selfMs / 4) return armIt(state, local, nowMs)
      return afterArming(state, local, nowMs)
    }
    case 'created': {
      const local = find(state, event.instance)
      if (local?.waitsFor !== 'create') return { state, actions: [] }
      const hasDomain = event.result === 'ok'
      if (local.phase === 'closing') return close(state, { ...local, hasDomain, waitsFor: null })
      if (event.result === 'image-locked')
        return put(state, failed(local, event.why ?? 'another process has its disk locked'))
      // The next tick tries again, or finds that it is not wanted any more.
      if (event.result === 'busy')
        return put(state, { ...local, waitsFor: 'arm', why: 'it is being changed' })
      if (event.result === 'failed') {
        // An attempt counts, and the next pause is counted from it.
        const isCounted = local.phase === 'restarting' && !local.isCommanded
        const restartsAtMs = isCounted ? counted(local, nowMs) : local.restartsAtMs
        const why = event.why ?? 'libvirt could not start it'
        return put(state, failed({ ...local, restartsAtMs, offSinceMs: nowMs }, why))
      }
      return put(
        state,
        local.isIncoming ? { ...local, phase: 'incoming', hasDomain, waitsFor: null } : up(local),
      )
    }
    case 'arrived': {
      const local = find(state, event.instance)
      if (local?.phase !== 'incoming') return { state, actions: [] }
      return claimNext({ ...state }, { ...local, isIncoming: false, poolIndex: 0 }, nowMs)
    }
    case 'ended':
      return ended(state, event, nowMs)
    case 'cgroup': {
      const local = find(state, event.instance)
      if (local?.waitsFor !== 'gone' || !event.isEmpty) return { state, actions: [] }
      if (local.phase === 'closing') return close(state, { ...local, hasDomain: false, waitsFor: null })
      return put(state, { ...local, hasDomain: false, waitsFor: null, offSinceMs: nowMs })
    }
    case 'disarmed': {
      const local = find(state, event.instance)
      if (local?.waitsFor !== 'disarm') return { state, actions: [] }
      return put(state, { ...local, phase: 'closed', waitsFor: null })
    }
    case 'fenced':
      return fenced(state, event.instance, event.why, nowMs)
  }
}

function takeCommand(
  before: AgentHaState,
  command: AgentCommand,
  nowMs: number,
  context: HaContext,
): AgentStep {
  const { rules } = context
  if (command.epoch < before.record.epoch && rules.refusesOldEpochs) return { state: before, actions: [] }
  const isNewer = command.epoch > before.record.epoch
  const record = isNewer ? { ...before.record, epoch: command.epoch } : before.record
  const state = isNewer ? { ...before, record } : before
  const step = obey(state, command, nowMs, context)
  return isNewer
    ? { state: step.state, actions: [{ kind: 'save', record: step.state.record }, ...step.actions] }
    : step
}

function obey(
  state: AgentHaState,
  command: AgentCommand,
  nowMs: number,
  { timings, rules }: HaContext,
): AgentStep {
  switch (command.kind) {
    case 'start': {
      const { uuid, generation, bootId, pools, hasGuest = false } = command
      if (bootId !== state.bootId) return { state, actions: [] }
      if (generation <= (state.record.closed.get(uuid) ?? -1)) return { state, actions: [] }
      const local = state.instances.get(uuid)
      if (local && local.generation > generation) return { state, actions: [] }
      const isTakenOver = hasGuest && (!local || (local.hasDomain && local.waitsFor === null))
      const isLeft = local?.phase === 'failed' || (local && !isAtRest(local))
      if (local && local.generation < generation && isLeft && !isTakenOver)
        // What is here of an older generation goes first, and what is armed of it.
        return local.phase === 'closing' ? { state, actions: [] } : beginClosing(state, local, 'newer-record')
      if (local && local.generation === generation && local.phase !== 'failed' && local.phase !== 'gated')
        return put(state, askedAgain(local, command, nowMs))
      const next: LocalInstance = {
        ...fresh(command, pools, nowMs),
        isIncoming: command.isIncoming,
        wish: command.wish ?? generation,
        run: local?.run ?? 0,
        hasDomain: isTakenOver,
      }
      const late = pools.find(({ pool }) => !isLeaseFresh(state, pool, nowMs, timings.selfMs / 2))
      // A guest that runs in a generation before stays in that until all is there.
      if (late && isTakenOver && local) return { state, actions: [] }
      if (late) return put(state, failed(next, `this host's lease in pool ${late.pool} is not fresh`))
      return command.isIncoming || isTakenOver ? armIt(state, next, nowMs) : claimNext(state, next, nowMs)
    }
    case 'gate': {
      const { instance, pools, bootId } = command
      if (bootId !== state.bootId) return { state, actions: [] }
      const local = state.instances.get(instance.uuid)
      if (local && !isAtRest(local) && local.phase !== 'gated') return { state, actions: [] }
      if (local?.phase === 'gated' && (local.waitsFor || local.why === ''))
        return put(state, { ...local, askedMs: nowMs })
      const next: LocalInstance = { ...fresh(instance, pools, nowMs), phase: 'gated', why: 'asked for' }
      return gateNext(state, next)
    }
    case 'release': {
      const { uuid, generation } = command.instance
      const local = state.instances.get(uuid)
      if (local && local.generation > generation) return { state, actions: [] }
      if (local && (local.phase === 'closing' || local.phase === 'closed') && local.generation === generation)
        return { state, actions: [] }
      if (local && local.generation === generation) return beginClosing(state, local, 'released')
      if (local && !isAtRest(local)) return beginClosing(state, local, 'newer-record')
      // The guard may know of one that this agent has never seen.
      return beginClosing(state, fresh(command.instance, command.pools, nowMs), 'released')
    }
    case 'settle': {
      let next = state
      const actions: AgentAction[] = []
      for (const local of state.instances.values()) {
        const record = command.records.find(({ uuid }) => uuid === local.uuid)
        const isNewer = record !== undefined && record.generation > local.generation
        const isEnded = isNewer || (record === undefined && !rules.endsOnlyByRecord)
        if (!isEnded || local.phase === 'closing' || local.phase === 'closed') continue
        const step = beginClosing(next, local, isNewer ? 'newer-record' : 'not-recorded')
        next = step.state
        actions.push(...step.actions)
      }
      return { state: next, actions }
    }
  }
}

function tick(before: AgentHaState, nowMs: number, context: HaContext): AgentStep {
  const { timings, rules } = context
  let state = forgetClosed(before)
  const actions: AgentAction[] = []
  const isDeaf = nowMs - state.controllerHeardMs > timings.deadMs
  for (const local of state.instances.values()) {
    let step: AgentStep | null = null
    if (!rules.survivesControllerLoss && isDeaf && local.phase === 'running')
      step = { state, actions: [{ kind: 'kill', instance: idOf(local), why: 'silence' }] }
    // Whoever was asked may have died meanwhile.
    else if (local.waitsFor === 'claim')
      step = local.phase === 'gated' ? gateNext(state, local) : claimNext(state, local, nowMs)
    else if (local.waitsFor === 'arm') step = armIt(state, local, nowMs)
    else if (local.waitsFor === 'release') step = close(state, local)
    else if (isUnclaimed(local)) step = claimNext(state, { ...local, poolIndex: 0 }, nowMs)
    else if (local.waitsFor === 'gone')
      step = { state, actions: [{ kind: 'look-at-cgroup', instance: idOf(local) }] }
    else if (local.waitsFor === 'disarm')
      step = { state, actions: [{ kind: 'disarm', instance: idOf(local) }] }
    // The guard has ended it, and died before it could say why.
    else if (
      local.phase === 'running' &&
      !local.hasDomain &&
      local.waitsFor === null &&
      nowMs - local.offSinceMs > timings.watchdogMs
    )
      step = beginClosing(state, local, 'released')
    else if (local.phase === 'closing' && local.waitsFor === null) step = close(state, local)
    else if (local.phase === 'restarting' && local.waitsFor === null)
      step = restart(state, local, nowMs, context)
    else if (local.phase === 'gated' && nowMs - local.askedMs > 2 * timings.tryMs && !local.waitsFor)
      step = ungate(state, local)
    if (!step) continue
    state = step.state
    actions.push(...step.actions)
  }
  return { state, actions }
}

/** Asks for the claim in its next pool; when all are had, the guard is told. */
function claimNext(state: AgentHaState, local: LocalInstance, nowMs: number): AgentStep {
  const pool = local.pools[local.poolIndex]
  if (!pool) return local.hasDomain ? put(state, up(local)) : armIt(state, local, nowMs)
  const isBack = local.phase === 'restarting'
  const { uuid, generation } = local
  const keepsLock = pool.poolClass === 'E'
  const job: ClaimJob = isBack
    ? { kind: 'check', uuid, generation, keepsLock }
    : { kind: 'take', uuid, generation, epoch: state.record.epoch, keepsLock }
  return put(state, { ...local, waitsFor: 'claim' }, [{ kind: 'claim', pool: pool.pool, job }])
}

function gateNext(state: AgentHaState, local: LocalInstance): AgentStep {
  const pool = local.pools[local.poolIndex]
  if (!pool) return put(state, { ...local, waitsFor: null, why: '' })
  const job: ClaimJob = { kind: 'gate', uuid: local.uuid }
  return put(state, { ...local, waitsFor: 'claim' }, [{ kind: 'claim', pool: pool.pool, job }])
}

function ungate(state: AgentHaState, local: LocalInstance): AgentStep {
  const instances = new Map(state.instances)
  instances.delete(local.uuid)
  return {
    state: { ...state, instances },
    actions: local.pools.map(({ pool }) => ({ kind: 'forget-claim', pool, uuid: local.uuid })),
  }
}

function afterClaim(
  state: AgentHaState,
  pool: string,
  job: ClaimJob,
  result: ClaimResult,
  nowMs: number,
): AgentStep {
  const local = state.instances.get(job.uuid)
  if (!local || local.pools[local.poolIndex]?.pool !== pool) return { state, actions: [] }
  if (local.waitsFor === 'release') {
    if (job.kind !== 'release') return { state, actions: [] }
    // Where somebody else holds it, it is not this host's any more.
    if (result.kind === 'released' || result.kind === 'locked')
      return close(state, { ...local, waitsFor: null, poolIndex: local.poolIndex + 1 })
    return put(state, { ...local, waitsFor: null, why: describe(result) })
  }
  // The answer to somebody else's question, or to one of before a restart: the own one is asked again.
  const asked = local.phase === 'gated' ? 'gate' : local.phase === 'restarting' ? 'check' : 'take'
  const isMeant =
    local.phase === 'closing' ||
    (job.kind === asked && (job.kind === 'gate' || job.generation === local.generation))
  if (local.waitsFor !== 'claim' || !isMeant) return { state, actions: [] }
  const next = { ...local, waitsFor: null } as const
  if (local.phase === 'closing') return close(state, { ...next, poolIndex: 0 })
  switch (result.kind) {
    case 'taken':
    case 'mine':
      return claimNext(state, { ...next, poolIndex: local.poolIndex + 1 }, nowMs)
    case 'gated':
      return gateNext(state, { ...next, poolIndex: local.poolIndex + 1 })
    case 'others':
      if (local.phase === 'restarting') return beginClosing(state, next, 'newer-record')
      break
    case 'locked':
    case 'failed':
    case 'released':
      break
  }
  if (local.phase === 'restarting') return put(state, { ...next, poolIndex: 0, why: describe(result) })
  if (local.phase === 'gated') return ungate(state, next)
  // The guest has arrived and runs: the claim follows when it can be had.
  if (local.hasDomain) return put(state, { ...next, why: describe(result) })
  return put(state, failed(local, describe(result)))
}

function describe(result: ClaimResult): string {
  switch (result.kind) {
    case 'others':
      return `host ${result.claim.hostId} has it in generation ${result.claim.generation}`
    case 'locked':
      return 'another host holds its claim'
    case 'failed':
      return result.why
    default:
      return result.kind
  }
}

function armIt(state: AgentHaState, local: LocalInstance, nowMs: number): AgentStep {
  if (!local.isGuarded) return afterArming(state, local, nowMs)
  const { hasDomain: isRunning } = local
  return put(state, { ...local, waitsFor: 'arm' }, [
    { kind: 'arm', arm: armOf(local), askedMs: nowMs, isRunning },
  ])
}

/** The guard answers for it: it may be started. One that runs already, or has yet to come, has its claims taken. */
function afterArming(state: AgentHaState, local: LocalInstance, nowMs: number): AgentStep {
  if (local.hasDomain) return claimNext(state, { ...local, waitsFor: null, poolIndex: 0 }, nowMs)
  const isStopped = local.phase === 'restarting' && local.isHeld
  return isStopped ? put(state, { ...local, waitsFor: null, poolIndex: 0 }) : create(state, local)
}

function create(state: AgentHaState, before: LocalInstance): AgentStep {
  const local: LocalInstance = { ...before, waitsFor: 'create', run: before.run + 1 }
  const { run, isIncoming } = local
  return put(state, local, [{ kind: 'create', arm: armOf(local), run, isIncoming }])
}

function ended(state: AgentHaState, event: Extract<AgentEvent, { kind: 'ended' }>, nowMs: number): AgentStep {
  // What libvirt says of it is no proof: a process that is gone for it may still hold its disk.
  const { instance, run, cause, isEmpty } = event
  const local = find(state, instance)
  if (!local?.hasDomain || local.run !== run || local.phase === 'closed') return { state, actions: [] }
  const gone: LocalInstance = { ...local, hasDomain: !isEmpty, waitsFor: isEmpty ? null : 'gone' }
  if (local.phase === 'closing') return isEmpty ? close(state, gone) : put(state, gone)
  if (cause === 'handed-over') {
    // Its claim is for the other host to write now: with no lock between them, a late word of this one could undo that.
    const closing = beginClosing(state, { ...gone, pools: [] }, 'released')
    const forgets = local.pools.map(({ pool }) => ({ kind: 'forget-claim', pool, uuid: local.uuid }) as const)
    return { state: closing.state, actions: [...forgets, ...closing.actions] }
  }
  if (local.phase === 'incoming')
    return put(state, { ...gone, phase: 'failed', why: 'its guest did not arrive' })
  // The guard ends a guest for a reason of the host's, and says which when all is done.
  if (cause === 'killed') return put(state, { ...gone, offSinceMs: nowMs })
  const why = cause === 'crashed' ? 'its guest crashed' : 'its guest powered itself off'
  return put(state, { ...gone, phase: 'restarting', why, offSinceMs: nowMs, poolIndex: 0 })
}

/** Brings a guest back that went off here. Nobody is asked but the pool: its claim must still be this host's. */
function restart(
  state: AgentHaState,
  local: LocalInstance,
  nowMs: number,
  context: HaContext,
): AgentStep | null {
  if (local.isHeld) return null
  if (!local.isCommanded) {
    const verdict = decideRestart(local, nowMs)
    if (verdict.kind === 'give-up') return giveUp(state, local, `${local.why}; ${verdict.why}`)
    if (verdict.kind === 'wait') return null
  }
  const isFresh = local.pools.every(({ pool }) =>
    isLeaseFresh(state, pool, nowMs, context.timings.selfMs / 2),
  )
  if (!isFresh) return null
  return claimNext(state, { ...local, poolIndex: 0 }, nowMs)
}

function giveUp(state: AgentHaState, local: LocalInstance, why: string): AgentStep {
  const actions: AgentAction[] = local.isGuarded ? [] : [{ kind: 'give-up', instance: idOf(local), why }]
  return put(state, { ...local, phase: 'given-up', why }, actions)
}

/** A start of what is here: one that is off is started now, whatever it was off for. */
function askedAgain(local: LocalInstance, command: StartCommand, nowMs: number): LocalInstance {
  const wish = Math.max(local.wish, command.wish ?? local.wish)
  const next = { ...local, wish, askedMs: nowMs, isHeld: false }
  if (local.phase === 'restarting') return { ...next, isCommanded: local.isHeld || local.isCommanded }
  if (local.phase !== 'given-up' || wish === local.wish) return next
  return { ...next, phase: 'restarting', isCommanded: true, restartsAtMs: [], poolIndex: 0 }
}

/** Ends it here for good: written down first, so that no command that comes late starts it again. */
function beginClosing(state: AgentHaState, local: LocalInstance, why: AgentKillReason): AgentStep {
  const { waitsFor } = local
  const isBusy = waitsFor === 'claim' || waitsFor === 'arm' || waitsFor === 'create'
  const next: LocalInstance = { ...local, phase: 'closing', why, poolIndex: isBusy ? local.poolIndex : 0 }
  const remembered = remember({ state, actions: [] }, local.uuid, local.generation)
  if (isBusy) return put(remembered.state, next, remembered.actions)
  const step = close(remembered.state, next)
  return { state: step.state, actions: [...remembered.actions, ...step.actions] }
}

/** The next step of letting go: the guest, the claims, the guard. */
function close(state: AgentHaState, local: LocalInstance): AgentStep {
  const instance = idOf(local)
  if (local.hasDomain) {
    const why = (local.why || 'released') as AgentKillReason
    const kill: readonly AgentAction[] = local.waitsFor === 'gone' ? [] : [{ kind: 'kill', instance, why }]
    return put(state, { ...local, waitsFor: 'gone', poolIndex: 0 }, kill)
  }
  const pool = local.pools[local.poolIndex]
  if (pool)
    return put(state, { ...local, waitsFor: 'release' }, [
      {
        kind: 'claim',
        pool: pool.pool,
        job: { kind: 'release', uuid: local.uuid, generation: local.generation },
      },
    ])
  if (!local.isGuarded) return put(state, { ...local, phase: 'closed', waitsFor: null })
  return put(state, { ...local, waitsFor: 'disarm' }, [{ kind: 'disarm', instance }])
}

function fenced(
  state: AgentHaState,
  instance: InstanceGeneration,
  why: KillReason,
  nowMs: number,
): AgentStep {
  const local = find(state, instance)
  if (!local || local.phase === 'closed') return { state, actions: [] }
  if (why === 'locks-lost' && local.phase !== 'closing')
    return put(state, {
      ...local,
      phase: 'restarting',
      hasDomain: false,
      waitsFor: null,
      poolIndex: 0,
      why: 'the storage had dropped its locks',
      offSinceMs: nowMs,
    })
  const closed: LocalInstance = { ...local, phase: 'closed', hasDomain: false, waitsFor: null, why }
  return remember(
    put(
      state,
      closed,
      local.pools.map(({ pool }) => ({ kind: 'forget-claim', pool, uuid: local.uuid })),
    ),
    local.uuid,
    local.generation,
  )
}

function remember(step: AgentStep, uuid: InstanceId, generation: number): AgentStep {
  const { record } = step.state
  if ((record.closed.get(uuid) ?? -1) >= generation) return step
  const closed = new Map(record.closed)
  closed.delete(uuid)
  closed.set(uuid, generation)
  const next = { ...record, closed: withoutOldest(closed, CLOSED_REMEMBERED) }
  return {
    state: { ...step.state, record: next },
    actions: [{ kind: 'save', record: next }, ...step.actions],
  }
}

/** What was put in first goes first. */
function withoutOldest<Key, Value>(map: Map<Key, Value>, most: number): Map<Key, Value> {
  for (const key of map.keys()) {
    if (map.size <= most) break
    map.delete(key)
  }
  return map
}

/** What was let go of is shown until the controller has surely seen it; one that has not asks, and is told again. */
function forgetClosed(state: AgentHaState): AgentHaState {
  const closed = [...state.instances.values()].filter(({ phase }) => phase === 'closed')
  if (closed.length <= CLOSED_SHOWN) return state
  const instances = new Map(state.instances)
  for (const { uuid } of closed.slice(0, closed.length - CLOSED_SHOWN)) instances.delete(uuid)
  return { ...state, instances }
}

function isLeaseFresh(state: AgentHaState, pool: string, nowMs: number, maxMs: number): boolean {
  const renewedMs = state.renewals.get(pool)
  return renewedMs !== undefined && nowMs - renewedMs <= maxMs
}

/** Nothing of it is here, or on its way. */
function isAtRest({ phase, hasDomain, waitsFor }: LocalInstance): boolean {
  return (phase === 'closed' || phase === 'failed' || phase === 'gated') && !hasDomain && !waitsFor
}

function fresh(
  { uuid, generation }: InstanceGeneration,
  pools: readonly ArmedPool[],
  nowMs: number,
): LocalInstance {
  return {
    uuid,
    generation,
    pools,
    phase: 'starting',
    why: '',
    waitsFor: null,
    poolIndex: 0,
    hasDomain: false,
    restartsAtMs: [],
    offSinceMs: nowMs,
    isIncoming: false,
    isGuarded: pools.length > 0,
    isHeld: false,
    isCommanded: false,
    wish: generation,
    run: 0,
    askedMs: nowMs,
  }
}

function found(guest: RunningGuest, nowMs: number): LocalInstance {
  const { pools, run, isIncoming, isOff = false, isHeld = false, wish = guest.generation } = guest
  const local = { ...fresh(guest, pools, nowMs), isIncoming, isHeld, wish, run, hasDomain: true }
  if (isOff) return { ...local, phase: 'restarting', waitsFor: 'gone', why: 'it was off when the agent came' }
  return { ...local, phase: isIncoming ? 'incoming' : 'running', why: 'it ran when the agent came' }
}

/** Its guest runs here, and the claims follow. */
function isUnclaimed({ phase, waitsFor, hasDomain, isIncoming }: LocalInstance): boolean {
  if (waitsFor !== null || isIncoming) return false
  return phase === 'incoming' || (phase === 'starting' && hasDomain)
}

function up(local: LocalInstance): LocalInstance {
  const isCounted = local.phase === 'restarting' && !local.isCommanded
  const restartsAtMs = isCounted ? counted(local, local.offSinceMs) : local.restartsAtMs
  const rest = { why: '', waitsFor: null, hasDomain: true, isCommanded: false, restartsAtMs }
  return { ...local, ...rest, phase: 'running' }
}

function counted({ restartsAtMs }: LocalInstance, atMs: number): readonly number[] {
  return [...restartsAtMs, atMs].slice(-8)
}

function failed(local: LocalInstance, why: string): LocalInstance {
  // A restart goes on trying by itself, and a guest that is here is not given up for a claim that could not be read.
  if (local.phase === 'restarting' && !local.isCommanded)
    return { ...local, waitsFor: null, poolIndex: 0, why }
  return { ...local, phase: 'failed', waitsFor: null, poolIndex: 0, why }
}

function armOf({ uuid, generation, pools }: Arm): Arm {
  return { uuid, generation, pools }
}

function idOf({ uuid, generation }: InstanceGeneration): InstanceGeneration {
  return { uuid, generation }
}

function find(state: AgentHaState, { uuid, generation }: InstanceGeneration): LocalInstance | null {
  const local = state.instances.get(uuid)
  return local && local.generation === generation ? local : null
}

function put(state: AgentHaState, local: LocalInstance, actions: readonly AgentAction[] = []): AgentStep {
  return { state: { ...state, instances: new Map(state.instances).set(local.uuid, local) }, actions }
}

function noteGuard(
  state: AgentHaState,
  isAnswering: boolean,
  nowMs: number,
  timings: HaContext['timings'],
): AgentHaState {
  if (isAnswering === (state.guardSinceMs !== null)) return state
  if (isAnswering) return { ...state, guardSinceMs: nowMs }
  const lost = new Set(lostPools(state, [...state.renewals.keys()], nowMs, timings))
  const lostAtMs = new Map([...state.renewals].filter(([pool]) => lost.has(pool)))
  return { ...state, guardSinceMs: null, lostAtMs }
}

/**
 * Pools of this host in which its guard has tried in vain for `lossMs` to renew its leases. A guard that
 * does not answer, or has only just come, says nothing new about a pool: while it is started again nothing is to be moved, and nothing
 * is to be taken for found again. Nor is one lost in which no lease was ever held.
 */
export function lostPools(
  { renewals, guardSinceMs, lostAtMs }: AgentHaState,
  pools: readonly string[],
  nowMs: number,
  { lossMs }: HaContext['timings'],
): string[] {
  const isGuardNews = guardSinceMs === null || nowMs - guardSinceMs <= lossMs
  return pools.filter((pool) => {
    const renewedMs = renewals.get(pool)
    if (renewedMs === undefined) return false
    return isGuardNews ? lostAtMs.get(pool) === renewedMs : nowMs - renewedMs > lossMs
  })
}

/** What this host tells the controller of its instances. */
export function reportInstances(
  state: AgentHaState,
): (InstanceGeneration & { readonly phase: LocalPhase; readonly why: string })[] {
  return [...state.instances.values()].map(({ uuid, generation, phase, why }) => ({
    uuid,
    generation,
    phase,
    why,
  }))
}
