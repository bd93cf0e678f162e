// A controller: the machine of packages/core/src/ha, its store, and its calls to hosts, storage and power. There may be two at a time,
// where the old one does not know yet that it has been replaced.

import type { HostId } from '@vpe/core'
import {
  type HaControllerAction,
  type HaControllerEvent,
  type HaControllerState,
  memoryPlacer,
  newHaInstance,
  startHaController,
  stepHaController,
  whyNoVerdicts,
} from '@vpe/core/ha'
import type { SimHost } from './sim-host.ts'
import type { World } from './world.ts'

export class SimController {
  readonly #world: World
  readonly name: string
  state: HaControllerState | null = null
  epoch = 0
  startedMs = 0
  isHung = false
  readonly #inbox: HaControllerEvent[] = []

  constructor(world: World, name: string) {
    this.#world = world
    this.name = name
  }

  get isAlive(): boolean {
    return this.state !== null
  }

  /** A start takes the next epoch in the store, so that all that a former controller still does is refused. */
  start(isSettled = false): void {
    const world = this.#world
    this.epoch = ++world.store.epoch
    this.startedMs = isSettled ? Number.NEGATIVE_INFINITY : world.nowMs
    this.state = startHaController(this.epoch, world.store.record, world.nowMs, world.context)
    if (isSettled) this.state = { ...this.state, watch: { ...this.state.watch, settleUntilMs: 0 } }
    world.note(`${this.name} starts as epoch ${this.epoch}`)
    const { epoch } = this
    const tick = () => {
      if (!this.isAlive || this.epoch !== epoch) return
      world.after(world.controllerTickMs, tick)
      if (this.isHung) return
      this.#followUsers()
      const totalMib = new Map(world.hosts.map((host) => [host.id, host.memoryMib] as const))
      const placer = memoryPlacer(totalMib, this.state?.recovery.instances.values() ?? [])
      this.deliver({ kind: 'tick', placer, jitter: world.random.next() })
    }
    world.after(world.random.between(0, 1_000), tick)
  }

  /** What is the reconciler's on real hosts: it carries out what users want, and gives what nobody has to its host. */
  #followUsers(): void {
    const world = this.#world
    for (const { uuid } of this.state?.recovery.instances.values() ?? []) {
      const instance = this.state?.recovery.instances.get(uuid)
      if (!this.state || !instance || instance.state === 'error') continue
      const { hostId, bootId, generation, lastGeneration, state, isEnding } = instance
      const isStopped = world.stopped.has(uuid)
      const isThere = state === 'starting' || state === 'running'
      const host = this.state.watch.hosts.get(hostId)
      if (isStopped === instance.isWanted && !(isEnding && isThere)) {
        const wish = { isWanted: !isStopped, isEnding: isStopped && isThere }
        this.deliver({ kind: 'want', uuid, ...wish, generation: lastGeneration + 1 })
      } else if (host?.phase === 'up' && !isStopped && (state === 'off' || (isEnding && isThere))) {
        const given = newHaInstance(instance, hostId, host.bootId, lastGeneration + 1)
        if (state === 'off' || host.bootId === bootId) this.deliver({ kind: 'add', instance: given })
      } else if (!isStopped && state === 'off' && (host?.phase === 'fenced' || host?.phase === 'stale'))
        this.deliver({ kind: 'strand', uuid, why: 'its host is lost' })
      else if (host?.phase === 'up' && isEnding && isThere) {
        const pools = instance.pools.flatMap(({ poolClass, ...pool }) =>
          poolClass === 'N' ? [] : [{ ...pool, poolClass }],
        )
        const { epoch } = this
        this.#perform({
          kind: 'command',
          hostId,
          command: { kind: 'release', epoch, instance: { uuid, generation }, pools },
        })
      }
    }
  }

  kill(): void {
    this.state = null
    this.isHung = false
    this.#inbox.length = 0
  }

  wake(): void {
    this.isHung = false
    const events = this.#inbox.splice(0)
    for (const event of events) this.deliver(event)
  }

  deliver(event: HaControllerEvent): void {
    if (!this.state) return
    if (this.isHung) {
      if (this.#inbox.length < 1_000) this.#inbox.push(event)
      return
    }
    const world = this.#world
    const { state, actions } = stepHaController(this.state, event, world.nowMs, world.context)
    this.state = state
    const { epoch } = this
    for (const action of actions) {
      if (world.crashRate > 0 && world.random.chance(world.crashRate)) {
        world.note(`${this.name} dies before ${action.kind}`)
        this.kill()
        world.after(world.random.between(1_000, 5_000), () => {
          if (!world.controllers.some((other) => other.isAlive && other !== this)) this.start()
        })
        return
      }
      if (!this.#perform(action)) return
      if (!this.state || this.epoch !== epoch) return
    }
  }

  /** False when nothing that follows may be done. */
  #perform(action: HaControllerAction): boolean {
    const world = this.#world
    switch (action.kind) {
      case 'commit':
        if (action.epoch !== world.store.epoch && world.context.rules.refusesOldEpochs) {
          world.note(`${this.name} has been replaced, and ends`)
          this.kill()
          return false
        }
        world.checkCommit(this, action.epoch, action.record)
        world.store.record = action.record
        break
      case 'dial': {
        const { hostId } = action
        const host = world.host(hostId)
        let isAnswered = false
        this.#call(host, () => {
          // An agent that answers says everything that it says in a heartbeat.
          const report = host.report()
          if (!report) return
          this.#answer(host, () => {
            isAnswered = true
            this.deliver({ kind: 'dialled', hostId, isOk: true })
            this.deliver({ kind: 'report', report })
          })
        })
        world.after(2_000, () => {
          if (!isAnswered) this.deliver({ kind: 'dialled', hostId, isOk: false })
        })
        break
      }
      case 'ask-lease': {
        const { observer, hostId, pool } = action
        const host = world.host(observer)
        this.#call(host, () => {
          const sighting = host.sightOf(world.pool(pool), hostId)
          this.#answer(host, () => this.deliver({ kind: 'sighting', observer, hostId, pool, sighting }))
        })
        break
      }
      case 'revoke': {
        const { hostId, bootId, verdictMs, pool } = action
        world.note(`${this.name} has ${pool} shut out ${world.nameOf(hostId)}`)
        world.after(world.random.between(50, 500), () => {
          const { isUp } = world.pool(pool)
          if (isUp) world.pool(pool).revoke(world.host(hostId))
          // The hook may take its time to say so.
          world.after(world.wordMs, () =>
            this.deliver({ kind: 'revoked', hostId, bootId, verdictMs, pool, isOk: isUp }),
          )
        })
        break
      }
      case 'power-off': {
        const { hostId, bootId, verdictMs } = action
        const host = world.host(hostId)
        world.after(world.random.between(500, 3_000), () => {
          if (!host.isBmcOk || host.bootId !== bootId) return
          host.staysOff = true
          host.powerOff('its power was switched off')
          world.after(world.random.between(200, 1_000), () =>
            this.deliver({ kind: 'powered-off', hostId, bootId, verdictMs, isOff: !host.isOn }),
          )
        })
        break
      }
      case 'command': {
        const host = world.host(action.hostId)
        const { command } = action
        this.#call(host, () => host.agent.deliver({ kind: 'command', command }))
        // The answer was lost, and it was sent again.
        if (world.random.chance(world.duplicationRate))
          world.after(world.random.between(100, 5_000), () =>
            this.#call(host, () => host.agent.deliver({ kind: 'command', command })),
          )
        break
      }
      case 'write-pill': {
        const via = world.host(action.via)
        const { hostId, pill } = action
        world.note(`${this.name} writes a pill for ${world.nameOf(hostId)} through ${via.name}`)
        this.#call(via, () => {
          const pool = world.pool(action.pool)
          pool.submit(
            via,
            'mailbox',
            () => pool.mailboxes.set(hostId, pill),
            () => {},
          )
        })
        break
      }
      case 'hand-over': {
        const source = world.host(action.hostId)
        const target = world.host(action.toHostId)
        this.#call(source, () => source.handOver(action.uuid, action.generation, target))
        break
      }
      case 'host-changed': {
        const { hostId, from, to, why } = action
        world.note(`host ${world.nameOf(hostId)}: ${from} -> ${to} (${why})`)
        if (to === 'stale') world.checkVerdict(this, hostId)
        break
      }
      case 'host-proven': {
        const { proof } = action
        world.note(`host ${world.nameOf(proof.hostId)}: proof ${proof.kind} ${proof.pool ?? 'for all pools'}`)
        break
      }
      case 'instance-changed': {
        const { instance, from } = action
        world.note(
          `instance ${instance.uuid}#${instance.generation}: ${from} -> ${instance.state} on ${world.nameOf(instance.hostId)} (${world.plain(instance.why)})`,
        )
        if (instance.state === 'starting' && instance.startedBy.length > 0 && from === 'lost')
          world.noteFailover(instance)
        break
      }
    }
    return true
  }

  /** A call that reaches the agent of a host, if it does. */
  #call(host: SimHost, run: () => void): void {
    const world = this.#world
    const { bootId } = host
    if (world.random.chance(world.messageLoss)) return
    world.after(world.delay(), () => {
      if (!host.isOn || host.bootId !== bootId || !host.canHear || !host.agent.isAlive) return
      if (host.isFrozen || host.agent.isHung) return
      run()
    })
  }

  #answer(host: SimHost, run: () => void): void {
    const world = this.#world
    if (world.random.chance(world.messageLoss)) return
    world.after(world.delay(), () => {
      if (host.isHeard) run()
    })
  }

  /** Why it would judge nobody now, in its own eyes. */
  hindrance(): string | null {
    const world = this.#world
    return this.state ? whyNoVerdicts(this.state.watch, world.nowMs, world.context) : null
  }

  phaseOf(hostId: HostId): string {
    return this.state?.watch.hosts.get(hostId)?.phase ?? 'unknown'
  }
}
