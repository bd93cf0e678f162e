// What the guard must know again when it is started again, and not when the host is: a file in /run. Written whole or not at all.

import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import type { InstanceId } from '@vpe/core'
import { z } from 'zod'
import { poolPlaceSchema } from './child-settings.ts'
import type { GuardMemory } from './guard.ts'

const poolClass = z.enum(['E', 'T'])
const ms = z.number().nonnegative()
const recordSchema = z.object({
  pools: z.array(z.object({ place: poolPlaceSchema, poolClass, canUnmount: z.boolean() })),
  arms: z.array(
    z.object({
      uuid: z.uuid().transform((uuid) => uuid as InstanceId),
      generation: z.int().positive(),
      pools: z.array(z.object({ pool: z.uuid(), poolClass, canUnmount: z.boolean() })),
    }),
  ),
  renewals: z.array(z.object({ pool: z.uuid(), renewedMs: ms.nullable() })),
})

/**
 * What the last guard has left; nothing after a start of the host.
 * @throws Error for a file that is none: nobody knows then what runs here, and the host has to be started again
 */
export function readRecord(path: string): GuardMemory {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { pools: [], arms: [], renewals: [] }
    throw error
  }
  return recordSchema.parse(JSON.parse(text))
}

export function writeRecord(path: string, memory: GuardMemory): void {
  writeFileSync(`${path}.new`, JSON.stringify(memory), { mode: 0o600 })
  renameSync(`${path}.new`, path)
}
