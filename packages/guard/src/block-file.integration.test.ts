import {
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BLOCK_BYTES } from '@vpe/core/ha'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { BlockFile } from './block-file.ts'

let dir: string
let path: string
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'vpe-blocks-'))
  path = join(dir, 'hosts')
})
afterEach(() => rmSync(dir, { recursive: true }))

const block = (byte: number) => new Uint8Array(BLOCK_BYTES).fill(byte)

test('blocks are zeros until they are written, each in its place, for everyone who has it open', () => {
  const [a, b] = [BlockFile.open(path, 4), BlockFile.open(path, 4)]
  expect(statSync(path)).toMatchObject({ size: 4 * BLOCK_BYTES })
  expect(statSync(path).mode & 0o777).toBe(0o600)
  a.write(2, block(7))
  b.write(0, block(9))
  expect(b.readAll().map(([first]) => first)).toEqual([9, 0, 7, 0])
  expect(a.read(2)).toEqual(block(7))
  a.close()
  b.close()
})

test('what was read stays as it was when the next is read', () => {
  const file = BlockFile.open(path, 2)
  file.write(0, block(1))
  const [before] = file.readAll()
  file.write(0, block(2))
  expect(file.read(0)).toEqual(block(2))
  expect(before).toEqual(block(1))
  file.close()
})

test('a file that has more blocks keeps them', () => {
  const many = BlockFile.open(path, 4)
  many.write(3, block(5))
  const few = BlockFile.open(path, 2)
  expect(few.readAll()).toHaveLength(2)
  expect(many.read(3)).toEqual(block(5))
  many.close()
  few.close()
})

test('blocks that are not there, and what is no block, are refused', () => {
  const file = BlockFile.open(path, 2)
  for (const index of [-1, 2, 0.5]) expect(() => file.read(index)).toThrow(/has 2 blocks, and no block/)
  expect(() => file.write(0, new Uint8Array(512))).toThrow('512 bytes are no block')
  truncateSync(path, BLOCK_BYTES)
  expect(() => file.readAll()).toThrow(`${path}: 4096 bytes were read where 8192 should be`)
  file.close()
})

test('a link is not followed', () => {
  writeFileSync(join(dir, 'other'), 'somebody else’s')
  symlinkSync(join(dir, 'other'), path)
  expect(() => BlockFile.open(path, 1)).toThrow(expect.objectContaining({ code: 'ELOOP' }))
  expect(readFileSync(join(dir, 'other'), 'utf8')).toBe('somebody else’s')
})
