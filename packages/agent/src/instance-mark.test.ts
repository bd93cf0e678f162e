import type { InstanceMark } from '@vpe/core'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { formatMark, parseMark } from './instance-mark.ts'
import { printable } from './xml.ts'

const marks: fc.Arbitrary<InstanceMark> = fc.record({
  uuid: fc.uuid(),
  hostId: fc.uuid(),
  generation: fc.nat(),
  epoch: fc.nat(),
  name: fc.string({ unit: 'binary', maxLength: 300 }).map(printable),
  power: fc.constantFrom('on', 'off', 'paused'),
  ha: fc.boolean(),
  vcpus: fc.nat(512),
  memoryMib: fc.nat(),
  imageUuid: fc.uuid(),
  diskPoolUuid: fc.uuid(),
  diskPoolPath: fc.string({ unit: 'grapheme' }).map((text) => `/${printable(text)}`),
  seedSha256: fc.constantFrom('', 'ab'.repeat(32)),
  dataDisks: fc.array(
    fc.record({
      uuid: fc.uuid(),
      diskPoolUuid: fc.uuid(),
      diskPoolPath: fc.string({ unit: 'grapheme' }).map((text) => `/${printable(text)}`),
      target: fc.constantFrom('vdb', 'vdz'),
      sizeBytes: fc.nat(),
    }),
  ),
  bootId: fc.oneof(fc.constant(''), fc.uuid()),
  stopCause: fc.constantFrom(null, 'requested', 'guest', 'crash'),
  fault: fc.string({ unit: 'grapheme' }).map(printable),
  restarts: fc.nat(),
  ownership: fc.nat(),
  isGuarded: fc.boolean(),
  rebootGeneration: fc.nat(),
  diskGeneration: fc.nat(),
  diskBytes: fc.nat(),
})

describe('the mark of an instance', () => {
  test('survives being written and read', () => {
    fc.assert(
      fc.property(marks, (mark) => {
        expect(parseMark(formatMark(mark))).toEqual({ mark })
      }),
    )
  })

  test('is read with namespace prefix, and with what libxml2 makes of characters', () => {
    const [mark] = fc.sample(marks, { numRuns: 1, seed: 1 })
    if (!mark) throw new Error('no sample')
    const xml = formatMark({ ...mark, name: 'NAME' })
      .replace('<instance', '<vpe:instance xmlns:vpe="https://vpe.dev/xmlns/instance/1"')
      .replace('</instance>', '</vpe:instance>')
      .replace('NAME', '&#x4E2D;&#x6587; &lt;&amp;&quot;')
    expect(parseMark(xml)).toEqual({ mark: { ...mark, name: '中文 <&"' } })
  })

  test('keeps a long name that is all entities', () => {
    const [mark] = fc.sample(marks, { numRuns: 1, seed: 1 })
    if (!mark) throw new Error('no sample')
    const xml = formatMark({ ...mark, name: 'NAME' }).replace('NAME', '&#x4E2D;'.repeat(5_000))
    expect(parseMark(xml)).toEqual({ mark: { ...mark, name: '中'.repeat(5_000) } })
  })

  test.each([
    ['', 'XML'],
    ['<instance/>', 'uuid'],
    ['<other uuid="1"/>', 'uuid'],
    ['<instance', 'XML'],
  ])('%j is refused', (xml, word) => {
    const parsed = parseMark(xml)
    expect('refused' in parsed && parsed.refused).toContain(word)
  })

  test('of an agent that knew of no ownership says none', () => {
    const [mark] = fc.sample(marks, { numRuns: 1, seed: 1 })
    if (!mark) throw new Error('no sample')
    const old = formatMark(mark).replace(/ (ownership|guarded)="[^"]*"/g, '')
    expect(parseMark(old)).toMatchObject({ mark: { ownership: 0, isGuarded: false } })
  })

  test('says what is wrong with it', () => {
    const [mark] = fc.sample(marks, { numRuns: 1, seed: 1 })
    if (!mark) throw new Error('no sample')
    const xml = formatMark(mark).replace(/power="\w+"/, 'power="maybe"')
    expect(parseMark(xml)).toEqual({ refused: expect.stringMatching(/^power: /) })
  })
})
