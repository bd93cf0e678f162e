// The folder of a pool, as its worker sees it: names become paths, temporary files carry their owner's
// name, and what a dead worker of this host left behind is cleared away.

import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { open, readdir, readFile, rm, stat, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { VpeError } from '@vpe/core'
import { type TemporaryOwner, temporaryFile, temporaryOwner } from './pool-files.ts'
import type { WorkerSettings } from './pool-protocol.ts'

const PROBE_BYTES = 4096

export class PoolFolder {
  readonly poolUuid: string
  readonly root: string
  readonly imageDirs: readonly string[]
  readonly imageBytesMax: number
  readonly #owner: TemporaryOwner

  constructor(settings: WorkerSettings, startTicks: string) {
    this.poolUuid = settings.poolUuid
    this.root = settings.poolPath
    this.imageDirs = settings.imageDirs
    this.imageBytesMax = settings.imageBytesMax
    this.#owner = { hostId: settings.hostId, pid: process.pid, startTicks }
  }

  /** Who this process is to others that see the folder. */
  get owner(): TemporaryOwner {
    return this.#owner
  }

  path(name: string): string {
    return join(this.root, name)
  }

  /** The path of a file under construction; see temporaryFile. */
  temporary(what: string, part = ''): string {
    return this.path(temporaryFile(what, this.#owner, part))
  }

  /** Makes renames and links in the folder durable. */
  async sync(): Promise<void> {
    const folder = await open(this.root, 'r')
    try {
      await folder.sync()
    } finally {
      await folder.close()
    }
  }

  /**
   * @throws VpeError DISK_POOL_FAILED when guests' disks cannot lie here
   */
  async check(): Promise<void> {
    const info = await stat(this.root)
    if (!info.isDirectory()) throw new VpeError('DISK_POOL_FAILED', `${this.root} is not a folder`)
    const path = this.temporary('instance-00000000-0000-0000-0000-000000000000', 'check')
    try {
      const file = await open(path, constants.O_CREAT | constants.O_RDWR | constants.O_DIRECT, 0o600)
      await file.close()
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error
      const message = `the filesystem of ${this.root} cannot bypass the page cache (O_DIRECT), as guests' disks must; use a folder on ext4, xfs or NFS`
      throw new VpeError('DISK_POOL_FAILED', message, { cause: error })
    } finally {
      await rm(path, { force: true })
    }
  }

  /**
   * Writes a little, durably, and reads it back. Returns how long that took, in milliseconds.
   * @throws VpeError DISK_POOL_FAILED when it reads something else
   */
  async probe(): Promise<number> {
    const written = randomBytes(PROBE_BYTES)
    const path = this.temporary('instance-00000000-0000-0000-0000-000000000000', 'probe')
    const startedMs = performance.now()
    try {
      await writeFile(path, written, { mode: 0o600, flush: true })
      const read = await readFile(path)
      if (!read.equals(written))
        throw new VpeError('DISK_POOL_FAILED', `${this.root} reads back other bytes than were written`)
      return performance.now() - startedMs
    } finally {
      await rm(path, { force: true })
    }
  }

  /** @throws VpeError DISK_POOL_FULL when so much cannot be written now; `what` begins a sentence */
  async assertRoom(bytes: number, what: string): Promise<void> {
    const { availableBytes } = await this.usage()
    if (bytes <= availableBytes) return
    const message = `${what} takes ${bytes} bytes, and ${this.root} has ${availableBytes} left; free some space there`
    throw new VpeError('DISK_POOL_FULL', message)
  }

  async usage(): Promise<{ capacityBytes: number; availableBytes: number }> {
    const { bsize, blocks, bavail } = await statfs(this.root)
    return { capacityBytes: bsize * blocks, availableBytes: bsize * bavail }
  }

  /**
   * Removes what dead workers of this host left behind, and ends programs that still write it.
   * @returns false where another worker of this host is alive and has something under way: one that is about to end, most likely
   */
  async clearLeftovers(): Promise<boolean> {
    let isAll = true
    for (const name of await readdir(this.root)) {
      const owner = temporaryOwner(name)
      if (!owner || owner.hostId !== this.#owner.hostId || owner.pid === this.#owner.pid) continue
      if ((await startTicksOf(owner.pid)) === owner.startTicks) {
        isAll = false
        continue
      }
      await endProgramsOn(this.path(name))
      await rm(this.path(name), { force: true })
    }
    return isAll
  }
}

/** Makes what a file holds durable. */
export async function syncFile(path: string): Promise<void> {
  const file = await open(path, 'r+')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}

/** A program that outlives its worker would write on for nobody, and keep the disk that it reads from its guest. */
async function endProgramsOn(path: string): Promise<void> {
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    // Most that are gone meanwhile, and those of the kernel, have none.
    const words = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    if (!words.split('\0').includes(path)) continue
    try {
      process.kill(Number(pid), 'SIGKILL')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
}

/** Start time of a process in clock ticks since boot; null when there is none. */
export async function startTicksOf(pid: number | 'self'): Promise<string | null> {
  try {
    const line = await readFile(`/proc/${pid}/stat`, 'utf8')
    // The second field is the program's name in parentheses, and may hold spaces and parentheses itself.
    const [state, ...fields] = line.slice(line.lastIndexOf(')') + 2).split(' ')
    return state === 'Z' ? null : (fields[18] ?? null)
  } catch {
    return null
  }
}
