// Messages to values and back: the one mapping file of this package, and the place where requests are judged.

import { type InstanceId, VpeError } from '@vpe/core'
import type {
  ArmedPool,
  ClaimJob,
  ClaimResult,
  InstanceGeneration,
  Pill,
  PillAck,
  Sighting,
} from '@vpe/core/ha'
import {
  AttachPoolRequest,
  type ChangeClaimRequest,
  ChangeClaimResponse,
  ClaimChange,
  ClaimOutcome,
  type InstanceGeneration as InstanceGenerationMessage,
  LeaseSight,
  type LeaseStanding,
  LockStep as LockStepMessage,
  PillScope,
  PoolClass,
  type SendPillRequest,
  SightLeaseResponse,
} from '@vpe/proto'
import { z } from 'zod'
import type { LockStep } from './child-protocol.ts'
import { poolPlaceSchema } from './child-settings.ts'
import type { GuardedPool, LeaseStatus } from './guard.ts'
import type { PoolPlace } from './pool-objects.ts'

const uuid = z.uuid()
const count = z.int().nonnegative()
const instanceSchema = z.object({ uuid, generation: z.int().positive() })

/** @throws VpeError INVALID_ARGUMENT with the name of the field */
function parse<T>(what: string, schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  throw new VpeError('INVALID_ARGUMENT', `${what}: ${z.prettifyError(parsed.error)}`)
}

export function uuidFromWire(field: string, value: string): string {
  return parse(field, uuid, value)
}

/** A time of this host's own clock. */
export function msFromWire(field: string, value: number): number {
  return parse(field, count, value)
}

export function instanceFromWire(message: InstanceGenerationMessage | undefined): InstanceGeneration {
  const { uuid, generation } = parse('instance', instanceSchema, message)
  return { uuid: uuid as InstanceId, generation }
}

export function poolFromWire(message: AttachPoolRequest): GuardedPool {
  const { poolUuid: pool, path, clusterUuid: clusterId, slot, slots, canUnmount } = message
  const place = parse('pool', poolPlaceSchema, { pool, path, clusterId, slot, slots })
  switch (message.poolClass) {
    case PoolClass.ENFORCED:
      return { place, poolClass: 'E', canUnmount }
    case PoolClass.TIMED:
      return { place, poolClass: 'T', canUnmount }
    default:
      throw new VpeError('INVALID_ARGUMENT', 'pool_class: a host has leases only in pools of class E or T')
  }
}

/** Where the locks of a pool are tried: slot and class say nothing there. */
export function probedPlaceFromWire(message: AttachPoolRequest | undefined): PoolPlace {
  const { poolUuid: pool, path, clusterUuid: clusterId } = message ?? AttachPoolRequest.fromPartial({})
  return parse('pool', poolPlaceSchema, { pool, path, clusterId, slot: 0, slots: 1 })
}

export function lockStepFromWire(step: LockStepMessage): LockStep {
  switch (step) {
    case LockStepMessage.HOLD:
      return 'hold'
    case LockStepMessage.ASK:
      return 'ask'
    case LockStepMessage.TAKE:
      return 'take'
    case LockStepMessage.DROP:
      return 'drop'
    default:
      throw new VpeError('INVALID_ARGUMENT', `step: no such step (${step})`)
  }
}

export function leaseToWire({ pool, renewedMs, isStalled }: LeaseStatus): LeaseStanding {
  const { place, poolClass, canUnmount } = pool
  return {
    poolUuid: place.pool,
    poolClass: poolClass === 'E' ? PoolClass.ENFORCED : PoolClass.TIMED,
    canUnmount,
    renewedMs: renewedMs ?? undefined,
    isStalled,
  }
}

/** @param keepsLock whether the claim's lock is kept for as long as the guest runs: where the storage enforces it */
export function claimJobFromWire(request: ChangeClaimRequest, keepsLock: boolean): ClaimJob {
  const { uuid, generation } = instanceFromWire(request.instance)
  switch (request.change) {
    case ClaimChange.TAKE:
      return { kind: 'take', uuid, generation, epoch: parse('epoch', count, request.epoch), keepsLock }
    case ClaimChange.GATE:
      return { kind: 'gate', uuid }
    case ClaimChange.CHECK:
      return { kind: 'check', uuid, generation, keepsLock }
    case ClaimChange.RELEASE:
      return { kind: 'release', uuid, generation }
    default:
      throw new VpeError('INVALID_ARGUMENT', `change: no such change (${request.change})`)
  }
}

export function claimResultToWire(result: ClaimResult): ChangeClaimResponse {
  switch (result.kind) {
    case 'taken':
    case 'gated':
    case 'released':
    case 'mine':
      return ChangeClaimResponse.fromPartial({ outcome: ClaimOutcome.DONE })
    case 'locked':
      return ChangeClaimResponse.fromPartial({
        outcome: ClaimOutcome.LOCKED,
        why: 'another host holds its lock',
      })
    case 'others': {
      const { hostId, generation } = result.claim
      const why = `generation ${generation} of it belongs to host ${hostId}`
      return { outcome: ClaimOutcome.OTHERS, why, ownerHostUuid: hostId, ownerGeneration: generation }
    }
    case 'failed':
      return ChangeClaimResponse.fromPartial({ outcome: ClaimOutcome.FAILED, why: result.why })
    default:
      throw new Error(`no such result: ${result satisfies never}`)
  }
}

export function pillFromWire(request: SendPillRequest): { slot: number; pill: Pill } {
  const { epoch, nonce } = parse('pill', z.object({ epoch: count, nonce: count }), request.pill)
  const instances = request.instances.map(instanceFromWire)
  const targetIncarnation = parse('target_incarnation', uuid, request.targetIncarnation)
  return {
    slot: parse('slot', count, request.slot),
    pill: {
      kind: 'mailbox',
      epoch,
      nonce,
      targetIncarnation,
      scope: scopeFromWire(request.scope, instances),
    },
  }
}

/** Said twice, by the scope and by the list: where the two do not fit together, nothing is ended. */
function scopeFromWire(scope: PillScope, instances: readonly InstanceGeneration[]): Pill['scope'] {
  const isNamed = scope === PillScope.NAMED
  if (isNamed !== instances.length > 0)
    throw new VpeError(
      'INVALID_ARGUMENT',
      `scope: a pill names instances where it is for those, and only there (${scope}, ${instances.length} named)`,
    )
  switch (scope) {
    case PillScope.NAMED:
      return instances
    case PillScope.ALL:
      return 'all'
    case PillScope.NONE:
      return 'none'
    default:
      throw new VpeError(
        'INVALID_ARGUMENT',
        'scope: say whether the pill is for all, for those named, or none',
      )
  }
}

export function sightingToWire(sighting: Sighting, ack: PillAck | null): SightLeaseResponse {
  const { isPoolHealthy } = sighting
  const base = SightLeaseResponse.fromPartial({ isPoolHealthy, ...(ack && { ack }) })
  if (sighting.kind === 'unknown') return { ...base, sight: LeaseSight.UNKNOWN, why: sighting.why }
  const { incarnation, bootId, selfMs, watchdogMs, isWatchdogArmed, isGuestNetworkOk } = sighting.lease
  const isGuestNetworkLost = !isGuestNetworkOk
  const seen = { ...base, incarnation, bootId, selfMs, watchdogMs, isWatchdogArmed, isGuestNetworkLost }
  return sighting.kind === 'alive'
    ? { ...seen, sight: LeaseSight.ALIVE }
    : { ...seen, sight: LeaseSight.STALE, staleForMs: Math.floor(sighting.staleForMs) }
}

export function armedPool({ place, poolClass, canUnmount }: GuardedPool): ArmedPool {
  return { pool: place.pool, poolClass, canUnmount }
}
