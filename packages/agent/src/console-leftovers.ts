// Serial logs and sockets whose domain went without a word to its agent: of a guest that was to come here as it ran and
// did not, or that was here when the host died.

import { readdir } from 'node:fs/promises'
import { removeConsoleLog } from './console-log.ts'
import type { Hypervisor } from './hypervisor/hypervisor.ts'
import { removeSerialSocket } from './serial-socket.ts'

/**
 * Removes what belongs to no domain of this host, whoever made it.
 * @returns the uuids that it belonged to
 */
export async function removeConsoleLeftovers(
  consoleDir: string,
  hypervisor: Pick<Hypervisor, 'listDomains' | 'findDomain'>,
): Promise<string[]> {
  const names = await readdir(consoleDir).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  const owners = new Set(names.flatMap((name) => /^([0-9a-f-]{36})\.(?:log|sock)/.exec(name)?.[1] ?? []))
  // Looked for after the files: libvirt knows a domain before it makes them.
  if (owners.size > 0) {
    const { domains, unread } = await hypervisor.listDomains()
    for (const { uuid } of [...domains, ...unread]) owners.delete(uuid)
  }
  for (const uuid of owners) {
    // It may be coming again, this very moment.
    if (await hypervisor.findDomain(uuid)) owners.delete(uuid)
    else {
      await removeConsoleLog(consoleDir, uuid)
      await removeSerialSocket(consoleDir, uuid)
    }
  }
  return [...owners]
}
