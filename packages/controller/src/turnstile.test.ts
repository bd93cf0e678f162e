import { setImmediate as nextTurn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { Turnstile } from './turnstile.ts'

const NOBODY = { waiting: 0, answered: 0 }

/** Lets so many come, who write down who has begun. */
function arrive(turnstile: Turnstile, count: number): number[] {
  const begun: number[] = []
  for (let n = 0; n < count; n++) void turnstile.pass().then(() => begun.push(n))
  return begun
}

/** How many have begun after each turn of the event loop, until all have. */
async function turnsOf(turnstile: Turnstile, count: number): Promise<number[]> {
  const begun = arrive(turnstile, count)
  const afterTurn: number[] = []
  while (begun.length < count) {
    await nextTurn()
    afterTurn.push(begun.length)
  }
  expect(begun).toEqual(Array.from({ length: count }, (_, n) => n))
  return afterTurn
}

test('one after the other, and nobody who is alone waits', async () => {
  const turnstile = new Turnstile(NOBODY)
  const begun = arrive(turnstile, 1)
  await Promise.resolve()
  expect(begun).toEqual([0])
  expect((await turnsOf(new Turnstile(NOBODY), 10)).length).toBeGreaterThanOrEqual(9)
})

test('many get through in turns that grow with them', async () => {
  const turns = await turnsOf(new Turnstile(NOBODY), 5_000)
  expect(turns.length).toBeLessThan(3_000)
  expect(turns[0]).toBeLessThan(20)
})

test('behind a crowd of callers a share begins for each that is answered, and all when the crowd has gone', async () => {
  const callers = { waiting: 256, answered: 0 }
  const turnstile = new Turnstile(callers)
  const begun = arrive(turnstile, 100)
  for (let turn = 0; turn < 100; turn++) await nextTurn()
  expect(begun).toHaveLength(0)
  callers.answered += 160
  await expect.poll(() => begun.length).toBe(10)
  callers.waiting = 0
  await expect.poll(() => begun.length).toBe(100)
})

test('while a crowd has only been answered, and may be about to ask again, they begin one at a time', async () => {
  const callers = { waiting: 256, answered: 0 }
  const turnstile = new Turnstile(callers, () => 1_000)
  const begun = arrive(turnstile, 5_000)
  await nextTurn()
  callers.waiting = 0
  const counts: number[] = []
  while (begun.length < 5) {
    counts.push(begun.length)
    await nextTurn()
  }
  expect(Math.max(...counts.map((count, n) => count - (counts[n - 1] ?? 0)))).toBe(1)
  turnstile.close()
})

test('the share grows with the queue, so that as many begin as come', async () => {
  const callers = { waiting: 256, answered: 0 }
  const turnstile = new Turnstile(callers)
  const begun = arrive(turnstile, 65_536)
  callers.answered += 100
  await expect.poll(() => begun.length).toBe(200)
  turnstile.close()
})

test('when it is closed, everybody gets through', async () => {
  const turnstile = new Turnstile({ waiting: 256, answered: 0 })
  const begun = arrive(turnstile, 1_000)
  turnstile.close()
  await turnstile.pass()
  expect(turnstile.waiting).toBe(0)
  expect(begun).toHaveLength(1_000)
})
