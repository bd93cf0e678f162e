// The settings of a guard, from its environment. Judged once, at the start; what is wrong is said with the name of the variable.

import { HA_PROFILES, type HaProfile, type HaTimings } from '@vpe/core/ha'
import { z } from 'zod'

const absolutePath = z.string().startsWith('/', 'must be an absolute path')

const environmentSchema = z.object({
  VPE_GUARD_SOCKET: absolutePath.default('/run/vpe/guard.sock'),
  VPE_GUARD_RECORD: absolutePath.default('/run/vpe/guard.json'),
  VPE_GUARD_CGROUP: z
    .string()
    .regex(/^[\w./-]+$/, 'must be the name of a cgroup')
    .default('vpe-guests'),
  VPE_HOST_ID: z.uuid(),
  VPE_HA_PROFILE: z.enum(Object.keys(HA_PROFILES) as HaProfile[]).default('default'),
  VPE_WATCHDOG: z
    .string()
    .regex(/^(none|(socket:)?\/.+)$/, 'must be none, a device such as /dev/watchdog, or socket:/path')
    .default('none'),
})

export interface GuardConfig {
  readonly socket: string
  readonly record: string
  readonly cgroup: string
  readonly hostId: string
  readonly profile: HaProfile
  readonly timings: HaTimings
  readonly watchdog: 'none' | { readonly device: string } | { readonly socket: string }
}

/** @throws Error naming each variable that is wrong */
export function readConfig(environment: NodeJS.ProcessEnv): GuardConfig {
  const parsed = environmentSchema.safeParse(environment)
  if (!parsed.success) {
    const faults = parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`)
    throw new Error(`these settings are wrong: ${faults.join('; ')}`)
  }
  const { VPE_WATCHDOG: watchdog, ...rest } = parsed.data
  return {
    socket: rest.VPE_GUARD_SOCKET,
    record: rest.VPE_GUARD_RECORD,
    cgroup: rest.VPE_GUARD_CGROUP,
    hostId: rest.VPE_HOST_ID,
    profile: rest.VPE_HA_PROFILE,
    timings: HA_PROFILES[rest.VPE_HA_PROFILE],
    watchdog:
      watchdog === 'none'
        ? 'none'
        : watchdog.startsWith('socket:')
          ? { socket: watchdog.slice('socket:'.length) }
          : { device: watchdog },
  }
}
