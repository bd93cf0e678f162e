// Messages of the HA protocol to what core knows, and back. What comes from another process is checked.

import { type HostId, VpeError } from '@vpe/core'
import type { AgentCommand, ArmedPool, HostPool, HostReport, LocalPhase, Pill, Sighting } from '@vpe/core/ha'
import {
  type ArmedPool as ArmedPoolMessage,
  type GetHaReportResponse,
  type HaOwnership,
  HaPhase,
  LeaseSight,
  type OrderHaRequest,
  PillScope,
  PoolClass,
  type SendPillRequest,
  type SightLeaseResponse,
} from '@vpe/proto'
import { z } from 'zod'

const PHASE: Readonly<Partial<Record<HaPhase, LocalPhase>>> = {
  [HaPhase.GATED]: 'gated',
  [HaPhase.STARTING]: 'starting',
  [HaPhase.INCOMING]: 'incoming',
  [HaPhase.RUNNING]: 'running',
  [HaPhase.RESTARTING]: 'restarting',
  [HaPhase.FAILED]: 'failed',
  [HaPhase.GIVEN_UP]: 'given-up',
  [HaPhase.CLOSING]: 'closing',
  [HaPhase.CLOSED]: 'closed',
}

const count = z.number().int().nonnegative()
const instanceGeneration = z.object({ uuid: z.uuid(), generation: count })

const report = z.object({
  hostId: z.string(),
  bootId: z.string().min(1).max(64),
  instances: z.array(z.object({ instance: instanceGeneration, phase: z.enum(HaPhase), why: z.string() })),
  leases: z.array(z.object({ poolUuid: z.string(), isLost: z.boolean() })),
  otherUuids: z.array(z.uuid()),
  guardFault: z.string(),
})

/**
 * What a host says of itself.
 * @throws VpeError WRONG_HOST where another answers, INTERNAL where it makes no sense
 */
export function reportFromWire(hostId: HostId, message: GetHaReportResponse): HostReport {
  const { instances, leases, otherUuids, ...rest } = parse('HA report', report, message)
  if (rest.hostId !== hostId)
    throw new VpeError('WRONG_HOST', `host ${rest.hostId} answers for host ${hostId}`)
  return {
    ...rest,
    lostPools: leases.filter(({ isLost }) => isLost).map(({ poolUuid }) => poolUuid),
    others: otherUuids,
    instances: instances.flatMap(({ instance, phase, why }) => {
      // A newer agent may say what this controller has no word for.
      const known = PHASE[phase]
      return known ? [{ ...instance, phase: known, why }] : []
    }),
  }
}

const lease = z.object({
  incarnation: z.uuid(),
  bootId: z.string().min(1).max(64),
  selfMs: count,
  watchdogMs: count,
  isWatchdogArmed: z.boolean(),
  isGuestNetworkLost: z.boolean(),
  ack: z.object({ epoch: count, nonce: count }).optional(),
  staleForMs: count,
})

/** What one host sees of another's lease; whatever cannot be understood counts as not known. */
export function sightingFromWire(hostId: HostId, message: SightLeaseResponse): Sighting {
  const { isPoolHealthy, sight, why } = message
  if (sight !== LeaseSight.ALIVE && sight !== LeaseSight.STALE)
    return { kind: 'unknown', isPoolHealthy, why: why || 'it does not say' }
  const parsed = lease.safeParse(message)
  if (!parsed.success) return { kind: 'unknown', isPoolHealthy: false, why: z.prettifyError(parsed.error) }
  const { ack, staleForMs, isGuestNetworkLost, ...rest } = parsed.data
  const seen = {
    ...rest,
    kind: 'lease',
    hostId,
    // Observers compare them, and do not pass them on.
    seq: 0,
    isManagementOk: true,
    isGuestNetworkOk: !isGuestNetworkLost,
    pillAck: ack ?? null,
  } as const
  if (sight === LeaseSight.ALIVE) return { kind: 'alive', isPoolHealthy, lease: seen }
  return { kind: 'stale', isPoolHealthy, staleForMs, lease: seen }
}

/** What is said to an agent by an order of its own; starts are carried out by applying records. */
export function orderToWire(command: Exclude<AgentCommand, { kind: 'start' }>): OrderHaRequest {
  switch (command.kind) {
    case 'release': {
      const { epoch, instance, pools } = command
      return { epoch, order: { $case: 'release', value: { instance, pools: pools.map(armedPoolToWire) } } }
    }
    case 'gate': {
      const { epoch, bootId, instance, pools } = command
      const value = { bootId, instance, pools: pools.map(armedPoolToWire) }
      return { epoch, order: { $case: 'gate', value } }
    }
    case 'settle': {
      const owners = command.records.map(({ uuid, generation, hostId }) => ({
        instance: { uuid, generation },
        hostUuid: hostId,
      }))
      return { epoch: command.epoch, order: { $case: 'settle', value: { owners } } }
    }
    default:
      throw new Error(`no such command: ${command satisfies never}`)
  }
}

/** By what an instance may run. Pools that nothing keeps from two writers are in no claim. */
export function ownershipToWire(generation: number, bootId: string, pools: readonly HostPool[]): HaOwnership {
  const armed = pools.flatMap(({ poolClass, ...pool }) =>
    poolClass === 'N' ? [] : [armedPoolToWire({ ...pool, poolClass })],
  )
  return { generation, bootId, pools: armed }
}

export function pillToWire(
  poolUuid: string,
  slot: number,
  { epoch, nonce, targetIncarnation, scope }: Pill,
): SendPillRequest {
  const addressed = { poolUuid, slot, pill: { epoch, nonce }, targetIncarnation }
  switch (scope) {
    case 'all':
      return { ...addressed, scope: PillScope.ALL, instances: [] }
    case 'none':
      return { ...addressed, scope: PillScope.NONE, instances: [] }
    default: {
      const instances = scope.map(({ uuid, generation }) => ({ uuid, generation }))
      return { ...addressed, scope: PillScope.NAMED, instances }
    }
  }
}

/** Pools of class N have no leases, and no claims. */
export const CLASS_TO_WIRE: Readonly<Record<ArmedPool['poolClass'], PoolClass>> = {
  E: PoolClass.ENFORCED,
  T: PoolClass.TIMED,
}

function armedPoolToWire({ pool, poolClass, canUnmount }: ArmedPool): ArmedPoolMessage {
  return {
    poolUuid: pool,
    poolClass: CLASS_TO_WIRE[poolClass],
    canUnmount,
  }
}

function parse<Schema extends z.ZodType>(what: string, schema: Schema, value: unknown): z.output<Schema> {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  throw new VpeError('INTERNAL', `the agent's ${what} makes no sense: ${z.prettifyError(parsed.error)}`)
}
