import {
  decideLock,
  decidePause,
  decideReboot,
  decideRebuild,
  decideReport,
  decideResize,
  decideResume,
  type InstanceDecision,
  type InstanceRecord,
} from '@vpe/core'
import { anInstance, aReport } from '@vpe/core/testing'
import { expect, test } from 'vitest'
import { commitOfDecision } from './instance-commit.ts'

type Decide = (now: InstanceRecord) => InstanceDecision | null

/** What the events say that a wish brings, from the asking to the end. */
function story(from: InstanceRecord, ...steps: readonly Decide[]): string[] {
  let now = from
  return steps.flatMap((decide) => {
    const decision = decide(now)
    if (!decision?.next) throw new Error('nothing was decided')
    const { events } = commitOfDecision(now, decision, [], 0, [])
    now = decision.next
    return events.map(({ what }) => what)
  })
}

const settled: Decide = (now) => decideReport(now, aReport({ generation: now.generation, power: now.power }))

test('each change has one event, named after what has happened', () => {
  const off = anInstance({ power: 'off', status: 'shutoff' })
  const size = { flavorUuid: 'other', vcpus: 2, memoryMib: 512, diskBytes: 2 * 1024 ** 3 }
  const locked = (is: boolean) => (now: InstanceRecord) => decideLock(now, is)

  expect(story(anInstance(), (now) => decideReboot(now, 'soft'), settled)).toEqual(['rebooting', 'rebooted'])
  expect(story(anInstance(), decidePause, settled, decideResume, settled)).toEqual([
    'pausing',
    'paused',
    'resuming',
    'resumed',
  ])
  expect(story(off, (now) => decideRebuild(now, 'image'), settled)).toEqual(['rebuilding', 'rebuilt'])
  expect(story(off, (now) => decideResize(now, size, false), settled)).toEqual(['resizing', 'resized'])
  expect(story(off, locked(true), locked(false))).toEqual(['locked', 'unlocked'])
})

test('a guest that others paused, and one that died of it, say so', () => {
  const paused: Decide = (now) => decideReport(now, aReport({ power: 'paused' }))
  const died: Decide = (now) =>
    decideReport(now, aReport({ generation: now.generation, power: 'off', stopCause: 'crash' }))
  expect(story(anInstance(), paused, settled, died)).toEqual(['pausing', 'paused', 'stopped'])
})
