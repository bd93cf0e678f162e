// Everything at once: hosts, pools, controllers, time and chance. It is also where the invariants are checked, since only it
// knows what is really so.

import type { HostId, InstanceId } from '@vpe/core'
import {
  type Disarms,
  HA_RULES,
  type HaContext,
  type HaInstance,
  type HaRecord,
  type HaRules,
  type HaTimings,
  type InstanceGeneration,
  isHostDisarmed,
  isInstanceDisarmed,
  NO_DISARMS,
  newHaInstance,
  observersNeeded,
  RECOVERY_LIMITS,
} from '@vpe/core/ha'
import { type Invariant, Violation, WriteOracle, whyUnproven } from './checks.ts'
import { Random } from './random.ts'
import { SimController } from './sim-controller.ts'
import { type Guest, SimHost, show } from './sim-host.ts'
import { SimPool, type SimPoolSettings } from './sim-pool.ts'
import { Timeline } from './timeline.ts'

export interface WorldSettings {
  readonly seed: number
  readonly timings: HaTimings
  readonly rules?: Partial<HaRules>
  readonly pools: readonly SimPoolSettings[]
  readonly hosts: readonly {
    readonly name: string
    readonly pools: readonly string[]
    readonly memoryMib: number
    readonly canPowerOff: boolean
    readonly rate?: number
  }[]
  readonly instances: readonly {
    readonly name: string
    readonly pools: readonly string[]
    readonly host: string
    readonly priority: HaInstance['priority']
    readonly isolation: HaInstance['isolation']
  }[]
  readonly isTraced?: boolean
  /** How often the controller looks. */
  readonly controllerTickMs?: number
}

const INSTANCE_MIB = 1_024

export class World {
  readonly random: Random
  readonly context: HaContext
  readonly timeline = new Timeline()
  readonly pools: readonly SimPool[]
  readonly hosts: readonly SimHost[]
  readonly controllers: SimController[] = []
  readonly store: { epoch: number; record: HaRecord }
  readonly oracle = new WriteOracle()
  readonly log: string[] = []
  readonly #isTraced: boolean
  readonly #owners = new Map<string, HostId>()
  readonly #settings: WorldSettings
  #tokens = 0
  crashRate = 0
  ackLoss = 0
  tornRate = 0
  cachedReadRate = 0
  messageLoss = 0
  messageDelayMs = 0
  duplicationRate = 0
  isBusUp = true
  kills = 0
  /** Instances whose guests crash soon after each start. */
  readonly poison = new Set<string>()
  failovers = 0
  disarms: Disarms = NO_DISARMS
  /** Faults are over: an operator switches on what is off. */
  isHealed = false
  readonly controllerTickMs: number
  /** How long the storage takes to say that it has shut a host out. */
  wordMs = 0

  constructor(settings: WorldSettings) {
    this.#settings = settings
    this.random = new Random(settings.seed)
    this.context = { timings: settings.timings, rules: { ...HA_RULES, ...settings.rules } }
    this.#isTraced = settings.isTraced ?? false
    this.controllerTickMs = settings.controllerTickMs ?? 1_000
    this.pools = settings.pools.map((pool) => new SimPool(this, pool))
    this.hosts = settings.hosts.map(
      (host) =>
        new SimHost(this, {
          ...host,
          id: host.name as HostId,
          rate: host.rate ?? this.random.between(0.999, 1.001),
          pools: host.pools.map((name) => this.pool(name)),
        }),
    )
    for (const host of this.hosts) host.powerOn()
    const hosts = this.hosts.map((host) => ({
      hostId: host.id,
      pools: host.pools.map((pool) => hostPool(pool)),
      canPowerOff: host.canPowerOff,
      phase: 'up' as const,
      why: '',
      bootId: host.bootId,
      verdict: null,
      proofs: [],
    }))
    this.store = { epoch: 0, record: { hosts, instances: [], disarms: NO_DISARMS } }
    const controller = new SimController(this, 'controller')
    this.controllers.push(controller)
    controller.start(true)
    this.after(4_000, () => this.#addInstances())
  }

  #addInstances(): void {
    for (const wanted of this.#settings.instances) {
      const host = this.host(wanted.host as HostId)
      const pools = wanted.pools.map((name) => hostPool(this.pool(name)))
      const { priority, isolation } = wanted
      const uuid = wanted.name as InstanceId
      const instance = newHaInstance(
        { uuid, pools, priority, isolation, memoryMib: INSTANCE_MIB },
        host.id,
        host.bootId,
      )
      for (const controller of this.controllers) controller.deliver({ kind: 'add', instance })
    }
  }

  get nowMs(): number {
    return this.timeline.nowMs
  }

  /** The one that the store belongs to. */
  get controller(): SimController | null {
    return this.controllers.find(({ isAlive, epoch }) => isAlive && epoch === this.store.epoch) ?? null
  }

  after(delayMs: number, run: () => void): void {
    this.timeline.after(delayMs, run)
  }

  delay(): number {
    return (
      this.random.between(0.2, 3) +
      (this.messageDelayMs > 0 ? this.random.between(0, this.messageDelayMs) : 0)
    )
  }

  uuid(): string {
    return `id-${++this.#tokens}`
  }

  nextToken(): number {
    return ++this.#tokens
  }

  host(id: HostId): SimHost {
    const host = this.hosts.find((host) => host.id === id)
    if (!host) throw new Error(`no host ${id}`)
    return host
  }

  nameOf(id: HostId): string {
    return this.host(id).name
  }

  pool(name: string): SimPool {
    const pool = this.pools.find((pool) => pool.name === name)
    if (!pool) throw new Error(`no pool ${name}`)
    return pool
  }

  note(line: string): void {
    if (this.#isTraced) this.log.push(`${(this.nowMs / 1000).toFixed(3).padStart(9)}  ${line}`)
  }

  /** What differs from run to run of no interest is left out of a log. */
  plain(text: string): string {
    return text.replace(/id-\d+/g, 'id')
  }

  /** A heartbeat, over the bus. */
  hear(host: SimHost): void {
    if (!host.isHeard || !this.isBusUp || this.random.chance(this.messageLoss)) return
    const report = host.report()
    if (!report) return
    for (const controller of this.controllers)
      if (controller.isAlive) this.after(this.delay(), () => controller.deliver({ kind: 'report', report }))
  }

  /** An operator's word; one that does not answer has not been told. */
  disarm(disarms: Disarms): void {
    const { controller } = this
    if (!controller || controller.isHung) return
    controller.deliver({ kind: 'disarm', disarms })
    // It counts from when it is written down.
    this.disarms = this.store.record.disarms
  }

  noteFailover(_instance: HaInstance): void {
    this.failovers++
  }

  // --- Invariants

  violate(invariant: Invariant, what: string): never {
    throw new Violation(invariant, this.nowMs, what)
  }

  /** A write of a guest has reached the disk. */
  checkWrite(host: SimHost, bootId: string, pool: SimPool, guest: Guest): void {
    const overwritten = this.oracle.write(pool.name, guest.uuid, guest.generation)
    if (overwritten !== null) this.violate('I1', overwritten)
    if (pool.poolClass !== 'T' || !host.isOn || host.bootId !== bootId || guest.state !== 'running') return
    // The holder's half of the inequality: it runs no longer than this after its last renewal.
    const { selfMs, watchdogMs, watchdogLateMs, flightMs } = this.context.timings
    const mostMs = 1.002 * (selfMs + watchdogMs) + watchdogLateMs + flightMs
    const { appliedMs } = host.of(pool)
    if (this.nowMs - appliedMs > mostMs)
      this.violate(
        'I2',
        `${host.name} runs ${show(guest)} in ${pool.name}, ${Math.round(this.nowMs - appliedMs)} ms after its last renewal`,
      )
  }

  /** A guest begins to run. */
  checkRunning(host: SimHost, guest: Guest): void {
    const key = `${guest.uuid}#${guest.generation}`
    const owner = this.#owners.get(key)
    if (owner !== undefined && owner !== host.id)
      this.violate('I4', `${key} was given to ${this.nameOf(owner)}, and runs on ${host.name}`)
    this.#owners.set(key, host.id)
    for (const other of this.hosts)
      for (const running of other.guests) {
        if (running === guest || running.uuid !== guest.uuid || running.isEmpty) continue
        if (running.state === 'incoming' || running.state === 'starting') continue
        // In class E one that the storage refuses is none.
        const canWrite = running.pools.some(({ pool: name }) => {
          const pool = this.pool(name)
          return (
            pool.poolClass === 'T' || pool.admits(`image ${running.uuid}`, running.tokens.get(pool) ?? -1)
          )
        })
        if (canWrite)
          this.violate('I2', `${show(guest)} runs on ${host.name} beside ${show(running)} on ${other.name}`)
      }
  }

  /** A guest that was paused goes on: nobody else may be it by now. */
  checkResumed(host: SimHost, guest: Guest): void {
    for (const other of this.hosts)
      for (const running of other.guests)
        if (
          running.uuid === guest.uuid &&
          running.generation > guest.generation &&
          running.state === 'running'
        )
          this.violate(
            'I2',
            `${host.name} resumes ${show(guest)}, and ${show(running)} runs on ${other.name}`,
          )
  }

  /** The store is restored from a copy that does not know an instance; its guest goes on. */
  forget(uuid: string): void {
    this.forgotten.add(uuid)
    const { record } = this.store
    this.store.record = { ...record, instances: record.instances.filter((other) => other.uuid !== uuid) }
    const { controller } = this
    controller?.kill()
    controller?.start()
  }

  readonly forgotten = new Set<string>()
  /** Instances that their users want off. */
  readonly stopped = new Set<string>()

  checkKill(host: SimHost, instance: InstanceGeneration, why: string, pillFor: string | null): void {
    const { uuid, generation } = instance
    const record = this.store.record.instances.find((other) => other.uuid === uuid)
    const guest = [...host.guests].find((other) => other.uuid === uuid && other.generation === generation)
    const pools = guest?.pools.map(({ pool }) => this.pool(pool)) ?? []
    switch (why) {
      case 'lease-expired': {
        const { selfMs, guardMs } = this.context.timings
        const isExpired = pools.some(
          (pool) => pool.poolClass === 'T' && this.nowMs - host.of(pool).knownMs > 0.99 * (selfMs - guardMs),
        )
        if (guest && pools.every(({ poolClass }) => poolClass === 'E'))
          this.violate('I10', `${host.name} kills ${show(instance)} for a lease in class E`)
        if (guest && !isExpired) {
          // A guard that has died may not have written down the latest.
          if (host.guard.life === 1)
            this.violate('I6', `${host.name} kills ${show(instance)}, and its lease has not expired`)
        }
        break
      }
      case 'pill':
        if (pillFor === null)
          this.violate(
            'I6',
            `${host.name} kills ${show(instance)} for a pill that was for another incarnation`,
          )
        break
      case 'newer-owner': {
        const claims = pools.map((pool) => pool.claims.get(uuid))
        const isNewer = claims.some(
          (claim) => claim !== undefined && (claim.generation > generation || claim.state === 'released'),
        )
        if (guest && !isNewer)
          this.violate('I6', `${host.name} kills ${show(instance)}, and nobody else has claimed it`)
        break
      }
      case 'locks-lost':
        if (guest && pools.every((pool) => pool.admits(`image ${uuid}`, guest.tokens.get(pool) ?? -1)))
          this.violate('I6', `${host.name} kills ${show(instance)}, and it has its locks`)
        break
      case 'released':
      case 'newer-record': {
        const isWanted =
          record !== undefined &&
          record.generation === generation &&
          record.hostId === host.id &&
          record.state === 'running' &&
          record.isWanted &&
          record.migration === null
        if (isWanted) this.violate('I6', `${host.name} kills ${show(instance)}, which is to run there`)
        break
      }
      case 'silence':
        this.violate('I5', `${host.name} kills ${show(instance)} because nobody is heard`)
        break
      default:
        this.violate('I6', `${host.name} kills ${show(instance)} for no reason that counts: ${why}`)
    }
  }

  checkVerdict(controller: SimController, hostId: HostId): void {
    const after = controller.state?.watch.hosts.get(hostId)
    const verdict = after?.verdict
    if (!after || !verdict) return
    const { timings } = this.context
    if (this.nowMs - controller.startedMs < timings.settleMs * 0.99)
      this.violate('I12', `${controller.name} judges ${hostId} before it has listened for long enough`)
    const hosts = [...(controller.state?.watch.hosts.values() ?? [])]
    const lost = hosts.filter(
      ({ phase, lostMs }) =>
        phase !== 'up' && phase !== 'quarantined' && lostMs !== null && this.nowMs - lostMs <= 120_000,
    )
    if (lost.length > Math.max(1, Math.floor(hosts.length * 0.3)))
      this.violate(
        'I12',
        `${controller.name} judges ${hostId} while ${lost.length} of ${hosts.length} hosts are lost`,
      )
    if (isHostDisarmed(this.disarms, hostId, this.nowMs))
      this.violate('I12', `${controller.name} judges ${hostId} while it is disarmed`)
    for (const name of verdict.pools) {
      const users = this.hosts.filter(({ pools }) => pools.some((pool) => pool.name === name))
      const stale = verdict.evidence.filter(({ pool, kind }) => pool === name && kind === 'stale')
      if (stale.length < observersNeeded(users.length))
        this.violate(
          'I9',
          `${hostId} is judged stale in ${name} by ${stale.length} observers who have seen it so`,
        )
      const pool = this.pool(name)
      const downMs = pool.downSinceMs === null ? 0 : this.nowMs - pool.downSinceMs
      if (downMs > 3 * timings.writeMs + 3 * timings.readMs + 6_000)
        this.violate(
          'I10',
          `${hostId} is judged stale in ${name}, which has been down for ${Math.round(downMs)} ms`,
        )
    }
  }

  checkCommit(controller: SimController, epoch: number, record: HaRecord): void {
    if (epoch < this.store.epoch)
      this.violate(
        'I4',
        `${controller.name} of epoch ${epoch} writes after epoch ${this.store.epoch} has begun`,
      )
    const before = new Map(this.store.record.instances.map((instance) => [instance.uuid, instance]))
    const { rules } = HA_LIMITS
    for (const instance of record.instances) {
      const old = before.get(instance.uuid)
      if (!old || old === instance) continue
      if (instance.generation < old.generation)
        this.violate(
          'I4',
          `${instance.uuid} goes from generation ${old.generation} to ${instance.generation}`,
        )
      const isStart =
        instance.generation > old.generation &&
        old.state === 'lost' &&
        instance.state === 'starting' &&
        instance.migration === null
      if (!isStart || instance.startedBy === old.startedBy) continue
      if (!old.isWanted) this.violate('I6', `${show(instance)} is started, and its user wants it off`)
      if (isInstanceDisarmed(this.disarms, old, this.nowMs))
        this.violate('I12', `${show(instance)} is started on ${instance.hostId} while it is disarmed`)
      for (const { kind, pool, hostId, atMs } of instance.startedBy) {
        const { suspectedMs } = instance.clock
        const revokedMs = pool === null ? null : (this.pool(pool).revokedMs.get(hostId) ?? null)
        if (kind === 'revoked' && suspectedMs !== null && (revokedMs ?? 0) < suspectedMs)
          this.violate(
            'I3',
            `${show(instance)} is started by a word of ${Math.round(atMs)} that ${hostId} was shut out, before it was suspected at ${Math.round(suspectedMs)}`,
          )
      }
      const unproven = whyUnproven(instance.startedBy, instance.pools)
      if (unproven !== null)
        this.violate('I3', `${show(instance)} is started on ${instance.hostId}: ${unproven}`)
      const starting = record.instances.filter(
        ({ state, hostId, startedBy }) =>
          state === 'starting' && hostId === instance.hostId && startedBy.length > 0,
      )
      if (starting.length > rules.startsPerHost)
        this.violate('I11', `${starting.length} starts at a time on ${instance.hostId}`)
      const lastMs = this.#lastStartMs.get(instance.hostId)
      const isStaggered = starting.length > rules.startsAtOnce && lastMs?.epoch === epoch
      if (isStaggered && this.nowMs - lastMs.atMs < rules.staggerMs * 0.9)
        this.violate(
          'I11',
          `two starts within ${Math.round(this.nowMs - lastMs.atMs)} ms on ${instance.hostId}`,
        )
      this.#lastStartMs.set(instance.hostId, { atMs: this.nowMs, epoch })
    }
  }

  readonly #lastStartMs = new Map<HostId, { readonly atMs: number; readonly epoch: number }>()

  /** Why not every instance is where it should be; null when all is well (I13). */
  whyUnwell(): string | null {
    const controller = this.controller
    if (!controller?.state) return 'no controller runs'
    for (const { hostId, phase } of controller.state.watch.hosts.values())
      if (phase !== 'up') return `host ${hostId} is ${phase}`
    const { instances } = controller.state.recovery
    if (instances.size + this.forgotten.size < this.#settings.instances.length)
      return 'an instance is not known'
    for (const instance of instances.values()) {
      if (instance.state === 'error') continue
      if (instance.state !== 'running') return `${show(instance)} is ${instance.state} (${instance.why})`
      const running = this.hosts.flatMap((host) =>
        [...host.guests].filter(({ uuid }) => uuid === instance.uuid).map((guest) => ({ host, guest })),
      )
      const [only] = running
      if (!only) return `${show(instance)} runs nowhere`
      if (running.length > 1) return `${show(instance)} is on ${running.length} hosts`
      if (only.host.id !== instance.hostId || only.guest.generation !== instance.generation)
        return `${show(instance)} is not where it should be`
      if (only.guest.state !== 'running') return `${show(instance)} is ${only.guest.state}`
      if (this.nowMs - only.guest.lastWriteMs > 5_000) return `${show(instance)} does not write`
    }
    return null
  }
}

const HA_LIMITS = { rules: RECOVERY_LIMITS }

function hostPool(pool: SimPool) {
  return {
    pool: pool.name,
    poolClass: pool.poolClass,
    canUnmount: pool.settings.canUnmount,
    canRevoke: pool.settings.canRevoke,
  }
}
