import { describe, expect, test } from 'vitest'
import { assertClonable } from './clone.ts'
import type { InstanceRecord } from './instance.ts'
import { decideRebuild } from './instance-decisions.ts'
import { anInstance, aSnapshot } from './testing.ts'

const OFF = anInstance({ status: 'shutoff', power: 'off' })

function refusal(source: InstanceRecord, snapshot = null as ReturnType<typeof aSnapshot> | null): string {
  try {
    assertClonable(source, snapshot)
  } catch (error) {
    expect(error).toMatchObject({ code: 'CONFLICT' })
    return (error as Error).message
  }
  return ''
}

describe('a clone', () => {
  test('is made of what is off, or of a snapshot of that', () => {
    expect(refusal(OFF)).toBe('')
    expect(refusal(OFF, aSnapshot())).toBe('')
  })

  test.each<[Partial<InstanceRecord>, string]>([
    [{ status: 'active' }, 'it is active; stop it, then try again'],
    [{ status: 'paused', power: 'paused' }, 'it is paused; stop it'],
    [{ status: 'error' }, 'it is error; stop it'],
    [{ task: 'creating', status: 'shutoff' }, 'it is creating; wait until that has ended'],
    [{ task: 'deleting' }, 'it is deleting'],
  ])('is refused of what is %j', (state, words) => {
    expect(refusal(anInstance(state))).toContain(words)
    expect(refusal(anInstance(state), aSnapshot())).toContain(words)
  })

  test.each(['creating', 'deleting', 'error'] as const)('is refused of a snapshot that is %s', (status) => {
    expect(refusal(OFF, aSnapshot({ status }))).toContain(`that is ${status}`)
  })

  test('that is rebuilt is of its image', () => {
    const clone = anInstance({ diskSource: { instanceUuid: 'other', snapshotUuid: null } })
    expect(decideRebuild(clone, 'image')?.next).toMatchObject({ diskSource: null })
  })
})
