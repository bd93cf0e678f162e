import { expect, test } from 'vitest'
import { BLOCK_BYTES, checkJournal, type JournalBlock, parseAcknowledged, parseJournal } from './journal.ts'

const A = 'aaaaaaaa-0000-4000-8000-000000000000'
const B = 'bbbbbbbb-0000-4000-8000-000000000000'
const C = 'cccccccc-0000-4000-8000-000000000000'

/** A journal as guests write it: `[life, how many, when it began]` each; ten a second. */
function journal(...lives: readonly (readonly [string, number, number])[]): JournalBlock[] {
  const blocks: JournalBlock[] = []
  for (const [life, count, beganMs] of lives)
    for (let number = 0; number < count; number++)
      blocks.push({ at: blocks.length, life, number, timeMs: beganMs + number * 100 })
  return blocks
}

const faultsOf = (blocks: readonly JournalBlock[]) => checkJournal(blocks).faults

test('lives one after the other are as it should be, with the time between them', () => {
  const blocks = journal([A, 10, 0], [B, 20, 15_900], [C, 1, 30_000])
  const acknowledged = [
    { life: A, number: 9 },
    { life: C, number: 0 },
    { life: B, number: 10 },
  ]
  expect(checkJournal([...blocks, 'empty', 'empty'], acknowledged)).toEqual({
    lives: [
      { life: A, records: 10, beganMs: 0, endedMs: 900 },
      { life: B, records: 20, beganMs: 15_900, endedMs: 17_800 },
      { life: C, records: 1, beganMs: 30_000, endedMs: 30_000 },
    ],
    gapsS: [15, 12.2],
    faults: [],
  })
  expect(checkJournal([])).toEqual({ lives: [], gapsS: [], faults: [] })
})

test('two that write at once are found, in whatever order their writes came to be', () => {
  // B found the end at 5; A was still there, and wrote on.
  const seed = journal([A, 12, 0])
  const ofB = journal([A, 5, 0], [B, 7, 600])
  for (let pattern = 1; pattern < 2 ** 7 - 1; pattern++) {
    const mixed = seed.map((block, index) =>
      index >= 5 && (pattern >> (index - 5)) & 1 ? ofB[index] : block,
    )
    const faults = faultsOf(mixed as JournalBlock[])
    // A's writes all before B's leave nothing to be seen, but that B has overwritten what A was told is on disk.
    const isPrefixOfB = mixed.every((block, index) => index < 5 || block === ofB[index])
    const isOnlyA = mixed.every((block) => block !== 'empty' && block !== 'foreign' && block?.life === A)
    if (!isPrefixOfB && !isOnlyA) expect(faults, `pattern ${pattern}`).not.toEqual([])
  }
  expect(checkJournal(ofB, [{ life: A, number: 8 }]).faults).toEqual([
    `life ${A} was told that number 8 is on disk, and its last there is 4`,
  ])
})

test('a life that comes back after its successor is named', () => {
  const blocks = journal([A, 3, 0], [B, 2, 1_000])
  blocks.push({ at: 5, life: A, number: 3, timeMs: 2_000 })
  expect(faultsOf(blocks)[0]).toBe(`block 5: life ${A} writes again after life ${B} has begun`)
})

test('a life that began before the last one had ended is named', () => {
  expect(faultsOf(journal([A, 50, 0], [B, 5, 2_000]))).toEqual([
    `block 50: life ${B} began 2900 ms before the last record of life ${A}`,
  ])
  // As far as clocks tell: they are set to whole seconds.
  expect(faultsOf(journal([A, 50, 0], [B, 5, 4_000]))).toEqual([])
})

test('lost and foreign writes are named', () => {
  const blocks = journal([A, 6, 0])
  blocks[2] = 'empty'
  blocks[4] = 'foreign'
  expect(faultsOf(blocks)).toEqual([
    'block 2 is empty, and later ones are not: a write was lost',
    'block 4 was written by something else',
    `block 3: number 3 of life ${A}, where 2 should be: another has written here`,
    `block 5: number 5 of life ${A}, where 4 should be: another has written here`,
  ])
  const moved = journal([A, 3, 0])
  moved[1] = moved[0] as JournalBlock
  expect(faultsOf(moved)[0]).toBe('block 1 has what was meant for block 0')
  expect(checkJournal(journal([A, 3, 0]), [{ life: B, number: 0 }]).faults).toEqual([
    `life ${B} was told that number 0 is on disk, and nothing of it is there`,
  ])
})

test('many faults are not all told', () => {
  const faults = faultsOf(Array<JournalBlock>(100).fill('foreign'))
  expect(faults).toHaveLength(21)
  expect(faults.at(-1)).toBe('and 80 more')
})

test('blocks are read as guests write them', () => {
  const bytes = Buffer.alloc(4 * BLOCK_BYTES)
  bytes.write(`vpe 0 ${A} 0 179535903053\n`, 0)
  bytes.write('QFI\xfb', 2 * BLOCK_BYTES, 'latin1')
  bytes.write(`vpe 3 ${A} 1 179535903063\nx`, 3 * BLOCK_BYTES)
  expect(parseJournal(bytes)).toEqual([
    { at: 0, life: A, number: 0, timeMs: 1_795_359_030_530 },
    'empty',
    'foreign',
    'foreign',
  ])
  expect(() => parseJournal(bytes.subarray(1))).toThrow(RangeError)
})

test('what a guest says on its serial line is found among other lines, and only what is whole', () => {
  const serial = `vpe demo guest: up\r\njournal ${A} 0\r\n/ # journal ${A} 10\r\nsomething\r\njournal ${A} 1`
  expect(parseAcknowledged(serial)).toEqual([
    { life: A, number: 0 },
    { life: A, number: 10 },
  ])
})
