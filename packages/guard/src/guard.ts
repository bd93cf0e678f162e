// The guard: the rim of core's guard. It does at once what the core says, and tells it what came of it. It touches no pool, no network and
// no libvirt: what may hang is done by processes of its own (pool-child.ts), which it never waits for.

import { isDeepStrictEqual } from 'node:util'
import {
  type Arm,
  type ArmedPool,
  type ClaimJob,
  type ClaimResult,
  type GuardAction,
  type GuardEvent,
  type GuardRecord,
  type GuardState,
  HA_RULES,
  type HaTimings,
  type InstanceGeneration,
  type KillReason,
  type Pill,
  type PillAck,
  type Sighting,
  startGuard,
  stepGuard,
} from '@vpe/core/ha'
import type { FromChild, Role, ToChild } from './child-protocol.ts'
import type { GuestProcesses } from './guest-processes.ts'
import type { PoolPlace } from './pool-objects.ts'
import type { Watchdog } from './watchdog.ts'

/** A pool that this host has a lease in. */
export interface GuardedPool extends Omit<ArmedPool, 'pool'> {
  readonly place: PoolPlace
}

/** What the guard does its work with. */
export interface GuardPorts {
  /** BOOTTIME. */
  readonly nowMs: () => number
  readonly randomUuid: () => string
  /** Null on a host that has no pool of class T. */
  readonly watchdog: Watchdog | null
  readonly guests: GuestProcesses
  /** Starts the process that plays a role in a pool. */
  readonly startChild: (role: Role, pool: GuardedPool, onMessage: (message: FromChild) => void) => PoolIo
  /** Unmounts by force what is mounted at a path, and says whether nothing is mounted there any more. Never hangs. */
  readonly unmount: (path: string) => Promise<boolean>
  /** Keeps it over a restart of the guard, and over no restart of the host. */
  readonly save: (memory: GuardMemory) => void
  readonly resetHost: (why: string) => void
  readonly log: (text: string) => void
}

/** What a guard must know of the one before it. */
export interface GuardMemory extends GuardRecord {
  readonly pools: readonly GuardedPool[]
}

export interface PoolIo {
  send(message: ToChild): void
  close(): void
}

/** What a guest of this host has to be told, or not. */
export interface ArmStatus extends InstanceGeneration {
  readonly poolIds: readonly string[]
  /** Only then may it be resumed that was paused by an I/O error. */
  readonly mayResume: boolean
  readonly isNetworkCut: boolean
  readonly ending: KillReason | null
}

/** How it stands with this host's lease in a pool. */
export interface LeaseStatus {
  readonly pool: GuardedPool
  /** Begin of the latest completed renewal, BOOTTIME. */
  readonly renewedMs: number | null
  readonly isStalled: boolean
}

/** A guest that was ended. */
export interface FencedGuest extends InstanceGeneration {
  readonly why: KillReason
}

/** So many are remembered for the agent. */
const FENCED_MAX = 1_000
const CALL_MS = 2_000
const CLAIM_MS = 10_000

interface Waiting {
  readonly resolve: (value: unknown) => void
  readonly timer: NodeJS.Timeout
}

export class Guard {
  readonly #ports: GuardPorts
  readonly #timings: HaTimings
  readonly #pools = new Map<string, { pool: GuardedPool; io: Readonly<Record<Role, PoolIo>> }>()
  /** Instances that libvirt has, or may be about to have: until it is said that it has not, they are not gone. */
  readonly #expected = new Set<string>()
  readonly #waiting = new Map<string, Waiting>()
  /** Ended guests by instance, until they are armed again. */
  readonly #fenced = new Map<string, FencedGuest>()
  #state: GuardState
  #record: GuardRecord
  #nextId = 0
  #timer: NodeJS.Timeout | null = null

  constructor(ports: GuardPorts, timings: HaTimings, { pools, arms, renewals }: GuardMemory) {
    this.#ports = ports
    this.#timings = timings
    this.#record = { arms, renewals }
    this.#state = startGuard(ports.randomUuid(), ports.watchdog !== null)
    for (const { uuid } of arms) this.#expected.add(uuid)
    for (const pool of pools) this.#open(pool)
    this.#step({ kind: 'start', record: this.#record })
  }

  start(): void {
    this.#timer = setInterval(() => this.#tick(), this.#timings.guardMs)
  }

  /** Ends without a word to the watchdog: what follows is a reset, unless another guard takes over. */
  close(): void {
    if (this.#timer) clearInterval(this.#timer)
    for (const { io } of this.#pools.values()) for (const child of Object.values(io)) child.close()
    for (const { timer } of this.#waiting.values()) clearTimeout(timer)
  }

  /**
   * From now on this host has a lease in a pool. Repeated calls do nothing; one that says something else counts once no guest
   * is armed there.
   */
  attach(pool: GuardedPool): void {
    const known = this.#pools.get(pool.place.pool)
    if (known && isDeepStrictEqual(known.pool, pool)) return
    if (known && !this.detach(pool.place.pool)) return
    this.#open(pool)
    this.#save()
  }

  poolOf(poolId: string): GuardedPool | null {
    return this.#pools.get(poolId)?.pool ?? null
  }

  /** Gives the lease up. @returns false while guests are armed there */
  detach(poolId: string): boolean {
    if (this.#state.arms.some(({ pools }) => pools.some(({ pool }) => pool === poolId))) return false
    const known = this.#pools.get(poolId)
    if (known) for (const child of Object.values(known.io)) child.close()
    this.#pools.delete(poolId)
    this.#save()
    return true
  }

  /**
   * To be answered before a domain is created.
   * @param askedMs when that was decided, BOOTTIME: what was fenced since is not armed by it
   * @param isRunning its guest runs already, unarmed or in a lower generation
   * @returns why it must not be; null when it may
   */
  async arm(
    arm: Arm,
    askedMs: number = this.#ports.nowMs(),
    isRunning: boolean = false,
  ): Promise<string | null> {
    const unknown = arm.pools.find(({ pool }) => !this.#pools.has(pool))
    if (unknown) return `the guard has no lease in pool ${unknown.pool}`
    const key = `arm ${arm.uuid} ${arm.generation} ${askedMs}`
    const answer = this.#wait<string | null>(key, CALL_MS, 'the guard said nothing')
    this.#step({ kind: 'arm', arm, askedMs, isRunning })
    if (this.#state.arms.some(({ uuid }) => uuid === arm.uuid)) {
      this.#expected.add(arm.uuid)
      this.#fenced.delete(arm.uuid)
    }
    return answer
  }

  /** libvirt has a domain that runs, or has none: without this word a guest that was armed is not believed to be gone. */
  noteDomain(uuid: string, isThere: boolean): void {
    if (isThere) this.#expected.add(uuid)
    else this.#expected.delete(uuid)
    if (isThere) this.#ports.guests.adopt(uuid)
  }

  /** @returns whether it is disarmed; it may take until the next renewal of the lease */
  disarm(instance: InstanceGeneration): Promise<boolean> {
    const answer = this.#wait<boolean>(`disarm ${instance.uuid} ${instance.generation}`, CLAIM_MS, false)
    this.#step({ kind: 'disarm', instance, isEmpty: this.#isGone(instance.uuid) })
    return answer
  }

  /** Ends its processes, for the agent's reasons; what is armed stays so. */
  endGuest(uuid: string): void {
    this.#ports.guests.kill(uuid)
  }

  /** Whether nothing of it is left, nor can be on its way. */
  isGone(uuid: string): boolean {
    return this.#isGone(uuid)
  }

  noteIoError(instance: InstanceGeneration): void {
    this.#step({ kind: 'io-error', instance })
  }

  noteNeighbours(pool: string, isHealthyForOthers: boolean, isAnyoneReachable: boolean): void {
    this.#step({ kind: 'neighbours', pool, isHealthyForOthers, isAnyoneReachable })
  }

  claim(pool: string, job: ClaimJob): Promise<ClaimResult> {
    const answer = this.#wait<ClaimResult>(claimKey(pool, job), CLAIM_MS, {
      kind: 'failed',
      why: `pool ${pool} does not answer`,
    })
    this.#send(pool, 'claim-holder', { kind: 'claim', job })
    return answer
  }

  /** Lets go of the lock of a claim, and of nothing else. */
  forgetClaim(pool: string, uuid: string): void {
    this.#send(pool, 'claim-holder', { kind: 'forget', uuid })
  }

  /** What this host sees of another's lease; its answer to a pill beside it. */
  sight(pool: string, hostId: string): Promise<{ sighting: Sighting; ack: PillAck | null }> {
    const id = this.#nextId++
    const why = 'the pool does not answer'
    const answer = this.#wait<{ sighting: Sighting; ack: PillAck | null }>(`sight ${id}`, CALL_MS, {
      sighting: { kind: 'unknown', why, isPoolHealthy: false },
      ack: null,
    })
    this.#send(pool, 'pool-reader', { kind: 'sight', id, hostId })
    return answer
  }

  /** Puts a pill into another host's mailbox. @returns why that failed */
  sendPill(pool: string, slot: number, pill: Pill): Promise<string | null> {
    const id = this.#nextId++
    const answer = this.#wait<string | null>(`pill ${id}`, CALL_MS, 'the pool does not answer')
    this.#send(pool, 'pool-reader', { kind: 'send-pill', id, slot, pill })
    return answer
  }

  status(): readonly ArmStatus[] {
    return this.#state.arms.map(({ uuid, generation, pools, doubtedMs, isNetworkCut, ending }) => ({
      uuid,
      generation,
      poolIds: pools.map(({ pool }) => pool),
      mayResume: doubtedMs === null && ending === null,
      isNetworkCut,
      ending,
    }))
  }

  leases(): readonly LeaseStatus[] {
    const { leases, idle } = this.#state
    return [...this.#pools].map(([id, { pool }]) => {
      const lease = leases.find((each) => each.pool === id)
      const renewedMs = lease ? lease.renewedMs : (idle.get(id) ?? null)
      return { pool, renewedMs, isStalled: lease?.isStalled ?? false }
    })
  }

  /** Guests that were ended since this guard was started, and not armed again. */
  fenced(): readonly FencedGuest[] {
    return [...this.#fenced.values()]
  }

  get isWatchdogArmed(): boolean {
    return this.#state.watchdog === 'open'
  }

  #open(pool: GuardedPool): void {
    const { pool: id } = pool.place
    const start = (role: Role) =>
      this.#ports.startChild(role, pool, (message) => {
        if (message.kind === 'ready' && role === 'claim-holder') this.#regainLocks(pool)
        this.#hear(id, message)
      })
    const io = {
      'lease-writer': start('lease-writer'),
      'pool-reader': start('pool-reader'),
      'claim-holder': start('claim-holder'),
    }
    this.#pools.set(id, { pool, io })
  }

  #tick(): void {
    for (const { uuid } of this.#state.arms) this.#ports.guests.adopt(uuid)
    this.#step({ kind: 'tick' })
  }

  #step(event: GuardEvent): void {
    const context = { timings: this.#timings, rules: HA_RULES }
    const step = stepGuard(this.#state, event, this.#ports.nowMs(), context)
    this.#state = step.state
    for (const action of step.actions) this.#perform(action)
  }

  #perform(action: GuardAction): void {
    const { guests, log, watchdog } = this.#ports
    switch (action.kind) {
      case 'open-watchdog':
        void this.#openWatchdog()
        break
      case 'pet':
        watchdog?.pet()
        this.#step({ kind: 'petted' })
        break
      case 'permit':
        this.#permit()
        break
      case 'reset-host':
        this.#ports.resetHost(action.why)
        break
      case 'save':
        this.#record = action.record
        this.#save()
        break
      case 'armed':
        this.#answer(
          `arm ${action.instance.uuid} ${action.instance.generation} ${action.askedMs}`,
          action.refusal,
        )
        break
      case 'disarmed':
        this.#drop(action.instance)
        break
      case 'fenced':
        log(`instance ${action.instance.uuid} was ended: ${action.why}`)
        this.#rememberFenced({ ...action.instance, why: action.why })
        this.#drop(action.instance)
        break
      case 'kill-cgroup':
        log(
          `ending instance ${action.instance.uuid} (generation ${action.instance.generation}): ${action.why}`,
        )
        guests.kill(action.instance.uuid)
        break
      case 'look-at-cgroup':
        // It may have been created after it was to be ended.
        guests.kill(action.instance.uuid)
        if (this.#isGone(action.instance.uuid))
          this.#step({ kind: 'cgroup', instance: action.instance, isEmpty: true })
        break
      case 'unmount':
        void this.#unmount(action.pool)
        break
      case 'ack-pill':
        this.#send(action.pool, 'lease-writer', { kind: 'ack', ack: action.ack })
        break
      case 'check-claim':
        void this.#checkClaim(action.pool, action.instance, action.askedMs)
        break
      // The agent reads them in the status of the guest.
      case 'cut-network':
      case 'restore-network':
      case 'resume-after-io-error':
        log(`instance ${action.instance.uuid}: ${action.kind}`)
        break
      default:
        throw new Error(`no such action: ${action satisfies never}`)
    }
  }

  #hear(pool: string, message: FromChild): void {
    switch (message.kind) {
      // A guard tries no locks: lock-probes.ts does.
      case 'lock-tried':
      case 'ready':
        break
      case 'renewed':
        this.#step({ kind: 'renewed', pool, submittedMs: message.submittedMs })
        break
      case 'pill':
        this.#step({ kind: 'pill', pool, pill: message.pill, nextIncarnation: this.#ports.randomUuid() })
        break
      case 'sighting':
        this.#answer(`sight ${message.id}`, { sighting: message.sighting, ack: message.ack })
        break
      case 'pill-sent':
        this.#answer(`pill ${message.id}`, message.failure)
        break
      case 'claim':
        this.#answer(claimKey(pool, message.job), message.result)
        // The agent, who asked the same meanwhile, is answered by it, too.
        if (message.job.kind === 'check') {
          const { askedMs: _, ...plain } = message.job
          this.#answer(claimKey(pool, plain), message.result)
        }
        break
      default:
        throw new Error(`no such message: ${message satisfies never}`)
    }
  }

  #save(): void {
    const pools = [...this.#pools.values()].map(({ pool }) => pool)
    this.#ports.save({ ...this.#record, pools })
  }

  #permit(): void {
    const condition = {
      isWatchdogArmed: this.#state.watchdog === 'open',
      isManagementOk: true,
      isGuestNetworkOk: true,
    }
    const { incarnation } = this.#state
    for (const { io } of this.#pools.values())
      io['lease-writer'].send({ kind: 'permit', incarnation, condition })
  }

  async #openWatchdog(): Promise<void> {
    try {
      const timeoutMs = (await this.#ports.watchdog?.open(this.#timings.watchdogMs)) ?? 0
      this.#step({ kind: 'opened', timeoutMs })
    } catch (error) {
      this.#ports.log(`the watchdog cannot be opened: ${(error as Error).message}`)
      this.#step({ kind: 'opened', timeoutMs: 0 })
    }
  }

  async #unmount(pool: string): Promise<void> {
    const path = this.#pools.get(pool)?.pool.place.path
    if (path === undefined) return
    this.#step({ kind: 'unmounted', pool, isVerified: await this.#ports.unmount(path) })
  }

  /** Locks end with the process that held them: what runs here runs under those of the next. */
  #regainLocks({ place, poolClass }: GuardedPool): void {
    if (poolClass !== 'E') return
    for (const arm of this.#state.arms)
      if (arm.ending === null && arm.pools.some(({ pool }) => pool === place.pool))
        void this.#checkClaim(place.pool, arm, this.#ports.nowMs())
  }

  #rememberFenced(guest: FencedGuest): void {
    this.#fenced.delete(guest.uuid)
    this.#fenced.set(guest.uuid, guest)
    const oldest = this.#fenced.keys().next().value
    if (this.#fenced.size > FENCED_MAX && oldest !== undefined) this.#fenced.delete(oldest)
  }

  async #checkClaim(pool: string, { uuid, generation }: InstanceGeneration, askedMs: number): Promise<void> {
    const keepsLock = this.#pools.get(pool)?.pool.poolClass === 'E'
    const { kind } = await this.claim(pool, { kind: 'check', uuid, generation, keepsLock, askedMs })
    const says = kind === 'mine' || kind === 'others' ? kind : 'unclear'
    this.#step({ kind: 'claim', instance: { uuid, generation }, says, askedMs })
  }

  #isGone(uuid: string): boolean {
    return !this.#expected.has(uuid) && this.#ports.guests.isGone(uuid)
  }

  #drop({ uuid, generation }: InstanceGeneration): void {
    this.#ports.guests.forget(uuid)
    this.#answer(`disarm ${uuid} ${generation}`, true)
  }

  #send(pool: string, role: Role, message: ToChild): void {
    this.#pools.get(pool)?.io[role].send(message)
  }

  #wait<Answer>(key: string, ms: number, otherwise: Answer): Promise<Answer> {
    const { promise, resolve } = Promise.withResolvers<Answer>()
    // Who asked the same before gets no answer of its own any more.
    this.#answer(key, otherwise)
    const timer = setTimeout(() => this.#answer(key, otherwise), ms)
    this.#waiting.set(key, { resolve: resolve as (value: unknown) => void, timer })
    return promise
  }

  #answer(key: string, value: unknown): void {
    const waiting = this.#waiting.get(key)
    if (!waiting) return
    this.#waiting.delete(key)
    clearTimeout(waiting.timer)
    waiting.resolve(value)
  }
}

function claimKey(pool: string, job: ClaimJob): string {
  const askedMs = job.kind === 'check' ? (job.askedMs ?? '') : ''
  return `claim ${pool} ${job.kind} ${job.uuid} ${askedMs}`
}
