// Who this host is. Made once, at the first start, and never changed: the controller's records, the marks
// of domains and NATS subjects all name it. Losing the file makes another host of this machine, to
// which the domains of the old one are a stranger's.

import { randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { readJson, writeDurably } from './durable-file.ts'

const identitySchema = z.object({ hostId: z.uuid() })

/** The id in the state folder; made when there is none. */
export async function loadHostId(stateDir: string): Promise<string> {
  const path = join(stateDir, 'identity.json')
  const known = await readJson(path)
  if (known === undefined) {
    const hostId = randomUUID()
    await writeDurably(path, `${JSON.stringify({ hostId })}\n`)
    return hostId
  }
  const parsed = identitySchema.safeParse(known)
  if (parsed.success) return parsed.data.hostId
  throw new Error(`${path} holds no host id; restore it from a backup`, { cause: parsed.error })
}

/** Changes with each boot of the machine. */
export async function readBootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim()
}
