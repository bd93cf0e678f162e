// The settings of a child, as they come on its command line.

import type { HaTimings } from '@vpe/core/ha'
import { z } from 'zod'
import type { ChildSettings } from './child-protocol.ts'

const ms = z.number().positive()
const timingsSchema: z.ZodType<HaTimings> = z.object({
  writeMs: ms,
  readMs: ms,
  guardMs: ms,
  suspectMs: ms,
  tryMs: ms,
  lossMs: ms,
  selfMs: ms,
  watchdogMs: ms,
  flightMs: ms,
  watchdogLateMs: ms,
  deadMs: ms,
  settleMs: ms,
})

export const poolPlaceSchema = z
  .object({
    pool: z.uuid(),
    path: z.string().startsWith('/'),
    clusterId: z.uuid(),
    slot: z.int().nonnegative(),
    slots: z.int().positive().max(4_096),
  })
  .refine(({ slot, slots }) => slot < slots, 'the slot must be one of the slots')

export const childSettingsSchema: z.ZodType<ChildSettings> = z.object({
  role: z.enum(['lease-writer', 'pool-reader', 'claim-holder', 'lock-prober']),
  place: poolPlaceSchema,
  hostId: z.uuid(),
  bootId: z.uuid(),
  timings: timingsSchema,
})
