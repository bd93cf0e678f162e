// One host at a time brings an image into a pool that several share: the others wait, and then find it there.
// A claim only saves work. That an image is whole and is never replaced rests on link() alone, so a claim
// that seems dead may be taken over, and should both be alive after all, the image is read twice.

import { readFile, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { imageClaimFile } from './pool-files.ts'
import { type PoolFolder, startTicksOf } from './pool-folder.ts'

const BEAT_MS = 2_000
const LOOK_MS = 250
/** A claim that has not been renewed for so long, by the clock of whoever waits, is dead. */
const DEAD_MS = 30_000

const ownerSchema = z.object({ hostId: z.string(), pid: z.number(), startTicks: z.string() })

/**
 * Does the work as the only one, or waits for who does it and then looks what is there. Which of the two it was
 * does not matter: `find` is asked first and after each wait.
 * @param onWait called at each look, while somebody else is at it
 */
export async function withImageClaim<T>(
  folder: PoolFolder,
  imageUuid: string,
  signal: AbortSignal,
  onWait: () => void,
  find: () => Promise<T | null>,
  work: () => Promise<T>,
): Promise<T> {
  const path = folder.path(imageClaimFile(imageUuid))
  let seen = { renewed: 0, sinceMs: performance.now() }
  for (;;) {
    signal.throwIfAborted()
    const found = await find()
    if (found !== null) return found
    if (await claim(path, folder)) break
    const renewed = await renewedAt(path)
    if (renewed !== seen.renewed) seen = { renewed, sinceMs: performance.now() }
    if (performance.now() - seen.sinceMs > DEAD_MS || (await isLeftHere(path, folder))) {
      await rm(path, { force: true })
    } else {
      onWait()
      await sleep(LOOK_MS, undefined, { signal })
    }
  }
  const beat = setInterval(() => {
    const now = new Date()
    // Whoever has taken it over has done so because this process seemed dead: nothing is lost.
    utimes(path, now, now).catch(() => {})
  }, BEAT_MS)
  try {
    // It may have come between the look and the claim.
    return (await find()) ?? (await work())
  } finally {
    clearInterval(beat)
    await rm(path, { force: true })
  }
}

async function claim(path: string, folder: PoolFolder): Promise<boolean> {
  try {
    await writeFile(path, JSON.stringify(folder.owner), { flag: 'wx' })
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

/** Left by a worker of this host that is no more; the time of day of another host proves nothing. */
async function isLeftHere(path: string, folder: PoolFolder): Promise<boolean> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })
  const owner = text === null ? null : parseOwner(text)
  if (owner?.hostId !== folder.owner.hostId) return false
  return (await startTicksOf(owner.pid)) !== owner.startTicks
}

/** Null while it is being written. */
function parseOwner(text: string): z.infer<typeof ownerSchema> | null {
  try {
    return ownerSchema.parse(JSON.parse(text))
  } catch {
    return null
  }
}

async function renewedAt(path: string): Promise<number> {
  try {
    return (await stat(path)).mtimeMs
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0
    throw error
  }
}
