// Hosts, in the style of dialect 1.

import { z } from '@hono/zod-openapi'
import {
  DRAIN_PARALLEL,
  DRAIN_PARALLEL_MAX,
  FINDING_STATUSES,
  REBALANCE_BOUND_PERCENT,
  REBALANCE_MOVE_STATES,
  REBALANCE_MOVES,
  REBALANCE_MOVES_MAX,
  REBALANCE_PARALLEL,
  REBALANCE_PARALLEL_MAX,
} from '@vpe/core'
import { AgentAddress, Fault, Moment, Name, NameQuery, Uuid } from './fields.ts'
import { HostRecoveryView } from './ha.ts'

const HOST_STATES = ['up', 'down'] as const
const DRAIN_STATES = ['draining', 'drained', 'stuck'] as const

const Facts = z.object({
  hostname: z.string(),
  cpus: z.int(),
  memory_mib: z.int(),
  cpu_model: z
    .string()
    .openapi({ description: 'The closest that libvirt has a name for, of those that guests can be given' }),
  cpu_features: z
    .array(z.string())
    .openapi({ description: "All that guests can have here, in libvirt's names" }),
  arch: z.string(),
  domain_type: z.string().openapi({ description: 'kvm, or qemu where only software emulation works' }),
  libvirt_version: z.string(),
  hypervisor_version: z.string(),
  agent_version: z.string(),
  kernel: z.string(),
  bridges: z.array(z.string()),
  boot_id: z.string(),
})

const Latency = z.number().nullable().openapi({ description: 'Milliseconds; null where it is not measured' })

const Condition = z.object({
  type: z.string().openapi({ example: 'KvmUsable', description: 'Of a disk pool: PoolWorks: and its name' }),
  status: z.enum(FINDING_STATUSES),
  message: z.string().openapi({ description: 'What was found, with its numbers' }),
  cure: z.string().nullable().openapi({ description: 'What to do about it; null when it is ok' }),
  latency_ms: Latency,
  since: Moment.openapi({ description: 'Since when it has this status' }),
  checked_at: Moment,
})

const PoolOfHost = z.object({
  uuid: Uuid,
  name: z.string(),
  state: z.enum(['pending', 'ready', 'error', 'leaving']),
  fault: Fault,
  capacity_bytes: z.int(),
  available_bytes: z.int(),
  latency_ms: Latency.openapi({
    description: 'To write, fsync and read back a little; null while not measured',
  }),
})

const Drain = z.object({
  state: z
    .enum(DRAIN_STATES)
    .openapi({ description: 'drained: nothing is left; stuck: it is over, and something could not leave' }),
  operation_uuid: Uuid,
  parallel: z.int(),
  copy_disks: z.boolean(),
  started_at: Moment,
  ended_at: Moment.nullable(),
  total: z.int().openapi({ description: 'Instances that the host had at its beginning' }),
  remaining: z.int().openapi({ description: 'Those that it has now, with those that are on their way' }),
  stuck: z
    .array(z.object({ uuid: Uuid, name: z.string(), why: z.string() }))
    .openapi({ description: 'What cannot leave, and why' }),
})

const Power = z.object({
  agent: z.string().openapi({ example: 'fence_ipmilan' }),
  options: z.record(z.string(), z.string()),
  secrets: z.array(z.string()).openapi({ description: 'Their names: what they are is never shown' }),
})

const Drill = z.object({
  at: Moment,
  ok: z.boolean(),
  steps: z.array(
    z.object({
      what: z.enum(['lease', 'sighting', 'pill', 'watchdog', 'power']),
      disk_pool_uuid: Uuid.nullable(),
      ok: z.boolean(),
      message: z.string(),
    }),
  ),
})

export const HostView = z
  .object({
    uuid: Uuid,
    name: z.string(),
    address: z.string(),
    state: z.enum(HOST_STATES),
    state_since: Moment,
    schedulable: z
      .boolean()
      .openapi({ description: 'False while it is cordoned: it keeps what it has and gets nothing more' }),
    drain: Drain.nullable().openapi({
      description: 'The latest; null where it was not drained since it was last uncordoned',
    }),
    facts: Facts.nullable(),
    capacity: z.object({ vcpus: z.int(), memory_mib: z.int() }),
    allocatable: z
      .object({ vcpus: z.int(), memory_mib: z.int() })
      .openapi({ description: 'What may be promised to instances, under overcommit' }),
    used: z.object({
      vcpus: z.int(),
      memory_mib: z.int(),
      instances: z.int(),
      tasks: z.int().openapi({ description: 'Instances of it with which something is being done' }),
    }),
    conditions: z
      .array(Condition)
      .openapi({ description: 'Whether it is fit; empty until it has been looked at' }),
    disk_pools: z.array(PoolOfHost),
    power: Power.nullable().openapi({ description: 'How it is switched off; null where that is not known' }),
    drill: Drill.nullable().openapi({ description: 'What the last drill found; null where there was none' }),
    unknown_instances: z.array(z.string()).openapi({
      description: 'Domains on the host that carry the mark of vpe but that no record names; left alone',
    }),
    recovery: HostRecoveryView.nullable().openapi({
      description: 'What high availability believes of it; null while it does not watch it',
    }),
    last_heartbeat_at: Moment.nullable(),
    created_at: Moment,
  })
  .openapi('Host')

export const HostListAnswer = z.object({ hosts: z.array(HostView) })
export const HostAnswer = z.object({ host: HostView })
export const HostUuidAnswer = z.object({ host: z.object({ uuid: Uuid }) })

export const CreateHostBody = z
  .strictObject({ host: z.strictObject({ name: Name, address: AgentAddress }) })
  .openapi('CreateHost')

export const UpdateHostBody = z
  .strictObject({ host: z.strictObject({ name: Name.optional(), address: AgentAddress.optional() }) })
  .openapi('UpdateHost')

const AgentOptions = z.record(z.string().max(64), z.string().max(4_096))

export const HostPowerBody = z
  .strictObject({
    power: z
      .strictObject({
        agent: z.string().max(70).openapi({
          example: 'fence_ipmilan',
          description: 'A fence agent that the controller has (Debian: fence-agents)',
        }),
        options: AgentOptions.default({}).openapi({
          description: 'As `fence_ipmilan -o metadata` names them: ip, username, lanplus, …',
        }),
        secrets: AgentOptions.default({}).openapi({
          description: 'Options that are never shown again: password, …',
        }),
      })
      .nullable()
      .openapi({ description: 'null: it cannot be switched off any more' }),
  })
  .openapi('HostPower')

export const DrainHostBody = z
  .strictObject({
    parallel: z
      .int()
      .min(1)
      .max(DRAIN_PARALLEL_MAX)
      .optional()
      .openapi({
        description: `How many moves are under way at once; ${DRAIN_PARALLEL} where it is not given`,
      }),
    copy_disks: z.boolean().default(false).openapi({
      description: 'Have instances with disks in pools of this host alone leave, too, and copy those along',
    }),
  })
  .default({ copy_disks: false })
  .openapi('DrainHost')

export const HostListQuery = z.strictObject({
  name: NameQuery.default('').openapi({ description: 'Only the one of this name' }),
  state: z.enum(HOST_STATES).optional().openapi({ description: 'Only those of which this is believed' }),
})

export const RebalanceQuery = z.strictObject({
  dry_run: z.enum(['true', 'false']).optional().openapi({ description: 'Only plan: nothing is begun' }),
})

const Percent = z.number().openapi({ description: 'Percent, to a tenth' })

export const RebalanceBody = z
  .strictObject({
    rebalance: z
      .strictObject({
        bound_percent: z.number().min(1).max(100).default(REBALANCE_BOUND_PERCENT).openapi({
          description: 'What the most loaded host may have more than the least loaded one',
        }),
        max_moves: z.int().min(1).max(REBALANCE_MOVES_MAX).default(REBALANCE_MOVES),
        parallel: z.int().min(1).max(REBALANCE_PARALLEL_MAX).default(REBALANCE_PARALLEL).openapi({
          description: 'How many moves are under way at once',
        }),
      })
      .prefault({}),
  })
  .prefault({})
  .openapi('RebalanceHosts')

const PlannedMove = z.object({
  instance_uuid: Uuid,
  instance: z.string(),
  from_host_uuid: Uuid,
  from_host: z.string(),
  to_host_uuid: Uuid,
  to_host: z.string(),
  copied_mib: z.int().openapi({ description: 'Memory of its guest, to be copied; 0 while it is off' }),
  reason: z.string().openapi({ description: 'What it does to the load of both hosts' }),
  spread_percent: Percent.openapi({ description: 'The spread once it has been made' }),
})

export const RebalanceAnswer = z.object({
  rebalance: z
    .object({
      bound_percent: z.number(),
      spread_before_percent: Percent,
      spread_after_percent: Percent.openapi({ description: 'The spread once all moves have been made' }),
      balanced: z.boolean().openapi({ description: 'Whether that is within the bound' }),
      explanation: z.string().openapi({ description: 'Why the plan goes as far as it does' }),
      moves: z.array(PlannedMove).openapi({ description: 'To be made in this order' }),
      operation_uuid: Uuid.nullable().openapi({ description: 'Of what was begun; null in a dry run' }),
    })
    .openapi('RebalancePlan'),
})

const RebalanceMove = z.object({
  instance_uuid: Uuid,
  instance: z.string(),
  from_host_uuid: Uuid,
  from_host: z.string(),
  to_host_uuid: Uuid,
  to_host: z.string(),
  state: z.enum(REBALANCE_MOVE_STATES).openapi({
    description:
      'refused: not begun, since it could not be any more; needless: not begun, since nothing was to be gained any more',
  }),
  why: z.string().openapi({ description: 'Why it was planned, and then why it came to what it is' }),
})

export const RebalanceRunAnswer = z.object({
  rebalance: z
    .object({
      operation_uuid: Uuid,
      state: z.enum(['running', 'cancelling', 'over']),
      periodic: z.boolean().openapi({ description: 'Whether nobody asked for it: VPE_REBALANCE_EVERY_MIN' }),
      bound_percent: z.number(),
      parallel: z.int(),
      spread_before_percent: Percent,
      explanation: z.string().openapi({ description: 'Why the plan went as far as it did' }),
      started_at: Moment,
      ended_at: Moment.nullable(),
      moves: z.array(RebalanceMove),
    })
    .openapi('Rebalance'),
})
