/**
 * The kernel's FUSE protocol (linux/fuse.h, 7.31), as far as a view of a folder needs it: bytes to requests, and
 * answers to bytes. All numbers are in the machine's own order, which is little-endian wherever vpe runs.
 */
import { type BigIntStats, constants } from 'node:fs'

export const operations = {
  1: 'lookup',
  2: 'forget',
  3: 'getattr',
  4: 'setattr',
  5: 'readlink',
  6: 'symlink',
  8: 'mknod',
  9: 'mkdir',
  10: 'unlink',
  11: 'rmdir',
  12: 'rename',
  13: 'link',
  14: 'open',
  15: 'read',
  16: 'write',
  17: 'statfs',
  18: 'release',
  20: 'fsync',
  25: 'flush',
  26: 'init',
  27: 'opendir',
  28: 'readdir',
  29: 'releasedir',
  30: 'fsyncdir',
  31: 'getlk',
  32: 'setlk',
  33: 'setlkw',
  35: 'create',
  36: 'interrupt',
  42: 'batchForget',
  43: 'fallocate',
  45: 'rename2',
  46: 'lseek',
} as const
export type Operation = (typeof operations)[keyof typeof operations]

export const headerBytes = 40
/** The largest write that the kernel is allowed to send at once. */
export const writeBytesMax = 1024 * 1024
export const rootNode = 1n

/** `setattr`: which of its fields count. */
export const valid = {
  mode: 1,
  uid: 2,
  gid: 4,
  size: 8,
  atime: 16,
  mtime: 32,
  handle: 64,
  atimeNow: 128,
  mtimeNow: 256,
}

/** `setlk`: a lock of flock(2), not of fcntl(2). */
export const isFlock = 1

const initFlags = {
  asyncRead: 1 << 0,
  posixLocks: 1 << 1,
  atomicTruncate: 1 << 3,
  bigWrites: 1 << 5,
  flockLocks: 1 << 10,
  asyncDirectIo: 1 << 15,
  parallelDirectoryOperations: 1 << 18,
  maxPages: 1 << 22,
}
/** `open`: no page cache. What one host writes, another reads at once. */
const directIo = 1 << 0

/** A request's bytes, read from front to back after its header. */
export class Request {
  readonly operation: Operation | undefined
  readonly id: bigint
  readonly node: bigint
  readonly uid: number
  readonly gid: number
  /** The thread that asks, as we see it; 0 when it is not of our world. */
  readonly pid: number
  readonly #bytes: Buffer
  #at = headerBytes

  constructor(bytes: Buffer) {
    this.#bytes = bytes
    this.operation = operations[bytes.readUInt32LE(4) as keyof typeof operations]
    this.id = bytes.readBigUInt64LE(8)
    this.node = bytes.readBigUInt64LE(16)
    this.uid = bytes.readUInt32LE(24)
    this.gid = bytes.readUInt32LE(28)
    this.pid = bytes.readUInt32LE(32)
  }

  u32(): number {
    this.#at += 4
    return this.#bytes.readUInt32LE(this.#at - 4)
  }

  u64(): bigint {
    this.#at += 8
    return this.#bytes.readBigUInt64LE(this.#at - 8)
  }

  skip(bytes: number): this {
    this.#at += bytes
    return this
  }

  /** A name, up to its NUL. */
  name(): string {
    const end = this.#bytes.indexOf(0, this.#at)
    const text = this.#bytes.toString('utf8', this.#at, end)
    this.#at = end + 1
    return text
  }

  bytes(count: number): Buffer {
    return this.#bytes.subarray(this.#at, this.#at + count)
  }
}

/** An answer; `error` is an errno, or 0. */
export function answer(id: bigint, error: number, ...body: readonly Buffer[]): Buffer {
  const length = body.reduce((sum, part) => sum + part.length, 16)
  const head = Buffer.alloc(16)
  head.writeUInt32LE(length, 0)
  head.writeInt32LE(-error, 4)
  head.writeBigUInt64LE(id, 8)
  return body.length === 0 ? head : Buffer.concat([head, ...body], length)
}

/** @param hasLocks whether locks are ours to grant; the kernel grants them among its own programs, else */
export function initAnswer(request: Request, hasLocks: boolean): Buffer {
  const [, , readAhead, offered] = [request.u32(), request.u32(), request.u32(), request.u32()]
  const { posixLocks, flockLocks, ...others } = initFlags
  const flags = [...Object.values(others), ...(hasLocks ? [posixLocks, flockLocks] : [])]
  const wanted = flags.reduce((sum, flag) => sum | flag, 0)
  const body = Buffer.alloc(64)
  body.writeUInt32LE(7, 0)
  body.writeUInt32LE(31, 4)
  body.writeUInt32LE(readAhead, 8)
  body.writeUInt32LE((offered & wanted) >>> 0, 12)
  // Requests in the background, and from when on the kernel holds back.
  body.writeUInt16LE(64, 16)
  body.writeUInt16LE(48, 18)
  body.writeUInt32LE(writeBytesMax, 20)
  body.writeUInt32LE(1, 24)
  body.writeUInt16LE(writeBytesMax / 4096, 28)
  return body
}

function attributes(stats: BigIntStats): Buffer {
  const body = Buffer.alloc(88)
  const seconds = (ns: bigint) => ns / 1_000_000_000n
  const rest = (ns: bigint) => Number(ns % 1_000_000_000n)
  const { ino, size, blocks, atimeNs, mtimeNs, ctimeNs } = stats
  for (const [index, value] of [
    ino,
    size,
    blocks,
    seconds(atimeNs),
    seconds(mtimeNs),
    seconds(ctimeNs),
  ].entries())
    body.writeBigInt64LE(value, index * 8)
  const { mode, nlink, uid, gid, rdev, blksize } = stats
  const numbers = [
    rest(atimeNs),
    rest(mtimeNs),
    rest(ctimeNs),
    ...[mode, nlink, uid, gid, rdev, blksize].map(Number),
  ]
  for (const [index, value] of numbers.entries()) body.writeUInt32LE(value >>> 0, 48 + index * 4)
  return body
}

/** Nothing may be remembered by the kernel: another host may change it at any time. */
export function attributesAnswer(stats: BigIntStats): Buffer {
  return Buffer.concat([Buffer.alloc(16), attributes(stats)])
}

export function entryAnswer(node: bigint, stats: BigIntStats): Buffer {
  const head = Buffer.alloc(40)
  head.writeBigUInt64LE(node, 0)
  return Buffer.concat([head, attributes(stats)])
}

export function openAnswer(handle: bigint, { isFolder = false } = {}): Buffer {
  const body = Buffer.alloc(16)
  body.writeBigUInt64LE(handle, 0)
  body.writeUInt32LE(isFolder ? 0 : directIo, 8)
  return body
}

export function numberAnswer(value: number | bigint): Buffer {
  const body = Buffer.alloc(8)
  body.writeBigUInt64LE(BigInt(value), 0)
  return body
}

export interface SpaceLeft {
  readonly blocks: bigint
  readonly bfree: bigint
  readonly bavail: bigint
  readonly files: bigint
  readonly ffree: bigint
  readonly bsize: bigint
}

export function spaceAnswer({ blocks, bfree, bavail, files, ffree, bsize }: SpaceLeft): Buffer {
  const body = Buffer.alloc(80)
  for (const [index, value] of [blocks, bfree, bavail, files, ffree].entries())
    body.writeBigUInt64LE(value, index * 8)
  body.writeUInt32LE(Number(bsize), 40)
  body.writeUInt32LE(255, 44)
  body.writeUInt32LE(Number(bsize), 48)
  return body
}

export interface FolderEntry {
  readonly name: string
  /** The S_IFMT bits of its mode. */
  readonly kind: number
}

/** As many entries, from `offset` on, as fit. */
export function folderAnswer(entries: readonly FolderEntry[], offset: number, bytesMax: number): Buffer {
  const parts: Buffer[] = []
  let length = 0
  for (const [index, { name, kind }] of entries.entries()) {
    if (index < offset) continue
    const bytes = Buffer.from(name)
    const entry = Buffer.alloc(Math.ceil((24 + bytes.length) / 8) * 8)
    if (length + entry.length > bytesMax) break
    // 0 would read as "no entry"; the number itself is asked for by lookup.
    entry.writeBigUInt64LE(0xffffffffn, 0)
    entry.writeBigUInt64LE(BigInt(index + 1), 8)
    entry.writeUInt32LE(bytes.length, 16)
    entry.writeUInt32LE((kind & constants.S_IFMT) >> 12, 20)
    bytes.copy(entry, 24)
    parts.push(entry)
    length += entry.length
  }
  return Buffer.concat(parts)
}

export interface LockRange {
  readonly start: bigint
  /** The last byte; the largest offset for "to the end". */
  readonly end: bigint
  /** F_RDLCK 0, F_WRLCK 1, F_UNLCK 2. */
  readonly type: number
}

export function lockAnswer({ start, end, type }: LockRange): Buffer {
  const body = Buffer.alloc(24)
  body.writeBigUInt64LE(start, 0)
  body.writeBigUInt64LE(end, 8)
  body.writeUInt32LE(type, 16)
  return body
}
