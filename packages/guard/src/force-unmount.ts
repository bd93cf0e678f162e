// Unmounts what is mounted at a path so that nothing that is queued for it is written later (`umount -f` of an NFS drops it).

import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mountedAt } from '@vpe/core'

/** In another process, which may hang; so long it is waited for. */
const UMOUNT_MS = 5_000

/** @returns whether nothing is mounted there any more; never hangs and never throws */
export function forceUnmount(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  execFile('umount', ['-f', path], { timeout: UMOUNT_MS, killSignal: 'SIGKILL' }, () =>
    resolve(mountedAt(readFileSync('/proc/self/mountinfo', 'utf8'), path) === null),
  )
  return promise
}
