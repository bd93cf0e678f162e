import { describe, expect, test } from 'vitest'
import { INSTANCE_STATUSES, INSTANCE_TASKS, type InstancePhase, phaseOf } from './instance.ts'
import { enterPhase, INSTANCE_EVENTS, INSTANCE_TRANSITIONS, nextPhase } from './instance-machine.ts'
import { anInstance } from './testing.ts'

const PHASES: readonly InstancePhase[] = [...INSTANCE_TASKS, ...INSTANCE_STATUSES]
const inPhase = (phase: InstancePhase) => enterPhase(anInstance(), phase)

describe('the instance transition table', () => {
  test('has a cell for every phase and event', () => {
    for (const phase of PHASES) {
      expect(Object.keys(INSTANCE_TRANSITIONS[phase]).sort()).toEqual([...INSTANCE_EVENTS].sort())
    }
  })

  test.each(PHASES)('%s can always be deleted', (phase) => {
    expect(['deleting', 'same']).toContain(nextPhase(inPhase(phase), 'delete'))
  })

  test.each(PHASES)('%s ends only by the word of its host, and only once deletion was asked for', (phase) => {
    for (const event of INSTANCE_EVENTS) {
      const isEnd = nextPhase(inPhase(phase), event) === 'gone'
      expect(isEnd, `${phase} + ${event}`).toBe(phase === 'deleting' && event === 'removed')
    }
  })

  test.each(INSTANCE_TASKS)('%s comes to rest when its host is done or gives up', (task) => {
    const done = task === 'deleting' ? 'removed' : 'settled'
    expect(['active', 'shutoff', 'gone']).toContain(nextPhase(inPhase(task), done))
    expect(nextPhase(inPhase(task), 'failed')).toBe(task === 'deleting' ? 'same' : 'error')
  })

  test('comes to rest as the power that is wanted', () => {
    expect(nextPhase({ ...inPhase('updating'), power: 'on' }, 'settled')).toBe('active')
    expect(nextPhase({ ...inPhase('updating'), power: 'off' }, 'settled')).toBe('shutoff')
    expect(nextPhase({ ...inPhase('updating'), power: 'paused' }, 'settled')).toBe('paused')
  })

  test('refuses start, stop and update only while it is being deleted', () => {
    for (const phase of PHASES) {
      for (const event of ['start', 'stop', 'update'] as const) {
        expect(nextPhase(inPhase(phase), event) === 'refused', `${phase} + ${event}`).toBe(
          phase === 'deleting',
        )
      }
    }
  })

  test('reboots and pauses only what is active, resumes only what is paused, resizes only what rests, and moves also what its host is to bring back', () => {
    const allowing = (event: 'reboot' | 'pause' | 'resume' | 'resize' | 'rebuild' | 'revert' | 'move') =>
      PHASES.filter((phase) => nextPhase(inPhase(phase), event) !== 'refused').sort()
    expect(allowing('reboot')).toEqual(['active', 'rebooting'])
    expect(allowing('pause')).toEqual(['active', 'paused', 'pausing', 'resuming'])
    expect(allowing('resume')).toEqual(['active', 'paused', 'pausing', 'resuming'])
    expect(allowing('move')).toEqual(['active', 'error', 'migrating', 'recovering', 'shutoff'])
    expect(allowing('resize')).toEqual(['active', 'error', 'shutoff'])
    expect(allowing('revert')).toEqual(['active', 'error', 'shutoff'])
    expect(PHASES.filter((phase) => !allowing('rebuild').includes(phase)).sort()).toEqual([
      'deleting',
      'migrating',
      'paused',
      'pausing',
      'resuming',
      'reverting',
    ])
  })

  test.each(PHASES)('entering %s is seen as that phase', (phase) => {
    expect(phaseOf(inPhase(phase))).toBe(phase)
  })

  test('a task keeps the status that is seen, but what is not made or not up shows as shutoff', () => {
    const running = inPhase('active')
    expect(enterPhase(running, 'stopping').status).toBe('active')
    expect(enterPhase(running, 'deleting').status).toBe('active')
    expect(enterPhase(running, 'recovering').status).toBe('shutoff')
  })
})
