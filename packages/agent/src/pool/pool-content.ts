// What a pool's folder holds, by the names of its files, and how a file goes that belongs to nobody. Files that
// are not named like ours are counted and otherwise left alone.

import { lstat, readdir, readlink, realpath, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { VpeError } from '@vpe/core'
import { classifyFile, imageOfFile, MARKER_FILE } from './pool-files.ts'
import type { PoolFolder } from './pool-folder.ts'
import type { PoolArguments, PoolResult } from './pool-protocol.ts'
import { assertNoDiskOn } from './system-disk.ts'

export async function listFiles(folder: PoolFolder): Promise<PoolResult<'list-files'>> {
  const files: PoolResult<'list-files'>['files'] = []
  let foreign = 0
  for (const name of await readdir(folder.root)) {
    if (name === MARKER_FILE) continue
    const known = classifyFile(name)
    const info = known && (await lstatIfThere(folder.path(name)))
    if (known && !info) continue
    if (known && info?.isFile()) {
      const { blocks, mtimeMs } = info
      files.push({ name, ...known, sizeBytes: blocks * 512, modifiedAtMs: Math.max(0, Math.floor(mtimeMs)) })
    } else foreign++
  }
  return { files, foreign }
}

/** @throws VpeError IN_USE when somebody has it open, or a disk lies on it */
export async function removeFile(
  folder: PoolFolder,
  { name, checkOnly }: PoolArguments<'remove-file'>,
): Promise<void> {
  const known = classifyFile(name)
  if (!known) throw new VpeError('INVALID_ARGUMENT', `${JSON.stringify(name)} is no name of a file of vpe`)
  const info = await lstatIfThere(folder.path(name))
  if (!info) return
  if (!info.isFile()) throw new VpeError('CONFLICT', `${folder.path(name)} is no file`)
  if (imageOfFile(name) !== null) await assertNoDiskOn(folder, known.ownerUuid)
  const pid = await holderOf(join(await realpath(folder.root), name))
  if (pid !== null) throw new VpeError('IN_USE', `process ${pid} has ${folder.path(name)} open`)
  if (checkOnly) return
  await rm(folder.path(name), { force: true })
  await folder.sync()
}

/** A process of this host that has a file open; null when there is none. */
async function holderOf(path: string): Promise<number | null> {
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    for (const fd of (await unlessHidden(readdir(`/proc/${pid}/fd`))) ?? []) {
      const target = await unlessHidden(readlink(`/proc/${pid}/fd/${fd}`))
      if (target === path) return Number(pid)
    }
  }
  return null
}

/** A process or one of its files may go while it is looked at. */
/**
 * Processes that this one may not look into are those of a sandbox of somebody else's: neither libvirt's nor ours.
 * Guests' files are asked after by their domains as well.
 */
async function unlessHidden<T>(look: Promise<T>): Promise<T | null> {
  try {
    return await unlessGone(look)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EACCES' || code === 'EPERM') return null
    throw error
  }
}

async function unlessGone<T>(look: Promise<T>): Promise<T | null> {
  try {
    return await look
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ESRCH') return null
    throw error
  }
}

async function lstatIfThere(path: string) {
  return unlessGone(lstat(path))
}
