// The door to this host's guard, in the agent's words: a unix socket in production, an object in tests. The guard may be
// restarted at any time, and holds what it answers for; so nothing is kept here, and a call that fails is made again.

import { type HostId, type InstanceId, VpeError } from '@vpe/core'
import type {
  Arm,
  ArmedPool,
  ClaimJob,
  ClaimResult,
  HaProfile,
  InstanceGeneration,
  KillReason,
} from '@vpe/core/ha'
import {
  type AttachPoolRequest,
  ClaimChange,
  ClaimOutcome,
  createRpcClientFactory,
  createUnixChannel,
  fromClientError,
  type GetArmsResponse,
  type GuardServiceClient,
  GuardServiceDefinition,
  type SendPillRequest,
  type SendPillResponse,
  type SightLeaseRequest,
  type SightLeaseResponse,
  type TryPoolLockRequest,
  type TryPoolLockResponse,
} from '@vpe/proto'
import { z } from 'zod'
import { classFromWire } from '../wire.ts'

/** What a guest may do, and what becomes of it. */
export interface GuardedArm extends Arm {
  readonly mayResume: boolean
  readonly isNetworkCut: boolean
  readonly isEnding: boolean
}

export interface LeaseView extends ArmedPool {
  /** Begin of the latest completed renewal, BOOTTIME in ms; null for none. */
  readonly renewedMs: number | null
  readonly isStalled: boolean
}

/** All that the guard says of itself. */
export interface GuardView {
  readonly arms: readonly GuardedArm[]
  readonly leases: readonly LeaseView[]
  readonly fenced: readonly (InstanceGeneration & { readonly why: KillReason })[]
  readonly profile: HaProfile
  readonly isWatchdogArmed: boolean
}

/** Every method rejects with VpeError: UNAVAILABLE where the guard does not answer. */
export interface GuardPort {
  look(): Promise<GuardView>
  attachPool(pool: AttachPoolRequest): Promise<void>
  /** IN_USE while guests are armed there. */
  detachPool(poolId: string): Promise<void>
  /** Why it must not be created; null when it may. */
  arm(arm: Arm, askedMs: number, isRunning: boolean): Promise<string | null>
  disarm(instance: InstanceGeneration): Promise<boolean>
  noteDomain(uuid: string, isThere: boolean): Promise<void>
  noteIoError(instance: InstanceGeneration): Promise<void>
  noteNeighbours(poolId: string, isHealthyForOthers: boolean, isAnyoneReachable: boolean): Promise<void>
  claim(poolId: string, job: ClaimJob): Promise<ClaimResult>
  forgetClaim(poolId: string, uuid: string): Promise<void>
  endGuest(uuid: string): Promise<void>
  isGone(uuid: string): Promise<boolean>
  sightLease(request: SightLeaseRequest): Promise<SightLeaseResponse>
  sendPill(request: SendPillRequest): Promise<SendPillResponse>
  tryPoolLock(request: TryPoolLockRequest): Promise<TryPoolLockResponse>
  close(): void
}

/** Longer than the guard itself waits for a pool. */
const CALL_MS = 15_000
const LOOK_MS = 3_000

const viewSchema = z.object({
  profile: z.enum(['fast', 'default', 'slow-filer']),
  fenced: z.array(
    z.object({
      instance: z.object({ uuid: z.uuid(), generation: z.int().positive() }),
      why: z.enum(['lease-expired', 'pill', 'newer-owner', 'locks-lost']),
    }),
  ),
})

const CHANGES = {
  take: ClaimChange.TAKE,
  gate: ClaimChange.GATE,
  check: ClaimChange.CHECK,
  release: ClaimChange.RELEASE,
} as const

const DONE = { take: 'taken', gate: 'gated', check: 'mine', release: 'released' } as const

/** The guard behind a socket. Connects by itself, and again after a loss. */
export function openGuard(socket: string): GuardPort {
  const channel = createUnixChannel(socket)
  const client: GuardServiceClient = createRpcClientFactory().create(GuardServiceDefinition, channel)
  const call = async <Result>(
    make: (options: { readonly signal: AbortSignal }) => Promise<Result>,
    ms = CALL_MS,
  ): Promise<Result> => {
    try {
      return await make({ signal: AbortSignal.timeout(ms) })
    } catch (error) {
      const { code, message } = fromClientError(error)
      const isAway = code === 'UNAVAILABLE' || (error as Error).name === 'AbortError'
      if (isAway) throw new VpeError('UNAVAILABLE', `the guard at ${socket} does not answer: ${message}`)
      throw fromClientError(error)
    }
  }
  return {
    look: async () => viewOf(await call((options) => client.getArms({}, options), LOOK_MS)),
    attachPool: async (pool) => void (await call((options) => client.attachPool(pool, options))),
    detachPool: async (poolUuid) => void (await call((options) => client.detachPool({ poolUuid }, options))),
    arm: async ({ uuid, generation, pools }, askedMs, isRunning) => {
      const poolUuids = pools.map(({ pool }) => pool)
      const request = { instance: { uuid, generation }, poolUuids, askedMs: Math.floor(askedMs), isRunning }
      const { refusal } = await call((options) => client.armInstance(request, options))
      return refusal === '' ? null : refusal
    },
    disarm: async ({ uuid, generation }) => {
      const instance = { uuid, generation }
      return (await call((options) => client.disarmInstance({ instance }, options))).isDisarmed
    },
    noteDomain: async (uuid, isThere) =>
      void (await call((options) => client.noteDomain({ uuid, isThere }, options))),
    noteIoError: async ({ uuid, generation }) =>
      void (await call((options) => client.noteIoError({ instance: { uuid, generation } }, options))),
    noteNeighbours: async (poolUuid, isHealthyForOthers, isAnyoneReachable) => {
      const request = { poolUuid, isHealthyForOthers, isAnyoneReachable }
      await call((options) => client.noteNeighbours(request, options))
    },
    claim: async (poolUuid, job) => {
      const instance = { uuid: job.uuid, generation: 'generation' in job ? job.generation : 1 }
      const epoch = 'epoch' in job ? job.epoch : 0
      const request = { poolUuid, change: CHANGES[job.kind], instance, epoch }
      const answer = await call((options) => client.changeClaim(request, options))
      switch (answer.outcome) {
        case ClaimOutcome.DONE:
          return { kind: DONE[job.kind] }
        case ClaimOutcome.LOCKED:
          return { kind: 'locked' }
        case ClaimOutcome.OTHERS:
          return { kind: 'others', claim: claimOf(job, answer.ownerHostUuid, answer.ownerGeneration) }
        default:
          return { kind: 'failed', why: answer.why || 'the guard said nothing' }
      }
    },
    forgetClaim: async (poolUuid, uuid) => {
      const request = { poolUuid, change: ClaimChange.FORGET, instance: { uuid, generation: 1 }, epoch: 0 }
      await call((options) => client.changeClaim(request, options))
    },
    endGuest: async (uuid) => void (await call((options) => client.endGuest({ uuid }, options))),
    isGone: async (uuid) => (await call((options) => client.lookAtGuest({ uuid }, options))).isGone,
    sightLease: (request) => call((options) => client.sightLease(request, options)),
    sendPill: (request) => call((options) => client.sendPill(request, options)),
    tryPoolLock: (request) => call((options) => client.tryPoolLock(request, options)),
    close: () => channel.close(),
  }
}

function viewOf(message: GetArmsResponse): GuardView {
  const { profile, fenced } = viewSchema.parse(message)
  const leases = message.leases.map(({ poolUuid, poolClass, canUnmount, renewedMs, isStalled }) => ({
    pool: poolUuid,
    poolClass: classFromWire(poolClass),
    canUnmount,
    renewedMs: renewedMs ?? null,
    isStalled,
  }))
  const armed = new Map(
    leases.map(({ pool, poolClass, canUnmount }) => [pool, { pool, poolClass, canUnmount }]),
  )
  return {
    arms: message.arms.map(({ instance, mayResume, isNetworkCut, ending, poolUuids }) => ({
      uuid: (instance?.uuid ?? '') as InstanceId,
      generation: instance?.generation ?? 0,
      pools: poolUuids.flatMap((pool) => armed.get(pool) ?? []),
      mayResume,
      isNetworkCut,
      isEnding: ending !== '',
    })),
    leases,
    fenced: fenced.map(({ instance, why }) => ({
      uuid: instance.uuid as InstanceId,
      generation: instance.generation,
      why,
    })),
    profile,
    isWatchdogArmed: message.isWatchdogArmed,
  }
}

/** As much of it as the guard says: whose it is. */
function claimOf({ uuid }: ClaimJob, hostId: string, generation: number) {
  const rest = { bootId: '', state: 'running', epoch: 0 } as const
  return { kind: 'claim', uuid, generation, hostId: hostId as HostId, ...rest } as const
}
