// High availability, in the style of dialect 1. Words are those of docs/ha.md.

import { z } from '@hono/zod-openapi'
import {
  HA_INSTANCE_STATES,
  HA_PROFILES,
  type HaProfile,
  HOST_PHASES,
  ISOLATIONS,
  POOL_CLASSES,
  PRIORITIES,
  PROOF_KINDS,
  WHAT_IF_OUTCOMES,
} from '@vpe/core/ha'
import { Moment, Name, Uuid, wholeNumber } from './fields.ts'

export const HaPriority = z.enum(PRIORITIES).openapi({
  description: 'Which of many instances that were lost at once is started first',
})
export const HaIsolation = z.enum(ISOLATIONS).openapi({
  description:
    'What becomes of it when its host, and its guests with it, are cut off from the network: it is left, or started elsewhere',
})

const PoolClass = z.enum(POOL_CLASSES).openapi({
  description: 'E: the storage keeps it from two writers; T: time does; N: a person decides',
})

const Pool = z.object({
  uuid: Uuid,
  name: z.string(),
  pool_class: PoolClass,
  can_revoke: z.boolean().openapi({ description: 'There is a way to shut a host out at the storage' }),
})

const Proof = z.object({
  kind: z.enum(PROOF_KINDS),
  disk_pool: z.string().nullable().openapi({ description: 'Null for all of them' }),
  disk_pool_uuid: Uuid.nullable(),
  why: z.string(),
  at: Moment.nullable(),
})

const Sighting = z.object({
  observer: z.string(),
  observer_uuid: Uuid,
  disk_pool: z.string(),
  disk_pool_uuid: Uuid,
  kind: z.enum(['alive', 'stale', 'unknown']),
  stale_for_ms: z.int().nullable().openapi({ description: 'How long its lease has not changed' }),
  pool_healthy: z.boolean().openapi({ description: 'Other leases are renewed there' }),
  why: z.string().nullable(),
  at: Moment,
})

const DisarmedUntil = Moment.nullable().openapi({ description: 'Null while it is armed' })

export const HostRecoveryView = z.object({
  phase: z.enum(HOST_PHASES),
  why: z.string(),
  since: Moment,
  heard_at: Moment,
  boot_id: z.string().openapi({
    description:
      'Which boot of it all this is about: for a moment after it has booted anew, not yet the new one',
  }),
  can_power_off: z.boolean(),
  disk_pools: z.array(Pool).openapi({ description: 'The shared ones that it uses' }),
  leases: z
    .array(Sighting)
    .openapi({ description: 'What others see of its leases; nobody is asked while it is up' }),
  proofs: z.array(Proof),
  disarmed_until: DisarmedUntil,
})

export const InstanceRecoveryView = z.object({
  state: z.enum(HA_INSTANCE_STATES),
  why: z.string(),
  generation: z.int().openapi({ description: 'Of the host that has it; each has one of its own' }),
  host: z.string(),
  host_uuid: Uuid,
  disk_pools: z.array(Pool),
  proofs: z.array(Proof).openapi({ description: 'Why it may be started elsewhere' }),
  started_by: z.array(Proof).openapi({ description: 'Why it may run where it is, after a failover' }),
  relocations: z.int().openapi({
    description: 'Moves to other hosts because its guest kept going off; faults of hosts are free',
  }),
  disarmed_until: DisarmedUntil,
})

const DisarmView = z
  .object({
    scope: z.enum(['cluster', 'host', 'instance']),
    uuid: Uuid.nullable().openapi({ description: 'Of the host or the instance' }),
    name: z.string().nullable(),
    until: Moment,
    who: z.string(),
    why: z.string(),
  })
  .openapi('Disarm')

const Milliseconds = z.int().nullable().openapi({ description: 'Null where it is not known, or not yet' })

const FailoverView = z
  .object({
    instance_uuid: Uuid,
    instance: z.string(),
    generation: z.int().openapi({ description: 'That it was started as' }),
    from_host_uuid: Uuid,
    from_host: z.string().nullable(),
    to_host_uuid: Uuid.nullable(),
    to_host: z.string().nullable(),
    why: z.string(),
    proofs: z.array(z.object({ kind: z.enum(PROOF_KINDS), why: z.string() })),
    times: z
      .object({
        last_heard: Moment.nullable(),
        suspected: Moment.nullable(),
        proven: Moment.nullable(),
        placed: Moment.nullable(),
        running: Moment.nullable(),
        answered: Moment.nullable().openapi({ description: 'Its guest was heard' }),
      })
      .openapi({ description: 'T0 to T5' }),
    durations: z
      .object({
        suspicion_ms: Milliseconds,
        proof_ms: Milliseconds,
        placement_ms: Milliseconds,
        start_ms: Milliseconds,
        answer_ms: Milliseconds,
        total_ms: Milliseconds,
      })
      .openapi({ description: 'From each of these times to the next; total is T0 to T4' }),
  })
  .openapi('Failover')

const FateView = z
  .object({
    uuid: Uuid,
    name: z.string(),
    ha_priority: HaPriority,
    pool_class: PoolClass.nullable().openapi({ description: 'The least of its pools' }),
    outcome: z.enum(WHAT_IF_OUTCOMES).openapi({
      description:
        'by-hand: only after a person has confirmed that the host is off; stays: down, until it is back',
    }),
    host: z.string().nullable(),
    host_uuid: Uuid.nullable(),
    expected_ms: Milliseconds.openapi({
      description: 'From the loss until its guest is started; its own boot comes on top',
    }),
    why: z.string().nullable().openapi({ description: 'Why it would not start elsewhere, or not by itself' }),
  })
  .openapi('WhatIfInstance')

export const WhatIfAnswer = z.object({
  what_if: z.object({
    host: z.string(),
    host_uuid: Uuid,
    survives: z.boolean().openapi({ description: 'All of them would start elsewhere by themselves' }),
    instances: z.array(FateView).openapi({ description: 'In the order in which they would be started' }),
  }),
})

const NPlusOneView = z.object({
  survives: z.boolean(),
  why: z.string(),
  worst_host: z.string().nullable(),
  worst_host_uuid: Uuid.nullable(),
  left: z.array(FateView).openapi({ description: 'What would find no room if that host were lost' }),
  hosts_at_risk: z.int(),
  at: Moment,
})

export const HaAnswer = z.object({
  ha: z
    .object({
      armed: z.boolean().openapi({ description: 'False while the whole cluster is disarmed' }),
      why_no_verdicts: z
        .string()
        .nullable()
        .openapi({ description: 'Why nothing is judged lost at the moment; null when it is' }),
      profile: z
        .enum(Object.keys(HA_PROFILES) as HaProfile[])
        .nullable()
        .openapi({ description: 'Null where the times are of none' }),
      disarms: z.array(DisarmView),
      hosts: z.record(z.enum(HOST_PHASES), z.int()).openapi({ description: 'How many are in each phase' }),
      instances: z
        .record(z.enum(HA_INSTANCE_STATES), z.int())
        .openapi({ description: 'How many are in each state' }),
      n_plus_one: NPlusOneView.nullable().openapi({
        description:
          'Whether the cluster survives the loss of any one host; null until that has been looked at',
      }),
      admission: z.object({
        hosts: z.int().openapi({ description: 'Room is kept for the loss of so many' }),
        mode: z
          .enum(['advise', 'enforce'])
          .openapi({ description: 'enforce: what would take that room is not powered on' }),
      }),
    })
    .openapi('Ha'),
})

export const FailoversAnswer = z.object({ failovers: z.array(FailoverView) })
export const DisarmAnswer = z.object({ disarm: DisarmView })
export const ArmedAnswer = z.object({ ha: z.object({ armed: z.literal(true) }) })

export const FailoversQuery = z.strictObject({
  limit: wholeNumber(1, 1_000).optional().openapi({ description: '100 where it is not given' }),
})

export const DisarmBody = z
  .strictObject({
    minutes: z.int().min(1).max(1_440).openapi({ description: 'It is armed again after that' }),
    why: Name.openapi({ description: 'For whoever wonders why nothing was started elsewhere' }),
  })
  .openapi('DisarmHa')

export const ConfirmFencedBody = z
  .strictObject({
    i_have_powered_it_off: z.literal(true).openapi({
      description: 'The host has no power, and will not be given any until its instances run elsewhere',
    }),
  })
  .openapi('ConfirmFenced')
