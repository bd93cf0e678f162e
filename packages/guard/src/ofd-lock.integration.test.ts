// Locks against those of QEMU itself, and between descriptions in one process and in two.

import { execFile, fork } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { isLockedAgainst, tryLock, unlock } from './ofd-lock.ts'

const RANGE = { start: 500, length: 1 }
let dir: string
let path: string
let descriptors: number[]
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'vpe-lock-'))
  path = join(dir, 'file')
  writeFileSync(path, '')
  descriptors = []
})
afterEach(() => {
  for (const fd of descriptors) closeSync(fd)
  rmSync(dir, { recursive: true })
})

function open(): number {
  const fd = openSync(path, 'r+')
  descriptors.push(fd)
  return fd
}

test('readers share, a writer is alone, and who asks is told', () => {
  const [a, b] = [open(), open()]
  expect(tryLock(a, 'read', RANGE)).toBe(true)
  expect(isLockedAgainst(b, 'write', RANGE)).toBe(true)
  expect(isLockedAgainst(b, 'read', RANGE)).toBe(false)
  expect(tryLock(b, 'write', RANGE)).toBe(false)
  expect(tryLock(b, 'read', RANGE)).toBe(true)
  unlock(a, RANGE)
  expect(tryLock(b, 'write', RANGE)).toBe(true)
  expect(tryLock(a, 'read', RANGE)).toBe(false)
  expect(tryLock(a, 'read', { start: 501, length: 1 })).toBe(true)
})

test('another open and close of the file leaves a lock alone; closing its own ends it', () => {
  const a = open()
  expect(tryLock(a, 'write', RANGE)).toBe(true)
  closeSync(openSync(path, 'r+'))
  const b = open()
  expect(tryLock(b, 'write', RANGE)).toBe(false)
  closeSync(a)
  descriptors.splice(descriptors.indexOf(a), 1)
  expect(tryLock(b, 'write', RANGE)).toBe(true)
})

test('a process that is killed lets go', async () => {
  const child = fork(join(import.meta.dirname, 'testing/hold-lock.ts'), [path], {
    execArgv: ['--disable-warning=ExperimentalWarning'],
  })
  const exit = once(child, 'exit')
  expect(await once(child, 'message')).toEqual([true, undefined])
  const fd = open()
  expect(tryLock(fd, 'write', RANGE)).toBe(false)
  child.kill('SIGKILL')
  await exit
  expect(tryLock(fd, 'write', RANGE)).toBe(true)
})

test('QEMU respects them', async () => {
  const run = promisify(execFile)
  await run('qemu-img', ['create', '-q', '-f', 'raw', path, '1M'])
  const write = () => run('qemu-io', ['-f', 'raw', '-c', 'write 0 4k', path])
  await write()
  const fd = open()
  // The byte that stands for "nobody else may write": as a running QEMU holds it.
  expect(tryLock(fd, 'read', { start: 201, length: 1 })).toBe(true)
  await expect(write()).rejects.toMatchObject({
    stderr: expect.stringContaining('Failed to get "write" lock'),
  })
})

test('what is no descriptor is an error with its code', () => {
  expect(() => tryLock(1_000_000, 'write', RANGE)).toThrow(expect.objectContaining({ code: 'EBADF' }))
  expect(() => isLockedAgainst(1_000_000, 'write', RANGE)).toThrow(expect.objectContaining({ code: 'EBADF' }))
})
