// A system for guests that need none but to fill the storage that they lie on.

import { truncate, writeFile } from 'node:fs/promises'

/** What a BIOS starts, and what then writes zeros over its disk, 64 sectors at a time, for as long as it can. */
const WRITER = Buffer.from(
  [
    '31c08ed88ed0bc007c', // the stack, and segments of zero
    'be207cb44330c0b280cd13', // write what the packet says: int 13h, function 43h
    '668306287c40', // the next 64 sectors
    'ebed', // again
    '00000000',
    '1000400000800000', // the packet: 64 sectors from 8000h
    '0008000000000000', // to sector 2048
  ].join(''),
  'hex',
)

/** Makes a raw image that takes next to nothing until a guest is started from it. */
export async function writeFillingDisk(path: string, sizeBytes: number): Promise<void> {
  const sector = Buffer.alloc(512)
  WRITER.copy(sector)
  sector.writeUInt16LE(0xaa55, 510)
  await writeFile(path, sector)
  await truncate(path, sizeBytes)
}
