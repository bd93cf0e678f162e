// A host: a clock of its own, a boot, a watchdog, links, the processes of the protocol, and guests that write all the time.

import type { HostId, InstanceId } from '@vpe/core'
import {
  type AgentAction,
  type AgentEvent,
  type AgentHaState,
  type AgentRecord,
  type Arm,
  type ArmedPool,
  type Claim,
  type ClaimHolderAction,
  type ClaimHolderEvent,
  type ClaimHolderState,
  type Decoded,
  type GuardAction,
  type GuardEvent,
  type GuardRecord,
  type GuardState,
  type HostLease,
  type HostReport,
  type InstanceGeneration,
  type LeaseWriterAction,
  type LeaseWriterEvent,
  type LeaseWriterState,
  lostPools,
  type Pill,
  type PoolReaderAction,
  type PoolReaderEvent,
  type PoolReaderState,
  reportInstances,
  sight,
  startAgentHa,
  startClaimHolder,
  startGuard,
  startLeaseWriter,
  startPoolReader,
  stepAgentHa,
  stepClaimHolder,
  stepGuard,
  stepLeaseWriter,
  stepPoolReader,
} from '@vpe/core/ha'
import { FAILED, type Op, type OpKind, type SimPool } from './sim-pool.ts'
import { SimProcess } from './sim-process.ts'
import type { World } from './world.ts'

export interface Guest {
  readonly uuid: InstanceId
  readonly generation: number
  readonly run: number
  readonly pools: readonly ArmedPool[]
  state: 'starting' | 'incoming' | 'running' | 'io-error' | 'dying' | 'gone'
  readonly tokens: Map<SimPool, number>
  /** Writes that are not answered. */
  readonly outstanding: Map<SimPool, number>
  isEmpty: boolean
  lastWriteMs: number
}

interface PoolProcesses {
  readonly writer: SimProcess<LeaseWriterState, LeaseWriterEvent, LeaseWriterAction>
  readonly reader: SimProcess<PoolReaderState, PoolReaderEvent, PoolReaderAction>
  readonly claims: SimProcess<ClaimHolderState, ClaimHolderEvent, ClaimHolderAction>
  readonly claimTokens: Map<InstanceId, number>
  readonly queue: Set<Op>
  isMounted: boolean
  isLinked: boolean
  /** Operations of these kinds are carried out, and it is not told. */
  deafTo: readonly OpKind[]
  /** How many faults hold up operations of a kind. */
  readonly stuck: Map<OpKind, number>
  lastPermitMs: number
  isMailboxRead: boolean
  seq: number
  /** When the latest lease write that is in the pool was submitted, in true time. */
  appliedMs: number
  /** The same of the latest that its writer knows to be there, and of the latest that its guard does. */
  answeredMs: number
  knownMs: number
  lastSnapshot: ReadonlyMap<HostId, Decoded<HostLease>> | null
}

export class SimHost {
  readonly world: World
  readonly id: HostId
  readonly name: string
  readonly memoryMib: number
  readonly rate: number
  readonly pools: readonly SimPool[]
  readonly canPowerOff: boolean
  isOn = false
  isFrozen = false
  bootId = ''
  boots = 0
  #bootedMs = 0
  /** Management: towards the controller, and from it. */
  isHeard = true
  canHear = true
  isGuestNetworkOk = true
  isBmcOk = true
  /** A mount that something keeps busy cannot be taken away by force. */
  isMountBusy = false
  isGuardBroken = false
  isWatchdogLate = 0
  isGuardFlapping = false
  /** Stays off when its power goes, until somebody switches it on. */
  staysOff = false
  readonly guests = new Set<Guest>()
  readonly guard: SimProcess<GuardState, GuardEvent, GuardAction>
  readonly agent: SimProcess<AgentHaState, AgentEvent, AgentAction>
  readonly #pools = new Map<SimPool, PoolProcesses>()
  #record: GuardRecord = { arms: [], renewals: [] }
  #disk: AgentRecord = { epoch: 0, closed: new Map() }
  #watchdog = { isOpen: false, version: 0 }
  #asleep: (() => void)[] = []
  /** Pills that this host has been told of, for I6. */
  #pillIncarnation: string | null = null

  constructor(
    world: World,
    settings: {
      id: HostId
      name: string
      rate: number
      pools: readonly SimPool[]
      memoryMib: number
      canPowerOff: boolean
    },
  ) {
    this.world = world
    this.id = settings.id
    this.name = settings.name
    this.rate = settings.rate
    this.pools = settings.pools
    this.memoryMib = settings.memoryMib
    this.canPowerOff = settings.canPowerOff
    const { context } = world
    this.guard = new SimProcess(
      this,
      'guard',
      (state, event, nowMs) => stepGuard(state, event, nowMs, context),
      (action) => this.#guardDoes(action),
    )
    this.agent = new SimProcess(
      this,
      'agent',
      (state, event, nowMs) => stepAgentHa(state, event, nowMs, context),
      (action) => this.#agentDoes(action),
    )
    for (const pool of settings.pools) this.#pools.set(pool, this.#makePool(pool))
    this.guard.onDeath = () => {
      this.agent.deliver({ kind: 'guard', isAnswering: false })
      this.#restartLater(() => !this.isGuardBroken && this.#startGuard())
    }
    this.agent.onDeath = () => this.#restartLater(() => this.#startAgent())
  }

  #makePool(pool: SimPool): PoolProcesses {
    const { context } = this.world
    const processes: PoolProcesses = {
      writer: new SimProcess(
        this,
        `writer of ${pool.name}`,
        (state, event, nowMs) => stepLeaseWriter(state, event, nowMs, context),
        (action) => this.#writerDoes(pool, action),
      ),
      reader: new SimProcess(
        this,
        `reader of ${pool.name}`,
        (state, event, nowMs) => stepPoolReader(state, event, nowMs),
        (action) => this.#readerDoes(pool, action),
      ),
      claims: new SimProcess(
        this,
        `claim holder of ${pool.name}`,
        (state, event) => stepClaimHolder(state, event),
        (action) => this.#claimsDo(pool, action),
      ),
      claimTokens: new Map(),
      queue: new Set(),
      isMounted: true,
      isLinked: true,
      deafTo: [],
      stuck: new Map(),
      lastPermitMs: Number.NEGATIVE_INFINITY,
      isMailboxRead: false,
      seq: 0,
      appliedMs: Number.NEGATIVE_INFINITY,
      answeredMs: Number.NEGATIVE_INFINITY,
      knownMs: Number.NEGATIVE_INFINITY,
      lastSnapshot: null,
    }
    const restart = () => this.#restartLater(() => this.#startPool(pool))
    processes.writer.onDeath = restart
    processes.reader.onDeath = restart
    processes.claims.onDeath = () => {
      // The kernel closes its files.
      for (const [uuid, token] of processes.claimTokens) this.#unlock(pool, `claim ${uuid}`, token)
      processes.claimTokens.clear()
      restart()
    }
    return processes
  }

  /** BOOTTIME of this host. */
  upMs(): number {
    return (this.world.nowMs - this.#bootedMs) * this.rate + 1_000
  }

  of(pool: SimPool): PoolProcesses {
    const processes = this.#pools.get(pool)
    if (!processes) throw new Error(`${this.name} does not use ${pool.name}`)
    return processes
  }

  mounts(pool: SimPool): boolean {
    return this.#pools.has(pool)
  }

  queueOf(pool: SimPool): Set<Op> {
    return this.of(pool).queue
  }

  reaches(pool: SimPool): boolean {
    return this.of(pool).isLinked
  }

  isStuck(pool: SimPool, what: OpKind): boolean {
    return (this.of(pool).stuck.get(what) ?? 0) > 0
  }

  whenAwake(run: () => void): void {
    if (this.isFrozen) this.#asleep.push(run)
    else run()
  }

  // --- Power, pauses, links

  powerOn(): void {
    if (this.isOn) return
    const { world } = this
    this.isOn = true
    this.boots++
    this.bootId = world.uuid()
    this.#bootedMs = world.nowMs
    this.#record = { arms: [], renewals: [] }
    this.#watchdog = { isOpen: false, version: this.#watchdog.version + 1 }
    for (const [pool, processes] of this.#pools) {
      processes.isMounted = true
      processes.appliedMs = Number.NEGATIVE_INFINITY
      this.#startPool(pool)
      pool.noteContact(this)
    }
    this.#startGuard()
    this.#startAgent()
    this.#everySecond(this.bootId)
    world.note(`${this.name} boots`)
  }

  /** Ends everything at once, as power loss and resets do. What has left the host goes its way. */
  powerOff(why: string): void {
    if (!this.isOn) return
    this.world.note(`${this.name} is off: ${why}`)
    this.isOn = false
    this.isFrozen = false
    this.#asleep = []
    this.#watchdog.version++
    for (const guest of this.guests) {
      guest.state = 'gone'
      guest.isEmpty = true
    }
    this.guests.clear()
    for (const [pool, { writer, reader, claims, claimTokens, queue }] of this.#pools) {
      claimTokens.clear()
      writer.kill()
      reader.kill()
      claims.kill()
      queue.clear()
      pool.noteContact(this)
    }
    this.guard.kill()
    this.agent.kill()
    if (!this.world.isHealed) return
    this.world.after(this.world.random.between(5_000, 20_000), () => {
      this.staysOff = false
      this.powerOn()
    })
  }

  reset(why: string): void {
    this.powerOff(why)
    if (this.staysOff) return
    this.world.after(this.world.random.between(3_000, 8_000), () => this.powerOn())
  }

  freeze(): void {
    if (!this.isOn || this.isFrozen) return
    this.isFrozen = true
    for (const pool of this.pools) pool.noteContact(this)
  }

  thaw(): void {
    if (!this.isFrozen) return
    this.isFrozen = false
    for (const pool of this.pools) pool.noteContact(this)
    const asleep = this.#asleep
    this.#asleep = []
    for (const run of asleep) run()
    this.guard.wake()
    this.agent.wake()
    for (const { writer, reader, claims } of this.#pools.values()) {
      writer.wake()
      reader.wake()
      claims.wake()
    }
  }

  setLink(pool: SimPool, isLinked: boolean): void {
    const processes = this.of(pool)
    if (processes.isLinked === isLinked) return
    processes.isLinked = isLinked
    pool.noteContact(this)
    if (isLinked) pool.resend(this)
  }

  setDeaf(pool: SimPool, kinds: readonly OpKind[]): void {
    this.of(pool).deafTo = kinds
    if (kinds.length === 0 && this.reaches(pool)) pool.resend(this)
  }

  /** Holds up operations of some kinds, by 1, or lets them go again, by -1. */
  stick(pool: SimPool, kinds: readonly OpKind[], by: 1 | -1): void {
    const { stuck } = this.of(pool)
    for (const kind of kinds) stuck.set(kind, Math.max(0, (stuck.get(kind) ?? 0) + by))
    if (by < 0 && this.reaches(pool)) pool.resend(this)
  }

  unstick(pool: SimPool): void {
    this.of(pool).stuck.clear()
    if (this.reaches(pool)) pool.resend(this)
  }

  #restartLater(start: () => void): void {
    const { bootId } = this
    if (!this.isOn) return
    this.world.after(this.world.random.between(500, 1_500), () => {
      if (this.isOn && this.bootId === bootId) start()
    })
  }

  // --- Processes

  #startGuard(): void {
    if (this.guard.isAlive || this.isGuardBroken) return
    const needsWatchdog = this.pools.some(({ poolClass }) => poolClass === 'T')
    this.guard.start(startGuard(this.world.uuid(), needsWatchdog), this.world.context.timings.guardMs)
    this.guard.deliver({ kind: 'start', record: this.#record })
    this.agent.deliver({ kind: 'guard', isAnswering: true })
  }

  mendGuard(): void {
    this.isGuardBroken = false
    if (this.isOn) this.#startGuard()
  }

  #startAgent(): void {
    if (this.agent.isAlive) return
    this.agent.start(startAgentHa(this.id, this.bootId, this.#disk, this.upMs()), 1_000)
    const running = [...this.guests]
      .filter(({ state }) => state === 'running' || state === 'io-error' || state === 'incoming')
      .map(({ uuid, generation, pools, run, state }) => ({
        uuid,
        generation,
        pools,
        run,
        isIncoming: state === 'incoming',
      }))
    this.agent.deliver({ kind: 'start', running })
    this.agent.deliver({ kind: 'guard', isAnswering: this.guard.isAlive })
  }

  #startPool(pool: SimPool): void {
    const processes = this.of(pool)
    const { readMs, writeMs } = this.world.context.timings
    if (!processes.writer.isAlive)
      processes.writer.start(startLeaseWriter(this.id, this.bootId, processes.seq), Math.min(writeMs, 500))
    if (!processes.reader.isAlive) processes.reader.start(startPoolReader(this.id), readMs)
    if (!processes.claims.isAlive) {
      processes.claims.start(startClaimHolder(this.id, this.bootId), null)
      // What runs here runs under these locks.
      if (pool.poolClass === 'E')
        for (const { uuid, generation, pools } of this.#record.arms)
          if (pools.some((other) => other.pool === pool.name))
            processes.claims.deliver({
              kind: 'job',
              job: { kind: 'check', uuid, generation, keepsLock: true },
            })
    }
  }

  #everySecond(bootId: string): void {
    if (!this.isOn || this.bootId !== bootId) return
    this.world.after(1_000, () => this.#everySecond(bootId))
    if (this.isFrozen) return
    for (const [pool, processes] of this.#pools) {
      // The agent mounts again what was unmounted, when nothing armed is left there.
      if (!processes.isMounted && processes.isLinked && pool.isUp && this.world.random.chance(0.3))
        processes.isMounted = true
      if (pool.poolClass === 'E' && this.agent.isAlive && !this.agent.isHung) this.#tellNeighbours(pool)
    }
    if (this.agent.isAlive && !this.agent.isHung) this.world.hear(this)
  }

  #tellNeighbours(pool: SimPool): void {
    const stalled = this.guard.state?.leases.some((lease) => lease.pool === pool.name && lease.isStalled)
    if (!stalled) return
    const reachable = this.world.hosts.filter(
      (host) => host !== this && host.isOn && host.isHeard && host.canHear && this.isHeard && this.canHear,
    )
    const isHealthyForOthers = reachable.some(
      (host) => host.mounts(pool) && host.sightOf(pool, this.id).isPoolHealthy,
    )
    this.guard.deliver({
      kind: 'neighbours',
      pool: pool.name,
      isHealthyForOthers,
      isAnyoneReachable: reachable.length > 0,
    })
  }

  sightOf(pool: SimPool, hostId: HostId) {
    const { reader } = this.of(pool)
    if (!reader.state)
      return { kind: 'unknown', why: 'its reader does not run', isPoolHealthy: false } as const
    return sight(reader.state, hostId, this.upMs(), this.world.context)
  }

  report(): HostReport | null {
    const { state } = this.agent
    if (!state) return null
    return {
      hostId: this.id,
      bootId: this.bootId,
      lostPools: lostPools(
        state,
        this.pools.filter(({ poolClass }) => poolClass !== 'N').map(({ name }) => name),
        this.upMs(),
        this.world.context.timings,
      ),
      instances: reportInstances(state),
    }
  }

  #pass(run: () => void): void {
    const { bootId } = this
    this.world.after(this.world.random.between(0.1, 2), () => {
      if (this.isOn && this.bootId === bootId) run()
    })
  }

  // --- What the processes do

  #guardDoes(action: GuardAction): void {
    const { world } = this
    switch (action.kind) {
      case 'open-watchdog':
        this.#watchdog.isOpen = true
        this.#pet()
        if (this.isGuardFlapping) {
          this.world.note(`${this.name}: its guard dies as soon as it has opened the watchdog`)
          this.guard.kill()
          break
        }
        this.guard.deliver({ kind: 'opened', timeoutMs: world.context.timings.watchdogMs })
        break
      case 'pet':
        this.#pet()
        this.guard.deliver({ kind: 'petted' })
        break
      case 'permit': {
        const incarnation = this.guard.state?.incarnation
        if (incarnation === undefined) break
        const condition = {
          isWatchdogArmed: this.#watchdog.isOpen,
          isManagementOk: this.isHeard,
          isGuestNetworkOk: this.isGuestNetworkOk,
        }
        for (const processes of this.#pools.values()) {
          processes.lastPermitMs = world.nowMs
          processes.writer.deliver({ kind: 'permit', incarnation, condition })
        }
        break
      }
      case 'reset-host':
        this.reset(`its guard has it reset: ${action.why}`)
        break
      case 'save': {
        for (const arm of this.#record.arms)
          if (!action.record.arms.some((other) => isSame(other, arm)) && this.#isPopulated(arm))
            world.violate('I8', `${this.name} disarms ${show(arm)} while its cgroup is populated`)
        this.#record = action.record
        break
      }
      case 'armed':
        this.#pass(() => this.agent.deliver(action))
        break
      case 'disarmed':
      case 'fenced':
        if (action.kind === 'fenced') world.note(`${this.name} has fenced ${show(action.instance)}`)
        this.#pass(() => this.agent.deliver(action))
        break
      case 'kill-cgroup':
        world.checkKill(this, action.instance, action.why, this.#pillIncarnation)
        this.killGuest(action.instance, action.why)
        break
      case 'look-at-cgroup': {
        const { instance } = action
        this.#pass(() =>
          this.guard.deliver({ kind: 'cgroup', instance, isEmpty: !this.#isPopulated(instance) }),
        )
        break
      }
      case 'unmount':
        world.after(50, () => {
          const pool = world.pool(action.pool)
          if (this.isMountBusy || !this.isOn) return
          this.#unmount(pool)
          this.guard.deliver({ kind: 'unmounted', pool: action.pool, isVerified: true })
        })
        break
      case 'ack-pill':
        this.#pass(() => this.of(world.pool(action.pool)).writer.deliver({ kind: 'ack', ack: action.ack }))
        break
      case 'cut-network':
      case 'restore-network':
        world.note(`${this.name} ${action.kind} of ${show(action.instance)}`)
        break
      case 'check-claim': {
        const { instance, pool, askedMs } = action
        const job = { kind: 'check', ...instance, keepsLock: true, askedMs } as const
        this.#pass(() => this.of(world.pool(pool)).claims.deliver({ kind: 'job', job }))
        break
      }
      case 'resume-after-io-error': {
        const guest = this.#find(action.instance)
        if (guest?.state !== 'io-error') break
        world.checkResumed(this, guest)
        world.note(`${this.name} resumes ${show(guest)}`)
        guest.state = 'running'
        this.#writeOn(guest)
        break
      }
    }
  }

  #writerDoes(pool: SimPool, action: LeaseWriterAction): void {
    const { world } = this
    const processes = this.of(pool)
    const { writer } = processes
    const { life } = writer
    switch (action.kind) {
      case 'read-mailbox':
        this.#submit(
          pool,
          'mailbox',
          () => pool.mailboxes.get(this.id) ?? null,
          (result) => {
            if (writer.life !== life) return
            processes.isMailboxRead = result !== FAILED
            if (result === FAILED) writer.deliver({ kind: 'mailbox', read: null })
            else {
              const pill = result as Pill | null
              writer.deliver({
                kind: 'mailbox',
                read: pill ? { kind: 'block', block: pill } : { kind: 'empty' },
              })
            }
          },
        )
        break
      case 'write-lease': {
        const { block } = action
        if (!processes.isMailboxRead)
          world.violate('I7', `${this.name} renews in ${pool.name} without a look into its mailbox`)
        if (world.nowMs - processes.lastPermitMs > 1_050)
          world.violate('I7', `${this.name} renews in ${pool.name} without a permit of its guard`)
        processes.isMailboxRead = false
        processes.seq = Math.max(processes.seq, block.seq)
        const submittedMs = world.nowMs
        this.#submit(
          pool,
          'lease-write',
          () => {
            if (world.random.chance(world.tornRate)) {
              pool.leases.set(this.id, { kind: 'damaged', why: 'torn' })
              return false
            }
            pool.leases.set(this.id, { kind: 'block', block })
            if (block.bootId === this.bootId && writer.state?.obeys == null)
              processes.appliedMs = Math.max(processes.appliedMs, submittedMs)
            return true
          },
          (result) => {
            if (writer.life !== life) return
            if (result === true) processes.answeredMs = submittedMs
            writer.deliver({ kind: 'written', isOk: result === true })
          },
        )
        break
      }
      case 'tell-renewed': {
        const { submittedMs } = action
        const { answeredMs } = processes
        this.#pass(() => {
          if (!this.guard.isStill) processes.knownMs = answeredMs
          this.guard.deliver({ kind: 'renewed', pool: pool.name, submittedMs })
          this.agent.deliver({ kind: 'renewed', pool: pool.name, submittedMs })
        })
        break
      }
      case 'tell-pill': {
        const { pill } = action
        this.#pass(() => {
          const before = this.guard.state?.incarnation ?? null
          this.#pillIncarnation = pill.targetIncarnation === before ? before : null
          this.guard.deliver({ kind: 'pill', pool: pool.name, pill, nextIncarnation: world.uuid() })
          this.#pillIncarnation = before
        })
        break
      }
    }
  }

  #readerDoes(pool: SimPool, _action: PoolReaderAction): void {
    const processes = this.of(pool)
    const { reader } = processes
    const { life } = reader
    const { world } = this
    this.#submit(
      pool,
      'lease-read',
      () => {
        if (processes.lastSnapshot && world.random.chance(world.cachedReadRate)) return processes.lastSnapshot
        processes.lastSnapshot = new Map(pool.leases) as ReadonlyMap<HostId, Decoded<HostLease>>
        return processes.lastSnapshot
      },
      (result) => {
        if (reader.life !== life) return
        const blocks = result === FAILED ? null : (result as ReadonlyMap<HostId, Decoded<HostLease>>)
        reader.deliver({ kind: 'read', blocks })
      },
    )
  }

  #claimsDo(pool: SimPool, action: ClaimHolderAction): void {
    const { world } = this
    const { claims, claimTokens } = this.of(pool)
    const { life } = claims
    switch (action.kind) {
      case 'lock': {
        const { uuid } = action
        const key = `claim ${uuid}`
        this.#submit(
          pool,
          'lock',
          () => pool.tryLock(key, this),
          (result) => {
            const token = typeof result === 'number' ? result : null
            if (claims.life !== life) {
              if (token !== null) this.#unlock(pool, key, token)
              return
            }
            if (token !== null) claimTokens.set(uuid, token)
            claims.deliver({ kind: 'lock-answer', uuid, isGranted: token !== null })
          },
        )
        break
      }
      case 'unlock': {
        const token = claimTokens.get(action.uuid)
        claimTokens.delete(action.uuid)
        if (token !== undefined) this.#unlock(pool, `claim ${action.uuid}`, token)
        break
      }
      case 'read-claim': {
        const { uuid } = action
        const token = claimTokens.get(uuid)
        const isAdmitted = () => token === undefined || pool.admits(`claim ${uuid}`, token)
        this.#submit(
          pool,
          'claim',
          () => (isAdmitted() ? (pool.claims.get(uuid) ?? null) : FAILED),
          (result) => {
            if (claims.life !== life) return
            if (result === FAILED) {
              claimTokens.delete(uuid)
              claims.deliver({ kind: 'lock-lost', uuid })
              claims.deliver({ kind: 'claim-read', uuid, read: null })
              return
            }
            const claim = result as Claim | null
            const read: Decoded<Claim> = claim ? { kind: 'block', block: claim } : { kind: 'empty' }
            claims.deliver({ kind: 'claim-read', uuid, read })
          },
        )
        break
      }
      case 'write-claim': {
        const { claim } = action
        const { uuid } = claim
        const token = claimTokens.get(uuid) ?? -1
        this.#submit(
          pool,
          'claim',
          () => {
            if (!pool.admits(`claim ${uuid}`, token)) return FAILED
            const before = pool.claims.get(uuid)
            if (before && before.generation > claim.generation)
              world.violate(
                'I4',
                `the claim of ${uuid} in ${pool.name} goes from generation ${before.generation} to ${claim.generation}`,
              )
            pool.claims.set(uuid, claim)
            return true
          },
          (result) => {
            if (claims.life !== life) return
            if (result === FAILED) claims.deliver({ kind: 'lock-lost', uuid })
            claims.deliver({ kind: 'claim-written', uuid, isOk: result === true })
          },
        )
        break
      }
      case 'result': {
        const { job, result } = action
        this.#pass(() => {
          this.agent.deliver({ kind: 'claim', pool: pool.name, job, result })
          if (job.kind !== 'check' || job.askedMs === undefined) return
          const { askedMs } = job
          const says = result.kind === 'mine' || result.kind === 'others' ? result.kind : 'unclear'
          this.guard.deliver({ kind: 'claim', instance: job, says, askedMs })
        })
        break
      }
    }
  }

  #agentDoes(action: AgentAction): void {
    const { world } = this
    switch (action.kind) {
      case 'save':
        this.#disk = action.record
        break
      case 'claim':
        this.#pass(() => this.of(world.pool(action.pool)).claims.deliver({ kind: 'job', job: action.job }))
        break
      case 'forget-claim':
        this.#pass(() =>
          this.of(world.pool(action.pool)).claims.deliver({ kind: 'forget', uuid: action.uuid }),
        )
        break
      case 'arm':
        this.#pass(() => this.guard.deliver(action))
        break
      case 'disarm': {
        const { instance } = action
        this.#pass(() =>
          this.guard.deliver({ kind: 'disarm', instance, isEmpty: !this.#isPopulated(instance) }),
        )
        break
      }
      case 'create':
        this.#createGuest(action.arm, action.run, action.isIncoming)
        break
      case 'kill':
        world.checkKill(this, action.instance, action.why, null)
        this.killGuest(action.instance, action.why)
        break
      case 'look-at-cgroup': {
        const { instance } = action
        this.#pass(() =>
          this.agent.deliver({ kind: 'cgroup', instance, isEmpty: !this.#isPopulated(instance) }),
        )
        break
      }
    }
  }

  #pet(): void {
    const { world } = this
    const version = ++this.#watchdog.version
    const { watchdogMs, watchdogLateMs } = world.context.timings
    const lateMs = this.isWatchdogLate * watchdogLateMs
    world.after(watchdogMs / this.rate + lateMs, () => {
      if (this.isOn && this.#watchdog.version === version) this.reset('its watchdog was not petted')
    })
  }

  #unmount(pool: SimPool): void {
    const processes = this.of(pool)
    processes.isMounted = false
    const dropped = [...processes.queue]
    processes.queue.clear()
    for (const op of dropped) op.done(FAILED)
    for (const guest of this.guests) guest.outstanding.delete(pool)
  }

  #submit(pool: SimPool, what: OpKind, apply: () => unknown, done: (result: unknown) => void): void {
    const { isMounted } = this.of(pool)
    if (isMounted) pool.submit(this, what, apply, done)
    else this.#pass(() => done(FAILED))
  }

  #unlock(pool: SimPool, key: string, token: number): void {
    if (!this.isOn) return
    pool.submit(
      this,
      'unlock',
      () => pool.unlock(key, token),
      () => {},
    )
  }

  // --- Guests

  #find(instance: InstanceGeneration): Guest | undefined {
    for (const guest of this.guests) if (isSame(guest, instance)) return guest
    return undefined
  }

  #isPopulated(instance: InstanceGeneration): boolean {
    for (const guest of this.guests) if (isSame(guest, instance) && !guest.isEmpty) return true
    return false
  }

  #createGuest(arm: Arm, run: number, isIncoming: boolean): void {
    const { world } = this
    if (!this.#record.arms.some((other) => isSame(other, arm)))
      world.violate('I8', `${this.name} creates ${show(arm)} before its guard knows of it`)
    const guest: Guest = {
      uuid: arm.uuid,
      generation: arm.generation,
      run,
      pools: arm.pools,
      state: isIncoming ? 'incoming' : 'starting',
      tokens: new Map(),
      outstanding: new Map(),
      isEmpty: false,
      lastWriteMs: world.nowMs,
    }
    this.guests.add(guest)
    const instance = { uuid: arm.uuid, generation: arm.generation }
    if (isIncoming) {
      this.#pass(() => this.agent.deliver({ kind: 'created', instance, result: 'ok' }))
      return
    }
    this.#lockImages(guest, (isLocked) => {
      if (guest.state !== 'starting') return
      if (!isLocked) {
        this.#gone(guest)
        this.agent.deliver({ kind: 'created', instance, result: 'image-locked' })
        return
      }
      this.runGuest(guest)
      this.agent.deliver({ kind: 'created', instance, result: 'ok' })
    })
  }

  #lockImages(guest: Guest, done: (isLocked: boolean) => void): void {
    const pools = guest.pools.map(({ pool }) => this.world.pool(pool))
    let left = pools.length
    let isLocked = true
    for (const pool of pools)
      this.#submit(
        pool,
        'lock',
        () => pool.tryLock(`image ${guest.uuid}`, this),
        (result) => {
          if (typeof result !== 'number') isLocked = false
          else if (guest.state === 'gone') this.#unlock(pool, `image ${guest.uuid}`, result)
          else guest.tokens.set(pool, result)
          if (--left === 0) this.world.after(this.world.random.between(5, 300), () => done(isLocked))
        },
      )
  }

  runGuest(guest: Guest): void {
    const { world } = this
    guest.state = 'running'
    world.checkRunning(this, guest)
    world.note(`${this.name} runs ${show(guest)}`)
    this.#writeOn(guest)
    if (!world.poison.has(guest.uuid)) return
    world.after(2_000, () => {
      if (this.guests.has(guest)) this.crashGuest(guest.uuid, 'crashed')
    })
  }

  /** Writes for as long as it runs, one write to each pool at a time. */
  #writeOn(guest: Guest): void {
    const { world } = this
    if (guest.state !== 'running' || !this.isOn) return
    world.after(world.random.between(200, 600), () => this.#writeOn(guest))
    if (this.isFrozen) return
    for (const { pool: name } of guest.pools) {
      const pool = world.pool(name)
      if ((guest.outstanding.get(pool) ?? 0) > 0) continue
      guest.outstanding.set(pool, 1)
      const token = guest.tokens.get(pool) ?? -1
      const { bootId } = this
      this.#submit(
        pool,
        'guest-write',
        () => {
          if (!pool.admits(`image ${guest.uuid}`, token)) return FAILED
          world.checkWrite(this, bootId, pool, guest)
          return true
        },
        (result) => {
          guest.outstanding.delete(pool)
          if (guest.state === 'gone') this.#letGo(guest)
          else if (result === FAILED) this.#ioError(guest)
          else guest.lastWriteMs = world.nowMs
        },
      )
    }
  }

  #ioError(guest: Guest): void {
    if (guest.state !== 'running') return
    guest.state = 'io-error'
    this.world.note(`${this.name}: ${show(guest)} is paused by an I/O error`)
    const { uuid, generation } = guest
    this.#pass(() => this.guard.deliver({ kind: 'io-error', instance: { uuid, generation } }))
  }

  /** SIGKILL to all of its cgroup: it is gone soon, or when what holds it in the kernel lets go. */
  killGuest(instance: InstanceGeneration, why: string, isStuck = false): void {
    const guest = this.#find(instance)
    if (!guest || guest.state === 'dying' || guest.state === 'gone') return
    const { world } = this
    world.note(`${this.name} kills ${show(guest)}: ${why}`)
    world.kills++
    guest.state = 'dying'
    const isHeld = guest.outstanding.size > 0 && (isStuck || world.random.chance(0.4))
    const look = () => {
      if (guest.isEmpty || !this.isOn) return
      if (isHeld && guest.outstanding.size > 0 && !this.isFrozen) world.after(200, look)
      else this.#gone(guest)
    }
    world.after(world.random.between(5, 60), look)
    // libvirt says that it is gone, whether it is or not.
    world.after(250, () => this.#tellEnded(guest, 'killed'))
  }

  crashGuest(uuid: string, cause: 'crashed' | 'guest-off'): void {
    for (const guest of this.guests) {
      if (guest.uuid !== uuid || (guest.state !== 'running' && guest.state !== 'io-error')) continue
      this.world.note(`${this.name}: ${show(guest)} ${cause}`)
      this.#gone(guest)
      this.world.after(250, () => this.#tellEnded(guest, cause))
    }
  }

  #tellEnded(guest: Guest, cause: 'killed' | 'crashed' | 'guest-off' | 'handed-over'): void {
    if (!this.isOn) return
    const { uuid, generation, run, isEmpty } = guest
    this.agent.deliver({ kind: 'ended', instance: { uuid, generation }, run, cause, isEmpty })
  }

  #gone(guest: Guest): void {
    guest.state = 'gone'
    guest.isEmpty = true
    this.guests.delete(guest)
    this.#letGo(guest)
  }

  /** Its image locks go when the last of its writes has been answered. */
  #letGo(guest: Guest): void {
    for (const [pool, token] of guest.tokens) {
      if (guest.outstanding.has(pool)) continue
      guest.tokens.delete(pool)
      this.#unlock(pool, `image ${guest.uuid}`, token)
    }
  }

  /** Live migration: at its end the guest runs there, under locks taken there, and not here. */
  handOver(uuid: InstanceId, generation: number, target: SimHost): void {
    const source = this.#find({ uuid, generation })
    const there = [...target.guests].find((guest) => guest.uuid === uuid && guest.state === 'incoming')
    if (source?.state !== 'running' || !there || source.outstanding.size > 0) return
    if (!this.isHeard || !this.canHear || !target.isHeard || !target.canHear || target.isFrozen) return
    this.world.note(`${this.name} hands ${show(source)} over to ${target.name}`)
    this.#gone(source)
    this.#tellEnded(source, 'handed-over')
    const tryLocks = () => {
      if (there.state !== 'incoming' || !target.isOn) return
      target.#lockImages(there, (isLocked) => {
        if (there.state !== 'incoming' || !target.isOn) return
        if (!isLocked) {
          target.#letGo(there)
          this.world.after(200, tryLocks)
          return
        }
        target.runGuest(there)
        target.agent.deliver({ kind: 'arrived', instance: { uuid, generation: there.generation } })
      })
    }
    tryLocks()
  }
}

export function show({ uuid, generation }: InstanceGeneration): string {
  return `${uuid}#${generation}`
}

function isSame(a: InstanceGeneration, b: InstanceGeneration): boolean {
  return a.uuid === b.uuid && a.generation === b.generation
}
