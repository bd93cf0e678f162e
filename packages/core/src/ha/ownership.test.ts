import { describe, expect, test } from 'vitest'
import type { InstanceRecord, Migration } from '../instance.ts'
import { anInstance } from '../testing.ts'
import { type HostPhase, type HostPool, startHostWatch, type WatchedHost } from './host-watch.ts'
import {
  describeStay,
  followRecord,
  isGuardedLess,
  judgeOwnership,
  onOtherClock,
  withNames,
} from './ownership.ts'
import { type HaInstance, newHaInstance } from './recovery.ts'
import { HA_RULES } from './rules.ts'
import { HA_PROFILES } from './timings.ts'

const context = { timings: HA_PROFILES.default, rules: HA_RULES }
const pool: HostPool = { pool: 'pool', poolClass: 'E', canUnmount: false, canRevoke: false }
const wish = { priority: 'medium', isolation: 'leave' } as const
const { uuid } = anInstance()

const record = (over: Partial<InstanceRecord> = {}) => anInstance({ ha: true, generation: 5, ...over })
const owned = (over: Partial<HaInstance> = {}): HaInstance => ({
  ...newHaInstance({ uuid, pools: [pool], memoryMib: 256, ...wish }, 'host', 'boot', 3),
  state: 'running',
  lastGeneration: 5,
  ...over,
})
const watch = (phase: HostPhase = 'up', bootId = 'boot') =>
  startHostWatch(
    ['host', 'other'].map((hostId) => ({
      ...{ hostId, pools: [pool], canPowerOff: false, why: 'so', bootId, verdict: null, proofs: [] },
      phase: hostId === 'host' ? phase : 'up',
    })),
    0,
    context,
  )
const host = (phase: HostPhase = 'up', bootId = 'boot') => watch(phase, bootId).hosts.get('host')
const move = (over: Partial<Migration> = {}): Migration => ({
  ...{ mode: 'live', generation: 5, fromHostId: 'host', toHostId: 'other', startedAtMs: 0, orCold: false },
  ...{ bandwidthMibS: 0, downtimeMaxMs: 0, copyDisks: false, postCopy: false, hostIdsBefore: [] },
  ...{ end: null, fault: '', downtimeMs: null },
  ...over,
})
const moving = { hostId: 'other', leavingHostId: 'host', task: 'migrating' } as const

describe('what a record means for recovery', () => {
  const follow = (over: Partial<InstanceRecord>, ha = owned(), pools: readonly HostPool[] | null = [pool]) =>
    followRecord(ha, { record: record(over), pools }, watch())

  test('nothing, where it says what is known', () => {
    expect(follow({})).toEqual([])
    expect(follow({ name: 'another' })).toEqual([])
  })

  test('another wish for recovery is passed on, though its host is asked for nothing', () => {
    const wish = { priority: 'system', isolation: 'restart' }
    expect(follow({ haPriority: 'system', haIsolation: 'restart' })).toEqual([
      { kind: 'want', uuid, isWanted: true, isEnding: false, generation: 5, wish },
    ])
  })

  test('a stop, a deletion and a move in which it is off end what its host has', () => {
    const ended = { kind: 'want', uuid, isWanted: false, isEnding: true }
    expect(follow({ power: 'off', generation: 6 })).toEqual([{ ...ended, generation: 6 }])
    expect(follow({ task: 'deleting', generation: 6 })).toEqual([{ ...ended, generation: 6 }])
    const cold = { ...moving, migration: move({ mode: 'cold' }) }
    expect(follow(cold)).toEqual([{ ...ended, generation: 5 }])
  })

  test('a paused one is not brought back, and nothing is taken from its host', () => {
    expect(follow({ power: 'paused' })).toEqual([
      { kind: 'want', uuid, isWanted: false, isEnding: false, generation: 5 },
    ])
  })

  test('one that is wanted on again is given anew: its host may have let go of it', () => {
    const ending = owned({ isWanted: false, isEnding: true })
    expect(follow({ generation: 6 }, ending)).toMatchObject([{ isWanted: false, isEnding: true }])
    expect(follow({ generation: 6 }, { ...ending, state: 'lost' })).toMatchObject([
      { isWanted: true, isEnding: false },
    ])
    const again = judgeOwnership({ record: record({ generation: 6 }), pools: [pool] }, wish, ending, host())
    expect(again).toMatchObject({
      kind: 'give',
      instance: { generation: 6, hostId: 'host', isEnding: false },
    })
  })

  test('it is gone with its record, or when its host guards it no more', () => {
    expect(followRecord(owned(), null, watch())).toEqual([{ kind: 'gone', uuid }])
    expect(follow({ ha: false, settledGeneration: 5 }, owned(), null)).toEqual([{ kind: 'gone', uuid }])
    expect(follow({ ha: false, task: 'updating' }, owned(), null)).toMatchObject([{ isWanted: false }])
  })

  test('a live migration begins, ends there, or ends here', () => {
    const migration = move()
    expect(follow({ ...moving, migration })).toEqual([
      { kind: 'migrate', uuid, hostId: 'other', generation: 5 },
    ])
    const handing = owned({
      migration: { hostId: 'other', bootId: 'boot', generation: 5, isCancelled: false },
    })
    expect(follow({ ...moving, migration }, handing)).toEqual([])
    expect(follow({ hostId: 'other' }, handing)).toEqual([{ kind: 'moved', uuid }])
    expect(follow({}, handing)).toEqual([{ kind: 'cancel-migration', uuid }])
  })

  test('what nobody has is started elsewhere when its host is lost', () => {
    const off = owned({ state: 'off' })
    const of = (phase: HostPhase) =>
      followRecord(off, { record: record(), pools: [pool] }, watch(phase)).map(({ kind }) => kind)
    expect(of('fenced')).toEqual(['strand'])
    expect(of('isolated')).toEqual([])
  })
})

describe('by what an instance may run', () => {
  const judge = (
    over: Partial<InstanceRecord>,
    ha: HaInstance | undefined,
    at: WatchedHost | null = host() ?? null,
  ) => judgeOwnership({ record: record(over), pools: [pool] }, wish, ha, at ?? undefined)

  test('a wish leaves its owner as it is', () => {
    expect(judge({ generation: 9 }, owned())).toMatchObject({ kind: 'owned', generation: 3, bootId: 'boot' })
    expect(judge({ generation: 9, power: 'off' }, owned())).toMatchObject({ kind: 'owned', generation: 3 })
  })

  test('a start is given to its host, as the generation of that wish', () => {
    expect(judge({}, undefined)).toMatchObject({ kind: 'give', instance: { generation: 5, bootId: 'boot' } })
    expect(judge({}, owned({ state: 'off' }))).toMatchObject({ kind: 'give', instance: { generation: 5 } })
    expect(judge({ power: 'off' }, undefined)).toEqual({ kind: 'none' })
  })

  test.each([
    ['it is lost', owned({ state: 'lost', why: 'so' }), host()],
    ['its host has to let go of it', owned({ state: 'releasing', why: 'so' }), host()],
    ['host gone has not reported', owned({ hostId: 'gone' }), host()],
    ['its host has booted anew', owned(), host('quarantined', 'next')],
    ['its host is suspect', undefined, host('suspect')],
    ['its host is not watched yet', undefined, null],
  ])('nothing is done while %s', (why, ha, at) => {
    const judged = judge({}, ha, at)
    expect(judged).toMatchObject({ kind: 'wait', why: expect.stringContaining(why) })
  })

  test('the host that it moves to has it by the generation of the move', () => {
    const migration = { hostId: 'other', bootId: 'there', generation: 5, isCancelled: false }
    const over = { ...moving, migration: move() }
    expect(judge(over, owned({ migration }))).toMatchObject({ kind: 'owned', generation: 5, bootId: 'there' })
    expect(judge(over, owned())).toMatchObject({ kind: 'wait' })
    expect(judge(over, owned({ migration: { ...migration, isCancelled: true } }))).toMatchObject({
      kind: 'wait',
    })
  })

  test('it is armed anew for a pool that it was not armed for, or that has become better', () => {
    expect(isGuardedLess([pool], [pool])).toBe(false)
    expect(isGuardedLess([pool], [{ ...pool, poolClass: 'T' }])).toBe(false)
    expect(isGuardedLess([{ ...pool, poolClass: 'N' }], [pool])).toBe(true)
    expect(isGuardedLess([pool], [pool, { ...pool, pool: 'data' }])).toBe(true)
    const unguarded = owned({ pools: [{ ...pool, poolClass: 'N' }] })
    expect(judge({}, unguarded)).toMatchObject({ kind: 'give', instance: { generation: 5 } })
  })
})

test('times are kept on another clock', () => {
  const clock = { ...owned().clock, lastHeardMs: 10, provenMs: 20.4 }
  expect(onOtherClock(owned({ clock }), 1_000).clock).toMatchObject({
    lastHeardMs: 1_010,
    suspectedMs: null,
    provenMs: 1_020,
  })
})

test('one that stays is told why; a host that is only silent is not called dead', () => {
  expect(describeStay('h1', undefined, { kind: 'not-ha' })).toBe(
    'host h1 does not answer; it is not highly available',
  )
  expect(describeStay('h1', host('fenced'), { kind: 'local-pool', poolName: 'fast' })).toBe(
    'host h1 is down; its disk is in local pool fast',
  )
  expect(
    describeStay('h1', host('suspect'), {
      kind: 'unguarded-pool',
      poolName: 'nfs',
      why: 'two hosts got the lock',
    }),
  ).toMatch(/^host h1 does not answer; .*nfs \(two hosts got the lock\).* a person confirms/)
})

test('texts of the protocol get names', () => {
  const id = '00000000-0000-4000-8000-0000000000aa'
  expect(withNames(`host ${id} was given its locks`, (each) => (each === id ? 'h2' : undefined))).toBe(
    'host h2 was given its locks',
  )
})
