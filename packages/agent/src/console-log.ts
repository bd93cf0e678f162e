// Where the words of a guest's serial line are kept: a file in the state folder, which virtlogd writes,
// bounds, and turns over to <name>.0, <name>.1 and so on.

import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'

export function consoleLogPath(consoleDir: string, uuid: string): string {
  return join(consoleDir, `${uuid}.log`)
}

/** Removes the log and what was turned over. Absent is success. */
export async function removeConsoleLog(consoleDir: string, uuid: string): Promise<void> {
  const names = await readdir(consoleDir).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  const own = names.filter((name) => name === `${uuid}.log` || name.startsWith(`${uuid}.log.`))
  await Promise.all(own.map((name) => rm(join(consoleDir, name), { force: true })))
}
