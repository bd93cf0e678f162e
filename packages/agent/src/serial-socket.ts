// Where a guest's serial line can be connected to: a unix socket in the state folder, which libvirt makes
// and QEMU serves, to one at a time.

import { rm } from 'node:fs/promises'
import { join } from 'node:path'

/** What the address of a unix socket holds, without the NUL at its end. */
const SOCKET_PATH_BYTES_MAX = 107

/** Undefined where the path would be too long: such a guest still has its log, but no serial console. */
export function serialSocketPath(consoleDir: string, uuid: string): string | undefined {
  const path = join(consoleDir, `${uuid}.sock`)
  return Buffer.byteLength(path) <= SOCKET_PATH_BYTES_MAX ? path : undefined
}

/** Removes what a guest that is gone has left. Absent is success. */
export async function removeSerialSocket(consoleDir: string, uuid: string): Promise<void> {
  const path = serialSocketPath(consoleDir, uuid)
  if (path !== undefined) await rm(path, { force: true })
}
