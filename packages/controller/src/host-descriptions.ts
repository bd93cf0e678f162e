// What hosts are and whether they are fit, as their agents say. It is asked for when a heartbeat carries another
// digest than that of the last answer, so also after each start of this process, and kept with the host's record;
// numbers that change with each look are kept in memory alone.

import type { VpeEvent } from '@vpe/bus'
import {
  type ConditionChange,
  changedFacts,
  type Finding,
  foldConditions,
  type HostCondition,
  type HostRecord,
  isConditionNews,
  judgeAgent,
  judgeClock,
  PEERS_FINDING,
  poolOfFinding,
  VpeError,
} from '@vpe/core'
import { HA_READY_FINDING } from '@vpe/core/ha'
import { type DescribeHostResponse, fromClientError } from '@vpe/proto'
import type { Logger } from 'pino'
import type { Agents } from './agents.ts'
import { hostEvent } from './host-event.ts'
import { Slots } from './slots.ts'
import type { Store } from './store/store.ts'
import { change } from './store/tables.ts'
import { conditionName, factsFromWire, findingFromWire } from './wire.ts'

const TIMEOUT_MS = 10_000
/** A look at everything waits for what hangs, on the host, for some seconds. */
const LOOK_TIMEOUT_MS = 20_000
/** So many hosts are asked at once: after a start of this process it is all of them. */
const AT_ONCE = 256

/** Conditions that hosts themselves say nothing of. */
const OF_THE_CONTROLLER: ReadonlySet<string> = new Set([
  'ClockInSync',
  'AgentReachable',
  PEERS_FINDING,
  HA_READY_FINDING,
])

interface Description {
  /** Of the last answer; null while there was none since the start of this process. */
  digest: string | null
  /** With the numbers of the last look; null while there was none. */
  conditions: readonly HostCondition[] | null
  isAsking: boolean
}

export class HostDescriptions {
  readonly #store: Store
  readonly #agents: Agents
  readonly #now: () => number
  readonly #log: Logger
  readonly #descriptions = new Map<string, Description>()
  readonly #slots = new Slots(AT_ONCE)

  constructor(store: Store, agents: Agents, now: () => number, log: Logger) {
    this.#store = store
    this.#agents = agents
    this.#now = now
    this.#log = log
  }

  /** @param digest that a host says its description has now */
  heard(host: HostRecord, digest: string | undefined): void {
    if (digest !== undefined && digest !== this.#of(host.uuid).digest) this.askSoon(host)
  }

  /** Whether anything is known from the host itself since the start of this process. */
  isKnown(hostId: string): boolean {
    return this.#of(hostId).digest !== null
  }

  /** Asks once, however often this is called meanwhile. */
  askSoon(host: HostRecord): void {
    const description = this.#of(host.uuid)
    if (description.isAsking) return
    description.isAsking = true
    this.#slots
      .run(() => this.#ask(host, false, TIMEOUT_MS))
      // The next heartbeat asks again.
      .catch((error) => this.#log.debug({ host: host.uuid, err: fromClientError(error) }, 'no description'))
      .finally(() => {
        description.isAsking = false
      })
  }

  /**
   * Has the host look at itself now, and waits for it.
   * @throws VpeError HOST_UNREACHABLE
   */
  async look(host: HostRecord): Promise<void> {
    try {
      await this.#ask(host, true, LOOK_TIMEOUT_MS)
    } catch (cause) {
      const { message } = fromClientError(cause)
      throw new VpeError('HOST_UNREACHABLE', `host ${host.name} does not answer: ${message}`, { cause })
    }
  }

  /**
   * Takes what a host has answered.
   * @param askedAtMs when it was asked
   * @param isAsked somebody waits for it
   */
  note(hostId: string, answer: DescribeHostResponse, askedAtMs: number, isAsked = false): void {
    const host = this.#store.hosts.get(hostId)
    if (!host) return
    const facts = factsFromWire(answer.facts)
    const changed = changedFacts(host.facts, facts)
    const isBooted = facts.bootId !== host.facts.bootId
    const { conditions, changes } = this.#foldAnswer(host, answer, askedAtMs, isAsked)
    if (changed.length === 0 && !isBooted && !isConditionNews(host.conditions, conditions)) return
    const next = { ...host, facts, conditions }
    const events = [
      ...(isBooted ? [hostEvent(next, 'booted', { boot_id: facts.bootId })] : []),
      ...(changed.length > 0 ? [hostEvent(next, 'facts_changed', { changed: changed.map(snakeCase) })] : []),
      ...changes.map((each) => this.#changeEvent(next, each)),
    ]
    void this.#store.commit([change.host(next)], events)
    if (changed.length > 0) this.#log.info({ host: hostId, changed }, 'host facts changed')
    for (const { condition, previous } of changes) {
      const { type, status, message } = condition
      this.#log.info({ host: hostId, type, status, previous, why: message }, 'host condition changed')
    }
  }

  /**
   * Takes what only the controller has measured of a host.
   * @param isAsked somebody waits for it
   */
  noteFinding(hostId: string, finding: Finding, isAsked: boolean): void {
    const host = this.#store.hosts.get(hostId)
    if (!host) return
    const look = { findings: [finding], checkedAtMs: this.#now(), isAsked }
    const { conditions, changes } = foldConditions(
      this.conditionsOf(host),
      look,
      (type) => type === finding.type,
    )
    this.#of(hostId).conditions = conditions
    if (!isConditionNews(host.conditions, conditions)) return
    const next = { ...host, conditions }
    void this.#store.commit(
      [change.host(next)],
      changes.map((each) => this.#changeEvent(next, each)),
    )
    const { type, status, message } = finding
    for (const { previous } of changes)
      this.#log.info({ host: hostId, type, status, previous, why: message }, 'host condition changed')
  }

  /** Takes back what only the controller measures: there is nothing to measure any more. */
  dropFinding(hostId: string, type: string): void {
    const host = this.#store.hosts.get(hostId)
    if (!host || !this.conditionsOf(host).some((condition) => condition.type === type)) return
    const conditions = this.conditionsOf(host).filter((condition) => condition.type !== type)
    this.#of(hostId).conditions = conditions
    void this.#store.commit([change.host({ ...host, conditions })])
  }

  /** The conditions of a host that does not answer, for the commit that says so. */
  withoutAnswer(host: HostRecord, why: string): readonly HostCondition[] {
    const description = this.#of(host.uuid)
    // What it says when it is back counts, also when that is what it said before.
    description.digest = null
    return this.#fold(host, judgeAgent(host.address, { fault: why }))
  }

  /** The conditions of a host that is heard again, for the commit that says so. */
  withAnswer(host: HostRecord, why: string): readonly HostCondition[] {
    return this.#fold(host, { ...judgeAgent(host.address, { latencyMs: 0 }), message: why, latencyMs: null })
  }

  conditionsOf(host: HostRecord): readonly HostCondition[] {
    return this.#of(host.uuid).conditions ?? host.conditions
  }

  forget(hostId: string): void {
    this.#descriptions.delete(hostId)
  }

  async #ask(host: HostRecord, refresh: boolean, timeoutMs: number): Promise<void> {
    await this.#store.durable()
    const askedAtMs = this.#now()
    const signal = AbortSignal.timeout(timeoutMs)
    const answer = await this.#agents.client(host).describeHost({ refresh }, { signal })
    if (answer.hostId !== host.uuid)
      throw new VpeError('WRONG_HOST', `${host.address} is host ${answer.hostId}, not ${host.uuid}`)
    this.note(host.uuid, answer, askedAtMs, refresh)
  }

  #foldAnswer(
    host: HostRecord,
    answer: DescribeHostResponse,
    askedAtMs: number,
    isAsked: boolean,
  ): { readonly conditions: readonly HostCondition[]; readonly changes: readonly ConditionChange[] } {
    const description = this.#of(host.uuid)
    const before = this.conditionsOf(host)
    // An answer that was had before tells nothing twice; one without a digest comes before the first look.
    const isNew = answer.digest !== '' && (answer.digest !== description.digest || isAsked)
    if (!isNew) return { conditions: before, changes: [] }
    description.digest = answer.digest
    const now = this.#now()
    const roundTripMs = now - askedAtMs
    const isHere = (type: string) => {
      const poolUuid = poolOfFinding(type)
      return poolUuid === null || this.#store.poolHosts.find(poolUuid, host.uuid) !== null
    }
    const found = answer.findings.flatMap((finding) => findingFromWire(finding) ?? [])
    const findings = found.filter(({ type }) => isHere(type))
    // A look at everything is no measure of the way there.
    if (!isAsked) {
      const offsetMs = answer.clockMs - (askedAtMs + roundTripMs / 2)
      findings.push(judgeClock({ offsetMs, roundTripMs }))
      findings.push(judgeAgent(host.address, { latencyMs: roundTripMs }))
    }
    const types = new Set(findings.map(({ type }) => type))
    // Of what only the controller measures, or of a pool that the agent has yet to hear of again, the last word stays.
    const staysUnsaid = (type: string) =>
      OF_THE_CONTROLLER.has(type) || (poolOfFinding(type) !== null && isHere(type))
    const look = { findings, checkedAtMs: now, isAsked }
    const folded = foldConditions(before, look, (type) => types.has(type) || !staysUnsaid(type))
    description.conditions = folded.conditions
    return folded
  }

  #fold(host: HostRecord, finding: ReturnType<typeof judgeAgent>): readonly HostCondition[] {
    const look = { findings: [finding], checkedAtMs: this.#now(), isAsked: true }
    const { conditions } = foldConditions(this.conditionsOf(host), look, (type) => type === finding.type)
    this.#of(host.uuid).conditions = conditions
    return conditions
  }

  #changeEvent(host: HostRecord, { condition, previous }: ConditionChange): VpeEvent {
    const { type, status, message, cure } = condition
    const data = { type: conditionName(this.#store, type), status, previous, message, cure: cure || null }
    return hostEvent(host, 'condition_changed', data)
  }

  #of(hostId: string): Description {
    let description = this.#descriptions.get(hostId)
    if (!description) {
      description = { digest: null, conditions: null, isAsking: false }
      this.#descriptions.set(hostId, description)
    }
    return description
  }
}

function snakeCase(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}
