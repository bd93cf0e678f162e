import { expect, test } from 'vitest'
import type { HostId, InstanceId } from '../ids.ts'
import type { PoolClass } from './pool-class.ts'
import { judgeProofs, observersNeeded, PROOFS_OF, type Proof } from './proofs.ts'
import { HA_RULES } from './rules.ts'
import { HA_PROFILES } from './timings.ts'

const owner = { uuid: 'i' as InstanceId, generation: 2, hostId: 'h' as HostId, bootId: 'boot' }
const proof = (change: Partial<Proof>): Proof => ({
  kind: 'powered-off',
  hostId: owner.hostId,
  bootId: 'boot',
  pool: null,
  uuid: null,
  generation: null,
  atMs: 100,
  why: '',
  ...change,
})
const judge = (given: Partial<Proof>, poolClass: PoolClass, nowMs: number) =>
  judgeProofs([proof(given)], owner, { pool: 'p', poolClass }, nowMs, HA_PROFILES.default, HA_RULES).kind

test('any one proof will do, and each class has its own', () => {
  const kinds = [...new Set(Object.values(PROOFS_OF).flat())]
  for (const poolClass of ['E', 'T', 'N'] as const)
    for (const kind of kinds)
      expect(judge({ kind }, poolClass, 1_000_000)).toBe(
        PROOFS_OF[poolClass].includes(kind) ? 'proven' : 'unproven',
      )
  expect(PROOFS_OF.E).not.toContain('lease-expired')
  expect(PROOFS_OF.T).not.toContain('lock-gate')
})

test('in class T the last packets are waited for, where the storage itself has not put things in order', () => {
  expect(judge({}, 'T', 5_099)).toBe('wait')
  expect(judge({}, 'T', 5_100)).toBe('proven')
  expect(judge({}, 'E', 100)).toBe('proven')
  expect(judge({ kind: 'lease-expired' }, 'T', 100)).toBe('proven')
})

test('a proof is for its boot, its pool and its generation', () => {
  expect(judge({ bootId: 'earlier' }, 'E', 1_000)).toBe('unproven')
  expect(judge({ pool: 'other' }, 'E', 1_000)).toBe('unproven')
  expect(judge({ uuid: owner.uuid, generation: 1 }, 'E', 1_000)).toBe('unproven')
})

test('two observers, where there are so many', () => {
  expect([1, 2, 3, 9].map(observersNeeded)).toEqual([1, 1, 2, 2])
})
