// What this host has let go of, on its own disk: no command that comes late, and no restart of the agent, brings it back.

import { join } from 'node:path'
import type { InstanceId } from '@vpe/core'
import type { AgentRecord } from '@vpe/core/ha'
import { z } from 'zod'
import { readJson, writeDurably } from '../durable-file.ts'

const recordSchema = z.object({
  epoch: z.int().nonnegative(),
  closed: z.record(z.uuid(), z.int().positive()),
})

const pathIn = (stateDir: string) => join(stateDir, 'ha.json')

/** @throws Error for a file that is none: what was let go of would be started again */
export async function loadHaRecord(stateDir: string): Promise<AgentRecord> {
  const path = pathIn(stateDir)
  const known = await readJson(path)
  const parsed = recordSchema.safeParse(known ?? { epoch: 0, closed: {} })
  if (!parsed.success)
    throw new Error(`${path} is no record of instances; restore it from a backup`, { cause: parsed.error })
  const { epoch, closed } = parsed.data
  return {
    epoch,
    closed: new Map(Object.entries(closed).map(([uuid, generation]) => [uuid as InstanceId, generation])),
  }
}

/** Resolves when it is on disk. */
export function saveHaRecord(stateDir: string, { epoch, closed }: AgentRecord): Promise<void> {
  return writeDurably(pathIn(stateDir), `${JSON.stringify({ epoch, closed: Object.fromEntries(closed) })}\n`)
}
