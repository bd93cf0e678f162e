// Settings, from the environment. A wrong one is refused with its name, what it is, and what it may be.

import { DEFAULT_OVERCOMMIT, type OvercommitPolicy, REBALANCE_BOUND_PERCENT, VpeError } from '@vpe/core'
import { DEFAULT_FAILOVER_POLICY, FAILOVER_HOSTS_MAX, type FailoverPolicy } from '@vpe/core/ha'
import { assertLoopback } from '@vpe/proto'
import { z } from 'zod'
import type { HaPoolSettings } from './ha/ha-pools.ts'
import type { RebalancePolicy } from './rebalancer.ts'

const address = z.string().regex(/^.+:\d{1,5}$/, 'must be host:port')

/** How many times what there is may be promised. */
function ratio(fallback: number) {
  return z
    .string()
    .regex(/^\d{1,3}(\.\d{1,3})?$/, 'must be a number such as 1.5')
    .transform(Number)
    .refine((value) => value >= 0.1 && value <= 100, 'must be 0.1 to 100')
    .default(fallback)
}

const schema = z.object({
  VPE_CONTROLLER_LISTEN: address.default('127.0.0.1:7701'),
  VPE_CONTROLLER_STATE_DIR: z
    .string('must be set: the folder that holds controller.sqlite')
    .startsWith('/', 'must be an absolute path'),
  VPE_CONTROLLER_TLS: z.enum(['on', 'off']).default('off'),
  VPE_CONTROLLER_ADVERTISE: address.optional(),
  VPE_ENROLMENT_LISTEN: address.optional(),
  VPE_ENROLMENT_ADVERTISE: z
    .string()
    .regex(/^[^\s,]+:\d{1,5}(,[^\s,]+:\d{1,5})*$/, 'must be host:port, or several with commas between')
    .optional(),
  VPE_NATS_URL: z.string().default('nats://127.0.0.1:4222'),
  VPE_NATS_ADVERTISE: z.string().optional(),
  VPE_NATS_CREDS: z.string().startsWith('/', 'must be an absolute path').optional(),
  VPE_OVERCOMMIT_VCPU: ratio(DEFAULT_OVERCOMMIT.vcpuRatio),
  VPE_OVERCOMMIT_MEMORY: ratio(DEFAULT_OVERCOMMIT.memoryRatio),
  VPE_OVERCOMMIT_DISK: ratio(DEFAULT_OVERCOMMIT.diskRatio),
  VPE_HOST_RESERVED_MIB: z
    .string()
    .regex(/^\d{1,7}$/, 'must be a whole number of MiB')
    .transform(Number)
    .default(DEFAULT_OVERCOMMIT.hostReservedMib),
  VPE_REBALANCE_EVERY_MIN: z
    .string()
    .regex(/^\d{1,5}$/, 'must be a whole number of minutes, 0 for never')
    .transform(Number)
    .refine((value) => value <= 10_080, 'must be at most 10080, a week')
    .default(0),
  VPE_REBALANCE_BOUND_PERCENT: z
    .string()
    .regex(/^\d{1,3}$/, 'must be a whole number')
    .transform(Number)
    .refine((value) => value >= 1 && value <= 100, 'must be 1 to 100')
    .default(REBALANCE_BOUND_PERCENT),
  VPE_HA_PROFILE: z.enum(['fast', 'default', 'slow-filer']).default('default'),
  VPE_HA_REVOKE_COMMAND: z.string().startsWith('/', 'must be an absolute path').optional(),
  VPE_HA_FENCE_AGENT_DIR: z.string().startsWith('/', 'must be an absolute path').default('/usr/sbin'),
  VPE_HA_FAILOVERS: z
    .string()
    .regex(/^\d{1,2}$/, 'must be a whole number of hosts')
    .transform(Number)
    .refine((value) => value <= FAILOVER_HOSTS_MAX, `must be at most ${FAILOVER_HOSTS_MAX}`)
    .default(DEFAULT_FAILOVER_POLICY.hosts),
  VPE_HA_ADMISSION: z.enum(['advise', 'enforce']).default(DEFAULT_FAILOVER_POLICY.mode),
  VPE_LOG_LEVEL: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal']).default('info'),
})

export interface ControllerConfig {
  readonly listen: string
  readonly stateDir: string
  readonly natsUrl: string
  /** A credentials file; undefined where NATS takes everyone. */
  readonly natsCredentials: string | undefined
  readonly isTls: boolean
  /** Where machines enrol; undefined for nowhere. */
  readonly enrolmentListen: string | undefined
  /** What members are told: where enrolment, the controller and NATS are reached. */
  readonly advertised: {
    readonly enrolment: readonly string[]
    readonly controller: string
    readonly nats: string
  }
  readonly logLevel: string
  /** How much more than the hardware is promised. */
  readonly overcommit: OvercommitPolicy
  /** Rebalances that nobody asks for; everyMs is 0 for none. */
  readonly rebalance: RebalancePolicy
  /** What is relied on to shut hosts out and switch them off. */
  readonly haPools: HaPoolSettings
  /** Room that is kept for the loss of hosts. */
  readonly failover: FailoverPolicy
}

/** @throws VpeError INVALID_ARGUMENT that names every wrong setting */
export function readConfig(environment: NodeJS.ProcessEnv): ControllerConfig {
  const parsed = schema.safeParse(environment)
  if (!parsed.success) {
    const faults = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`)
    throw new VpeError('INVALID_ARGUMENT', `wrong settings in the environment: ${faults.join('; ')}`)
  }
  const settings = parsed.data
  const listen = settings.VPE_CONTROLLER_LISTEN
  const enrolmentListen = settings.VPE_ENROLMENT_LISTEN
  const isTls = settings.VPE_CONTROLLER_TLS === 'on'
  if (!isTls) assertLoopback(listen, 'VPE_CONTROLLER_LISTEN', 'set VPE_CONTROLLER_TLS=on')
  if (enrolmentListen !== undefined && !isTls)
    throw new VpeError(
      'INVALID_ARGUMENT',
      'VPE_ENROLMENT_LISTEN: nobody can enrol without VPE_CONTROLLER_TLS=on',
    )
  return {
    listen,
    natsCredentials: settings.VPE_NATS_CREDS,
    isTls,
    enrolmentListen,
    advertised: {
      enrolment:
        enrolmentListen === undefined
          ? []
          : reachable('VPE_ENROLMENT', settings.VPE_ENROLMENT_ADVERTISE ?? enrolmentListen).split(','),
      controller: isTls ? reachable('VPE_CONTROLLER', settings.VPE_CONTROLLER_ADVERTISE ?? listen) : listen,
      nats: settings.VPE_NATS_ADVERTISE ?? settings.VPE_NATS_URL,
    },
    stateDir: settings.VPE_CONTROLLER_STATE_DIR,
    natsUrl: settings.VPE_NATS_URL,
    logLevel: settings.VPE_LOG_LEVEL,
    rebalance: {
      everyMs: settings.VPE_REBALANCE_EVERY_MIN * 60_000,
      boundPercent: settings.VPE_REBALANCE_BOUND_PERCENT,
    },
    haPools: {
      profile: settings.VPE_HA_PROFILE,
      revokeCommand: settings.VPE_HA_REVOKE_COMMAND ?? null,
      fenceAgentDir: settings.VPE_HA_FENCE_AGENT_DIR,
    },
    failover: { hosts: settings.VPE_HA_FAILOVERS, mode: settings.VPE_HA_ADMISSION },
    overcommit: {
      vcpuRatio: settings.VPE_OVERCOMMIT_VCPU,
      memoryRatio: settings.VPE_OVERCOMMIT_MEMORY,
      diskRatio: settings.VPE_OVERCOMMIT_DISK,
      hostReservedMib: settings.VPE_HOST_RESERVED_MIB,
    },
  }
}

/** @throws VpeError when what members would be told is no address that anyone can reach */
function reachable(setting: string, told: string): string {
  if (!/^(0\.0\.0\.0|\[::\]):/.test(told)) return told
  throw new VpeError(
    'INVALID_ARGUMENT',
    `${setting}_LISTEN=${told} is every address of this machine; set ${setting}_ADVERTISE to the one that members reach it at`,
  )
}
