import fc from 'fast-check'
import { expect, test } from 'vitest'
import { chooseSubnet } from './management-network.ts'

test('a subnet is one that nobody has', () => {
  const always = (value: number) => () => value
  expect(chooseSubnet([], always(0))).toBe('10.200.0')
  expect(chooseSubnet(['192.168.1.0/24', '172.17.0.0/16'], always(0.5))).toBe('10.227.128')
  const attempts = [0, 0, 0, 0.5].values()
  expect(chooseSubnet(['10.200.0.0/25'], () => attempts.next().value ?? 1)).toBe('10.200.128')
})

test('neither a part of it nor one that it is part of', () => {
  const taken = fc.tuple(
    fc.integer({ min: 200, max: 254 }),
    fc.integer({ min: 0, max: 255 }),
    fc.integer({ min: 14, max: 32 }),
  )
  const draw = fc.array(fc.double({ min: 0, max: 0.999, noNaN: true }), { minLength: 8, maxLength: 8 })
  fc.assert(
    fc.property(fc.array(taken, { maxLength: 3 }), draw, (others, numbers) => {
      const ring = (function* () {
        for (let step = 0; ; step++) yield ((numbers[step % 8] ?? 0) + step * 0.37) % 1
      })()
      const texts = others.map(([b, c, bits]) => `10.${b}.${c}.0/${bits}`)
      const [, b = 0, c = 0] = chooseSubnet(texts, () => ring.next().value)
        .split('.')
        .map(Number)
      for (const [otherB, otherC, bits] of others) {
        const common = Math.min(bits, 24) - 8
        expect((b * 256 + c) >> (16 - common)).not.toBe((otherB * 256 + otherC) >> (16 - common))
      }
    }),
  )
})

test('when all are taken it says so', () => {
  expect(() => chooseSubnet(['10.0.0.0/8'], Math.random)).toThrow('in use')
})
