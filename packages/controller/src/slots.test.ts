import { expect, test } from 'vitest'
import { Slots } from './slots.ts'

test('no more is done at once than there are slots, in the order of asking, whatever fails', async () => {
  const slots = new Slots(2)
  const gates = Array.from({ length: 5 }, () => Promise.withResolvers<void>())
  const begun: number[] = []
  const runs = gates.map(({ promise }, index) =>
    slots.run(async () => {
      begun.push(index)
      await promise
    }),
  )
  const settled = runs.map((run) => run.catch((error: Error) => error.message))
  expect(begun).toEqual([0, 1])
  gates[1]?.reject(new Error('it failed'))
  expect(await settled[1]).toBe('it failed')
  await expect.poll(() => begun).toEqual([0, 1, 2])
  gates[0]?.resolve()
  gates[2]?.resolve()
  await expect.poll(() => begun).toEqual([0, 1, 2, 3, 4])
  gates[3]?.resolve()
  gates[4]?.resolve()
  await Promise.all(settled)
})
