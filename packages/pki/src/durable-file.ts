// A small file that is either the old one or the new one, whatever happens while it is written.

import { mkdir, open, readFile, rename } from 'node:fs/promises'
import { dirname } from 'node:path'

/** Makes a folder that is nobody else's to look into; those above it, where they are missing, are for all. */
export async function makePrivateFolder(path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o755 })
  await mkdir(path, { recursive: true, mode: 0o700 })
}

/** Writes, flushes, and only then gives the file its name. Others may not read it unless `mode` says so. */
export async function writeDurably(path: string, text: string, mode = 0o600): Promise<void> {
  await makePrivateFolder(dirname(path))
  const part = `${path}.new`
  const file = await open(part, 'w', mode)
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(part, path)
  const folder = await open(dirname(path), 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

/** What is in a file; undefined when there is none. */
export async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
