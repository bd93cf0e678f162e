// Memory outside the JavaScript heap, for what C fills in or keeps. Every address here is valid until its
// owner frees it; nothing is collected by itself.

import koffi from 'koffi'
import type { Pointer } from './native-functions.ts'

let memcpy: ((target: Pointer | Uint8Array, source: Pointer | Uint8Array, bytes: number) => void) | undefined

/**
 * Runs `work` with `bytes` zeroed bytes of stable memory and frees them afterwards, also when it throws.
 * The address must not be kept.
 */
export async function withMemory<T>(bytes: number, work: (address: Pointer) => Promise<T>): Promise<T> {
  const address = koffi.alloc('uint8_t', bytes) as Pointer
  try {
    return await work(address)
  } finally {
    koffi.free(address)
  }
}

// koffi.decode() and koffi.encode() with a length would do, but lose some 20 bytes at every call (koffi 3.3.4).
function copyMemory(target: Pointer | Uint8Array, source: Pointer | Uint8Array, bytes: number): void {
  memcpy ??= koffi.load(null).func('memcpy', 'void', ['void *', 'void *', 'size_t'])
  memcpy(target, source, bytes)
}

/** Frees memory that libvirt allocated and left to its caller. */
export function freeMemory(address: Pointer | null): void {
  if (address !== null) koffi.free(address)
}

/** A copy of `bytes` bytes at `address`, to be read field by field. */
export function readStruct(address: Pointer, bytes: number): DataView {
  const copy = new Uint8Array(bytes)
  copyMemory(copy, address, bytes)
  return new DataView(copy.buffer)
}

export function readInt(address: Pointer): number {
  return koffi.decode.int(address)
}

export function readUnsignedLong(address: Pointer): number {
  return Number(koffi.decode.uint64(address))
}

/** The pointer stored at `address`, or null. */
export function readPointer(address: Pointer): Pointer | null {
  return koffi.decode(address, 'void *') as Pointer | null
}

/** `count` pointers stored one after the other at `address`. */
export function readPointers(address: Pointer, count: number): Pointer[] {
  return Array.from({ length: count }, (_, index) => koffi.decode(address, index * 8, 'void *') as Pointer)
}

/** The zero-terminated UTF-8 string at `address`. */
export function readString(address: Pointer): string {
  return koffi.decode.string(address)
}

/** Writes numbers as C unsigned ints, one after the other. */
export function writeUnsignedInts(address: Pointer, values: readonly number[]): void {
  values.forEach((value, index) => {
    koffi.encode(address, index * 4, 'uint', value)
  })
}

/**
 * A NULL-terminated C array of strings. One block of memory: first the pointers, then the bytes they point to.
 * The caller frees it with freeMemory.
 */
export function newStringArray(values: readonly string[]): Pointer {
  const texts = values.map((value) => Buffer.from(`${value}\0`))
  const pointerBytes = (values.length + 1) * 8
  const address = koffi.alloc(
    'uint8_t',
    pointerBytes + texts.reduce((sum, text) => sum + text.length, 0),
  ) as Pointer
  let offset = pointerBytes
  texts.forEach((text, index) => {
    copyMemory(address + BigInt(offset), text, text.length)
    koffi.encode(address, index * 8, 'uint64_t', address + BigInt(offset))
    offset += text.length
  })
  return address
}

/** Copies and frees the strings of a list that libvirt stored at `address`, and the list itself. */
export function takeStrings(address: Pointer, count: number): string[] {
  const list = readPointer(address)
  if (list === null) return []
  const texts = readPointers(list, count).map((text) => {
    const copy = readString(text)
    freeMemory(text)
    return copy
  })
  freeMemory(list)
  return texts
}
