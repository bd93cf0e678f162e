import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { VpeError } from './errors.ts'
import { type InstanceRecord, phaseOf } from './instance.ts'
import {
  decideDelete,
  decideFailed,
  decideRemoved,
  decideReport,
  decideStart,
  decideStop,
  decideUpdate,
  type InstanceDecision,
} from './instance-decisions.ts'
import { enterPhase } from './instance-machine.ts'
import { plan } from './plan.ts'
import { anInstance, aReport } from './testing.ts'

const off = anInstance({ status: 'shutoff', power: 'off' })

describe('users', () => {
  test('starting one that is off raises the generation and makes it a task', () => {
    expect(decideStart(off)?.next).toMatchObject({ power: 'on', generation: 2, task: 'starting' })
  })

  test('starting one that is on, or stopping one that is off, changes nothing', () => {
    expect(decideStart(anInstance())).toBeNull()
    expect(decideStop(off)).toBeNull()
  })

  test('stopping one that is being created stops it, not the creation of its disk', () => {
    const creating = anInstance({ status: 'shutoff', task: 'creating', settledGeneration: 0 })
    expect(decideStop(creating)?.next).toMatchObject({ power: 'off', generation: 2, task: 'stopping' })
  })

  test('tags and hosts are no affair of the host, ha and image are', () => {
    expect(decideUpdate(anInstance(), { tags: ['a'] })?.next).toMatchObject({ generation: 1, task: null })
    expect(decideUpdate(anInstance(), { ha: true })?.next).toMatchObject({ generation: 2, task: 'updating' })
    expect(decideUpdate(anInstance(), { imageUuid: 'b' })?.next).toMatchObject({
      generation: 2,
      task: 'updating',
    })
    expect(decideUpdate(anInstance(), { ha: false, tags: [] })).toBeNull()
  })

  test('nothing but deletion is possible once it is being deleted', () => {
    const deleting = enterPhase(anInstance(), 'deleting')
    expect(() => decideStart(deleting)).toThrow(VpeError)
    expect(() => decideUpdate(deleting, { tags: ['a'] })).toThrow(/it is deleting/)
    expect(decideDelete(deleting)).toBeNull()
  })
})

describe('reports', () => {
  const creating = anInstance({ status: 'shutoff', task: 'creating', settledGeneration: 0 })

  test('the wanted generation and power is the end of a task', () => {
    expect(decideReport(creating, aReport())?.next).toMatchObject({
      status: 'active',
      task: null,
      settledGeneration: 1,
    })
  })

  test.each([
    ['half way', aReport({ converging: true })],
    ['of an older generation', aReport({ generation: 0 })],
    ['not there yet', null],
    ['off before it was started', aReport({ power: 'off' })],
  ])('one that is %s changes nothing while it is being created', (_name, report) => {
    expect(decideReport(creating, report)).toBeNull()
  })

  test.each(['guest', 'crash'] as const)('a guest that went off by itself (%s) stays off', (stopCause) => {
    const decision = decideReport(anInstance(), aReport({ power: 'off', stopCause }))
    expect(decision?.next).toMatchObject({ power: 'off', status: 'shutoff', task: null, generation: 1 })
  })

  test('unless it is highly available: then its agent brings it back', () => {
    const decision = decideReport(anInstance({ ha: true }), aReport({ power: 'off', stopCause: 'crash' }))
    expect(decision?.next).toMatchObject({ power: 'on', task: 'recovering' })
    const back = decision?.next && decideReport(decision.next, aReport())
    expect(back?.next).toMatchObject({ status: 'active', task: null })
  })

  test('a guest that was brought back between two looks is news, once', () => {
    const decision = decideReport(anInstance({ ha: true }), aReport({ restarts: 1 }))
    expect(decision?.next).toMatchObject({ restarts: 1, status: 'active', task: null })
    expect(decision?.next && decideReport(decision.next, aReport({ restarts: 1 }))).toBeNull()
  })

  test('an agent that gave up on it makes it an error with the reason', () => {
    const recovering = enterPhase(anInstance({ ha: true }), 'recovering')
    const decision = decideReport(
      recovering,
      aReport({ power: 'off', stopCause: 'crash', fault: 'crashed 3 times' }),
    )
    expect(decision?.next).toMatchObject({ status: 'error', fault: 'crashed 3 times' })
  })

  test.each([
    ['gone', null],
    ['off without a cause', aReport({ power: 'off' })],
  ])('one that runs no more for no known cause (%s) is started again', (_name, report) => {
    expect(decideReport(anInstance(), report)?.next).toMatchObject({ task: 'starting', generation: 2 })
  })

  test('one that is wanted off and runs is stopped', () => {
    expect(decideReport(off, aReport())?.next).toMatchObject({ task: 'stopping', generation: 2 })
  })

  test('nothing that is deleted comes back', () => {
    const deleting = enterPhase(anInstance(), 'deleting')
    expect(decideReport(deleting, null)).toBeNull()
    expect(decideReport(deleting, aReport())).toBeNull()
    expect(decideRemoved(deleting)).toEqual({ next: null, why: expect.any(String) })
  })
})

// A host that does what it is told, now and then late, or not at all. Whatever users do and whatever is
// lost, once both leave the instance alone it rests where its user last wanted it.
describe('convergence', () => {
  const step = fc.constantFrom(
    'start',
    'stop',
    'delete',
    'ha',
    'tag',
    'carryOut',
    'carryOut',
    'crash',
    'guestOff',
    'reboot',
    'look',
    'giveUp',
  )

  test('the record and the host agree in the end', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        let record: InstanceRecord | null = anInstance({
          status: 'shutoff',
          task: 'creating',
          settledGeneration: 0,
        })
        let host = {
          exists: false,
          generation: 0,
          power: 'off' as 'on' | 'off',
          stopCause: null as 'guest' | 'crash' | 'requested' | null,
        }
        let wanted: 'on' | 'off' | 'gone' = 'on'
        const take = (decision: InstanceDecision | null) => {
          if (!decision) return
          if (record && decision.next) {
            expect(decision.next.generation).toBeGreaterThanOrEqual(record.generation)
            expect(decision.next.settledGeneration).toBeLessThanOrEqual(decision.next.generation)
          }
          record = decision.next
        }
        const report = () => (host.exists ? aReport(host) : null)
        const carryOut = () => {
          if (!record) return
          const action = plan(record, null, 0)
          if (action.kind === 'remove') {
            host = { exists: false, generation: 0, power: 'off', stopCause: null }
            take(decideRemoved(record))
          } else if (action.kind === 'apply') {
            const { generation, power } = record
            host = { exists: true, generation, power, stopCause: power === 'off' ? 'requested' : null }
            take(decideReport(record, report()))
          }
        }
        const user = (decide: (record: InstanceRecord) => InstanceDecision | null, wish: typeof wanted) => {
          if (!record || record.task === 'deleting') return
          take(decide(record))
          wanted = wish
        }
        const agentRestarts = () => {
          if (
            record?.ha &&
            host.exists &&
            host.power === 'off' &&
            host.stopCause !== 'requested' &&
            host.generation === record.generation &&
            record.power === 'on'
          ) {
            host = { ...host, power: 'on', stopCause: null }
          }
        }
        for (const each of steps) {
          if (!record) break
          if (each === 'start') user(decideStart, 'on')
          else if (each === 'stop') user(decideStop, 'off')
          else if (each === 'delete') user(decideDelete, 'gone')
          else if (each === 'ha') user((now) => decideUpdate(now, { ha: !now.ha }), wanted)
          else if (each === 'tag') user((now) => decideUpdate(now, { tags: [...now.tags, 't'] }), wanted)
          else if (each === 'carryOut') carryOut()
          else if (each === 'giveUp') take(decideFailed(record, 'it was tried often enough'))
          else if (each === 'look') take(decideReport(record, report()))
          else if (each === 'reboot' && host.power === 'on') host = { ...host, power: 'off', stopCause: null }
          else if ((each === 'crash' || each === 'guestOff') && host.power === 'on') {
            host = { ...host, power: 'off', stopCause: each === 'crash' ? 'crash' : 'guest' }
          }
        }
        for (let round = 0; round < 6; round++) {
          carryOut()
          agentRestarts()
          if (record) take(decideReport(record, report()))
        }
        if (!record) {
          expect(wanted).toBe('gone')
          expect(host.exists).toBe(false)
          return
        }
        const now: InstanceRecord = record
        expect(wanted).not.toBe('gone')
        if (phaseOf(now) === 'error') return
        expect(now.task).toBeNull()
        expect(host.power).toBe(now.status === 'active' ? 'on' : 'off')
        expect(host.power).toBe(now.power)
        // Off although its user wanted it on: only the guest's own doing, and never with ha.
        if (host.power !== wanted && host.stopCause !== 'guest' && host.stopCause !== 'crash') {
          expect(now.power).toBe('off')
        }
      }),
      { numRuns: 2_000 },
    )
  })
})
