// Operations and the placement verdicts that belong to them.

import { z } from '@hono/zod-openapi'
import { Fault, Moment, Uuid } from './fields.ts'

export const OperationView = z
  .object({
    uuid: Uuid,
    kind: z.string().openapi({ example: 'instance.create' }),
    resource_uuid: Uuid,
    status: z.enum(['running', 'succeeded', 'failed', 'cancelled']),
    step: z.string().nullable().openapi({ description: 'What is being done at this moment' }),
    fault: Fault,
    created_at: Moment,
    ended_at: Moment.nullable(),
    placement_uuid: Uuid.nullable(),
    note: z
      .string()
      .nullable()
      .openapi({ description: 'What else is to be known, such as what a deletion keeps' }),
  })
  .openapi('Operation')

export const OperationListAnswer = z.object({ operations: z.array(OperationView) })
export const OperationAnswer = z.object({ operation: OperationView })

const HostVerdict = z.object({
  host_uuid: Uuid,
  host: z.string(),
  passed: z.boolean(),
  rule: z.string().nullable().openapi({ description: 'The rule that refused the host' }),
  reason: z.string().nullable(),
  score: z.number().nullable().openapi({ description: 'Higher is better; null for a refused host' }),
})

export const PlacementView = z
  .object({
    uuid: Uuid.nullable().openapi({ description: 'null for one that was only tried' }),
    instance_uuid: Uuid.nullable(),
    host_uuid: Uuid.nullable().openapi({ description: 'null when no host fitted' }),
    disk_pool_uuid: Uuid.nullable(),
    refusal: z.string().nullable().openapi({ description: 'Why no host fitted' }),
    hosts_total: z.int(),
    hosts_passed: z.int(),
    by_rule: z
      .record(z.string(), z.int())
      .openapi({ description: 'How many hosts each rule refused; each is charged with the first' }),
    is_summary: z.boolean().openapi({
      description: 'Of many hosts, `hosts` has only the best, and the first that each rule refused',
    }),
    hosts: z.array(HostVerdict),
    created_at: Moment,
  })
  .openapi('Placement')

export const PlacementAnswer = z.object({ placement: PlacementView })
