import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Ring } from './ring.ts'

test('a ring has the last so many, oldest first', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 9 }), fc.array(fc.integer()), (capacity, values) => {
      const ring = new Ring<number>(capacity)
      for (const value of values) ring.push(value)
      expect(ring.values()).toEqual(values.slice(-capacity))
    }),
  )
})
