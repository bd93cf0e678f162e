import { describe, expect, test } from 'vitest'
import { decideReport, decideStop } from './instance-decisions.ts'
import { decideCutOff, decideGiven, decideGuard, decideLetGo } from './instance-recovery.ts'
import { anInstance, aReport } from './testing.ts'

const lost = () => decideCutOff(anInstance({ ha: true }), 'host h1 is lost')?.next ?? anInstance()

describe('an instance whose host does not answer', () => {
  test('shows an error, and what its host reports counts again when that is back', () => {
    const silent = lost()
    expect(silent).toMatchObject({ status: 'error', task: 'recovering', fault: 'host h1 is lost' })
    expect(decideReport(silent, aReport())?.next).toMatchObject({ status: 'active', task: null, fault: '' })
    expect(decideReport(silent, aReport({ power: 'off' }))?.next).toMatchObject({ task: 'starting' })
    expect(decideReport(silent, null)?.next).toMatchObject({ task: 'starting' })
  })

  test('is told of again only with news', () => {
    expect(decideCutOff(lost(), 'host h1 is lost')).toBe(null)
    expect(decideCutOff(lost(), 'no host fits')?.next).toMatchObject({
      status: 'error',
      fault: 'no host fits',
    })
  })

  test('one that is off, or has a task, is left as it is', () => {
    expect(decideCutOff(anInstance({ status: 'shutoff', power: 'off' }), 'x')).toBe(null)
    expect(decideCutOff(anInstance({ task: 'stopping', power: 'off' }), 'x')).toBe(null)
  })

  test('a guest that has gone off meanwhile stays off, if it is not highly available', () => {
    const silent = decideCutOff(anInstance(), 'x')?.next ?? anInstance()
    const back = decideReport(silent, aReport({ power: 'off', stopCause: 'guest' }))
    expect(back?.next).toMatchObject({ status: 'shutoff', task: null, power: 'off' })
  })
})

test('it is given to another host, and a move that was under way is over', () => {
  const given = decideGiven(lost(), 'h2', 7, 'proven').next
  expect(given).toMatchObject({ hostId: 'h2', generation: 7, task: 'starting', fault: '' })
  const deleting = decideGiven(anInstance({ task: 'deleting' }), 'h2', 7, 'proven').next
  expect(deleting).toMatchObject({ hostId: 'h2', generation: 7, task: 'deleting' })
})

test('what was stopped while it was lost rests as off once it is gone', () => {
  const stopping = decideStop(lost())?.next ?? lost()
  expect(stopping).toMatchObject({ task: 'stopping', power: 'off' })
  expect(decideLetGo(stopping, 9, 'proven').next).toMatchObject({
    ...{ status: 'shutoff', task: null, power: 'off', generation: 9, settledGeneration: 9 },
  })
})

test('of a paused one nothing is left to go on with', () => {
  const paused = decideCutOff(anInstance({ status: 'paused', power: 'paused' }), 'x')?.next ?? anInstance()
  expect(decideLetGo(paused, 9, 'proven').next).toMatchObject({ status: 'shutoff', power: 'off' })
})

test('one that runs is guarded in place; one with a task is not disturbed', () => {
  expect(decideGuard(anInstance())?.next).toMatchObject({ task: 'updating', generation: 2, status: 'active' })
  expect(decideGuard(anInstance({ task: 'stopping' }))).toBe(null)
})
