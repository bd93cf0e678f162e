// Watches the leases of all hosts in one pool (process `pool-reader`). It knows how old a value is only by its own reads:
// from the end of the first read that returned it (it may have been written during that one) to the start of the latest
// that still did. "Now" says nothing: a read that hangs leaves the age where it was, and then makes it unknown.

import type { HostId } from '../ids.ts'
import type { Decoded, HostLease, PillAck } from './blocks.ts'
import type { HaContext, Step } from './rules.ts'

export interface WatchedLease {
  readonly block: HostLease
  /** When the first read that returned this value began and ended, on this host's clock. */
  readonly firstStartMs: number
  readonly firstEndMs: number
  /** When the latest read that still returned it began. */
  readonly latestStartMs: number
}

export interface PoolReaderState {
  readonly hostId: HostId
  readonly leases: ReadonlyMap<HostId, WatchedLease>
  /** Start of the read that is under way. */
  readonly readingSinceMs: number | null
  readonly lastReadEndMs: number | null
}

export type PoolReaderEvent =
  | { readonly kind: 'tick' }
  /** All blocks as one read returned them; null when it failed. */
  | { readonly kind: 'read'; readonly blocks: ReadonlyMap<HostId, Decoded<HostLease>> | null }

export type PoolReaderAction = { readonly kind: 'read-leases' }

/** What one host sees of another's lease in one pool. */
export type Sighting = {
  /** Its own lease and those of others have been renewed of late: the pool takes writes. */
  readonly isPoolHealthy: boolean
} & (
  | { readonly kind: 'alive'; readonly lease: HostLease }
  | { readonly kind: 'stale'; readonly staleForMs: number; readonly lease: HostLease }
  | { readonly kind: 'unknown'; readonly why: string }
)

/** A read older than this says nothing of now. */
const READ_FRESH_MS = 3_000

export function startPoolReader(hostId: HostId): PoolReaderState {
  return { hostId, leases: new Map(), readingSinceMs: null, lastReadEndMs: null }
}

/** One step of the reader; `nowMs` is the host's BOOTTIME. */
export function stepPoolReader(
  state: PoolReaderState,
  event: PoolReaderEvent,
  nowMs: number,
): Step<PoolReaderState, PoolReaderAction> {
  if (event.kind === 'tick') {
    if (state.readingSinceMs !== null) return { state, actions: [] }
    return { state: { ...state, readingSinceMs: nowMs }, actions: [{ kind: 'read-leases' }] }
  }
  const startMs = state.readingSinceMs ?? nowMs
  // What was seen before a failure is no history: a value may have come and gone meanwhile.
  if (event.blocks === null)
    return { state: { ...state, leases: new Map(), readingSinceMs: null, lastReadEndMs: null }, actions: [] }
  const leases = new Map(state.leases)
  for (const [hostId, decoded] of event.blocks) {
    if (decoded.kind !== 'block') continue
    const known = leases.get(hostId)
    const { block } = decoded
    if (known && isSameValue(known.block, block)) leases.set(hostId, { ...known, latestStartMs: startMs })
    else leases.set(hostId, { block, firstStartMs: startMs, firstEndMs: nowMs, latestStartMs: startMs })
  }
  return { state: { ...state, leases, readingSinceMs: null, lastReadEndMs: nowMs }, actions: [] }
}

/** What this reader can say of a host's lease at a time. */
export function sight(
  state: PoolReaderState,
  hostId: HostId,
  nowMs: number,
  { timings, rules }: HaContext,
): Sighting {
  const { lastReadEndMs } = state
  const freshMs = Math.max(READ_FRESH_MS, 3 * timings.readMs)
  if (lastReadEndMs === null || nowMs - lastReadEndMs > freshMs)
    return { kind: 'unknown', why: 'it cannot read the pool', isPoolHealthy: false }
  const isPoolHealthy = !rules.needsHealthyPool || isHealthy(state, hostId, nowMs, timings.writeMs)
  const lease = state.leases.get(hostId)
  if (!lease) return { kind: 'unknown', why: 'it has not seen that lease yet', isPoolHealthy }
  const fromMs = rules.ageCountsFromReadEnd ? lease.firstEndMs : lease.firstStartMs
  const staleForMs = lease.latestStartMs - fromMs
  if (staleForMs < timings.tryMs) return { kind: 'alive', lease: lease.block, isPoolHealthy }
  return { kind: 'stale', staleForMs, lease: lease.block, isPoolHealthy }
}

/** The answer of a host to a pill, if its lease shows one. */
export function seenAck(state: PoolReaderState, hostId: HostId): PillAck | null {
  return state.leases.get(hostId)?.block.pillAck ?? null
}

/**
 * Whether the pool takes writes now: the reader's own lease, and that of another host beside the one that is asked about
 * where there is one, have changed within the time of a few renewals. That they changed once since would not do: a pool that stopped just after
 * the last renewal of one host has seen later ones of others.
 */
function isHealthy(state: PoolReaderState, hostId: HostId, nowMs: number, writeMs: number): boolean {
  let others = 0
  let advancing = 0
  let isOwnAdvancing = false
  for (const [id, { firstEndMs }] of state.leases) {
    if (id === hostId) continue
    const isAdvancing = nowMs - firstEndMs <= 3 * writeMs
    if (id === state.hostId) isOwnAdvancing = isAdvancing
    else {
      others++
      if (isAdvancing) advancing++
    }
  }
  return isOwnAdvancing && advancing >= Math.min(1, others)
}

function isSameValue(a: HostLease, b: HostLease): boolean {
  return a.seq === b.seq && a.incarnation === b.incarnation
}
