import { expect, test } from 'vitest'
import type { HostId } from '../ids.ts'
import { type LeaseWriterEvent, startLeaseWriter, stepLeaseWriter } from './lease-writer.ts'
import { HA_RULES } from './rules.ts'
import { HA_PROFILES } from './timings.ts'

const context = { timings: HA_PROFILES.default, rules: HA_RULES }
const condition = { isWatchdogArmed: true, isManagementOk: true, isGuestNetworkOk: true }
const permit = { kind: 'permit', incarnation: 'inc', condition } as const
const tick = { kind: 'tick' } as const
const empty = { kind: 'mailbox', read: { kind: 'empty' } } as const
const pill = { kind: 'mailbox', epoch: 2, nonce: 1, targetIncarnation: 'inc', scope: 'all' } as const

function play(...events: readonly (readonly [number, LeaseWriterEvent])[]) {
  let state = startLeaseWriter('h' as HostId, 'boot', 7)
  let kinds: string[] = []
  for (const [atMs, event] of events) {
    const step = stepLeaseWriter(state, event, atMs, context)
    state = step.state
    kinds = step.actions.map(({ kind }) => kind)
  }
  return { state, kinds }
}

test('it reads its mailbox, writes, and tells when the renewal was begun', () => {
  expect(play([0, permit], [0, tick]).kinds).toEqual(['read-mailbox'])
  const written = play([0, permit], [0, tick], [300, empty])
  expect(written.kinds).toEqual(['write-lease'])
  expect(written.state).toMatchObject({ seq: 8, submittedMs: 300 })
  expect(play([0, permit], [0, tick], [300, empty], [9_000, { kind: 'written', isOk: true }]).kinds).toEqual([
    'tell-renewed',
  ])
})

test('no guard, no lease; no mailbox, no lease', () => {
  expect(play([0, permit], [0, tick], [1_001, empty]).kinds).toEqual([])
  expect(play([0, permit], [0, tick], [300, { kind: 'mailbox', read: null }]).kinds).toEqual([])
})

test('a pill stops it until the next incarnation, but for the answer', () => {
  const told = [0, permit] as const
  const read = [300, { kind: 'mailbox', read: { kind: 'block', block: pill } }] as const
  expect(play(told, [0, tick], read).kinds).toEqual(['tell-pill'])
  expect(play(told, [0, tick], read, [5_000, tick]).kinds).toEqual([])
  const next = { ...permit, incarnation: 'next' }
  expect(play(told, [0, tick], read, [4_900, next], [5_000, tick]).kinds).toEqual(['read-mailbox'])
  const other = { ...pill, targetIncarnation: 'before' }
  expect(
    play(told, [0, tick], [300, { kind: 'mailbox', read: { kind: 'block', block: other } }]).kinds,
  ).toEqual(['write-lease'])
})
