import { describe, expect, test } from 'vitest'
import { settleInstanceOperations } from './operation.ts'
import { anInstance, anOperation } from './testing.ts'

const outcome = (kind: string, after: Parameters<typeof settleInstanceOperations>[1], generation = 1) =>
  settleInstanceOperations([anOperation({ kind, generation })], after, 7).map(({ status, endedAtMs }) => [
    status,
    endedAtMs,
  ])[0]

describe('operations end where the instance comes to rest', () => {
  test.each([
    ['instance.create', anInstance(), ['succeeded', 7]],
    ['instance.start', anInstance(), ['succeeded', 7]],
    ['instance.stop', anInstance({ power: 'off', status: 'shutoff' }), ['succeeded', 7]],
    ['instance.update', anInstance(), ['succeeded', 7]],
    ['instance.reboot', anInstance(), ['succeeded', 7]],
    ['instance.pause', anInstance({ power: 'paused', status: 'paused' }), ['succeeded', 7]],
    ['instance.rebuild', anInstance({ power: 'off', status: 'shutoff' }), ['succeeded', 7]],
    ['instance.resize', anInstance({ power: 'off', status: 'shutoff' }), ['succeeded', 7]],
    ['instance.delete', null, ['succeeded', 7]],
  ] as const)('%s succeeds', (kind, after, expected) => {
    expect(outcome(kind, after)).toEqual(expected)
  })

  test('a creation has not succeeded before its domain runs', () => {
    expect(
      outcome('instance.create', anInstance({ status: 'shutoff', task: 'creating', settledGeneration: 0 })),
    ).toBeUndefined()
  })

  test('no operation succeeds below the generation that it brought about', () => {
    expect(outcome('instance.update', anInstance({ generation: 3, settledGeneration: 2 }), 3)).toBeUndefined()
  })

  test.each([
    ['instance.create', anInstance({ power: 'off', task: 'stopping' })],
    ['instance.start', anInstance({ power: 'off', task: 'stopping' })],
    ['instance.stop', anInstance({ power: 'on', task: 'starting', status: 'shutoff' })],
    ['instance.create', anInstance({ task: 'deleting' })],
    ['instance.reboot', anInstance({ power: 'off', task: 'stopping' })],
    ['instance.pause', anInstance({ power: 'on', task: 'resuming' })],
    ['instance.pause', anInstance({ power: 'off', status: 'shutoff' })],
    ['instance.resume', anInstance({ power: 'paused', task: 'pausing' })],
    ['instance.update', null],
  ] as const)('%s is cancelled when it is overtaken', (kind, after) => {
    expect(outcome(kind, after)).toEqual(['cancelled', 7])
  })

  test('every operation fails with the fault of an error', () => {
    const [failed] = settleInstanceOperations(
      [anOperation()],
      anInstance({ status: 'error', fault: 'no disk' }),
      7,
    )
    expect(failed).toMatchObject({ status: 'failed', fault: 'no disk' })
  })
})
