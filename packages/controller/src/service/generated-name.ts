// Names that vpe gives: twenty characters of 0-9a-v, the base32hex form of twelve bytes as in
// https://github.com/rs/xid: four of time, so that they sort by age, and eight that are random.

import { randomBytes } from 'node:crypto'

const DIGITS = '0123456789abcdefghijklmnopqrstuv'

/** A new name, unique for all practical purposes. */
export function generateName(nowMs: number): string {
  const bytes = Buffer.alloc(12)
  bytes.writeUInt32BE(Math.floor(nowMs / 1000))
  randomBytes(8).copy(bytes, 4)
  // 96 bits make 19.2 digits: four zero bits fill the last one.
  let [name, bits, held] = ['', 0, 0]
  for (const byte of bytes) {
    bits = (bits << 8) | byte
    held += 8
    for (; held >= 5; held -= 5) name += DIGITS[(bits >> (held - 5)) & 31]
    bits &= 31
  }
  return name + DIGITS[(bits << (5 - held)) & 31]
}
