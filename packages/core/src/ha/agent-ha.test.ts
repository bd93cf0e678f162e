// What the simulator does not play: guests that are taken into ownership as they run, and stops on purpose.

import { describe, expect, test } from 'vitest'
import type { HostId, InstanceId } from '../ids.ts'
import {
  type AgentAction,
  type AgentEvent,
  type AgentHaState,
  CLOSED_REMEMBERED,
  CLOSED_SHOWN,
  lostPools,
  reportInstances,
  type StartCommand,
  startAgentHa,
  stepAgentHa,
} from './agent-ha.ts'
import type { ClaimJob } from './claim-holder.ts'
import type { ArmedPool } from './guard.ts'
import { HA_RULES } from './rules.ts'
import { HA_PROFILES } from './timings.ts'

const context = { timings: HA_PROFILES.default, rules: HA_RULES }
const uuid = 'i' as InstanceId
const pool: ArmedPool = { pool: 'p', poolClass: 'E', canUnmount: true }

/** An agent that carries nothing out by itself: a test says what comes of it. */
class Play {
  state: AgentHaState = startAgentHa('h' as HostId, 'boot', { epoch: 1, closed: new Map() }, 0)
  nowMs = 1_000

  constructor() {
    this.do({ kind: 'renewed', pool: 'p', submittedMs: 900 })
  }

  do(event: AgentEvent): readonly AgentAction[] {
    const step = stepAgentHa(this.state, event, this.nowMs, context)
    this.state = step.state
    return step.actions
  }

  start(generation: number, more: Partial<StartCommand> = {}): readonly AgentAction[] {
    const command = { kind: 'start', epoch: 1, uuid, generation, bootId: 'boot', pools: [pool] } as const
    return this.do({ kind: 'command', command: { ...command, isIncoming: false, ...more } })
  }

  arms(generation: number): readonly AgentAction[] {
    return this.do({
      ...{ kind: 'armed', instance: { uuid, generation }, askedMs: this.nowMs },
      refusal: null,
    })
  }

  claims(kind: 'take' | 'check', generation: number): readonly AgentAction[] {
    const job: ClaimJob =
      kind === 'take'
        ? { kind, uuid, generation, epoch: 1, keepsLock: true }
        : { kind, uuid, generation, keepsLock: true }
    return this.do({ kind: 'claim', pool: 'p', job, result: { kind: kind === 'take' ? 'taken' : 'mine' } })
  }

  ends(generation: number): void {
    const run = this.local?.run ?? 0
    this.do({ kind: 'ended', instance: { uuid, generation }, run, cause: 'crashed', isEmpty: true })
  }

  tick(ms: number): readonly AgentAction[] {
    this.nowMs += ms
    this.do({ kind: 'renewed', pool: 'p', submittedMs: this.nowMs })
    return this.do({ kind: 'tick' })
  }

  /** Started, and running. */
  run(generation = 1): this {
    this.start(generation)
    this.claims('take', generation)
    this.arms(generation)
    this.do({ kind: 'created', instance: { uuid, generation }, result: 'ok' })
    return this
  }

  get local() {
    return this.state.instances.get(uuid)
  }

  get phase() {
    return reportInstances(this.state)[0]?.phase
  }
}

const kinds = (actions: readonly AgentAction[]) => actions.map(({ kind }) => kind)

describe('a guest that runs', () => {
  test('is armed and then claimed, and not created', () => {
    const play = new Play()
    expect(play.start(2, { hasGuest: true })).toMatchObject([{ kind: 'arm', isRunning: true }])
    expect(play.arms(2)).toMatchObject([{ kind: 'claim', job: { kind: 'take', generation: 2 } }])
    expect(play.claims('take', 2)).toEqual([])
    expect(play.local).toMatchObject({ phase: 'running', hasDomain: true, generation: 2 })
  })

  test('goes from one generation to the next without an end', () => {
    const play = new Play().run(1)
    play.start(2, { hasGuest: true })
    play.arms(2)
    play.claims('take', 2)
    expect(play.local).toMatchObject({ phase: 'running', generation: 2, run: 1 })
  })

  test('whose claim cannot be had yet is asked for again, and is kept', () => {
    const play = new Play()
    play.start(2, { hasGuest: true })
    play.arms(2)
    const job = { kind: 'take', uuid, generation: 2, epoch: 1, keepsLock: true } as const
    play.do({ kind: 'claim', pool: 'p', job, result: { kind: 'locked' } })
    expect(play.phase).toBe('starting')
    expect(kinds(play.tick(1_000))).toEqual(['claim'])
  })

  test('stays in its generation while the lease for the next is not fresh', () => {
    const play = new Play().run(1)
    play.nowMs += 20_000
    expect(play.start(2, { hasGuest: true })).toEqual([])
    expect(play.local).toMatchObject({ phase: 'running', generation: 1 })
  })

  test('of another ownership that did not come to run is disarmed before the next is armed', () => {
    const play = new Play()
    play.start(1)
    play.claims('take', 1)
    play.arms(1)
    play.do({ kind: 'created', instance: { uuid, generation: 1 }, result: 'failed' })
    expect(play.phase).toBe('failed')
    expect(kinds(play.start(2))).toEqual(['save', 'claim'])
    expect(play.phase).toBe('closing')
  })
})

describe('one that is stopped on purpose', () => {
  const hold = { kind: 'hold', instance: { uuid, generation: 1 }, isHeld: true } as const

  test('is not brought back before it is asked for, and then at once, and for nothing', () => {
    const play = new Play().run()
    play.do(hold)
    play.ends(1)
    expect(play.tick(60_000)).toEqual([])
    expect(play.phase).toBe('restarting')
    play.start(1)
    expect(play.tick(1_000)).toMatchObject([{ kind: 'claim', job: { kind: 'check' } }])
    play.claims('check', 1)
    play.arms(1)
    play.do({ kind: 'created', instance: { uuid, generation: 1 }, result: 'ok' })
    expect(play.local).toMatchObject({ phase: 'running', restartsAtMs: [], isHeld: false })
  })

  test('in the middle of being brought back is not created', () => {
    const play = new Play().run()
    play.ends(1)
    play.tick(0)
    play.do(hold)
    play.claims('check', 1)
    expect(play.arms(1)).toEqual([])
    expect(play.phase).toBe('restarting')
  })

  test('and that does not start then says so', () => {
    const play = new Play().run()
    play.do(hold)
    play.ends(1)
    play.start(1)
    play.tick(1_000)
    play.claims('check', 1)
    play.arms(1)
    const instance = { uuid, generation: 1 }
    play.do({ kind: 'created', instance, result: 'failed', why: 'no memory' })
    expect(play.local).toMatchObject({ phase: 'failed', why: 'no memory' })
  })
})

test('a start that somebody was in the way of is tried again', () => {
  const play = new Play()
  play.start(1)
  play.claims('take', 1)
  play.arms(1)
  play.do({ kind: 'created', instance: { uuid, generation: 1 }, result: 'busy' })
  expect(kinds(play.tick(1_000))).toEqual(['arm'])
  expect(kinds(play.arms(1))).toEqual(['create'])
})

test('starts that fail count, and a new wish begins anew', () => {
  const play = new Play().run()
  play.ends(1)
  for (let times = 0; times < 3; times++) {
    play.tick(60_000)
    play.claims('check', 1)
    play.arms(1)
    play.do({ kind: 'created', instance: { uuid, generation: 1 }, result: 'failed' })
  }
  play.tick(60_000)
  expect(play.phase).toBe('given-up')
  play.start(1)
  expect(play.phase).toBe('given-up')
  play.start(1, { wish: 2 })
  expect(kinds(play.tick(1_000))).toEqual(['claim'])
})

test('one without pools is neither claimed nor armed, and its host keeps the reason when it is given up', () => {
  const play = new Play()
  expect(play.start(1, { pools: [] })).toMatchObject([{ kind: 'create' }])
  play.do({ kind: 'created', instance: { uuid, generation: 1 }, result: 'ok' })
  let actions: readonly AgentAction[] = []
  for (let times = 0; times < 4; times++) {
    play.ends(1)
    actions = play.tick(60_000)
    play.do({ kind: 'created', instance: { uuid, generation: 1 }, result: 'ok' })
  }
  expect(actions).toMatchObject([{ kind: 'give-up' }])
})

test('what went off while no agent looked is brought back once nothing of it is left', () => {
  const play = new Play()
  const guest = { uuid, generation: 1, pools: [pool], run: 0, isIncoming: false, isOff: true }
  play.do({ kind: 'start', running: [guest] })
  expect(kinds(play.tick(1_000))).toEqual(['look-at-cgroup'])
  play.do({ kind: 'cgroup', instance: { uuid, generation: 1 }, isEmpty: true })
  expect(play.tick(1_000)).toMatchObject([{ kind: 'claim', job: { kind: 'check' } }])
})

test('what was let go of is remembered and shown as far as it can still matter', () => {
  const play = new Play()
  const release = (n: number) => {
    const instance = { uuid: `i${n}` as InstanceId, generation: 1 }
    play.do({ kind: 'command', command: { kind: 'release', epoch: 1, instance, pools: [] } })
    play.do({ kind: 'disarmed', instance })
  }
  const count = CLOSED_REMEMBERED + 10
  for (let n = 0; n < count; n++) release(n)
  play.tick(1_000)
  expect(play.state.record.closed.size).toBe(CLOSED_REMEMBERED)
  expect(play.state.record.closed.has(`i${count - 1}` as InstanceId)).toBe(true)
  const shown = reportInstances(play.state)
  expect(shown).toHaveLength(CLOSED_SHOWN)
  expect(shown.at(-1)).toMatchObject({ uuid: `i${count - 1}`, phase: 'closed' })
})

describe('lost pools', () => {
  const { lossMs } = context.timings
  const lost = (play: Play) => lostPools(play.state, ['p'], play.nowMs, context.timings)
  const after = (play: Play, ms: number) => {
    play.nowMs += ms
    return lost(play)
  }

  test('are those that the guard has tried in vain for long enough', () => {
    const play = new Play()
    play.do({ kind: 'guard', isAnswering: true })
    expect(after(play, lossMs - 200)).toEqual([])
    expect(after(play, 300)).toEqual(['p'])
    play.do({ kind: 'renewed', pool: 'p', submittedMs: play.nowMs })
    expect(lost(play)).toEqual([])
  })

  test('are none in which no lease was ever held', () => {
    const play = new Play()
    play.do({ kind: 'guard', isAnswering: true })
    play.nowMs += 10 * lossMs
    expect(lostPools(play.state, ['q'], play.nowMs, context.timings)).toEqual([])
  })

  test('are unknown while the guard is started again', () => {
    const play = new Play()
    play.do({ kind: 'guard', isAnswering: true })
    play.do({ kind: 'guard', isAnswering: false })
    expect(after(play, 2 * lossMs)).toEqual([])
    play.do({ kind: 'guard', isAnswering: true })
    play.do({ kind: 'guard', isAnswering: true })
    expect(after(play, lossMs)).toEqual([])
    expect(after(play, 1)).toEqual(['p'])
  })

  test('stay lost while the guard is started again, until there is a renewal', () => {
    const play = new Play()
    play.do({ kind: 'guard', isAnswering: true })
    expect(after(play, 2 * lossMs)).toEqual(['p'])
    play.do({ kind: 'guard', isAnswering: false })
    expect(after(play, 1)).toEqual(['p'])
    play.do({ kind: 'guard', isAnswering: true })
    play.do({ kind: 'guard', isAnswering: false })
    expect(after(play, 1)).toEqual(['p'])
    play.do({ kind: 'renewed', pool: 'p', submittedMs: play.nowMs })
    expect(lost(play)).toEqual([])
  })
})
