// Takes, checks and gives back the claims of one pool (process `claim-holder`): the record in the pool that says which host
// may run an instance, in which generation. Each change is read, written and read back under an exclusive lock. In class E
// the lock is kept for as long as the guest runs, so that a start elsewhere stops before anything is touched; in class T,
// where a dead host's lock may stay for ever, it is held for the change only.
//
// One job at a time per instance. What a job leaves when the process dies is found by the next: nothing is undone by guess.

import type { HostId, InstanceId } from '../ids.ts'
import type { Claim, Decoded } from './blocks.ts'
import type { Step } from './rules.ts'

export type ClaimJob =
  /** Makes this host the owner, of a generation that nobody else has had. */
  | {
      readonly kind: 'take'
      readonly uuid: InstanceId
      readonly generation: number
      readonly epoch: number
      readonly keepsLock: boolean
    }
  /** Only gets the lock: whoever had it runs the instance no more (class E). */
  | { readonly kind: 'gate'; readonly uuid: InstanceId }
  /** Is it still ours? Gets the lock again where it was lost and nobody else has it. */
  | {
      readonly kind: 'check'
      readonly uuid: InstanceId
      readonly generation: number
      readonly keepsLock: boolean
      /** The guard's own: when it asked, so that a late answer is not taken for a new one. */
      readonly askedMs?: number
    }
  /** Says that this host will not run that generation any more, and lets go of the lock. */
  | { readonly kind: 'release'; readonly uuid: InstanceId; readonly generation: number }

export type ClaimResult =
  | { readonly kind: 'taken' | 'gated' | 'released' | 'mine' }
  /** Another host, or a later generation, has it. */
  | { readonly kind: 'others'; readonly claim: Claim }
  /** Somebody holds the lock: it may be had later. */
  | { readonly kind: 'locked' }
  /** The pool did not do what it was asked for, or what it returned cannot be trusted. */
  | { readonly kind: 'failed'; readonly why: string }

interface Held {
  /** The lock is ours as far as is known. */
  readonly isLocked: boolean
  readonly keepsLock: boolean
  readonly job: ClaimJob | null
  readonly waitsFor: null | 'lock' | 'read' | 'write' | 'verify'
  /** Nobody wants it any more once the job is done. */
  readonly isForgotten: boolean
}

export interface ClaimHolderState {
  readonly hostId: HostId
  readonly bootId: string
  readonly held: ReadonlyMap<InstanceId, Held>
}

export type ClaimHolderEvent =
  | { readonly kind: 'job'; readonly job: ClaimJob }
  | { readonly kind: 'lock-answer'; readonly uuid: InstanceId; readonly isGranted: boolean }
  | { readonly kind: 'claim-read'; readonly uuid: InstanceId; readonly read: Decoded<Claim> | null }
  | { readonly kind: 'claim-written'; readonly uuid: InstanceId; readonly isOk: boolean }
  /** An operation under the lock was refused, because the storage has dropped it. */
  | { readonly kind: 'lock-lost'; readonly uuid: InstanceId }
  /** Nobody wants the instance here any more. */
  | { readonly kind: 'forget'; readonly uuid: InstanceId }

export type ClaimHolderAction =
  | { readonly kind: 'lock' | 'unlock' | 'read-claim'; readonly uuid: InstanceId }
  | { readonly kind: 'write-claim'; readonly claim: Claim }
  | { readonly kind: 'result'; readonly job: ClaimJob; readonly result: ClaimResult }

type ClaimStep = Step<ClaimHolderState, ClaimHolderAction>

const NOTHING: Held = { isLocked: false, keepsLock: false, job: null, waitsFor: null, isForgotten: false }

export function startClaimHolder(hostId: HostId, bootId: string): ClaimHolderState {
  return { hostId, bootId, held: new Map() }
}

export function stepClaimHolder(state: ClaimHolderState, event: ClaimHolderEvent): ClaimStep {
  const uuid =
    event.kind === 'job' ? event.job.uuid : event.kind === 'claim-written' ? event.uuid : event.uuid
  const held = state.held.get(uuid) ?? NOTHING
  switch (event.kind) {
    case 'job':
      return begin(state, held, event.job)
    case 'lock-answer': {
      if (held.waitsFor !== 'lock' || !held.job) return { state, actions: [] }
      // Who holds it may have claimed it: that can be read without the lock, too, and only that counts then.
      if (!event.isGranted && held.job.kind === 'check')
        return wait(state, { ...held, isLocked: false }, held.job, 'read', [{ kind: 'read-claim', uuid }])
      if (!event.isGranted) return finish(state, { ...held, isLocked: false }, held.job, { kind: 'locked' })
      if (held.job.kind === 'gate')
        return finish(state, { ...held, isLocked: true, keepsLock: true }, held.job, { kind: 'gated' })
      return wait(state, { ...held, isLocked: true }, held.job, 'read', [{ kind: 'read-claim', uuid }])
    }
    case 'claim-read':
      if (!held.job || (held.waitsFor !== 'read' && held.waitsFor !== 'verify')) return { state, actions: [] }
      return afterRead(state, held, held.job, event.read)
    case 'claim-written': {
      if (held.waitsFor !== 'write' || !held.job) return { state, actions: [] }
      if (!event.isOk)
        return finish(state, held, held.job, { kind: 'failed', why: 'the claim was not written' })
      return wait(state, held, held.job, 'verify', [{ kind: 'read-claim', uuid }])
    }
    case 'lock-lost':
      return { state: keep(state, uuid, { ...held, isLocked: false }), actions: [] }
    case 'forget':
      if (held.job) return { state: keep(state, uuid, { ...held, isForgotten: true }), actions: [] }
      return { state: keep(state, uuid, NOTHING), actions: held.isLocked ? [{ kind: 'unlock', uuid }] : [] }
  }
}

function begin(state: ClaimHolderState, held: Held, job: ClaimJob): ClaimStep {
  // The same is being done already; who asks again is answered then.
  if (held.job) return { state, actions: [] }
  const { uuid } = job
  if (!held.isLocked) return wait(state, held, job, 'lock', [{ kind: 'lock', uuid }])
  if (job.kind === 'gate') return finish(state, held, job, { kind: 'gated' })
  return wait(state, held, job, 'read', [{ kind: 'read-claim', uuid }])
}

function afterRead(
  state: ClaimHolderState,
  held: Held,
  job: ClaimJob,
  read: Decoded<Claim> | null,
): ClaimStep {
  if (read === null || read.kind === 'damaged')
    return finish(state, held, job, { kind: 'failed', why: read?.why ?? 'the claim cannot be read' })
  const claim = read.kind === 'block' ? read.block : null
  if (job.kind === 'gate') return finish(state, held, job, { kind: 'gated' })
  const isMine =
    claim !== null &&
    claim.generation === job.generation &&
    claim.hostId === state.hostId &&
    claim.bootId === state.bootId
  if (held.waitsFor === 'verify') {
    if (isMine && claim.state === (job.kind === 'release' ? 'released' : 'running'))
      return finish(state, held, job, { kind: job.kind === 'release' ? 'released' : 'taken' })
    return finish(state, held, job, { kind: 'failed', why: 'what was written was not what was read then' })
  }
  switch (job.kind) {
    case 'check':
      if (isMine && !held.isLocked) return finish(state, held, job, { kind: 'locked' })
      if (isMine && claim.state === 'running') return finish(state, held, job, { kind: 'mine' })
      // A guest that was handed over before its claim was: it is ours to write.
      if (claim && claim.generation < job.generation && held.isLocked)
        return write(state, held, job, job.generation, 'running', claim.epoch)
      if (claim && claim.generation < job.generation) return finish(state, held, job, { kind: 'locked' })
      return claim
        ? finish(state, held, job, { kind: 'others', claim })
        : finish(state, held, job, { kind: 'failed', why: 'there is no claim' })
    case 'take':
      if (claim && claim.generation >= job.generation && !isMine)
        return finish(state, held, job, { kind: 'others', claim })
      return write(state, held, job, job.generation, 'running', job.epoch)
    case 'release':
      // Nothing of this host stands there: nothing is to be taken back.
      if (!isMine) return finish(state, held, job, { kind: 'released' })
      return write(state, held, job, job.generation, 'released', claim.epoch)
  }
}

function write(
  state: ClaimHolderState,
  held: Held,
  job: ClaimJob,
  generation: number,
  claimState: Claim['state'],
  epoch: number,
): ClaimStep {
  const { hostId, bootId } = state
  const claim: Claim = {
    kind: 'claim',
    uuid: job.uuid,
    generation,
    hostId,
    bootId,
    state: claimState,
    epoch,
  }
  return wait(state, held, job, 'write', [{ kind: 'write-claim', claim }])
}

function wait(
  state: ClaimHolderState,
  held: Held,
  job: ClaimJob,
  waitsFor: Held['waitsFor'],
  actions: readonly ClaimHolderAction[],
): ClaimStep {
  return { state: keep(state, job.uuid, { ...held, job, waitsFor }), actions }
}

/** Ends a job. The lock stays where the guest is to run under it, and only there. */
function finish(state: ClaimHolderState, held: Held, job: ClaimJob, result: ClaimResult): ClaimStep {
  const keepsLock =
    (result.kind === 'taken' || result.kind === 'mine') && (job.kind === 'take' || job.kind === 'check')
      ? job.keepsLock
      : result.kind === 'gated' || (held.keepsLock && result.kind !== 'released' && result.kind !== 'others')
  const isLocked = held.isLocked && keepsLock && !held.isForgotten
  const actions: ClaimHolderAction[] = []
  if (held.isLocked && !isLocked) actions.push({ kind: 'unlock', uuid: job.uuid })
  actions.push({ kind: 'result', job, result })
  return {
    state: keep(state, job.uuid, { isLocked, keepsLock, job: null, waitsFor: null, isForgotten: false }),
    actions,
  }
}

function keep(state: ClaimHolderState, uuid: InstanceId, held: Held): ClaimHolderState {
  const next = new Map(state.held)
  if (held === NOTHING) next.delete(uuid)
  else next.set(uuid, held)
  return { ...state, held: next }
}
