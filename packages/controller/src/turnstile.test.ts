import { setImmediate as nextTurn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { Turnstile } from './turnstile.ts'

/** Starts so many, and says how many have begun after each turn of the event loop. */
async function begin(count: number): Promise<number[]> {
  const turnstile = new Turnstile()
  const begun: number[] = []
  for (let n = 0; n < count; n++) void turnstile.pass().then(() => begun.push(n))
  const afterTurn: number[] = []
  while (begun.length < count) {
    await nextTurn()
    afterTurn.push(begun.length)
  }
  expect(begun).toEqual(Array.from({ length: count }, (_, n) => n))
  return afterTurn
}

test('one after the other, and nobody who is alone waits', async () => {
  const turnstile = new Turnstile()
  let hasBegun = false
  void turnstile.pass().then(() => {
    hasBegun = true
  })
  await Promise.resolve()
  expect(hasBegun).toBe(true)
  const turns = await begin(10)
  expect(turns.length).toBeGreaterThanOrEqual(9)
})

test('a crowd gets through in turns that grow with it', async () => {
  const turns = await begin(5_000)
  expect(turns.length).toBeLessThan(3_000)
  expect(turns[0]).toBeLessThan(20)
})

test('when it is closed, everybody gets through', async () => {
  const turnstile = new Turnstile()
  const passed = Promise.all(Array.from({ length: 1_000 }, () => turnstile.pass()))
  turnstile.close()
  await passed
  await turnstile.pass()
  expect(turnstile.waiting).toBe(0)
})
