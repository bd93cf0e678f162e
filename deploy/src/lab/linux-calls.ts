/** The system calls that Node does not offer, by way of the C library. Each throws as Node's own do. */
import { getSystemErrorName } from 'node:util'
import koffi from 'koffi'
import type { LockRange } from './fuse-protocol.ts'

const libc = koffi.load(null)
const calls = {
  mount: libc.func('int mount(const char *, const char *, const char *, unsigned long, const char *)'),
  fcntl: libc.func('int fcntl(int, int, uint8_t *)'),
  flock: libc.func('int flock(int, int)'),
  fallocate: libc.func('int fallocate(int, int, int64_t, int64_t)'),
  lseek: libc.func('int64_t lseek(int, int64_t, int)'),
  linkat: libc.func('int linkat(int, const char *, int, const char *, int)'),
  renameat2: libc.func('int renameat2(int, const char *, int, const char *, unsigned int)'),
}

const setOpenFileLock = 37
const getOpenFileLock = 36
const unlocked = 2
const largestOffset = 0x7fffffffffffffffn
const fromHere = -100
const followLinks = 0x400

export function mount(source: string, target: string, type: string, flags: number, options: string): void {
  judge(calls.mount(source, target, type, flags, options), 'mount')
}

/** Sets or frees a lock of the open file; throws EAGAIN when another open file has a lock in its way. */
export function lockRange(fd: number, range: LockRange): void {
  judge(calls.fcntl(fd, setOpenFileLock, lockRecord(range)), 'fcntl')
}

/** The lock that is in the way of this one, or a range of type F_UNLCK. */
export function conflictingLock(fd: number, range: LockRange): LockRange {
  const record = lockRecord(range)
  judge(calls.fcntl(fd, getOpenFileLock, record), 'fcntl')
  const type = record.readInt16LE(0)
  if (type === unlocked) return { ...range, type }
  const [start, length] = [record.readBigInt64LE(8), record.readBigInt64LE(16)]
  return { type, start, end: length === 0n ? largestOffset : start + length - 1n }
}

/** Never waits; throws EAGAIN when another open file has the lock. */
export function lockWhole(fd: number, type: number): void {
  const [shared, exclusive, unlock, noWait] = [1, 2, 8, 4]
  const operation = type === unlocked ? unlock : (type === 0 ? shared : exclusive) | noWait
  judge(calls.flock(fd, operation), 'flock')
}

export function allocate(fd: number, mode: number, offset: bigint, length: bigint): void {
  judge(calls.fallocate(fd, mode, offset, length), 'fallocate')
}

/** The offset of the next data or hole. */
export function seek(fd: number, offset: bigint, whence: number): bigint {
  return BigInt(judge(calls.lseek(fd, offset, whence), 'lseek'))
}

/** Another name for the file that `path` leads to, also where that is a link of /proc. */
export function linkTo(path: string, name: string): void {
  judge(calls.linkat(fromHere, path, fromHere, name, followLinks), 'link')
}

export function rename(from: string, to: string, flags: number): void {
  judge(calls.renameat2(fromHere, from, fromHere, to, flags), 'rename')
}

function lockRecord({ type, start, end }: LockRange): Buffer {
  const record = Buffer.alloc(32)
  record.writeInt16LE(type, 0)
  record.writeBigInt64LE(start, 8)
  record.writeBigInt64LE(end >= largestOffset ? 0n : end - start + 1n, 16)
  return record
}

function judge<T extends number | bigint>(result: T, call: string): T {
  if (result >= 0) return result
  const errno = koffi.errno()
  const code = getSystemErrorName(-errno)
  throw Object.assign(new Error(`${call}: ${code}`), { code, errno: -errno })
}
