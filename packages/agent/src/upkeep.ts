// What this host does by itself when a guest is off, or stands still, although it is wanted on: it writes down that a guest
// stays off, brings a highly available one back, or lets it go on where its pool was full. Needs neither controller nor NATS. When and whether
// is decided by core's restart-policy.ts; the count of restarts lives in memory and starts afresh with
// the agent and with each new generation.

import {
  decideRestart,
  holdUpOf,
  isUp,
  type ObservedDomain,
  planUpkeep,
  type RestartHistory,
  type RestartVerdict,
  ROOM,
  recentRestarts,
} from '@vpe/core'
import type { HostParts } from './converge.ts'
import { DiskUpkeep } from './disk-upkeep.ts'
import { formatMark } from './instance-mark.ts'
import type { InstanceTurns } from './instance-turns.ts'

interface Remembered {
  /** Of the mark that the count belongs to. */
  readonly generation: number
  readonly restartsAtMs: readonly number[]
  /** Null while it runs. */
  readonly offSinceMs: number | null
}

export class Upkeep {
  readonly #host: HostParts
  readonly #turns: InstanceTurns
  readonly #disks: DiskUpkeep
  readonly #histories = new Map<string, Remembered>()
  readonly #timers = new Map<string, AbortController>()
  #isStopped = false

  constructor(host: HostParts, turns: InstanceTurns) {
    this.#host = host
    this.#turns = turns
    this.#disks = new DiskUpkeep(host, turns)
  }

  /** To be told of each look at an instance, and when a piece of work on it has ended. */
  consider(uuid: string, domain: ObservedDomain | null): void {
    if (!domain) {
      this.#forget(uuid)
      this.#host.ha.consider(uuid)
      return
    }
    if (domain.mark.ownership > 0) this.#host.ha.consider(uuid)
    if (isUp(domain.guest)) {
      this.#disks.consider(uuid, domain)
      this.#noteRunning(uuid)
      if (holdUpOf(domain) !== 'full-pool') this.#stopTimer(uuid)
      else if (!this.#timers.has(uuid)) this.#lookAt(uuid, ROOM.everyMs)
      return
    }
    if (planUpkeep(domain, this.#host.bootId).kind === 'none' || this.#timers.has(uuid)) return
    this.#work(uuid)
  }

  stop(): void {
    this.#isStopped = true
    for (const uuid of this.#timers.keys()) this.#stopTimer(uuid)
  }

  #work(uuid: string): void {
    if (this.#isStopped) return
    const running = this.#turns.run(uuid, { kind: 'upkeep' }, (signal) => this.#keep(uuid, signal))
    running?.result.then(
      (domain) => this.consider(uuid, domain),
      (error) => {
        const { code } = error as { code?: string }
        if (code === 'SUPERSEDED' || code === 'UNAVAILABLE') return
        this.#host.log.error({ instance: uuid, err: error }, 'upkeep failed; the next look tries again')
      },
    )
  }

  /** Returns what is there afterwards. */
  async #keep(uuid: string, signal: AbortSignal): Promise<ObservedDomain | null> {
    const { inventory, hypervisor, bootId, log } = this.#host
    // What was seen may be old by now: look again, now that nobody else is at work on it.
    const domain = await inventory.look(uuid)
    if (!domain) return null
    const upkeep = planUpkeep(domain, bootId)
    signal.throwIfAborted()
    switch (upkeep.kind) {
      case 'none':
        return domain
      case 'settle':
        await hypervisor.writeMark(uuid, formatMark(upkeep.mark))
        log.info({ instance: uuid, why: upkeep.why }, 'instance stays off')
        return inventory.look(uuid)
      case 'keep-on':
        await this.#keepOn(uuid, domain, upkeep.why)
        return inventory.look(uuid)
      case 'let-go-on':
        return this.#letGoOn(uuid, signal)
      default:
        throw new Error(`no such upkeep: ${JSON.stringify(upkeep satisfies never)}`)
    }
  }

  async #keepOn(uuid: string, domain: ObservedDomain, cause: string): Promise<void> {
    const { clock, log } = this.#host
    const nowMs = clock.nowMs()
    const history = this.#historyOf(uuid, domain.mark.generation, nowMs)
    const verdict = decideRestart(history, nowMs)
    log.info(
      { instance: uuid, why: `${cause}; ${verdict.why}`, verdict: verdict.kind },
      'highly available instance is off',
    )
    switch (verdict.kind) {
      case 'wait':
        this.#lookAt(uuid, verdict.untilMs - nowMs)
        return
      case 'restart':
        await this.#restart(uuid, domain, history)
        return
      case 'give-up':
        await this.#giveUp(uuid, domain, cause, verdict)
        return
      default:
        throw new Error(`no such verdict: ${JSON.stringify(verdict satisfies never)}`)
    }
  }

  async #restart(uuid: string, domain: ObservedDomain, history: Remembered): Promise<void> {
    const { hypervisor, clock, log, slots } = this.#host
    const startMs = clock.nowMs()
    // An attempt counts whether it succeeds or not, and the next pause is counted from it.
    const restartsAtMs = [...recentRestarts(history.restartsAtMs, startMs), startMs]
    this.#histories.set(uuid, { ...history, restartsAtMs, offSinceMs: startMs })
    try {
      await slots.run(async () => {
        if (domain.guest.power === 'panicked') await hypervisor.destroyDomain(uuid)
        // Before the start: whoever looks afterwards sees that there was one.
        await hypervisor.writeMark(uuid, formatMark({ ...domain.mark, restarts: domain.mark.restarts + 1 }))
        await hypervisor.startDomain(uuid)
      })
      log.info({ instance: uuid, ms: Math.round(clock.nowMs() - startMs) }, 'instance is back')
    } catch (error) {
      log.warn({ instance: uuid, err: error }, 'instance could not be brought back')
    }
  }

  /** Whoever asks meanwhile hears that it is being worked on: that it ran for a moment, and found no room, is no news. */
  async #letGoOn(uuid: string, signal: AbortSignal): Promise<ObservedDomain | null> {
    const { inventory, hypervisor, clock, log } = this.#host
    log.debug({ instance: uuid }, 'there may be room in its pool: letting it go on')
    await hypervisor.resumeDomain(uuid)
    await clock.sleep(ROOM.showsMs, signal)
    const domain = await inventory.look(uuid)
    if (domain?.guest.power === 'on') log.info({ instance: uuid }, 'there is room in its pool: it goes on')
    return domain
  }

  async #giveUp(uuid: string, domain: ObservedDomain, cause: string, verdict: RestartVerdict): Promise<void> {
    const { hypervisor, log } = this.#host
    const fault = `${cause}; ${verdict.why}; it stays off until it is started again by hand`
    await hypervisor.writeMark(uuid, formatMark({ ...domain.mark, fault }))
    log.error({ instance: uuid, fault }, 'instance is given up')
  }

  #historyOf(uuid: string, generation: number, nowMs: number): Remembered & RestartHistory {
    const known = this.#histories.get(uuid)
    const isOfThis = known?.generation === generation
    const restartsAtMs = isOfThis ? known.restartsAtMs : []
    const offSinceMs = (isOfThis ? known.offSinceMs : null) ?? nowMs
    const history = { generation, restartsAtMs, offSinceMs }
    this.#histories.set(uuid, history)
    return history
  }

  #noteRunning(uuid: string): void {
    const known = this.#histories.get(uuid)
    if (known) this.#histories.set(uuid, { ...known, offSinceMs: null })
  }

  #lookAt(uuid: string, inMs: number): void {
    const abort = new AbortController()
    this.#timers.set(uuid, abort)
    this.#host.clock.sleep(Math.max(1, inMs), abort.signal).then(
      () => {
        this.#timers.delete(uuid)
        this.#work(uuid)
      },
      () => {},
    )
  }

  #stopTimer(uuid: string): void {
    this.#timers.get(uuid)?.abort()
    this.#timers.delete(uuid)
  }

  #forget(uuid: string): void {
    this.#stopTimer(uuid)
    this.#histories.delete(uuid)
  }
}
