import { expect, test } from 'vitest'
import type { HostId } from '../ids.ts'
import type { Decoded, HostLease } from './blocks.ts'
import { type PoolReaderState, sight, startPoolReader, stepPoolReader } from './pool-reader.ts'
import { HA_RULES } from './rules.ts'
import { HA_PROFILES } from './timings.ts'

const context = { timings: HA_PROFILES.fast, rules: HA_RULES }
const [a, b, c] = ['a', 'b', 'c'] as HostId[] as [HostId, HostId, HostId]

const lease = (hostId: HostId, seq: number): Decoded<HostLease> => ({
  kind: 'block',
  block: {
    kind: 'lease',
    hostId,
    incarnation: 'i',
    bootId: 'boot',
    seq,
    selfMs: 12_000,
    watchdogMs: 10_000,
    isWatchdogArmed: true,
    isManagementOk: true,
    isGuestNetworkOk: true,
    pillAck: null,
  },
})

function read(
  state: PoolReaderState,
  fromMs: number,
  toMs: number,
  blocks: ReadonlyMap<HostId, Decoded<HostLease>> | null,
) {
  const begun = stepPoolReader(state, { kind: 'tick' }, fromMs).state
  return stepPoolReader(begun, { kind: 'read', blocks }, toMs).state
}

/** a and c are renewed each second, b was last at 0. */
function watched(untilMs: number): PoolReaderState {
  let state = startPoolReader(a)
  for (let atMs = 0; atMs <= untilMs; atMs += 1_000)
    state = read(
      state,
      atMs,
      atMs + 100,
      new Map([
        [a, lease(a, atMs)],
        [b, lease(b, 1)],
        [c, lease(c, atMs)],
      ]),
    )
  return state
}

test('the age runs from the end of the first read to the start of the latest, not to now', () => {
  expect(sight(watched(20_000), b, 20_900, context)).toMatchObject({ kind: 'stale', staleForMs: 19_900 })
  expect(sight(watched(20_000), c, 20_900, context)).toMatchObject({ kind: 'alive' })
})

test('a reader that failed, hangs or has just started knows nothing', () => {
  expect(sight(startPoolReader(a), b, 0, context).kind).toBe('unknown')
  expect(sight(read(watched(20_000), 21_000, 21_100, null), b, 21_100, context).kind).toBe('unknown')
  const hanging = stepPoolReader(watched(20_000), { kind: 'tick' }, 21_000).state
  expect(sight(hanging, b, 26_000, context).kind).toBe('unknown')
})

test('a damaged block is no news', () => {
  const torn = new Map<HostId, Decoded<HostLease>>([
    [a, lease(a, 99)],
    [b, { kind: 'damaged', why: 'torn' }],
    [c, lease(c, 99)],
  ])
  const state = read(watched(20_000), 21_000, 21_100, torn)
  expect(sight(state, b, 21_100, context)).toMatchObject({ kind: 'stale', staleForMs: 19_900 })
})

test('where nobody renews, the pool is not healthy', () => {
  let state = watched(5_000)
  const still = new Map([
    [a, lease(a, 5_000)],
    [b, lease(b, 1)],
    [c, lease(c, 5_000)],
  ])
  for (let atMs = 6_000; atMs <= 20_000; atMs += 1_000) state = read(state, atMs, atMs + 100, still)
  expect(sight(state, b, 20_200, context)).toMatchObject({ kind: 'stale', isPoolHealthy: false })
})
