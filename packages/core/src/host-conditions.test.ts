import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { allocatableOf } from './host-capacity.ts'
import {
  FINDING_STATUSES,
  type FindingStatus,
  foldConditions,
  type HostCondition,
  isConditionNews,
} from './host-conditions.ts'
import { changedFacts } from './host-facts.ts'
import { DEFAULT_OVERCOMMIT } from './placement/index.ts'
import type { HostFacts } from './resources.ts'

const everything = () => true

function found(status: FindingStatus, type = 'KvmUsable', message: string = status) {
  return { type, status, message, cure: status === 'ok' ? '' : 'mend it', latencyMs: null }
}

/** What looks at one thing, a second apart, come to. */
function look(statuses: readonly FindingStatus[], askedAt: readonly number[] = []) {
  let conditions: readonly HostCondition[] = []
  const told: string[] = []
  for (const [index, status] of statuses.entries()) {
    const at = { checkedAtMs: index * 1_000, isAsked: askedAt.includes(index) }
    const folded = foldConditions(conditions, { findings: [found(status)], ...at }, everything)
    conditions = folded.conditions
    told.push(...folded.changes.map(({ previous, condition }) => `${previous} ${condition.status}`))
  }
  return { condition: conditions[0], told }
}

describe('a condition', () => {
  test.each<[string, FindingStatus[], number[], FindingStatus, number, string[]]>([
    ['is what is found first', ['ok'], [], 'ok', 0, []],
    ['that is bad from the start is news', ['failed'], [], 'failed', 0, ['null failed']],
    ['gets worse at once', ['ok', 'warning'], [], 'warning', 1_000, ['ok warning']],
    ['gets worse twice', ['ok', 'warning', 'failed'], [], 'failed', 2_000, ['ok warning', 'warning failed']],
    ['does not get better at one look', ['failed', 'ok'], [], 'failed', 0, ['null failed']],
    ['gets better at two', ['failed', 'ok', 'ok'], [], 'ok', 2_000, ['null failed', 'failed ok']],
    ['gets better when somebody asks', ['failed', 'ok'], [1], 'ok', 1_000, ['null failed', 'failed ok']],
    [
      'that flaps is told once',
      ['ok', 'failed', 'ok', 'failed', 'ok', 'failed'],
      [],
      'failed',
      1_000,
      ['ok failed'],
    ],
    ['keeps its time while it stays', ['ok', 'ok', 'ok'], [], 'ok', 0, []],
  ])('%s', (_, statuses, askedAt, status, sinceMs, told) => {
    const { condition, told: events } = look(statuses, askedAt)
    expect(condition).toMatchObject({ status, sinceMs })
    expect(events).toEqual(told)
  })

  test('has the words of its last look, but of none that it does not believe yet', () => {
    const first = foldConditions(
      [],
      { findings: [found('failed', 'A', 'one')], checkedAtMs: 1, isAsked: false },
      everything,
    )
    const same = foldConditions(
      first.conditions,
      { findings: [found('failed', 'A', 'two')], checkedAtMs: 2, isAsked: false },
      everything,
    )
    expect(same.conditions[0]).toMatchObject({ message: 'two', sinceMs: 1, checkedAtMs: 2 })
    const better = foldConditions(
      same.conditions,
      { findings: [found('ok', 'A', 'three')], checkedAtMs: 3, isAsked: false },
      everything,
    )
    expect(better.conditions[0]).toMatchObject({ message: 'two', cure: 'mend it', checkedAtMs: 3 })
  })

  test('goes when it is looked at and not found, and stays when it is not looked at', () => {
    const findings = [found('failed', 'A'), found('failed', 'B')]
    const { conditions } = foldConditions([], { findings, checkedAtMs: 1, isAsked: false }, everything)
    const none = { findings: [], checkedAtMs: 2, isAsked: false }
    const after = foldConditions(conditions, none, (type) => type === 'A')
    expect(after.conditions.map(({ type }) => type)).toEqual(['B'])
    expect(after.changes).toEqual([])
  })

  test('that stays bad, or good, is as it is found in the end, whatever was before', () => {
    const anyStatus = fc.constantFrom(...FINDING_STATUSES)
    fc.assert(
      fc.property(fc.array(anyStatus), anyStatus, (before, last) => {
        const { condition, told } = look([...before, last, last])
        expect(condition?.status).toBe(last)
        // Each change is told once: what is told is a chain that ends where the condition is.
        const steps = told.map((text) => text.split(' '))
        for (const [index, [previous]] of steps.entries())
          if (index > 0) expect(previous).toBe(steps[index - 1]?.[1])
        if (steps.length > 0) expect(steps.at(-1)?.[1]).toBe(last)
        else expect(last).toBe('ok')
      }),
    )
  })

  test('is worth a write when its status is another, and not for its numbers', () => {
    const [a, b] = [look(['ok']).condition, look(['ok', 'ok']).condition]
    const bad = look(['failed']).condition
    if (!a || !b || !bad) throw new Error('there are')
    expect(isConditionNews([a], [b])).toBe(false)
    expect(isConditionNews([a], [bad])).toBe(true)
    expect(isConditionNews([a], [])).toBe(true)
  })
})

const facts: HostFacts = {
  hostname: 'h1',
  cpus: 8,
  memoryMib: 16_384,
  cpuModel: 'EPYC',
  cpuFeatures: ['aes', 'avx2'],
  arch: 'x86_64',
  domainType: 'kvm',
  libvirtVersion: '9.0.0',
  hypervisorVersion: '7.2.0',
  agentVersion: '0.1.0',
  kernel: '6.1.0',
  bridges: ['br0'],
  bootId: 'boot-1',
}

test.each<[Partial<HostFacts>, string[]]>([
  [{}, []],
  [{ cpuFeatures: ['aes', 'avx2'] }, []],
  [{ bootId: 'boot-2' }, []],
  [{ cpuFeatures: ['aes'] }, ['cpuFeatures']],
  [{ bridges: [], kernel: '6.2.0' }, ['kernel', 'bridges']],
  [{ cpus: 16, memoryMib: 32_768 }, ['cpus', 'memoryMib']],
])('facts with %j have changed in %j', (changes, names) => {
  expect(changedFacts(facts, { ...facts, ...changes })).toEqual(names)
})

test('what may be promised is what there is, times the ratio, less what is kept back', () => {
  expect(allocatableOf(facts, DEFAULT_OVERCOMMIT)).toEqual({ vcpus: 128, memoryMib: 15_872 })
  expect(allocatableOf({ cpus: 1, memoryMib: 100 }, DEFAULT_OVERCOMMIT).memoryMib).toBe(0)
})
