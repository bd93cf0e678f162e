// The guard beside a fake agent, and the storage that several of them share: leases that are always renewed, locks that are
// shared as long as nobody says otherwise, and pills that are answered at once.

import { randomUUID } from 'node:crypto'
import { VpeError } from '@vpe/core'
import {
  type AttachPoolRequest,
  GetHaReportResponse,
  LeaseSight,
  LockStep,
  type PillAck,
  type SendPillRequest,
  type SetLeasesRequest,
  SightLeaseResponse,
  type TryPoolLockRequest,
  TryPoolLockResponse,
} from '@vpe/proto'

export class FakeLeaseStorage {
  /** Who has a lease in a pool: by pool and host. */
  readonly guards = new Map<string, FakePoolGuard>()
  /** Who holds the lock that pools are tried by. */
  readonly holders = new Map<string, FakePoolGuard>()
  readonly pills: SendPillRequest[] = []
  /** Each host sees its own locks alone. */
  areLocksLocal = false
}

export class FakePoolGuard {
  readonly hostId: string
  readonly #storage: FakeLeaseStorage
  incarnation = randomUUID()
  leases: readonly AttachPoolRequest[] = []
  /** How often it was told of its leases. */
  told = 0
  /** What its host says of it. */
  says: Partial<GetHaReportResponse> = { profile: 'default', hasWatchdog: true }
  readonly lostPools = new Set<string>()
  fileSystem = 'nfs4'
  mountOptions = ['rw', 'vers=4.2', 'hard']
  /** Why it cannot try locks; empty where it can. */
  lockFault = ''
  answersPills = true
  #ack: PillAck | undefined

  constructor(hostId: string, storage: FakeLeaseStorage) {
    this.hostId = hostId
    this.#storage = storage
  }

  setLeases({ pools }: SetLeasesRequest): Record<string, never> {
    this.told++
    for (const { poolUuid } of this.leases) this.#storage.guards.delete(`${poolUuid}/${this.hostId}`)
    this.leases = pools
    for (const { poolUuid } of pools) this.#storage.guards.set(`${poolUuid}/${this.hostId}`, this)
    return {}
  }

  report(bootId: string): GetHaReportResponse {
    const leases = this.leases.map(({ poolUuid }) => ({
      ...{ poolUuid, isLost: this.lostPools.has(poolUuid), ageMs: 1_000 },
    }))
    return GetHaReportResponse.fromPartial({ hostId: this.hostId, bootId, leases, ...this.says })
  }

  sightLease(poolUuid: string, hostUuid: string): SightLeaseResponse {
    const other = this.#storage.guards.get(`${poolUuid}/${hostUuid}`)
    if (!other || other.lostPools.has(poolUuid))
      return SightLeaseResponse.fromPartial({
        sight: LeaseSight.UNKNOWN,
        why: 'it has not seen that lease yet',
      })
    const { incarnation } = other
    const ack = other.#ack
    return SightLeaseResponse.fromPartial({ sight: LeaseSight.ALIVE, incarnation, ...(ack && { ack }) })
  }

  sendPill(request: SendPillRequest): { failure: string } {
    this.#storage.pills.push(request)
    for (const [key, other] of this.#storage.guards) {
      const lease = other.leases.find(({ poolUuid }) => poolUuid === request.poolUuid)
      const isMeant = lease?.slot === request.slot && request.targetIncarnation === other.incarnation
      if (key.startsWith(request.poolUuid) && isMeant && other.answersPills) other.#ack = request.pill
    }
    return { failure: '' }
  }

  tryPoolLock({ pool, step }: TryPoolLockRequest): TryPoolLockResponse {
    const uuid = pool?.poolUuid ?? ''
    const { holders } = this.#storage
    const holder = this.#storage.areLocksLocal ? undefined : holders.get(uuid)
    if (step === LockStep.HOLD) holders.set(uuid, this)
    if (step === LockStep.DROP && holders.get(uuid) === this) holders.delete(uuid)
    const isGranted = step === LockStep.DROP || !holder || holder === this
    return TryPoolLockResponse.fromPartial({
      ...{ isGranted, fileSystem: this.fileSystem, mountOptions: this.mountOptions, fault: this.lockFault },
    })
  }
}

/** @throws VpeError UNAVAILABLE */
export function given(guard: FakePoolGuard | null): FakePoolGuard {
  if (!guard) throw new VpeError('UNAVAILABLE', 'this agent has no guard')
  return guard
}
