// A guard in memory, for agents on a fake host: what it was told, in order, and knobs for how it misbehaves. Claims lie in a pool
// that several may be given.

import { type InstanceId, VpeError } from '@vpe/core'
import type { Arm, ArmedPool, ClaimJob, ClaimResult, InstanceGeneration, KillReason } from '@vpe/core/ha'
import type { AttachPoolRequest, SendPillResponse, SightLeaseResponse, TryPoolLockResponse } from '@vpe/proto'
import type { GuardedArm, GuardPort, GuardView } from '../ha/guard-port.ts'

interface FakeClaim {
  hostId: string
  generation: number
  state: 'running' | 'released'
}

/** Claims of one pool, by instance. */
export type FakeClaims = Map<string, FakeClaim>

export class FakeGuard implements GuardPort {
  readonly calls: string[] = []
  readonly arms = new Map<string, GuardedArm>()
  readonly fenced: (InstanceGeneration & { readonly why: KillReason })[] = []
  readonly attached = new Map<string, AttachPoolRequest>()
  isAway = false
  /** Leases are as old as this, in ms. */
  leaseAgeMs = 0
  isStalled = false
  /** Libvirt has them, or may be about to. */
  readonly #expected = new Set<string>()
  readonly #hostId: string
  readonly #pool: ArmedPool
  readonly #claims: FakeClaims
  readonly #upMs: () => number
  readonly #kill: (uuid: string) => void

  constructor(
    hostId: string,
    pool: ArmedPool,
    claims: FakeClaims,
    upMs: () => number,
    kill: (uuid: string) => void,
  ) {
    this.#hostId = hostId
    this.#pool = pool
    this.#claims = claims
    this.#upMs = upMs
    this.#kill = kill
  }

  async look(): Promise<GuardView> {
    this.#enter()
    const renewedMs = this.#upMs() - this.leaseAgeMs
    return {
      arms: [...this.arms.values()],
      leases: [{ ...this.#pool, renewedMs, isStalled: this.isStalled }],
      fenced: [...this.fenced],
      profile: 'default',
      isWatchdogArmed: true,
    }
  }

  async attachPool(pool: AttachPoolRequest): Promise<void> {
    this.#enter(`attach ${pool.poolUuid}`)
    this.attached.set(pool.poolUuid, pool)
  }

  async detachPool(poolId: string): Promise<void> {
    this.#enter(`detach ${poolId}`)
    if (this.arms.size > 0) throw new VpeError('IN_USE', 'guests are armed')
    this.attached.delete(poolId)
  }

  async arm(arm: Arm, _askedMs: number, isRunning: boolean): Promise<string | null> {
    this.#enter(`arm ${arm.generation}${isRunning ? ' running' : ''}`)
    const known = this.arms.get(arm.uuid)
    if (known && known.generation !== arm.generation && !isRunning) return 'another generation is armed'
    this.#expected.add(arm.uuid)
    const free = { mayResume: true, isNetworkCut: false, isEnding: false }
    this.arms.set(arm.uuid, { ...free, ...arm })
    return null
  }

  async disarm({ uuid, generation }: InstanceGeneration): Promise<boolean> {
    this.#enter(`disarm ${generation}`)
    if (this.#expected.has(uuid)) return false
    if (this.arms.get(uuid)?.generation === generation) this.arms.delete(uuid)
    return true
  }

  async noteDomain(uuid: string, isThere: boolean): Promise<void> {
    this.#enter()
    if (isThere) this.#expected.add(uuid)
    else this.#expected.delete(uuid)
  }

  async noteIoError({ uuid }: InstanceGeneration): Promise<void> {
    this.#enter('io-error')
    this.change(uuid, { mayResume: false })
  }

  async noteNeighbours(_poolId: string, _isHealthy: boolean, isAnyoneReachable: boolean): Promise<void> {
    this.#enter(`neighbours ${isAnyoneReachable}`)
  }

  async claim(_poolId: string, job: ClaimJob): Promise<ClaimResult> {
    const generation = 'generation' in job ? job.generation : 0
    this.#enter(`${job.kind} ${generation}`)
    const claim = this.#claims.get(job.uuid)
    const isMine = claim?.hostId === this.#hostId && claim.generation === generation
    switch (job.kind) {
      case 'gate':
        return { kind: 'gated' }
      case 'check':
        return isMine ? { kind: 'mine' } : others(job.uuid, claim)
      case 'release':
        if (isMine) claim.state = 'released'
        return { kind: 'released' }
      case 'take':
        if (claim && claim.generation >= generation && !isMine) return others(job.uuid, claim)
        this.#claims.set(job.uuid, { hostId: this.#hostId, generation, state: 'running' })
        return { kind: 'taken' }
    }
  }

  async forgetClaim(): Promise<void> {
    this.#enter('forget')
  }

  async endGuest(uuid: string): Promise<void> {
    this.#enter('end')
    this.#kill(uuid)
  }

  async isGone(uuid: string): Promise<boolean> {
    this.#enter()
    return !this.#expected.has(uuid)
  }

  async sightLease(): Promise<SightLeaseResponse> {
    throw new VpeError('NOT_FOUND', 'the fake sees nothing')
  }

  async sendPill(): Promise<SendPillResponse> {
    return { failure: 'the fake sends nothing' }
  }

  async tryPoolLock(): Promise<TryPoolLockResponse> {
    return { isGranted: true, fileSystem: 'ext4', mountOptions: ['rw'], fault: '' }
  }

  close(): void {}

  /** What it says of a guest from now on. */
  change(uuid: string, changes: Partial<GuardedArm>): void {
    const arm = this.arms.get(uuid)
    if (arm) this.arms.set(uuid, { ...arm, ...changes })
  }

  /** Ends a guest, as a guard does whose lease is over. */
  fence(uuid: string, why: KillReason): void {
    const arm = this.arms.get(uuid)
    if (!arm) throw new Error('it is not armed')
    this.arms.delete(uuid)
    this.fenced.push({ uuid: arm.uuid, generation: arm.generation, why })
    this.#kill(uuid)
  }

  #enter(call?: string): void {
    if (this.isAway) throw new VpeError('UNAVAILABLE', 'the guard does not answer: the fake is away')
    if (call) this.calls.push(call)
  }
}

function others(uuid: InstanceId, claim: FakeClaim | undefined): ClaimResult {
  if (!claim) return { kind: 'failed', why: 'there is no claim' }
  return { kind: 'others', claim: { kind: 'claim', uuid, bootId: '', epoch: 0, ...claim } }
}
