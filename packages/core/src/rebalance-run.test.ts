import { describe, expect, test } from 'vitest'
import type { InstanceRecord, Migration } from './instance.ts'
import {
  followMove,
  outcomeOfRebalance,
  planRebalanceStep,
  type RebalanceRecord,
  type RebalanceRunMove,
  tellRebalance,
} from './rebalance-run.ts'
import { anInstance } from './testing.ts'

const MIGRATION: Migration = {
  mode: 'live',
  generation: 2,
  fromHostId: 'h1',
  toHostId: 'h2',
  startedAtMs: 0,
  orCold: false,
  copyDisks: false,
  postCopy: false,
  bandwidthMibS: 0,
  downtimeMaxMs: 0,
  hostIdsBefore: [],
  end: null,
  fault: '',
  downtimeMs: null,
}

const move = (uuid: string, more: Partial<RebalanceRunMove> = {}): RebalanceRunMove => ({
  instanceUuid: uuid,
  instanceName: `vm-${uuid}`,
  fromHostId: 'h1',
  toHostId: 'h2',
  state: 'waiting',
  why: 'planned',
  generation: 0,
  ...more,
})

const record = (moves: RebalanceRunMove[], more: Partial<RebalanceRecord> = {}): RebalanceRecord => ({
  uuid: 'r',
  isPeriodic: false,
  boundPercent: 20,
  parallel: 2,
  spreadBeforePercent: 60,
  explanation: '',
  startedAtMs: 0,
  endedAtMs: null,
  isCancelled: false,
  moves,
  ...more,
})

const on = (hostId: string, more: Partial<InstanceRecord> = {}) =>
  anInstance({ hostId, leavingHostId: null, ...more })

describe('a move that is under way', () => {
  const moving = move('a', { state: 'moving', generation: 2 })
  const leaving = { leavingHostId: 'h1', migration: MIGRATION } as const

  test.each([
    ['moving', 'planned', on('h2', { ...leaving, task: 'migrating' })],
    ['moved', 'planned', on('h2', { migration: { ...MIGRATION, end: 'moved' } })],
    ['failed', 'no memory', on('h1', { migration: { ...MIGRATION, end: 'failed', fault: 'no memory' } })],
    ['failed', 'it was moved elsewhere meanwhile', on('h3')],
    ['failed', 'the instance is gone', null],
    [
      'failed',
      'its move has failed: broken; start or stop it, then it goes on',
      on('h2', { ...leaving, task: null, status: 'error', fault: 'broken' }),
    ],
  ])('is %s (%s)', (state, why, instance) => {
    expect(followMove(moving, instance)).toMatchObject({ state, why })
  })

  test('is left as it is once it is over', () => {
    const over = move('a', { state: 'moved' })
    expect(followMove(over, null)).toBe(over)
  })
})

describe('the next step', () => {
  const there = () => on('h1')

  test('is the first that waits, while fewer move than may', () => {
    const [a, b, c] = [move('a', { state: 'moved' }), move('b'), move('c')]
    expect(planRebalanceStep(record([a, b, c]), there)).toMatchObject({ next: 1, isOver: false })
    const moving = { state: 'moving', generation: 2 } as const
    const leaving = (uuid: string) =>
      uuid === 'c' ? on('h1') : on('h2', { leavingHostId: 'h1', task: 'migrating', migration: MIGRATION })
    const full = record([move('a', moving), move('b', moving), move('c')])
    expect(planRebalanceStep(full, leaving)).toMatchObject({ next: null, isOver: false })
  })

  test('leaves out what is gone, or elsewhere; then it is over', () => {
    const instances = { a: null, b: on('h3') }
    const { moves, next, isOver } = planRebalanceStep(
      record([move('a'), move('b')]),
      (uuid) => instances[uuid as 'a' | 'b'],
    )
    expect(moves.map(({ state, why }) => [state, why])).toEqual([
      ['refused', 'the instance is gone'],
      ['refused', 'it was moved elsewhere meanwhile'],
    ])
    expect({ next, isOver }).toEqual({ next: null, isOver: true })
  })

  test('begins nothing once it is cancelled, and waits for what moves', () => {
    const moving = move('a', { state: 'moving', generation: 2 })
    const leaving = () => on('h2', { leavingHostId: 'h1', task: 'migrating', migration: MIGRATION })
    const cancelled = record([moving, move('b')], { isCancelled: true })
    const step = planRebalanceStep(cancelled, leaving)
    expect(step).toMatchObject({ next: null, isOver: false })
    expect(step.moves.map(({ state }) => state)).toEqual(['moving', 'needless'])
  })
})

test('it succeeds unless something could not move, and says what', () => {
  const done = record([move('a', { state: 'moved' }), move('b', { state: 'needless' })])
  expect(outcomeOfRebalance(done)).toEqual({ status: 'succeeded', fault: '' })
  expect(outcomeOfRebalance({ ...done, isCancelled: true })).toEqual({
    status: 'cancelled',
    fault: 'it was cancelled',
  })
  const stuck = move('c', { state: 'failed', why: 'no memory' })
  expect(outcomeOfRebalance({ ...done, moves: [...done.moves, stuck] })).toEqual({
    status: 'failed',
    fault: '1 of 3 could not move: vm-c (no memory)',
  })
})

test('how far it is, in one line', () => {
  const moves = [move('a', { state: 'moved' }), move('b', { state: 'moving' }), move('c'), move('d')]
  expect(tellRebalance(record(moves), () => 'copied 61 %')).toBe(
    '1 of 4 moved; 1 move: vm-b (copied 61 %); 2 wait',
  )
})
