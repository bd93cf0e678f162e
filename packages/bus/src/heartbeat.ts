// The heartbeat of an agent: tiny, since every host sends one each second. It says that the agent
// lives and, by the digest, whether its inventory is what the controller last read; it carries no
// state of its own, so a lost one costs nothing.

import { z } from 'zod'

export const HEARTBEAT_INTERVAL_MS = 1_000

const heartbeatSchema = z.object({
  hostId: z.uuid(),
  bootId: z.string().max(64),
  /** Highest controller epoch that the agent has seen. */
  epoch: z.number().int().nonnegative(),
  /** Digest of the inventory, as in GetInventory. */
  digest: z.string().max(128),
  /** Digest of facts and findings, as in DescribeHost; agents of old say none. */
  hostDigest: z.string().max(128).optional(),
  /** Digest of what it would say of its highly available instances, as in GetHaReport; none where nothing guards them. */
  haDigest: z.string().max(128).optional(),
  /** One-minute load average of the host. */
  load1: z.number().nonnegative(),
})

export type Heartbeat = z.infer<typeof heartbeatSchema>

export function encodeHeartbeat(heartbeat: Heartbeat): string {
  return JSON.stringify(heartbeat)
}

/** The heartbeat in a message, or why it is none. */
export function decodeHeartbeat(text: string): { heartbeat: Heartbeat } | { refused: string } {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    return { refused: `not JSON: ${(error as Error).message}` }
  }
  const parsed = heartbeatSchema.safeParse(value)
  return parsed.success ? { heartbeat: parsed.data } : { refused: z.prettifyError(parsed.error) }
}
