// Orders and reports of HA, from the wire and to it.

import { VpeError } from '@vpe/core'
import type { AgentCommand, LocalPhase } from '@vpe/core/ha'
import { type AttachPoolRequest, GetHaReportResponse, HaPhase, type OrderHaRequest } from '@vpe/proto'
import { z } from 'zod'
import { armedPoolSchema, leasedClass, parse } from '../wire.ts'
import type { HaReport } from './ha-agent.ts'

const uuid = z.uuid()
const instanceSchema = z.object({ uuid, generation: z.int().positive() })
const pools = z.array(armedPoolSchema)
const releaseSchema = z.object({ instance: instanceSchema, pools })
const gateSchema = z.object({ instance: instanceSchema, pools, bootId: uuid })
const settleSchema = z.object({ owners: z.array(z.object({ instance: instanceSchema, hostUuid: uuid })) })

const leaseSchema = z.object({
  poolUuid: uuid,
  path: z.string().startsWith('/'),
  clusterUuid: uuid,
  slot: z.int().nonnegative(),
  slots: z.int().positive(),
  poolClass: leasedClass,
  canUnmount: z.boolean(),
})

/** @throws VpeError INVALID_ARGUMENT, as does the other */
export function leasesFromWire(leases: readonly AttachPoolRequest[]): readonly AttachPoolRequest[] {
  return parse(z.array(leaseSchema), leases, 'pools')
}

export function orderFromWire({
  epoch,
  order,
}: OrderHaRequest): Exclude<AgentCommand, { readonly kind: 'start' }> {
  switch (order?.$case) {
    case 'release':
      return { kind: 'release', epoch, ...parse(releaseSchema, order.value, 'release') }
    case 'gate':
      return { kind: 'gate', epoch, ...parse(gateSchema, order.value, 'gate') }
    case 'settle': {
      const { owners } = parse(settleSchema, order.value, 'settle')
      const records = owners.map(({ instance, hostUuid }) => ({ ...instance, hostId: hostUuid }))
      return { kind: 'settle', epoch, records }
    }
    case undefined:
      throw new VpeError('INVALID_ARGUMENT', 'order: must say what is to be done')
  }
}

const PHASES: { readonly [Phase in LocalPhase]: HaPhase } = {
  gated: HaPhase.GATED,
  starting: HaPhase.STARTING,
  incoming: HaPhase.INCOMING,
  running: HaPhase.RUNNING,
  restarting: HaPhase.RESTARTING,
  failed: HaPhase.FAILED,
  'given-up': HaPhase.GIVEN_UP,
  closing: HaPhase.CLOSING,
  closed: HaPhase.CLOSED,
}

export function haReportToWire({ instances, leases, otherUuids, ...report }: HaReport): GetHaReportResponse {
  return GetHaReportResponse.fromPartial({
    ...report,
    instances: instances.map(({ uuid, generation, phase, why }) => ({
      instance: { uuid, generation },
      phase: PHASES[phase],
      why,
    })),
    leases: leases.map(({ poolId, isLost, ageMs }) => ({ poolUuid: poolId, isLost, ageMs })),
    otherUuids: [...otherUuids],
  })
}
