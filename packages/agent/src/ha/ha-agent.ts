// What this host does for instances that are given to it: the rim of core's agent-ha. It carries out what that decides (claims,
// arming, starts, kills) and tells it what came of it, and what libvirt and the guard show. All of it is looked at again each
// second, so that a guard, a libvirtd or this agent may be gone for a while, and events may be lost.
//
// Converging asks here where a guest is to be started, stopped on purpose, or let go of.

import { createHash } from 'node:crypto'
import {
  type DesiredInstance,
  type HeldOwnership,
  type HostId,
  type InstanceId,
  type InstanceMark,
  isUp,
  type ObservedDomain,
  type Ownership,
  VpeError,
} from '@vpe/core'
import {
  type AgentAction,
  type AgentCommand,
  type AgentEvent,
  type AgentHaState,
  type AgentRecord,
  type ClaimJob,
  HA_PROFILES,
  HA_RULES,
  type HaContext,
  type InstanceGeneration,
  type LocalInstance,
  lostPools,
  type OwnerRecord,
  reportInstances,
  startAgentHa,
  stepAgentHa,
} from '@vpe/core/ha'
import type { AttachPoolRequest } from '@vpe/proto'
import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import type { Hypervisor } from '../hypervisor/hypervisor.ts'
import type { InstanceTurns } from '../instance-turns.ts'
import type { Inventory } from '../inventory.ts'
import type { Slots } from '../slots.ts'
import { adoptable } from './adoption.ts'
import type { GuardPort, GuardView } from './guard-port.ts'
import { beginGuest, isImageLocked, writeGivenUp } from './guest-start.ts'
import { GuestUpkeep } from './guest-upkeep.ts'
import { saveHaRecord } from './ha-record.ts'

const NO_GUARD = 'this host has no guard: start vpe-guard, and set VPE_AGENT_GUARD_SOCKET'
/** How long a start waits for the host's leases to be fresh: they may have been given a moment ago. */
const LEASES_MS = 15_000
/** And all of it: a server that was started anew grants locks after its grace time. */
const START_MS = 130_000
const TICK_MS = 1_000
/** Whether others can be reached is asked so often while a pool is stalled. */
const NEIGHBOURS_EVERY = 5

export interface HaDeps {
  readonly hostId: string
  readonly bootId: string
  readonly stateDir: string
  readonly record: AgentRecord
  /** Null on a host that has none. */
  readonly guard: GuardPort | null
  readonly hypervisor: Hypervisor
  readonly inventory: Inventory
  readonly turns: InstanceTurns
  readonly slots: Slots
  readonly bridge: string | undefined
  /** Why this host may stand still and wake later; empty where it never does. */
  readonly pausable: string
  /** BOOTTIME, in ms. */
  readonly upMs: () => number
  /** Whether anybody outside this host answers. */
  readonly isAnyoneReachable: () => Promise<boolean>
  readonly onChange: () => void
  readonly clock: Clock
  readonly log: Logger
}

/** How a guest comes to run by its ownership. */
export interface StartWay {
  /** As it runs here already, or comes from another host; or it is started, by `create`. */
  readonly kind: 'start' | 'takes-over' | 'incoming'
  readonly create?: () => Promise<unknown>
}

export interface HaReport {
  readonly hostId: string
  readonly bootId: string
  readonly digest: string
  readonly instances: ReturnType<typeof reportInstances>
  readonly leases: readonly { readonly poolId: string; readonly isLost: boolean; readonly ageMs: number }[]
  readonly guardFault: string
  readonly profile: string
  readonly hasWatchdog: boolean
  readonly pausable: string
  readonly otherUuids: readonly string[]
}

interface Starter {
  readonly generation: number
  readonly create: () => Promise<unknown>
  error: unknown
}

export class HaAgent {
  readonly #deps: HaDeps
  readonly #guests: GuestUpkeep
  /** Calls that are under way: what is asked again each second is not asked twice at once. */
  readonly #inFlight = new Set<string>()
  readonly #starters = new Map<string, Starter>()
  /** Guests that libvirt is just starting, and how many it was asked to start. */
  readonly #creating = new Set<string>()
  readonly #creations = new Map<string, number>()
  /** What the guard is just being told of domains. */
  readonly #told = new Map<string, Promise<void>>()
  /** Guests that are being handed over. */
  readonly #leaving = new Set<string>()
  readonly #fencedSeen = new Set<string>()
  #state: AgentHaState
  #view: GuardView | null = null
  #guardFault: string
  #lastLook: Promise<void> = Promise.resolve()
  /** One that waits for the one under way, and will do for all who ask meanwhile. */
  #nextLook: Promise<void> | null = null
  #wantedPools: ReadonlySet<string> | null = null
  /** What is written down is on disk before anything follows from it. */
  #saved: Promise<void> = Promise.resolve()
  #changed = Promise.withResolvers<void>()
  #digest: string | null = null
  #ticks = 0
  #isStopped = false

  constructor(deps: HaDeps) {
    this.#deps = deps
    this.#state = startAgentHa(deps.hostId as HostId, deps.bootId, deps.record, deps.upMs())
    this.#guardFault = deps.guard ? 'the guard was not asked yet' : NO_GUARD
    this.#guests = new GuestUpkeep(deps)
  }

  /** Goes on until it is aborted. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#tick()
      await this.#deps.clock.sleep(TICK_MS, signal).catch(() => {})
    }
    this.#isStopped = true
    await this.#saved
  }

  /** What is held of an instance; to be asked after a look at its domain. */
  held(uuid: string, domain: ObservedDomain | null): HeldOwnership | null {
    const local = this.#state.instances.get(uuid)
    if (local && local.phase !== 'closed' && local.phase !== 'gated') {
      const isRunning = local.phase === 'running' && local.hasDomain
      return { generation: local.generation, isRunning }
    }
    if (local) return null
    const arm = this.#view?.arms.find((each) => each.uuid === uuid)
    if (arm) return { generation: arm.generation, isRunning: false }
    // While the guard does not answer nobody knows whether something of it is armed.
    const mark = domain?.mark
    if (!this.#deps.guard || this.#view || !mark?.isGuarded || this.#isClosed(uuid, mark.ownership))
      return null
    return { generation: mark.ownership, isRunning: false }
  }

  /**
   * Refuses an ownership that this host cannot keep.
   * @throws VpeError CONFLICT
   */
  assertCanOwn({ uuid, ownership, power }: DesiredInstance): void {
    if (!ownership || power === 'off') return
    if (ownership.bootId !== this.#deps.bootId) {
      const words = `it was given to boot ${ownership.bootId} of this host, and this is ${this.#deps.bootId}`
      throw new VpeError('CONFLICT', `instance ${uuid}: ${words}`)
    }
    if (ownership.pools.length === 0 || this.#deps.guard) return
    throw new VpeError('CONFLICT', `instance ${uuid}: its disk pools are guarded, and ${NO_GUARD}`)
  }

  /**
   * Has its guest run by its ownership: claims, arming, and the start itself. Resolves when it runs, or may come.
   * @throws VpeError with what is in its way
   */
  async start(desired: DesiredInstance, way: StartWay, signal: AbortSignal): Promise<void> {
    const { uuid, ownership } = desired
    if (!ownership) throw new Error(`instance ${uuid} has no ownership`)
    this.assertCanOwn(desired)
    await this.#untilFresh(ownership, signal)
    if (way.kind === 'start') await this.#check(uuid)
    const { generation } = ownership
    const endMs = this.#deps.upMs() + START_MS
    const starter: Starter | null = way.create ? { generation, create: way.create, error: null } : null
    if (starter) this.#starters.set(uuid, starter)
    try {
      for (;;) {
        signal.throwIfAborted()
        this.#command(startCommand(desired, ownership, way))
        const end = await this.#outcome(uuid, ownership, way, endMs, signal)
        if (end === 'ask-again') continue
        if (end === null) return
        throw starter?.error instanceof VpeError ? starter.error : end
      }
    } finally {
      if (starter && this.#starters.get(uuid) === starter) this.#starters.delete(uuid)
    }
  }

  /** Its guest is about to be stopped on purpose: nobody brings it back before it is started again. */
  hold(uuid: string): void {
    const local = this.#state.instances.get(uuid)
    if (local) this.#dispatch({ kind: 'hold', instance: local, isHeld: true })
  }

  /**
   * Gives back all that is held of an instance whose guest is off, or is ended now. Resolves when nothing is left.
   * @param mark what its domain says, or said; null where there is none, and only the guard knows
   */
  async letGo(
    uuid: string,
    mark: Pick<InstanceMark, 'isGuarded'> | null,
    signal: AbortSignal,
  ): Promise<void> {
    // What is none of the guard's does not wait for it.
    if (mark?.isGuarded === false && !this.#state.instances.has(uuid as InstanceId)) return
    for (;;) {
      await this.#refresh()
      await this.#adopt()
      // One that is off is let go of, and not ended.
      await this.#check(uuid)
      const local = this.#state.instances.get(uuid)
      if ((!local && !this.#mayBeArmed(uuid)) || local?.phase === 'closed') break
      if (local && local.phase !== 'closing') this.#release(local)
      await this.#nextChange(signal)
    }
    await this.#saved
  }

  /** By an earlier agent: what this one arms it knows. */
  #mayBeArmed(uuid: string): boolean {
    if (!this.#deps.guard) return false
    return this.#view === null || this.#view.arms.some((arm) => arm.uuid === uuid)
  }

  /** Its guest is being handed over to another host, or is not any more: that it is gone here is not taken for a crash. */
  setLeaving(uuid: string, isLeaving: boolean): void {
    if (isLeaving) this.#leaving.add(uuid)
    else this.#leaving.delete(uuid)
  }

  /** Its guest has been handed over to another host. */
  async handedOver(uuid: string): Promise<void> {
    await this.#adopt()
    const local = this.#state.instances.get(uuid)
    if (!local || local.phase === 'closed') return
    const { run } = local
    this.#dispatch({ kind: 'ended', instance: local, run, cause: 'handed-over', isEmpty: false })
  }

  /** To be told of each look at an instance. */
  consider(uuid: string): void {
    const local = this.#state.instances.get(uuid)
    if (local && local.phase !== 'closed') this.#background(`check ${uuid}`, () => this.#check(uuid))
  }

  /** In which pools this host has leases, all of them. */
  async setLeases(pools: readonly AttachPoolRequest[]): Promise<void> {
    const { guard } = this.#deps
    if (!guard) {
      if (pools.length === 0) return
      throw new VpeError('CONFLICT', NO_GUARD)
    }
    this.#wantedPools = new Set(pools.map(({ poolUuid }) => poolUuid))
    for (const pool of pools) await guard.attachPool(pool)
    await this.#refresh()
    await this.#detachUnwanted()
  }

  /** An order of the controller's. */
  async order(command: Exclude<AgentCommand, { kind: 'start' }>): Promise<void> {
    if (command.kind === 'release') await this.#adoptForRelease(command)
    this.#command(command)
    if (command.kind === 'settle') await this.#endForeign(command.records)
    await this.#saved
  }

  async report(): Promise<HaReport> {
    await this.#saved
    const { hostId, bootId, upMs } = this.#deps
    const nowMs = upMs()
    const lost = this.#lost()
    const leases = (this.#view?.leases ?? []).map(({ pool, renewedMs }) => ({
      poolId: pool,
      isLost: lost.includes(pool),
      ageMs: renewedMs === null ? 0 : Math.max(0, Math.round(nowMs - renewedMs)),
    }))
    return { hostId, bootId, digest: this.digest ?? '', leases, ...this.#standing() }
  }

  /** Of all that a report says but ages; null where nothing is guarded, and nothing owned. */
  get digest(): string | null {
    if (!this.#deps.guard && this.#state.instances.size === 0) return null
    const pools = (this.#view?.leases ?? []).map(({ pool }) => pool)
    const standing = JSON.stringify([this.#deps.bootId, pools, this.#lost(), this.#standing()])
    return createHash('sha256').update(standing).digest('hex')
  }

  /** The guard, for what is only passed on. @throws VpeError UNAVAILABLE where there is none */
  get guard(): GuardPort {
    if (this.#deps.guard) return this.#deps.guard
    throw new VpeError('UNAVAILABLE', NO_GUARD)
  }

  #standing(): Omit<HaReport, 'hostId' | 'bootId' | 'digest' | 'leases'> {
    const known = this.#state.instances
    const others = this.#deps.inventory.domains().map(({ mark }) => mark.uuid)
    return {
      instances: reportInstances(this.#state),
      guardFault: this.#guardFault,
      profile: this.#view?.profile ?? '',
      hasWatchdog: this.#view?.isWatchdogArmed ?? false,
      pausable: this.#deps.pausable,
      otherUuids: others.filter((uuid) => (known.get(uuid)?.phase ?? 'closed') === 'closed').sort(),
    }
  }

  #lost(): string[] {
    const pools = (this.#view?.leases ?? []).map(({ pool }) => pool)
    return lostPools(this.#state, pools, this.#deps.upMs(), this.#context().timings).sort()
  }

  #context(): HaContext {
    return { timings: HA_PROFILES[this.#view?.profile ?? 'default'], rules: HA_RULES }
  }

  #isClosed(uuid: string, generation: number): boolean {
    return generation <= (this.#state.record.closed.get(uuid as InstanceId) ?? -1)
  }

  #isGuardKnown(): boolean {
    return this.#deps.guard === null || this.#guardFault === ''
  }

  // --- Each second

  async #tick(): Promise<void> {
    this.#ticks++
    await this.#refresh()
    await this.#adopt()
    const domains = this.#deps.inventory.domains()
    const up = new Set(domains.filter(({ guest }) => isUp(guest)).map(({ mark }) => mark.uuid))
    // One that waits to come has no domain yet, or has run already and was not seen.
    for (const { uuid, hasDomain, phase } of this.#state.instances.values())
      if (hasDomain && (phase === 'incoming' || !up.has(uuid))) this.consider(uuid)
    this.#dispatch({ kind: 'tick' })
    if (this.#view) {
      const { arms, leases } = this.#view
      this.#background('guests', () => this.#guests.keep(arms))
      this.#background('detach', () => this.#detachUnwanted())
      const stalled = leases.filter(({ isStalled }) => isStalled)
      if (stalled.length > 0 && this.#ticks % NEIGHBOURS_EVERY === 0)
        this.#background('neighbours', async () => {
          const isReachable = await this.#deps.isAnyoneReachable()
          // Whether the pool works for others this host cannot know by itself.
          for (const { pool } of stalled) await this.guard.noteNeighbours(pool, false, isReachable)
        })
    }
    this.#publish()
  }

  /** Resolves when the guard was asked since the call. One after the other: an older answer never follows a newer one. */
  #refresh(): Promise<void> {
    if (this.#nextLook) return this.#nextLook
    const look = this.#lastLook.then(() => {
      this.#nextLook = null
      return this.#lookAtGuard()
    })
    this.#nextLook = look
    this.#lastLook = look
    return look
  }

  /** Asks the guard how things stand, and passes on what is news. */
  async #lookAtGuard(): Promise<void> {
    const { guard, log } = this.#deps
    if (!guard) return
    try {
      this.#view = await guard.look()
      if (this.#guardFault !== '') log.info('the guard answers')
      this.#guardFault = ''
    } catch (error) {
      const fault = error instanceof Error ? error.message : String(error)
      if (this.#guardFault !== fault) log.warn({ why: fault }, 'the guard does not answer')
      this.#guardFault = fault
      this.#dispatch({ kind: 'guard', isAnswering: false })
      return
    }
    this.#dispatch({ kind: 'guard', isAnswering: true })
    for (const { pool, renewedMs } of this.#view.leases)
      if (renewedMs !== null) this.#dispatch({ kind: 'renewed', pool, submittedMs: renewedMs })
    const fenced = new Set<string>()
    for (const { uuid, generation, why } of this.#view.fenced) {
      const key = `${uuid} ${generation} ${why}`
      fenced.add(key)
      if (this.#fencedSeen.has(key)) continue
      log.error({ instance: uuid, generation, why }, 'the guard has ended a guest')
      this.#dispatch({ kind: 'fenced', instance: { uuid, generation }, why })
    }
    // What is armed again is not among them any more: the next time counts.
    this.#fencedSeen.clear()
    for (const key of fenced) this.#fencedSeen.add(key)
  }

  /** Takes up what an earlier agent has left: what the guard answers for, and what runs by an ownership without pools. */
  async #adopt(): Promise<void> {
    const { hypervisor, inventory, bootId, log } = this.#deps
    if (!this.#isGuardKnown()) return
    const arms = this.#view?.arms ?? []
    const guests = adoptable(this.#state, arms, inventory.domains(), bootId)
    if (guests.length === 0) return
    // Decided anew on what is there now.
    const { domains, unread } = await inventory.lookAtAll()
    for (const guest of adoptable(this.#state, arms, domains, bootId)) {
      const { uuid, generation } = guest
      if (unread.some((domain) => domain.uuid === uuid)) continue
      const isIncoming = guest.isIncoming || (await hypervisor.migrationJob(uuid)) === 'in'
      this.#dispatch({ kind: 'start', running: [{ ...guest, isIncoming }] })
      this.#guests.doubt(uuid)
      log.info({ instance: uuid, generation, isIncoming, isOff: guest.isOff }, 'owned instance taken up')
      if (this.#isClosed(uuid, generation)) this.#release(guest)
    }
  }

  async #detachUnwanted(): Promise<void> {
    const wanted = this.#wantedPools
    if (!wanted || !this.#view) return
    for (const { pool } of this.#view.leases) {
      if (wanted.has(pool)) continue
      await this.guard.detachPool(pool).catch((error: unknown) => {
        if (!(error instanceof VpeError) || error.code !== 'IN_USE') throw error
      })
    }
  }

  // --- What libvirt shows

  /** Looks at a guest, and tells guard and machine what is new of it. */
  async #check(uuid: string): Promise<void> {
    const { inventory, hypervisor, turns, guard } = this.#deps
    const before = this.#state.instances.get(uuid)
    if (!before || before.phase === 'closed' || this.#creating.has(uuid)) return
    const creation = this.#creations.get(uuid)
    const domain = await inventory.look(uuid)
    const isNew = () => this.#creating.has(uuid) || this.#creations.get(uuid) !== creation
    if (isNew()) return
    if (domain) this.#holdAsMarked(before, domain, turns.isBusy(uuid))
    const isThere = domain !== null && domain.guest.power !== 'off'
    if (before.isGuarded) await this.#noteDomain(uuid, isThere)
    if (before.phase === 'incoming') {
      const isUp_ = domain !== null && isUp(domain.guest)
      if (before.isIncoming && isUp_ && (await hypervisor.migrationJob(uuid)) !== 'in')
        this.#dispatch({ kind: 'arrived', instance: before })
      return
    }
    if (!before.hasDomain || this.#leaving.has(uuid)) return
    if (domain?.guest.power === 'panicked') await this.#guests.endPanicked(uuid, before.isHeld)
    if (isThere) return
    // Only the guard knows whether it has ended it.
    await this.#refresh()
    if (before.isGuarded && !this.#isGuardKnown()) return
    const isEmpty = before.isGuarded && guard ? await guard.isGone(uuid) : true
    if (isNew()) return
    const cause = this.#isEndedByGuard(before) ? 'killed' : causeOf(domain)
    this.#dispatch({ kind: 'ended', instance: before, run: before.run, cause, isEmpty })
  }

  /** Tells the guard what libvirt has. Never that there is none while libvirt may be about to start or receive one. */
  async #noteDomain(uuid: string, isThere: boolean): Promise<void> {
    const { guard } = this.#deps
    const local = this.#state.instances.get(uuid as InstanceId)
    const isExpected =
      local?.phase === 'incoming' || local?.waitsFor === 'arm' || local?.waitsFor === 'create'
    if (!guard || (!isThere && isExpected)) return
    const told = guard.noteDomain(uuid, isThere)
    this.#told.set(uuid, told)
    await told.finally(() => this.#told.get(uuid) === told && this.#told.delete(uuid))
  }

  #isEndedByGuard({ uuid, generation }: InstanceGeneration): boolean {
    const isSame = (other: InstanceGeneration) => other.uuid === uuid && other.generation === generation
    const { arms = [], fenced = [] } = this.#view ?? {}
    return arms.some((arm) => isSame(arm) && arm.isEnding) || fenced.some(isSame)
  }

  /** What its mark says is wanted: a guest that is not to be on is not brought back. */
  #holdAsMarked(local: LocalInstance, { mark }: ObservedDomain, isBusy: boolean): void {
    const isHeld = mark.power !== 'on' || !mark.ha
    if (isHeld !== local.isHeld && (isHeld || !isBusy))
      this.#dispatch({ kind: 'hold', instance: local, isHeld })
  }

  // --- Orders

  #command(command: AgentCommand): void {
    this.#dispatch({ kind: 'command', command })
  }

  #release({ uuid, generation, pools }: Pick<LocalInstance, 'uuid' | 'generation' | 'pools'>): void {
    const { epoch } = this.#state.record
    this.#command({ kind: 'release', epoch, instance: { uuid, generation }, pools })
  }

  /** A guest that this agent knows nothing of is ended like any other. */
  async #adoptForRelease({ instance, pools }: Extract<AgentCommand, { kind: 'release' }>): Promise<void> {
    if (this.#state.instances.has(instance.uuid)) return
    const domain = await this.#deps.inventory.look(instance.uuid)
    if (!domain || domain.guest.power === 'off' || domain.mark.generation > instance.generation) return
    this.#dispatch({ kind: 'start', running: [{ ...instance, pools, run: 0, isIncoming: false }] })
  }

  /** Ends and forgets domains, running or not, that another host has been given since. */
  async #endForeign(records: readonly OwnerRecord[]): Promise<void> {
    const { inventory, hostId, hypervisor, turns, log } = this.#deps
    const { domains } = await inventory.lookAtAll()
    for (const { mark, guest } of domains) {
      const { uuid } = mark
      const owner = records.find((record) => record.uuid === uuid)
      if (!owner || owner.hostId === hostId || owner.generation <= mark.generation) continue
      const local = this.#state.instances.get(uuid)
      // What is owned goes its own way first; the order comes again.
      if (local && local.phase !== 'closed') continue
      const running = turns.run(uuid, { kind: 'upkeep' }, async () => {
        if (guest.power !== 'off') await hypervisor.destroyDomain(uuid)
        await hypervisor.undefineDomain(uuid)
        await inventory.look(uuid)
        log.warn(
          { instance: uuid, owner: owner.hostId, generation: owner.generation },
          'another host’s: undefined here',
        )
      })
      await running?.result
    }
  }

  // --- The machine

  #dispatch(event: AgentEvent): void {
    const step = stepAgentHa(this.#state, event, this.#deps.upMs(), this.#context())
    const before = this.#state
    const hasChanged = step.state !== before
    this.#state = step.state
    if (step.state.instances !== before.instances) this.#logPhases(before)
    for (const action of step.actions) {
      if (action.kind === 'save') this.#save(action.record)
      else void this.#saved.then(() => this.#perform(action))
    }
    if (!hasChanged) return
    const { resolve } = this.#changed
    this.#changed = Promise.withResolvers<void>()
    resolve()
  }

  #logPhases({ instances: before }: AgentHaState): void {
    for (const { uuid, generation, phase, why } of this.#state.instances.values()) {
      const from = before.get(uuid)
      if (from?.phase === phase && from.generation === generation) continue
      const level = phase === 'failed' || phase === 'given-up' ? 'error' : 'info'
      const news = { instance: uuid, generation, from: from?.phase, to: phase, why: why || undefined }
      this.#deps.log[level](news, 'owned instance changed')
    }
  }

  #save(record: AgentRecord): void {
    const { stateDir, log, clock } = this.#deps
    this.#saved = this.#saved.then(async () => {
      for (;;) {
        try {
          return await saveHaRecord(stateDir, record)
        } catch (error) {
          log.error({ err: error }, 'what this host has let go of cannot be written down; trying again')
          await clock.sleep(TICK_MS)
        }
      }
    })
  }

  #perform(action: Exclude<AgentAction, { kind: 'save' }>): void {
    switch (action.kind) {
      case 'claim':
        this.#background(claimKey(action.pool, action.job), () => this.#claim(action.pool, action.job))
        break
      case 'forget-claim':
        this.#background(`forget ${action.pool} ${action.uuid}`, () =>
          this.#forgetClaim(action.pool, action.uuid),
        )
        break
      case 'arm':
        this.#background(`arm ${action.arm.uuid} ${action.arm.generation}`, () => this.#arm(action))
        break
      case 'disarm':
        this.#background(`disarm ${action.instance.uuid}`, () => this.#disarm(action.instance))
        break
      case 'create':
        this.#background(`create ${action.arm.uuid}`, () => this.#create(action))
        break
      case 'kill':
        this.#deps.log.warn({ instance: action.instance.uuid, why: action.why }, 'its guest is ended')
        this.#background(`kill ${action.instance.uuid}`, () => this.#kill(action.instance.uuid))
        break
      case 'look-at-cgroup':
        this.#background(`cgroup ${action.instance.uuid}`, () => this.#lookAtCgroup(action.instance))
        break
      case 'give-up':
        this.#background(`give up ${action.instance.uuid}`, () =>
          writeGivenUp(action.instance.uuid, action.why, this.#deps),
        )
        break
      default:
        throw new Error(`no such action: ${JSON.stringify(action satisfies never)}`)
    }
  }

  async #claim(pool: string, job: ClaimJob): Promise<void> {
    const result = await this.guard
      .claim(pool, job)
      .catch((error: Error) => ({ kind: 'failed', why: error.message }) as const)
    this.#dispatch({ kind: 'claim', pool, job, result })
  }

  /** Nobody asks for it again: another host waits for the lock. */
  async #forgetClaim(pool: string, uuid: string): Promise<void> {
    for (;;) {
      try {
        return await this.guard.forgetClaim(pool, uuid)
      } catch (error) {
        if (!(error instanceof VpeError) || error.code !== 'UNAVAILABLE' || this.#isStopped) throw error
        await this.#deps.clock.sleep(TICK_MS)
      }
    }
  }

  async #arm({ arm, askedMs, isRunning }: Extract<AgentAction, { kind: 'arm' }>): Promise<void> {
    // What was said before is heard before.
    await this.#told.get(arm.uuid)
    const refusal = await this.guard.arm(arm, askedMs, isRunning).catch((error: Error) => error.message)
    this.#dispatch({ kind: 'armed', instance: arm, askedMs, refusal })
  }

  async #disarm(instance: InstanceGeneration): Promise<void> {
    await this.#tellDomain(instance.uuid)
    if (await this.guard.disarm(instance)) this.#dispatch({ kind: 'disarmed', instance })
  }

  async #create({ arm, run, isIncoming }: Extract<AgentAction, { kind: 'create' }>): Promise<void> {
    const { uuid, generation } = arm
    const instance = { uuid, generation }
    if (isIncoming) {
      this.#dispatch({ kind: 'created', instance, result: 'ok' })
      return
    }
    const known = this.#starters.get(uuid)
    const starter = known?.generation === generation ? known : null
    this.#creating.add(uuid)
    this.#creations.set(uuid, run)
    try {
      if (starter) await starter.create()
      else await beginGuest(uuid, this.#deps)
      this.#dispatch({ kind: 'created', instance, result: 'ok' })
    } catch (error) {
      if (starter) starter.error = error
      const { message: why, code } = error as VpeError
      const result = isImageLocked(why) ? 'image-locked' : code === 'SUPERSEDED' ? 'busy' : 'failed'
      this.#deps.log.warn({ instance: uuid, why, result }, 'owned instance could not be started')
      this.#dispatch({ kind: 'created', instance, result, why })
    } finally {
      this.#creating.delete(uuid)
    }
    await this.#check(uuid)
  }

  async #kill(uuid: string): Promise<void> {
    const { guard, hypervisor, inventory } = this.#deps
    if (guard && this.#state.instances.get(uuid as InstanceId)?.isGuarded) await guard.endGuest(uuid)
    const domain = await inventory.look(uuid)
    if (domain && domain.guest.power !== 'off') await hypervisor.destroyDomain(uuid)
  }

  async #lookAtCgroup(instance: InstanceGeneration): Promise<void> {
    const { guard } = this.#deps
    const { uuid } = instance
    const local = this.#state.instances.get(uuid)
    const isThere = await this.#tellDomain(uuid)
    if (isThere && local?.phase === 'closing') await this.#kill(uuid)
    const isEmpty = guard && local?.isGuarded ? await guard.isGone(uuid) : !isThere
    this.#dispatch({ kind: 'cgroup', instance, isEmpty })
  }

  /** Tells the guard whether libvirt has a guest of it. */
  async #tellDomain(uuid: string): Promise<boolean> {
    const creation = this.#creations.get(uuid)
    const domain = await this.#deps.inventory.look(uuid)
    const isThere = domain !== null && domain.guest.power !== 'off'
    const isStarting = this.#creating.has(uuid) || this.#creations.get(uuid) !== creation
    if (!isStarting) await this.#noteDomain(uuid, isThere)
    return isThere || isStarting
  }

  // --- Waiting

  /** Null when it is so, an error when it will not be, and 'ask-again' when something has to go first. */
  async #outcome(
    uuid: string,
    { generation }: Ownership,
    way: StartWay,
    endMs: number,
    signal: AbortSignal,
  ): Promise<VpeError | null | 'ask-again'> {
    for (let isAsked = true; ; isAsked = false) {
      const local = this.#state.instances.get(uuid)
      if (this.#isClosed(uuid, generation) || (local && local.generation > generation)) {
        const words = `generation ${generation} of it was let go of here; it needs a newer one`
        return new VpeError('STALE_GENERATION', `instance ${uuid}: ${words}`)
      }
      const isMine = local?.generation === generation
      if (isMine && local.phase === 'running' && local.hasDomain) return null
      if (isMine && way.kind === 'incoming' && local.phase === 'incoming' && local.hasDomain) return null
      if (isMine && local.waitsFor === null && (local.phase === 'failed' || local.phase === 'given-up'))
        return new VpeError('CONFLICT', `instance ${uuid} is not started: ${local.why}`)
      if (this.#deps.upMs() > endMs)
        return new VpeError(
          'UNAVAILABLE',
          `instance ${uuid} is not started yet: ${local?.why ?? 'its leases are late'}`,
        )
      if (!isMine && !isAsked) return 'ask-again'
      await this.#nextChange(signal)
    }
  }

  /** Resolves when something has changed, or a second is over. */
  async #nextChange(signal: AbortSignal): Promise<void> {
    const over = new AbortController()
    const either = AbortSignal.any([signal, over.signal])
    const pause = this.#deps.clock.sleep(TICK_MS, either).catch(() => {})
    await Promise.race([this.#changed.promise, pause])
    over.abort()
    signal.throwIfAborted()
  }

  async #untilFresh({ pools }: Ownership, signal: AbortSignal): Promise<void> {
    const { upMs } = this.#deps
    const startMs = upMs()
    const isFresh = () => {
      const { timings } = this.#context()
      return pools.every(({ pool }) => {
        const renewedMs = this.#state.renewals.get(pool)
        return renewedMs !== undefined && upMs() - renewedMs <= timings.selfMs / 2
      })
    }
    while (!isFresh() && upMs() - startMs < LEASES_MS) {
      await this.#refresh()
      if (!isFresh()) await this.#nextChange(signal)
    }
  }

  /** Does something that nobody waits for, once at a time; what fails is tried again by the next look. */
  #background(key: string, work: () => Promise<void>): void {
    if (this.#inFlight.has(key)) return
    this.#inFlight.add(key)
    work()
      .catch((error: unknown) => {
        const isExpected = error instanceof VpeError && ['UNAVAILABLE', 'SUPERSEDED'].includes(error.code)
        this.#deps.log[isExpected ? 'debug' : 'error'](
          { err: error, what: key },
          'it did not work; it is tried again',
        )
      })
      .finally(() => this.#inFlight.delete(key))
  }

  #publish(): void {
    const { digest } = this
    if (digest === this.#digest) return
    this.#digest = digest
    this.#deps.onChange()
  }
}

function startCommand(desired: DesiredInstance, ownership: Ownership, way: StartWay): AgentCommand {
  const { uuid, epoch, generation: wish } = desired
  const { generation, bootId, pools } = ownership
  return {
    ...{ kind: 'start', epoch, uuid, generation, bootId, pools, wish },
    isIncoming: way.kind === 'incoming',
    hasGuest: way.kind === 'takes-over',
  }
}

function causeOf(domain: ObservedDomain | null): 'crashed' | 'guest-off' {
  return domain?.guest.power === 'off' && domain.guest.reason === 'guest-shutdown' ? 'guest-off' : 'crashed'
}

function claimKey(pool: string, job: ClaimJob): string {
  return `claim ${pool} ${job.kind} ${job.uuid} ${'generation' in job ? job.generation : ''}`
}
