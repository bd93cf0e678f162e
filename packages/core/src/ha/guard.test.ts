import { expect, test } from 'vitest'
import type { InstanceId } from '../ids.ts'
import {
  type Arm,
  type GuardAction,
  type GuardEvent,
  type GuardState,
  startGuard,
  stepGuard,
} from './guard.ts'
import { HA_RULES } from './rules.ts'
import { HA_PROFILES } from './timings.ts'

const context = { timings: HA_PROFILES.default, rules: HA_RULES }
const instance = { uuid: 'i' as InstanceId, generation: 3 }
const armOf = (poolClass: 'E' | 'T', canUnmount = true): Arm => ({
  ...instance,
  pools: [{ pool: 'p', poolClass, canUnmount }],
})

/** Plays events at times, and returns the state with the kinds of actions of the last one. */
function play(
  events: readonly (readonly [number, GuardEvent])[],
  from: GuardState = startGuard('inc', true),
): { state: GuardState; actions: readonly GuardAction[]; kinds: string[] } {
  let state = from
  let actions: readonly GuardAction[] = []
  for (const [atMs, event] of events) ({ state, actions } = stepGuard(state, event, atMs, context))
  return { state, actions, kinds: actions.map(({ kind }) => kind) }
}

const ready: readonly (readonly [number, GuardEvent])[] = [
  [0, { kind: 'start', record: { arms: [], renewals: [] } }],
  [0, { kind: 'opened', timeoutMs: 15_000 }],
  [1_000, { kind: 'renewed', pool: 'p', submittedMs: 900 }],
]
const armed = (poolClass: 'E' | 'T', canUnmount = true) =>
  [...ready, [1_100, { kind: 'arm', arm: armOf(poolClass, canUnmount), askedMs: 1_090 }]] as const

test('a guest is armed only under a fresh lease', () => {
  expect(play(armed('T')).actions.at(-1)).toMatchObject({ kind: 'armed', refusal: null })
  const late = play([...ready, [20_000, { kind: 'arm', arm: armOf('T'), askedMs: 0 }]])
  expect(late.actions).toEqual([
    { kind: 'armed', instance, askedMs: 0, refusal: 'the lease in pool p is not fresh' },
  ])
})

test('class T: expiry ends the guest, drains its pool, and only then pets again', () => {
  const expired = play([...armed('T'), [30_500, { kind: 'tick' }]])
  expect(expired.kinds).toEqual(['kill-cgroup'])
  const late = play([[30_600, { kind: 'renewed', pool: 'p', submittedMs: 30_000 }]], expired.state)
  expect(play([[31_000, { kind: 'tick' }]], late.state).kinds).toEqual(['look-at-cgroup'])
  const empty = play([[31_100, { kind: 'cgroup', instance, isEmpty: true }]], late.state)
  expect(empty.kinds).toEqual(['unmount'])
  expect(play([[31_200, { kind: 'tick' }]], empty.state).kinds).toEqual(['unmount'])
  const done = play([[31_300, { kind: 'unmounted', pool: 'p', isVerified: true }]], empty.state)
  expect(done.kinds).toContain('fenced')
  expect(play([[31_500, { kind: 'tick' }]], done.state).kinds).toEqual(['pet'])
})

test('class T: what cannot be drained has the host reset before the watchdog does', () => {
  const { state } = play([...armed('T', false), [30_500, { kind: 'tick' }]])
  const empty = play([[30_600, { kind: 'cgroup', instance, isEmpty: true }]], state)
  expect(play([[43_000, { kind: 'tick' }]], empty.state).kinds).toEqual([])
  expect(play([[44_000, { kind: 'tick' }]], empty.state).kinds).toContain('reset-host')
})

test('class E: nothing is killed for being slow, and the watchdog is petted', () => {
  expect(play([...armed('E'), [500_000, { kind: 'tick' }]]).kinds).toEqual(['pet'])
})

test('a guard that comes back too late does not touch the watchdog', () => {
  const record = { arms: [armOf('T')], renewals: [{ pool: 'p', renewedMs: 1_000 }] }
  expect(play([[31_001, { kind: 'start', record }]]).kinds).toEqual(['kill-cgroup', 'reset-host'])
  expect(play([[20_000, { kind: 'start', record }]]).kinds).toEqual(['open-watchdog'])
})

test('a pet that came too late is taken back by a reset', () => {
  const { state } = play([...armed('T'), [30_000, { kind: 'tick' }]])
  expect(play([[30_900, { kind: 'petted' }]], state).kinds).toEqual(['permit'])
  expect(play([[30_901, { kind: 'petted' }]], state).kinds).toEqual(['reset-host'])
})

test('a guest that ended stays armed in class T until a later renewal is done', () => {
  const gone = play([...armed('T'), [2_000, { kind: 'disarm', instance, isEmpty: true }]])
  expect(gone.kinds).toEqual([])
  expect(play([[2_500, { kind: 'renewed', pool: 'p', submittedMs: 1_900 }]], gone.state).kinds).toEqual([
    'save',
  ])
  expect(play([[4_500, { kind: 'renewed', pool: 'p', submittedMs: 4_000 }]], gone.state).kinds).toEqual([
    'save',
    'disarmed',
  ])
})

test('a pill for another incarnation is nothing', () => {
  const pill = { kind: 'mailbox', epoch: 1, nonce: 1, targetIncarnation: 'old', scope: 'all' } as const
  const event = { kind: 'pill', pool: 'p', pill, nextIncarnation: 'next' } as const
  expect(play([...armed('E'), [2_000, event]]).kinds).toEqual([])
  const mine = { ...event, pill: { ...pill, targetIncarnation: 'inc' } }
  expect(play([...armed('E'), [2_000, mine]]).kinds).toEqual(['kill-cgroup'])
})

test.each(['E', 'T'] as const)('class %s: a drill is answered, and ends nothing', (poolClass) => {
  const pill = { kind: 'mailbox', epoch: 1, nonce: 7, targetIncarnation: 'inc', scope: 'none' } as const
  const event = { kind: 'pill', pool: 'p', pill, nextIncarnation: 'next' } as const
  const { state, actions } = play([...armed(poolClass), [2_000, event]])
  expect(actions).toEqual([{ kind: 'ack-pill', pool: 'p', ack: { epoch: 1, nonce: 7 } }])
  expect(state).toMatchObject({ incarnation: 'next', arms: [{ ...instance, ending: null }] })
  expect(state.leases[0]?.fence).toBeNull()
})

test('a drill leaves a fence that is under way as it is', () => {
  const fencing = play([...armed('T'), [30_500, { kind: 'tick' }]]).state
  const pill = { kind: 'mailbox', epoch: 1, nonce: 7, targetIncarnation: 'inc', scope: 'none' } as const
  const drilled = play([[30_600, { kind: 'pill', pool: 'p', pill, nextIncarnation: 'next' }]], fencing)
  expect(drilled.kinds).toEqual(['ack-pill'])
  expect(drilled.state.leases).toEqual(fencing.leases)
  expect(drilled.state.arms).toEqual(fencing.arms)
})

test.each(['E', 'T'] as const)(
  'class %s: after an I/O error a guest goes on only as its owner, and one that has lost its locks is ended',
  (poolClass) => {
    const paused = play([...armed(poolClass), [2_000, { kind: 'io-error', instance }]]).state
    expect(play([[2_500, { kind: 'tick' }]], paused).kinds).toContain('check-claim')
    const says = (says: 'mine' | 'others' | 'unclear') =>
      play([[2_600, { kind: 'claim', instance, says, askedMs: 2_500 }]], paused)
    const late = { kind: 'claim', instance, says: 'mine', askedMs: 1_900 } as const
    expect(play([[2_600, late]], paused).kinds).toEqual([])
    expect(says('others').actions).toEqual([{ kind: 'kill-cgroup', instance, why: 'newer-owner' }])
    expect(says('unclear').kinds).toEqual([])
    expect(says('mine').kinds).toEqual(['resume-after-io-error'])
    const again = play([[2_700, { kind: 'io-error', instance }]], says('mine').state)
    expect(again.actions).toEqual([{ kind: 'kill-cgroup', instance, why: 'locks-lost' }])
  },
)

test('a guest that runs goes to its next generation; nothing else takes the place of what is armed', () => {
  const next: Arm = { ...armOf('E'), generation: 4 }
  const ask = (isRunning: boolean) => ({ kind: 'arm', arm: next, askedMs: 1_190, isRunning }) as const
  const refused = play([...armed('E'), [1_200, ask(false)]])
  expect(refused.actions).toMatchObject([{ refusal: 'generation 3 of it is still here' }])
  const taken = play([...armed('E'), [1_200, ask(true)]])
  expect(taken.actions.at(-1)).toMatchObject({ kind: 'armed', refusal: null })
  expect(taken.state.arms).toMatchObject([{ generation: 4, ending: null }])
  const back = play([[1_300, { kind: 'arm', arm: armOf('E'), askedMs: 1_290, isRunning: true }]], taken.state)
  expect(back.actions).toMatchObject([{ refusal: 'generation 4 of it is still here' }])
})
