// Goal: a guest that had bad luck is back at once, one that keeps failing is left off with a reason, and
// the host never starts what is not for it to start.

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { GuestState, InstanceMark } from './host-convergence.ts'
import { decideRestart, planUpkeep, RESTART_POLICY } from './restart-policy.ts'

const MINUTE = 60_000

describe('decideRestart', () => {
  test('the first restart is at once', () => {
    expect(decideRestart({ offSinceMs: 1_000, restartsAtMs: [] }, 1_000)).toMatchObject({ kind: 'restart' })
  })

  test('the next ones follow growing pauses', () => {
    const second = { offSinceMs: 100_000, restartsAtMs: [50_000] }
    expect(decideRestart(second, 100_000)).toMatchObject({ kind: 'wait', untilMs: 105_000 })
    expect(decideRestart(second, 105_000)).toMatchObject({ kind: 'restart' })
    const third = { offSinceMs: 100_000, restartsAtMs: [50_000, 60_000] }
    expect(decideRestart(third, 109_999)).toMatchObject({ kind: 'wait', untilMs: 110_000 })
  })

  test('three restarts within the window are enough', () => {
    const history = { offSinceMs: 5 * MINUTE, restartsAtMs: [MINUTE, 2 * MINUTE, 3 * MINUTE] }
    expect(decideRestart(history, 5 * MINUTE)).toEqual({
      kind: 'give-up',
      why: 'it went off again after 3 restarts within 10 minutes',
    })
  })

  test('the count starts afresh after ten minutes', () => {
    const restartsAtMs = [MINUTE, 2 * MINUTE, 3 * MINUTE]
    expect(decideRestart({ offSinceMs: 13 * MINUTE, restartsAtMs }, 13 * MINUTE)).toMatchObject({
      kind: 'restart',
    })
  })

  test('whatever happens, no window holds more restarts than allowed', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(4 * MINUTE), { maxLength: 60 }), (runs) => {
        let nowMs = 0
        const restarts: number[] = []
        for (const runMs of runs) {
          nowMs += runMs
          const offSinceMs = nowMs
          let verdict = decideRestart({ offSinceMs, restartsAtMs: restarts }, nowMs)
          if (verdict.kind === 'wait') {
            expect(verdict.untilMs).toBeGreaterThan(nowMs)
            nowMs = verdict.untilMs
            verdict = decideRestart({ offSinceMs, restartsAtMs: restarts }, nowMs)
          }
          if (verdict.kind === 'restart') restarts.push(nowMs)
        }
        for (const [index, atMs] of restarts.entries()) {
          const others = restarts.slice(0, index).filter((other) => other > atMs - RESTART_POLICY.windowMs)
          expect(others.length).toBeLessThan(RESTART_POLICY.restartsMax)
        }
      }),
    )
  })
})

describe('planUpkeep', () => {
  const mark: InstanceMark = {
    uuid: 'instance-1',
    hostId: 'host-1',
    generation: 1,
    epoch: 1,
    name: 'web',
    power: 'on',
    ha: false,
    vcpus: 1,
    memoryMib: 128,
    imageUuid: 'image-1',
    diskPoolUuid: 'pool-1',
    diskPoolPath: '/pool',
    seedSha256: '',
    dataDisks: [],
    bootId: 'boot-1',
    stopCause: null,
    fault: '',
    restarts: 0,
    ownership: 0,
    isGuarded: false,
    rebootGeneration: 0,
    diskGeneration: 0,
    diskBytes: 0,
  }
  const FULL: GuestState = { power: 'paused', reason: 'full' }
  const off = (
    reason: 'guest-shutdown' | 'crashed' | 'destroyed' | 'unknown' | 'start-failed',
  ): GuestState => ({
    power: 'off',
    reason,
  })

  test.each<[string, Partial<InstanceMark>, GuestState, string]>([
    ['runs', {}, { power: 'on' }, 'none'],
    ['owned', { ha: true, ownership: 1 }, off('crashed'), 'none'],
    ['owned, and not to be kept on any more', { ownership: 1 }, off('guest-shutdown'), 'settle'],
    ['wanted off', { power: 'off', stopCause: 'requested' }, off('destroyed'), 'none'],
    ['shut itself down', {}, off('guest-shutdown'), 'settle'],
    ['crashed', {}, off('crashed'), 'settle'],
    ['panicked', {}, { power: 'panicked' }, 'settle'],
    ["somebody's virsh destroy", {}, off('destroyed'), 'settle'],
    ["somebody's virsh destroy, settled before", { bootId: '' }, off('destroyed'), 'none'],
    ['highly available, shut itself down', { ha: true }, off('guest-shutdown'), 'keep-on'],
    ['highly available, crashed', { ha: true }, off('crashed'), 'keep-on'],
    ['highly available, destroyed by somebody', { ha: true }, off('destroyed'), 'keep-on'],
    ['highly available, libvirtd was restarted since', { ha: true }, off('unknown'), 'keep-on'],
    ['highly available, did not come up', { ha: true }, off('start-failed'), 'keep-on'],
    ['highly available, given up', { ha: true, fault: 'too often' }, off('crashed'), 'none'],
    ['highly available, after a reboot of the host', { ha: true, bootId: 'boot-0' }, off('unknown'), 'none'],
    ['highly available, never started', { ha: true, bootId: '' }, off('unknown'), 'none'],
    ['highly available, its pool full', { ha: true }, FULL, 'let-go-on'],
    [
      'highly available, its pool full, and guarded',
      { ha: true, ownership: 1, isGuarded: true },
      FULL,
      'let-go-on',
    ],
    ['highly available, its pool full, and wanted paused', { ha: true, power: 'paused' }, FULL, 'none'],
    ['not highly available, its pool full', {}, FULL, 'none'],
  ])('%s', (_name, changes, guest, kind) => {
    expect(planUpkeep({ mark: { ...mark, ...changes }, guest }, 'boot-1').kind).toBe(kind)
  })

  test('what stays off is written down with its cause', () => {
    const upkeep = planUpkeep({ mark, guest: off('crashed') }, 'boot-1')
    expect(upkeep).toMatchObject({ mark: { power: 'off', stopCause: 'crash', generation: 1 } })
    // What nobody knows stays unknown, and the guest stays wanted on.
    const unknown = planUpkeep({ mark, guest: off('destroyed') }, 'boot-1')
    expect(unknown).toMatchObject({ mark: { power: 'on', stopCause: null, bootId: '' } })
  })
})
