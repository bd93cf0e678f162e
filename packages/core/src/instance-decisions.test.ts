import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { VpeError } from './errors.ts'
import { type InstanceRecord, type Power, phaseOf } from './instance.ts'
import {
  decideDelete,
  decideFailed,
  decideLock,
  decideMigrationFailed,
  decidePause,
  decideReboot,
  decideRebuild,
  decideReleased,
  decideRemoved,
  decideReport,
  decideResize,
  decideResume,
  decideStart,
  decideStayed,
  decideStop,
  decideUpdate,
  type InstanceDecision,
  type MoveWish,
} from './instance-decisions.ts'
import { enterPhase } from './instance-machine.ts'
import { plan } from './plan.ts'
import { anInstance, aReport } from './testing.ts'

const to = (hostId: string): MoveWish => ({ hostId, mode: 'cold', atMs: 0 })

const off = anInstance({ status: 'shutoff', power: 'off' })
const paused = anInstance({ status: 'paused', power: 'paused' })

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
      task: 'rebuilding',
      diskGeneration: 2,
    })
    expect(decideUpdate(anInstance(), { ha: false, tags: [] })).toBeNull()
  })

  test('another host is a move: the old one is remembered until it has let go', () => {
    const moving = decideUpdate(anInstance(), { hostIds: ['b'], move: to('b') })?.next
    expect(moving).toMatchObject({
      generation: 2,
      task: 'migrating',
      status: 'active',
      hostId: 'b',
      leavingHostId: 'host',
      hostIds: ['b'],
    })
    if (!moving) return
    for (const report of [null, aReport({ generation: 2 }), aReport({ power: 'off', stopCause: 'crash' })]) {
      expect(decideReport(moving, report)).toBeNull()
    }
    const released = decideReleased(moving)?.next
    expect(released).toMatchObject({ task: 'migrating', status: 'shutoff', hostId: 'b', leavingHostId: null })
    if (!released) return
    expect(decideReleased(released)).toBeNull()
    expect(decideReport(released, null)).toBeNull()
    expect(decideReport(released, aReport({ generation: 2 }))?.next).toMatchObject({
      status: 'active',
      task: null,
    })
  })

  test('a move can be changed while it is under way; each host that may have it has to let go', () => {
    const toB = decideUpdate(anInstance(), { move: to('b') })?.next ?? anInstance()
    const toC = { hostId: 'c', generation: 3, task: 'migrating' }
    expect(decideUpdate(toB, { move: to('c') })?.next).toMatchObject({ ...toC, leavingHostId: 'host' })
    expect(decideUpdate(toB, { move: to('host') })?.next).toMatchObject({
      hostId: 'host',
      leavingHostId: null,
    })
    const atB = decideReleased(toB)?.next ?? toB
    expect(decideUpdate(atB, { move: to('c') })?.next).toMatchObject({ ...toC, leavingHostId: 'b' })
  })

  test.each([
    ['while it is paused', paused, { move: to('b') }, /it is paused; resume or stop it, then/],
    [
      'while something else is done',
      enterPhase(anInstance(), 'starting'),
      { move: to('b') },
      /wait until that/,
    ],
    [
      'together with another image',
      anInstance(),
      { move: to('b'), imageUuid: 'i' },
      /at once; change one, wait/,
    ],
    [
      'while a new disk was to be made',
      anInstance({ diskGeneration: 2 }),
      { move: to('b') },
      /rebuild it first/,
    ],
  ])('it cannot move %s', (_, instance, changes, why) => {
    expect(() => decideUpdate(instance, changes)).toThrow(why)
  })

  test('one that is locked may move: its data come along', () => {
    expect(decideUpdate(anInstance({ locked: true }), { move: to('b') })?.next).toMatchObject({
      task: 'migrating',
    })
  })

  test('nothing but deletion is possible once it is being deleted', () => {
    const deleting = enterPhase(anInstance(), 'deleting')
    expect(() => decideStart(deleting)).toThrow(VpeError)
    expect(() => decideUpdate(deleting, { tags: ['a'] })).toThrow(/it is deleting/)
    expect(decideDelete(deleting)).toBeNull()
  })
})

describe('reboot', () => {
  test('is named by the generation that asks for it', () => {
    expect(decideReboot(anInstance({ generation: 4 }), 'hard')?.next).toMatchObject({
      task: 'rebooting',
      status: 'active',
      generation: 5,
      rebootGeneration: 5,
      rebootKind: 'hard',
    })
  })

  test('asked for twice is one; a hard one makes a soft one hard', () => {
    const soft = decideReboot(anInstance(), 'soft')?.next as InstanceRecord
    expect(decideReboot(soft, 'soft')).toBeNull()
    const hard = decideReboot(soft, 'hard')?.next as InstanceRecord
    expect(hard).toMatchObject({ task: 'rebooting', generation: 3, rebootGeneration: 2, rebootKind: 'hard' })
    expect(decideReboot(hard, 'soft')).toBeNull()
  })

  test('is refused where no guest runs, with what helps', () => {
    expect(() => decideReboot(off, 'soft')).toThrow(/cannot reboot: it is shutoff; start it, then try again/)
    expect(() => decideReboot(paused, 'soft')).toThrow(/it is paused; resume or stop it, then try again/)
  })
})

describe('pause and resume', () => {
  test('lead to paused and back', () => {
    const pausing = decidePause(anInstance())?.next as InstanceRecord
    expect(pausing).toMatchObject({ power: 'paused', task: 'pausing', status: 'active', generation: 2 })
    const rests = decideReport(pausing, aReport({ generation: 2, power: 'paused' }))?.next as InstanceRecord
    expect(rests).toMatchObject({ status: 'paused', task: null })
    const resuming = decideResume(rests)?.next as InstanceRecord
    expect(resuming).toMatchObject({ power: 'on', task: 'resuming', status: 'paused', generation: 3 })
    expect(decideReport(resuming, aReport({ generation: 3 }))?.next).toMatchObject({ status: 'active' })
  })

  test('start of what is paused resumes it, stop powers it off', () => {
    expect(decideStart(paused)?.next).toMatchObject({ power: 'on', task: 'resuming' })
    expect(decideStop(paused)?.next).toMatchObject({ power: 'off', task: 'stopping' })
  })

  test('change nothing where it is so already, and are refused where nothing runs', () => {
    expect(decidePause(paused)).toBeNull()
    expect(decideResume(anInstance())).toBeNull()
    expect(() => decidePause(off)).toThrow(/it is shutoff; start it, then try again/)
    expect(() => decideResume(off)).toThrow(VpeError)
    const creating = anInstance({ status: 'shutoff', task: 'creating' })
    expect(() => decidePause(creating)).toThrow(/it is creating; wait until that has ended/)
  })

  test('one that somebody else has paused is wanted so, until a user resumes it', () => {
    const seen = decideReport(anInstance(), aReport({ power: 'paused' }))
    expect(seen?.next).toMatchObject({ power: 'paused', task: 'pausing', generation: 2 })
    expect(seen?.why).toContain('I/O error')
  })

  test('one that an I/O error has paused is still wanted on, where its guard says whether it goes on', () => {
    const report = aReport({ power: 'paused', holdUp: 'claim-check' })
    const waits = decideReport(anInstance({ ha: true }), report)?.next as InstanceRecord
    expect(waits).toMatchObject({ power: 'on', task: 'recovering', generation: 1 })
    expect(decideReport(waits, report)).toBeNull()
    expect(decideReport(waits, aReport())?.next).toMatchObject({
      status: 'active',
      task: null,
      generation: 1,
    })
  })

  test('one whose pool is full is still wanted on, and says why it stands still', () => {
    const report = aReport({ power: 'paused', holdUp: 'full-pool' })
    for (const before of [anInstance({ ha: true }), anInstance({ ha: true, task: 'starting' })]) {
      const waits = decideReport(before, report)?.next as InstanceRecord
      expect(waits).toMatchObject({ power: 'on', status: 'error', task: 'recovering', generation: 1 })
      expect(waits.fault).toContain('is full')
      expect(decideReport(waits, report)).toBeNull()
      const goesOn = decideReport(waits, aReport())?.next
      expect(goesOn).toMatchObject({ status: 'active', task: null, fault: '', generation: 1 })
    }
    const isBeingRestarted = anInstance({ ha: true, status: 'shutoff', task: 'recovering' })
    expect(decideReport(isBeingRestarted, report)?.next).toMatchObject({ status: 'error', power: 'on' })
    const inError = anInstance({ ha: true, status: 'error', fault: 'no such image' })
    expect(decideReport(inError, report)).toBeNull()
  })

  test('one that somebody else has resumed runs on', () => {
    expect(decideReport(paused, aReport())?.next).toMatchObject({
      power: 'on',
      task: 'resuming',
      generation: 2,
    })
  })

  test.each([
    ['crashed', aReport({ power: 'off', stopCause: 'crash' })],
    ['is off after a reboot of its host', aReport({ power: 'off' })],
    ['is gone', null],
  ])('one that %s while it was paused stays off, highly available or not', (_what, report) => {
    expect(decideReport({ ...paused, ha: true }, report)?.next).toMatchObject({
      status: 'shutoff',
      task: null,
      power: 'off',
    })
    // A change that was under way for it ends, too.
    const updating = decideUpdate({ ...paused, ha: true }, { ha: false })?.next as InstanceRecord
    const after = decideReport(updating, report && { ...report, generation: updating.generation })?.next
    expect(after).toMatchObject({ status: 'shutoff', settledGeneration: updating.generation })
  })

  test('one that went off before it was paused is not paused', () => {
    const pausing = decidePause(anInstance())?.next as InstanceRecord
    const report = aReport({ generation: 2, power: 'off', stopCause: 'crash' })
    expect(decideReport(pausing, report)?.next).toMatchObject({ status: 'shutoff', power: 'off' })
  })
})

describe('the hosts that a live move which stays is left with', () => {
  const running = anInstance({ hostIds: ['a'], hostId: 'a' })
  const move: MoveWish = { hostId: 'b', mode: 'live', atMs: 0 }
  test.each([
    ['those from before, where the move was the wish', ['b'], null, ['a']],
    ['what was allowed since, with its own', ['b'], ['b', 'c'], ['b', 'c', 'a']],
    ['what was allowed since, its own among them', ['b'], ['b', 'a'], ['b', 'a']],
    ['any, where any was allowed since', ['b'], [], []],
  ] as const)('%s', (_what, moved, since, expected) => {
    let record = decideUpdate(running, { hostIds: moved, move })?.next ?? running
    if (since) record = decideUpdate(record, { hostIds: since })?.next ?? record
    record = decideMigrationFailed(record, 'it broke', false)?.next ?? record
    expect(decideStayed(record, null, '')?.next).toMatchObject({ hostId: 'a', hostIds: expected })
  })
})

describe('rebuild', () => {
  test('of the same image is one, too, and keeps the power that is wanted', () => {
    expect(decideRebuild(off, 'image')?.next).toMatchObject({
      task: 'rebuilding',
      power: 'off',
      generation: 2,
      diskGeneration: 2,
    })
    expect(decideRebuild(anInstance(), 'other')?.next).toMatchObject({ imageUuid: 'other', power: 'on' })
  })

  test('under way is joined, unless it is of another image', () => {
    const rebuilding = decideRebuild(anInstance(), 'image')?.next as InstanceRecord
    expect(decideRebuild(rebuilding, 'image')).toBeNull()
    expect(decideRebuild(rebuilding, 'other')?.next).toMatchObject({ diskGeneration: 3, task: 'rebuilding' })
  })
})

describe('resize', () => {
  const size = { flavorUuid: 'large', vcpus: 4, memoryMib: 1024, diskBytes: 2 * 1024 ** 3 }

  test('of what is off is done at once', () => {
    expect(decideResize(off, size, false)?.next).toMatchObject({
      ...size,
      task: 'resizing',
      power: 'off',
      rebootGeneration: 0,
    })
  })

  test('of what runs needs a word, and then is a reboot, too', () => {
    expect(() => decideResize(anInstance(), size, false)).toThrow(/stop it, or give "restart": true/)
    expect(decideResize(anInstance(), size, true)?.next).toMatchObject({
      ...size,
      generation: 2,
      rebootGeneration: 2,
      rebootKind: 'soft',
    })
  })

  test('never shrinks a disk, and says how large it is', () => {
    expect(() => decideResize(off, { ...size, diskBytes: 1024 ** 3 / 2 }, false)).toThrow(
      /a system disk of 1\.0 GiB, which cannot shrink to 0\.5 GiB/,
    )
  })

  test('to what it has changes nothing', () => {
    const { flavorUuid, vcpus, memoryMib, diskBytes } = off
    expect(decideResize(anInstance(), { flavorUuid, vcpus, memoryMib, diskBytes }, false)).toBeNull()
  })
})

describe('lock', () => {
  const locked = anInstance({ locked: true })

  test('refuses what would destroy data, and says how to go on', () => {
    for (const destroy of [
      () => decideDelete(locked),
      () => decideRebuild(locked, 'image'),
      () => decideUpdate(locked, { imageUuid: 'other' }),
    ]) {
      expect(destroy).toThrow(/it is locked; unlock it first with POST \/instances\/[0-9a-f-]+\/unlock/)
    }
  })

  test('lets everything else be', () => {
    expect(decideStop(locked)?.next).toMatchObject({ task: 'stopping' })
    expect(decideReboot(locked, 'hard')?.next).toMatchObject({ task: 'rebooting' })
    expect(decideUpdate(locked, { ha: true })?.next).toMatchObject({ ha: true })
  })

  test('is no affair of the host, and no news where it is so already', () => {
    expect(decideLock(anInstance(), true)?.next).toMatchObject({ locked: true, generation: 1, task: null })
    expect(decideLock(locked, true)).toBeNull()
    expect(decideLock(locked, false)?.next).toMatchObject({ locked: false })
    expect(() => decideLock(enterPhase(anInstance(), 'deleting'), true)).toThrow(/it is deleting/)
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
    'pause',
    'resume',
    'hardReboot',
    'rebuild',
    'resize',
    'virshSuspend',
    'virshResume',
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
          power: 'off' as Power,
          stopCause: null as 'guest' | 'crash' | 'requested' | null,
        }
        let wanted: Power | 'gone' = 'on'
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
            const { generation } = record
            // What is off cannot be paused.
            const power = record.power === 'paused' && host.power === 'off' ? 'off' : record.power
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
          else if (each === 'pause' && phaseOf(record) === 'active') user(decidePause, 'paused')
          else if (each === 'resume' && phaseOf(record) === 'paused') user(decideResume, 'on')
          else if (each === 'hardReboot' && phaseOf(record) === 'active')
            user((now) => decideReboot(now, 'hard'), 'on')
          else if (each === 'rebuild' && record.task === null && record.power !== 'paused')
            user((now) => decideRebuild(now, 'image'), wanted)
          else if (each === 'resize' && phaseOf(record) === 'shutoff')
            user((now) => decideResize(now, { ...now, vcpus: now.vcpus + 1 }, false), wanted)
          else if (each === 'virshSuspend' && host.power === 'on') host = { ...host, power: 'paused' }
          else if (each === 'virshResume' && host.power === 'paused') host = { ...host, power: 'on' }
          else if (each === 'reboot' && host.power === 'on') host = { ...host, power: 'off', stopCause: null }
          else if ((each === 'crash' || each === 'guestOff') && host.power !== 'off') {
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
        expect(host.power).toBe({ active: 'on', paused: 'paused', shutoff: 'off', error: '' }[now.status])
        expect(host.power).toBe(now.power)
        // Paused and resumed by others counts as wanted, and what went off while paused stays so.
        if ((wanted as Power) === 'paused' || steps.some((each) => each.startsWith('virsh'))) return
        // Off although its user wanted it on: only the guest's own doing, and never with ha.
        if (host.power !== wanted && host.stopCause !== 'guest' && host.stopCause !== 'crash') {
          expect(now.power).toBe('off')
        }
      }),
      { numRuns: 2_000 },
    )
  })
})
