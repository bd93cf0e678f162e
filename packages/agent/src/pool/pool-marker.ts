// The marker of a pool: a file that says which pool a folder is. Written once, when the pool is first made
// usable, and asked for ever after: the folder below a share that is not mounted has none, or another, and
// what is absent there is not gone.

import { constants } from 'node:fs'
import { link, open, rm } from 'node:fs/promises'
import { VpeError } from '@vpe/core'
import { z } from 'zod'
import { MARKER_FILE } from './pool-files.ts'
import { type PoolFolder, syncFile } from './pool-folder.ts'

const BYTES_MAX = 4_096
const markerSchema = z.object({ pool: z.uuid(), marker: z.string().min(1), made_at: z.string() })

/**
 * What the marker of a folder says; the folder is marked first when it has none and one is proposed. link()
 * replaces nothing: of two hosts that mark one folder at once, both find what the first has written.
 * @throws VpeError DISK_POOL_FAILED when the folder is not the pool
 */
export async function markPool(folder: PoolFolder, expected: string, proposed: string): Promise<string> {
  if (expected === '' && proposed !== '' && (await readMarker(folder)) === null) {
    const part = folder.temporary('instance-00000000-0000-0000-0000-000000000000', 'marker')
    try {
      const file = await open(part, 'w', 0o644)
      try {
        const made = { pool: folder.poolUuid, marker: proposed, made_at: new Date().toISOString() }
        await file.writeFile(`${JSON.stringify(made)}\n`)
      } finally {
        await file.close()
      }
      await syncFile(part)
      await link(part, folder.path(MARKER_FILE))
      await folder.sync()
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    } finally {
      await rm(part, { force: true })
    }
  }
  return assertPool(folder, expected)
}

/**
 * What the marker says.
 * @param expected what it is known to say; empty while that is not known
 * @throws VpeError DISK_POOL_FAILED when the folder is not the pool, UNAVAILABLE when it is not marked yet
 */
export async function assertPool(folder: PoolFolder, expected: string): Promise<string> {
  const { root, poolUuid } = folder
  const found = await readMarker(folder)
  if (found === null) {
    if (expected === '') throw new VpeError('UNAVAILABLE', `${root} has not been set up as a disk pool yet`)
    const why = `no ${MARKER_FILE} there; is it mounted?`
    throw new VpeError('DISK_POOL_FAILED', `${root} is not the pool that was set up (${why})`)
  }
  if (found.pool !== poolUuid) {
    const cure = 'give each pool a folder of its own; if that pool is no more, remove the file'
    throw new VpeError('DISK_POOL_FAILED', `${root} is disk pool ${found.pool}, says ${MARKER_FILE}; ${cure}`)
  }
  if (expected !== '' && found.marker !== expected) {
    const why = `${MARKER_FILE} says ${found.marker}, not ${expected}; is the right one mounted?`
    throw new VpeError('DISK_POOL_FAILED', `${root} is not the pool that was set up (${why})`)
  }
  return found.marker
}

/** Takes the marker of this pool away; that of another stays. */
export async function removeMarker(folder: PoolFolder): Promise<void> {
  if ((await readMarker(folder))?.pool !== folder.poolUuid) return
  await rm(folder.path(MARKER_FILE), { force: true })
  await folder.sync()
}

async function readMarker(folder: PoolFolder): Promise<z.infer<typeof markerSchema> | null> {
  const path = folder.path(MARKER_FILE)
  let text: string
  try {
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    try {
      const { bytesRead, buffer } = await file.read(Buffer.alloc(BYTES_MAX), 0, BYTES_MAX, 0)
      text = buffer.toString('utf8', 0, bytesRead)
    } finally {
      await file.close()
    }
  } catch (error) {
    // The folder itself may be gone as well: no marker is there either way.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
  try {
    return markerSchema.parse(JSON.parse(text))
  } catch (cause) {
    const cure = 'if this is the pool, put its marker back from a backup'
    throw new VpeError('DISK_POOL_FAILED', `${path} is no marker of a disk pool; ${cure}`, { cause })
  }
}
