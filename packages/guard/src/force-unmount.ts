// Unmounts what is mounted at a path so that nothing that is queued for it is written later (`umount -f` of an NFS drops it).

import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'

/** In another process, which may hang; so long it is waited for. */
const UMOUNT_MS = 5_000

/** @returns whether nothing is mounted there any more; never hangs and never throws */
export function forceUnmount(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  execFile('umount', ['-f', path], { timeout: UMOUNT_MS, killSignal: 'SIGKILL' }, () =>
    resolve(!isMounted(path)),
  )
  return promise
}

/** From the kernel's table, which never hangs. */
export function isMounted(
  path: string,
  table: string = readFileSync('/proc/self/mountinfo', 'utf8'),
): boolean {
  return table.split('\n').some((line) => plain(line.split(' ')[4] ?? '') === path)
}

/** The table has spaces and their like as octal numbers (proc(5)). */
function plain(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_all, octal) => String.fromCharCode(Number.parseInt(octal, 8)))
}
