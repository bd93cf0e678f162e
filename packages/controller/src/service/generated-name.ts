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
  let bits = BigInt(`0x${bytes.toString('hex')}`) << 4n
  let name = ''
  for (let digit = 0; digit < 20; digit++) {
    name = `${DIGITS[Number(bits & 31n)]}${name}`
    bits >>= 5n
  }
  return name
}
