// Locks on ranges of a file that belong to the open file description (fcntl(2), F_OFD_SETLK), which Node does not offer.
// QEMU keeps its images with them. They end when the description is closed, and only then: another open and close of the
// same file in this process leaves them alone, which POSIX locks do not promise.
//
// On a network file system a call may wait for the server, for ever: callers are processes that may hang.

import { getSystemErrorName } from 'node:util'
import koffi from 'koffi'

const F_OFD_GETLK = 36
const F_OFD_SETLK = 37
const types = { read: 0, write: 1, none: 2 } as const
const SEEK_SET = 0

/** Part of a file: `length` bytes from `start` on. They need not exist. */
export interface LockRange {
  readonly start: number
  readonly length: number
}

// off_t is 64 bits wide on every platform that vpe runs on; the layout is that of <bits/fcntl.h>.
const flock = koffi.struct({
  l_type: 'short',
  l_whence: 'short',
  l_start: 'int64',
  l_len: 'int64',
  l_pid: 'int',
})
const fcntl = koffi.load(null).func('fcntl', 'int', ['int', 'int', koffi.inout(koffi.pointer(flock))])

/**
 * Takes a lock if it can be had now; one that this description has already may become the other kind.
 * @returns false where somebody else's lock is in the way
 * @throws Error with `code` for anything else (EIO, ENOLCK, EBADF …)
 */
export function tryLock(fd: number, kind: 'read' | 'write', range: LockRange): boolean {
  return set(fd, kind, range)
}

export function unlock(fd: number, range: LockRange): void {
  set(fd, 'none', range)
}

/** Whether somebody else's lock would refuse this one: the question that QEMU asks of an image. */
export function isLockedAgainst(fd: number, kind: 'read' | 'write', range: LockRange): boolean {
  const lock = describe(kind, range)
  if (fcntl(fd, F_OFD_GETLK, lock) !== 0) throw failure('F_OFD_GETLK')
  return lock.l_type !== types.none
}

function set(fd: number, kind: keyof typeof types, range: LockRange): boolean {
  if (fcntl(fd, F_OFD_SETLK, describe(kind, range)) === 0) return true
  const { EAGAIN, EACCES } = koffi.os.errno
  if ([EAGAIN, EACCES].includes(koffi.errno())) return false
  throw failure('F_OFD_SETLK')
}

function describe(kind: keyof typeof types, { start, length }: LockRange) {
  return { l_type: types[kind], l_whence: SEEK_SET, l_start: start, l_len: length, l_pid: 0 }
}

function failure(call: string): Error {
  const errno = koffi.errno()
  const code = getSystemErrorName(-errno)
  return Object.assign(new Error(`${call}: ${code}`), { code, errno, syscall: 'fcntl' })
}
