import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  countMoveFailure,
  type DrainView,
  type MoveFailures,
  patienceUntil,
  planDrain,
  tellDrain,
} from './drain.ts'
import type { InstanceRecord, InstanceTask, Migration } from './instance.ts'
import { anInstance } from './testing.ts'

const HOST = 'host'

function aView(instances: readonly InstanceRecord[], over: Partial<DrainView> = {}): DrainView {
  return {
    hostId: HOST,
    isUp: true,
    parallel: 2,
    instances,
    refusals: new Map(),
    patience: new Map(),
    uses: new Map(),
    failures: new Map(),
    nowMs: 0,
    ...over,
  }
}

function aMigration(over: Partial<Migration> = {}): Migration {
  return {
    mode: 'live',
    generation: 2,
    fromHostId: HOST,
    toHostId: 'other',
    startedAtMs: 10,
    orCold: false,
    bandwidthMibS: 0,
    downtimeMaxMs: 0,
    copyDisks: false,
    postCopy: false,
    hostIdsBefore: [],
    end: null,
    fault: '',
    downtimeMs: null,
    ...over,
  }
}

const failed = (count: number, retryAtMs = 0): MoveFailures => ({
  generation: 2,
  count,
  why: 'the link broke',
  retryAtMs,
  hostIds: ['other'],
})

describe('where an instance stands', () => {
  test.each<[string, Partial<InstanceRecord>, Partial<DrainView>, string]>([
    ['one that runs', {}, {}, 'start'],
    ['one that is off', { status: 'shutoff', power: 'off' }, {}, 'start'],
    ['one in error that is wanted off', { status: 'error', power: 'off' }, {}, 'start'],
    [
      'one in error, whose guest may run',
      { status: 'error', fault: 'no' },
      {},
      'stuck: it is in error: no; start or stop it',
    ],
    ['one that is being made', { task: 'creating' }, {}, 'waiting: it is creating'],
    ['one with which something else is done', { task: 'resizing' }, {}, 'waiting: it is resizing'],
    [
      'one that comes to it',
      { leavingHostId: 'other', task: 'migrating' },
      {},
      'waiting: it is still on its way here',
    ],
    ['one that leaves it', { hostId: 'other', leavingHostId: HOST, task: 'migrating' }, {}, 'moving'],
    [
      'one that is stopped as it leaves',
      { hostId: 'other', leavingHostId: HOST, task: 'stopping' },
      {},
      'moving',
    ],
    [
      'one whose move is given up half way',
      { hostId: 'other', leavingHostId: HOST, status: 'error', fault: 'no' },
      {},
      'stuck: its move has failed: no; start or stop it, then it goes on',
    ],
    [
      'one that is paused',
      { status: 'paused', power: 'paused' },
      {},
      'stuck: it is paused; resume or stop it',
    ],
    ['one that was refused', {}, { refusals: new Map([['a', 'no host fits']]) }, 'stuck: no host fits'],
    [
      'one that is read',
      {},
      { uses: new Map([['a', 'it is being captured']]) },
      'waiting: it is being captured',
    ],
    [
      'one that came back',
      {},
      { failures: new Map([['a', failed(1, 5)]]) },
      'waiting: it came back: the link broke',
    ],
    ['its next try', {}, { failures: new Map([['a', failed(1, 5)]]), nowMs: 5 }, 'start'],
    [
      'one that came back each time',
      {},
      { failures: new Map([['a', failed(3)]]) },
      'stuck: it was moved 3 times and came back: the link broke',
    ],
    [
      'one of a host that is down',
      {},
      { isUp: false },
      'waiting: its host is down, so what it does there is not known',
    ],
  ])('%s', (_what, instance, view, expected) => {
    const plan = planDrain(aView([anInstance({ uuid: 'a', ...instance })], view))
    const seen = [
      ...plan.start.map(() => 'start'),
      ...plan.moving.map(() => 'moving'),
      ...plan.waiting.map(({ why }) => `waiting: ${why}`),
      ...plan.stuck.map(({ why }) => `stuck: ${why}`),
    ]
    expect(seen).toEqual([expected])
    expect(plan.isOver).toBe(expected.startsWith('stuck'))
  })

  test('a refusal that may pass does not end it at once, and does in the end', () => {
    const untilMs = patienceUntil('NO_HOST_FITS', 10) ?? 0
    expect(untilMs).toBeGreaterThan(10)
    expect(patienceUntil('CONFLICT', 10)).toBeNull()
    const view = { refusals: new Map([['a', 'no host fits']]), patience: new Map([['a', untilMs]]) }
    const at = (nowMs: number) => planDrain(aView([anInstance({ uuid: 'a' })], { ...view, nowMs }))
    const stuck = [{ uuid: 'a', why: 'no host fits' }]
    expect(at(untilMs - 1)).toMatchObject({ isOver: false, wakeAtMs: untilMs, stuck })
    expect(at(untilMs)).toMatchObject({ isOver: true, wakeAtMs: null, stuck })
  })

  test('it is over where there is nothing', () => {
    expect(planDrain(aView([]))).toMatchObject({ isOver: true, stuck: [] })
  })

  test('those that run go first, large before small; the others wait for their turn', () => {
    const plan = planDrain(
      aView([
        anInstance({ uuid: 'off', status: 'shutoff', memoryMib: 999 }),
        anInstance({ uuid: 'b' }),
        anInstance({ uuid: 'large', memoryMib: 512 }),
        anInstance({ uuid: 'a' }),
      ]),
    )
    expect(plan.start).toEqual(['large', 'a'])
    expect(plan.waiting.map(({ uuid }) => uuid)).toEqual(['b', 'off'])
  })
})

describe('moves that fail', () => {
  const drain = { startedAtMs: 10 }
  const back = (over: Partial<Migration> = {}) =>
    anInstance({ migration: aMigration({ end: 'failed', fault: 'no', ...over }) })

  test('each is counted once, with where it was to go, and tried again later and later', () => {
    const first = countMoveFailure(null, back(), HOST, drain, 100)
    expect(first).toEqual({ generation: 2, count: 1, why: 'no', retryAtMs: 1_100, hostIds: ['other'] })
    expect(countMoveFailure(first, back(), HOST, drain, 200)).toBe(first)
    const second = countMoveFailure(first, back({ generation: 5, toHostId: 'third' }), HOST, drain, 200)
    expect(second).toMatchObject({ count: 2, retryAtMs: 2_200, hostIds: ['other', 'third'] })
  })

  test.each<[string, Partial<Migration>]>([
    ['older than the drain', { startedAtMs: 9 }],
    ['from another host', { fromHostId: 'other' }],
    ['under way', { end: null }],
    ['that came through', { end: 'moved' }],
  ])('one %s does not count', (_what, over) => {
    expect(countMoveFailure(null, back(over), HOST, drain, 0)).toBeNull()
  })
})

test('is told in one line', () => {
  const told = tellDrain(6, {
    moving: [{ name: 'web-2', what: 'copied 61 %' }],
    waiting: [],
    stuck: [{ name: 'db-1', what: 'no host fits' }],
  })
  expect(told).toBe('4 of 6 have left; 1 move: web-2 (copied 61 %); 1 cannot: db-1 (no host fits)')
})

/**
 * Goal: a drain never has more moves under way than it may, never begins one that cannot be, and ends, with all
 * gone that could go. Method: instances of which a move is refused, or fails so many times, or comes through;
 * tasks that end at some time; and a clock. The ends of moves come in any order.
 */
interface Guest {
  readonly fate: 'goes' | 'refused' | 'paused'
  /** Moves that fail before one comes through. */
  readonly failures: number
  readonly task: InstanceTask | null
  readonly memoryMib: number
  readonly isOn: boolean
}

const guests = fc.array(
  fc.record<Guest>({
    fate: fc.constantFrom('goes', 'goes', 'goes', 'refused', 'paused'),
    failures: fc.nat({ max: 4 }),
    task: fc.constantFrom<InstanceTask | null>(null, null, null, 'creating', 'recovering'),
    memoryMib: fc.integer({ min: 1, max: 4 }),
    isOn: fc.boolean(),
  }),
  { maxLength: 12 },
)

test('bounded, never what cannot move, deterministic, and it ends', () => {
  fc.assert(
    fc.property(
      guests,
      fc.integer({ min: 1, max: 4 }),
      fc.infiniteStream(fc.nat()),
      (all, parallel, dice) => {
        const fates = new Map(all.map((guest, index) => [`${index}`, guest]))
        const records = new Map(
          [...fates].map(([uuid, { fate, memoryMib, task, isOn }]) => {
            const power = fate === 'paused' ? 'paused' : isOn ? 'on' : 'off'
            const status = ({ on: 'active', off: 'shutoff', paused: 'paused' } as const)[power]
            return [uuid, anInstance({ uuid, memoryMib, task, power, status })]
          }),
        )
        const failures = new Map<string, MoveFailures>()
        const tries = new Map<string, number>()
        let nowMs = 10
        const view = (refusals: Map<string, string>) =>
          aView([...records.values()], { parallel, refusals, failures, nowMs })
        const movingNow = () => [...records.values()].filter(({ leavingHostId }) => leavingHostId === HOST)

        for (let round = 0; round < 1_000; round++) {
          const refusals = new Map<string, string>()
          for (const [uuid, record] of records) {
            const counted = countMoveFailure(
              failures.get(uuid) ?? null,
              record,
              HOST,
              { startedAtMs: 10 },
              nowMs,
            )
            if (counted) failures.set(uuid, counted)
          }
          let plan = planDrain(view(refusals))
          for (; plan.start.length > 0; plan = planDrain(view(refusals))) {
            const reversed = { ...view(refusals), instances: [...records.values()].reverse() }
            expect(planDrain(reversed)).toEqual(plan)
            for (const uuid of plan.start) {
              const [guest, record] = [fates.get(uuid) as Guest, records.get(uuid) as InstanceRecord]
              expect([record.task, record.leavingHostId, guest.fate === 'paused']).toEqual([
                null,
                null,
                false,
              ])
              if (guest.fate === 'refused') {
                refusals.set(uuid, 'no host fits')
                continue
              }
              const generation = record.generation + 1
              const migration = aMigration({ generation, startedAtMs: nowMs })
              const leaving = { hostId: 'other', leavingHostId: HOST, task: 'migrating', migration } as const
              records.set(uuid, { ...record, ...leaving, generation })
            }
            expect(movingNow().length).toBeLessThanOrEqual(parallel)
          }
          const seen = [
            ...plan.moving,
            ...plan.waiting.map((it) => it.uuid),
            ...plan.stuck.map((it) => it.uuid),
          ]
          expect(seen.sort()).toEqual([...records.keys()].sort())
          if (plan.isOver) {
            for (const [uuid] of records) {
              const { fate, failures: count } = fates.get(uuid) as Guest
              expect(fate !== 'goes' || count >= 3).toBe(true)
            }
            return
          }
          // One thing happens: a task ends, a move ends, or time passes.
          const busy = [...records.values()].filter(({ task }) => task !== null)
          const one = busy[(dice.next().value ?? 0) % Math.max(1, busy.length)]
          if (!one) {
            nowMs = plan.wakeAtMs ?? nowMs
          } else if (one.leavingHostId === null) {
            records.set(one.uuid, { ...one, task: null })
          } else {
            const count = (tries.get(one.uuid) ?? 0) + 1
            tries.set(one.uuid, count)
            if (count > (fates.get(one.uuid)?.failures ?? 0)) records.delete(one.uuid)
            else {
              const migration = one.migration && ({ ...one.migration, end: 'failed', fault: 'no' } as const)
              const generation = one.generation + 1
              records.set(one.uuid, {
                ...one,
                hostId: HOST,
                leavingHostId: null,
                task: null,
                migration,
                generation,
              })
            }
          }
        }
        throw new Error('it does not end')
      },
    ),
  )
})
