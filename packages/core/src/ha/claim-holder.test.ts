import { expect, test } from 'vitest'
import type { HostId, InstanceId } from '../ids.ts'
import type { Claim } from './blocks.ts'
import { type ClaimHolderEvent, type ClaimJob, startClaimHolder, stepClaimHolder } from './claim-holder.ts'

const uuid = 'i' as InstanceId
const take: ClaimJob = { kind: 'take', uuid, generation: 5, epoch: 1, keepsLock: true }
const claim = (change: Partial<Claim>): Claim => ({
  kind: 'claim',
  uuid,
  generation: 5,
  hostId: 'h' as HostId,
  bootId: 'boot',
  state: 'running',
  epoch: 1,
  ...change,
})
const granted: ClaimHolderEvent = { kind: 'lock-answer', uuid, isGranted: true }
const refused: ClaimHolderEvent = { kind: 'lock-answer', uuid, isGranted: false }
const reads = (block: Claim | null): ClaimHolderEvent => ({
  kind: 'claim-read',
  uuid,
  read: block ? { kind: 'block', block } : { kind: 'empty' },
})
const written: ClaimHolderEvent = { kind: 'claim-written', uuid, isOk: true }

function play(job: ClaimJob, ...events: readonly ClaimHolderEvent[]) {
  let step = stepClaimHolder(startClaimHolder('h' as HostId, 'boot'), { kind: 'job', job })
  for (const event of events) step = stepClaimHolder(step.state, event)
  return step.actions
}

test('a claim is taken under its lock, and read back; class E keeps the lock', () => {
  expect(play(take)).toEqual([{ kind: 'lock', uuid }])
  expect(play(take, granted)).toEqual([{ kind: 'read-claim', uuid }])
  expect(play(take, granted, reads(claim({ generation: 4, hostId: 'x' as HostId })))).toEqual([
    { kind: 'write-claim', claim: claim({}) },
  ])
  const whole = [granted, reads(null), written, reads(claim({}))] as const
  expect(play(take, ...whole)).toEqual([{ kind: 'result', job: take, result: { kind: 'taken' } }])
  const brief: ClaimJob = { ...take, keepsLock: false }
  expect(play(brief, ...whole)).toEqual([
    { kind: 'unlock', uuid },
    { kind: 'result', job: brief, result: { kind: 'taken' } },
  ])
})

test('a generation that another has, or a later one, is refused', () => {
  for (const other of [
    claim({ hostId: 'x' as HostId }),
    claim({ bootId: 'earlier' }),
    claim({ generation: 6 }),
  ])
    expect(play(take, granted, reads(other)).at(-1)).toEqual({
      kind: 'result',
      job: take,
      result: { kind: 'others', claim: other },
    })
})

test('a check without the lock finds another owner, but never that all is well', () => {
  const check: ClaimJob = { kind: 'check', uuid, generation: 5, keepsLock: true }
  const newer = claim({ generation: 6, hostId: 'x' as HostId })
  expect(play(check, refused, reads(newer)).at(-1)).toMatchObject({ result: { kind: 'others' } })
  expect(play(check, refused, reads(claim({}))).at(-1)).toMatchObject({ result: { kind: 'locked' } })
  expect(play(check, granted, reads(claim({}))).at(-1)).toMatchObject({ result: { kind: 'mine' } })
})

test('what cannot be read is not taken', () => {
  const torn: ClaimHolderEvent = { kind: 'claim-read', uuid, read: { kind: 'damaged', why: 'torn' } }
  expect(play(take, granted, torn).at(-1)).toMatchObject({ result: { kind: 'failed', why: 'torn' } })
})
