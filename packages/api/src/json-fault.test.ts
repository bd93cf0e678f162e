import fc from 'fast-check'
import { expect, test } from 'vitest'
import { findJsonFault } from './json-fault.ts'

test.each([
  ['', 1, 1, 'expected a value, found the end'],
  ['{"a": 1,\n "b": 2,\n}', 3, 1, 'expected a field name in double quotes, found "}"'],
  ['{"tags": ["a"]\n  "disks": []}', 2, 3, 'expected "," or "}", found "\\""'],
  ['[1,]', 1, 4, 'expected a value, found "]"'],
  ['{"a" 1}', 1, 6, 'expected ":", found "1"'],
  ["{'a': 1}", 1, 2, 'expected a field name in double quotes, found "\'"'],
  ['"a\tb"', 1, 3, 'expected no control character in a string, found "\\t"'],
  ['"\\x"', 1, 2, 'expected an escape such as \\n or \\u00e9, found "\\\\"'],
  ['"abc', 1, 5, 'expected the closing quote of a string, found the end'],
  ['{} {}', 1, 4, 'expected nothing after the value, found "{"'],
  ['01', 1, 2, 'expected nothing after the value, found "1"'],
  ['NaN', 1, 1, 'expected a value, found "N"'],
])('%j: line %i, column %i', (text, line, column, message) => {
  expect(findJsonFault(text)).toEqual({ line, column, message })
})

test('agrees with JSON.parse on every text', () => {
  const damaged = fc
    .tuple(
      fc.json(),
      fc.nat(),
      fc.constantFrom('', '{', '}', '[', ']', '"', ',', ':', '\\', '0', '-', '#', ' ', '\n'),
    )
    .map(([text, at, insert]) => {
      const cut = at % (text.length + 1)
      return text.slice(0, cut) + insert + text.slice(cut + 1)
    })
  fc.assert(
    fc.property(fc.oneof(fc.json(), damaged, fc.string()), (text) => {
      let isJson = true
      try {
        JSON.parse(text)
      } catch {
        isJson = false
      }
      expect(findJsonFault(text) === null).toBe(isJson)
    }),
    { numRuns: 5_000 },
  )
})
