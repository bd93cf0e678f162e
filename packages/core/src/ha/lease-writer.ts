// Renews one host's lease in one pool (process `hb-writer`, a child of its own: any of its calls may hang for ever).
// It renews only what is watched: the guard has said within the last second that it is there, and the mailbox, read in
// the same cycle, holds no pill. That is why a pill needs no answer: who is to be told cannot go on without reading it.

import type { HostId } from '../ids.ts'
import type { Decoded, HostLease, Pill, PillAck } from './blocks.ts'
import type { HaContext, Step } from './rules.ts'
import type { HaTimings } from './timings.ts'

/** How old the guard's word may be. */
export const PERMIT_MS = 1_000

/** What a host says of itself in its lease. */
export interface HostCondition {
  readonly isWatchdogArmed: boolean
  readonly isManagementOk: boolean
  readonly isGuestNetworkOk: boolean
}

export interface LeaseWriterState {
  readonly hostId: HostId
  readonly bootId: string
  readonly incarnation: string | null
  readonly seq: number
  readonly permitMs: number | null
  readonly condition: HostCondition
  /** What it waits for. One operation at a time: whoever is stuck stays stuck, and says nothing. */
  readonly waitsFor: null | 'mailbox' | 'write'
  readonly isRead: boolean
  readonly submittedMs: number
  /** Of the latest cycle. */
  readonly startedMs: number
  /** A pill for this incarnation has been read: it renews no more. */
  readonly obeys: Pill | null
  readonly epochSeen: number
  readonly ack: PillAck | null
  readonly isAckDue: boolean
}

export type LeaseWriterEvent =
  | { readonly kind: 'tick' }
  | { readonly kind: 'permit'; readonly incarnation: string; readonly condition: HostCondition }
  | { readonly kind: 'mailbox'; readonly read: Decoded<Pill> | null }
  | { readonly kind: 'written'; readonly isOk: boolean }
  /** The guard has done what the pill says. */
  | { readonly kind: 'ack'; readonly ack: PillAck }

export type LeaseWriterAction =
  | { readonly kind: 'read-mailbox' }
  | { readonly kind: 'write-lease'; readonly block: HostLease }
  /** A renewal is on disk; it was begun at that time. */
  | { readonly kind: 'tell-renewed'; readonly submittedMs: number }
  | { readonly kind: 'tell-pill'; readonly pill: Pill }

export function startLeaseWriter(hostId: HostId, bootId: string, seq: number): LeaseWriterState {
  return {
    hostId,
    bootId,
    incarnation: null,
    seq,
    permitMs: null,
    condition: { isWatchdogArmed: false, isManagementOk: false, isGuestNetworkOk: true },
    waitsFor: null,
    isRead: false,
    submittedMs: 0,
    startedMs: Number.NEGATIVE_INFINITY,
    obeys: null,
    epochSeen: 0,
    ack: null,
    isAckDue: false,
  }
}

/** One step of the writer; `nowMs` is the host's BOOTTIME, taken before what the step asks for is done. */
export function stepLeaseWriter(
  state: LeaseWriterState,
  event: LeaseWriterEvent,
  nowMs: number,
  context: HaContext,
): Step<LeaseWriterState, LeaseWriterAction> {
  switch (event.kind) {
    case 'permit': {
      // A new incarnation has nothing to do with what its predecessor was told.
      const isNew = event.incarnation !== state.incarnation
      const { incarnation, condition } = event
      const next = { ...state, incarnation, condition, permitMs: nowMs }
      return { state: isNew ? { ...next, obeys: null } : next, actions: [] }
    }
    case 'tick':
      return startCycle(state, nowMs, context)
    case 'mailbox':
      return afterMailbox({ ...state, waitsFor: null }, event.read, nowMs, context)
    case 'written': {
      const { submittedMs, isAckDue, obeys } = state
      const next = { ...state, waitsFor: null, isAckDue: isAckDue && !event.isOk } as const
      if (!event.isOk || obeys) return { state: next, actions: [] }
      return { state: next, actions: [{ kind: 'tell-renewed', submittedMs }] }
    }
    case 'ack':
      return { state: { ...state, ack: event.ack, isAckDue: true }, actions: [] }
  }
}

function startCycle(
  state: LeaseWriterState,
  nowMs: number,
  { timings, rules }: HaContext,
): Step<LeaseWriterState, LeaseWriterAction> {
  if (state.waitsFor || nowMs - state.startedMs < timings.writeMs) return { state, actions: [] }
  if (state.obeys && !state.isAckDue) return { state, actions: [] }
  const next = { ...state, startedMs: nowMs, isRead: false }
  if (!rules.writerReadsMailbox) return write(next, nowMs, timings)
  return { state: { ...next, waitsFor: 'mailbox' }, actions: [{ kind: 'read-mailbox' }] }
}

function afterMailbox(
  state: LeaseWriterState,
  read: Decoded<Pill> | null,
  nowMs: number,
  { timings, rules }: HaContext,
): Step<LeaseWriterState, LeaseWriterAction> {
  // Who cannot read what it is told does not go on as if nothing had been said.
  if (read === null || read.kind === 'damaged') return { state, actions: [] }
  const isPermitted = state.permitMs !== null && nowMs - state.permitMs <= PERMIT_MS
  if (rules.writerNeedsPermit && !isPermitted) return { state, actions: [] }
  if (state.obeys) return state.isAckDue ? write(state, nowMs, timings) : { state, actions: [] }
  if (read.kind === 'empty') return write({ ...state, isRead: true }, nowMs, timings)
  const pill = read.block
  const isMine = !rules.pillNamesIncarnation || pill.targetIncarnation === state.incarnation
  const isAnswered = state.ack !== null && state.ack.epoch === pill.epoch && state.ack.nonce === pill.nonce
  if (!isMine || isAnswered || (rules.refusesOldEpochs && pill.epoch < state.epochSeen))
    return write({ ...state, isRead: true }, nowMs, timings)
  return {
    state: { ...state, isRead: true, obeys: pill, epochSeen: Math.max(state.epochSeen, pill.epoch) },
    actions: [{ kind: 'tell-pill', pill }],
  }
}

function write(
  state: LeaseWriterState,
  nowMs: number,
  { selfMs, watchdogMs }: HaTimings,
): Step<LeaseWriterState, LeaseWriterAction> {
  if (state.incarnation === null) return { state, actions: [] }
  const seq = state.seq + 1
  const { hostId, incarnation, bootId, condition, ack } = state
  const block: HostLease = {
    kind: 'lease',
    hostId,
    incarnation,
    bootId,
    seq,
    selfMs,
    watchdogMs,
    ...condition,
    pillAck: ack,
  }
  return {
    state: { ...state, seq, waitsFor: 'write', submittedMs: nowMs },
    actions: [{ kind: 'write-lease', block }],
  }
}
