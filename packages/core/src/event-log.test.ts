import { expect, test } from 'vitest'
import { formatPosition, gapAfter, parsePosition } from './event-log.ts'

const bounds = { epoch: 7, first: 10, last: 20 }

test('a position survives its text', () => {
  expect(parsePosition(formatPosition({ epoch: 1763781234567, sequence: 42 }))).toEqual({
    epoch: 1763781234567,
    sequence: 42,
  })
})

test.each(['', '42', '-', '1-', '-1', '1-2-3', '1-2 ', '0x1-2', `1-${'9'.repeat(16)}`, '１-２'])(
  '%j is no position',
  (text) => {
    expect(parsePosition(text)).toBeNull()
  },
)

test.each([9, 10, 15, 20])('behind event %i of 10 to 20 nothing is missing', (sequence) => {
  expect(gapAfter({ epoch: 7, sequence }, bounds)).toBeNull()
})

test.each([
  ['older than what is kept', { epoch: 7, sequence: 8 }, 9],
  ['of a stream that is gone', { epoch: 6, sequence: 15 }, 9],
  ['of a stream to come', { epoch: 8, sequence: 0 }, 9],
  ['beyond the end', { epoch: 7, sequence: 21 }, 20],
])('a position %s is told as a gap', (_what, position, resumesAt) => {
  expect(gapAfter(position, bounds)).toEqual({
    after: position,
    resumesAfter: { epoch: 7, sequence: resumesAt },
    why: expect.stringMatching(/^the log /),
  })
})

test('an empty stream has nothing to miss for who has seen its end', () => {
  const purged = { epoch: 7, first: 21, last: 20 }
  expect(gapAfter({ epoch: 7, sequence: 20 }, purged)).toBeNull()
  expect(gapAfter({ epoch: 7, sequence: 19 }, purged)).toMatchObject({ resumesAfter: { sequence: 20 } })
  expect(gapAfter({ epoch: 7, sequence: 0 }, { epoch: 7, first: 1, last: 0 })).toBeNull()
})
