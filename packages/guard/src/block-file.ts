// A file of blocks of 4 KiB, each written in place, for leases, mailboxes and claims. Reads and writes go past every cache
// of this host (O_DIRECT) and return when the storage has them (O_DSYNC). Any call may hang for ever: only processes whose
// hanging harms nobody use it, and they do so synchronously, so that a call is never queued behind another.

import { closeSync, constants, fstatSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs'
import { BLOCK_BYTES } from '@vpe/core/ha'
import koffi from 'koffi'

/** A buffer whose address is a multiple of the block size, which O_DIRECT asks for and Buffer.alloc does not give. */
function alignedBuffer(bytes: number): Uint8Array {
  // The memory behind a typed array stays where it is for as long as there is one.
  const roomy = new Uint8Array(bytes + BLOCK_BYTES)
  const past = Number(koffi.address(roomy) % BigInt(BLOCK_BYTES))
  const start = past === 0 ? 0 : BLOCK_BYTES - past
  return roomy.subarray(start, start + bytes)
}

export class BlockFile {
  readonly #path: string
  readonly #fd: number
  readonly #blocks: number
  readonly #buffer: Uint8Array

  private constructor(path: string, fd: number, blocks: number) {
    this.#path = path
    this.#fd = fd
    this.#blocks = blocks
    this.#buffer = alignedBuffer(blocks * BLOCK_BYTES)
  }

  /**
   * Opens a file of so many blocks, and makes it where it is missing: as zeros, and never shorter than it was.
   * @throws Error with `code` of the file system
   */
  static open(path: string, blocks: number): BlockFile {
    const { O_RDWR, O_CREAT, O_DIRECT, O_DSYNC, O_NOFOLLOW } = constants
    const fd = openSync(path, O_RDWR | O_CREAT | O_DIRECT | O_DSYNC | O_NOFOLLOW, 0o600)
    try {
      if (fstatSync(fd).size < blocks * BLOCK_BYTES) ftruncateSync(fd, blocks * BLOCK_BYTES)
      return new BlockFile(path, fd, blocks)
    } catch (error) {
      closeSync(fd)
      throw error
    }
  }

  /** For locks on its ranges. */
  get fd(): number {
    return this.#fd
  }

  /** A copy of one block. */
  read(index: number): Uint8Array {
    return this.#read(index, 1)
  }

  /** All blocks, as one read returned them. */
  readAll(): Uint8Array[] {
    const bytes = this.#read(0, this.#blocks)
    return Array.from({ length: this.#blocks }, (_none, index) =>
      bytes.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES),
    )
  }

  write(index: number, block: Uint8Array): void {
    this.#check(index, 1)
    if (block.length !== BLOCK_BYTES) throw new RangeError(`${block.length} bytes are no block`)
    this.#buffer.set(block)
    const written = writeSync(this.#fd, this.#buffer, 0, BLOCK_BYTES, index * BLOCK_BYTES)
    if (written !== BLOCK_BYTES) throw new Error(`${this.#path}: ${written} bytes of a block were written`)
  }

  close(): void {
    closeSync(this.#fd)
  }

  #read(index: number, count: number): Uint8Array {
    this.#check(index, count)
    const bytes = count * BLOCK_BYTES
    const read = readSync(this.#fd, this.#buffer, 0, bytes, index * BLOCK_BYTES)
    if (read !== bytes) throw new Error(`${this.#path}: ${read} bytes were read where ${bytes} should be`)
    return this.#buffer.slice(0, bytes)
  }

  #check(index: number, count: number): void {
    if (!Number.isInteger(index) || index < 0 || index + count > this.#blocks)
      throw new RangeError(`${this.#path} has ${this.#blocks} blocks, and no block ${index}`)
  }
}
