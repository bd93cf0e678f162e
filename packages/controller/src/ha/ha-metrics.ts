// What high availability comes to, for Prometheus. It looks at what the keeper shows, and counts what is new there; so it
// needs to be told of nothing, and a restart begins anew, as counters do.

import type { HostId } from '@vpe/core'
import {
  type FailoverDurations,
  failoverDurations,
  HA_INSTANCE_STATES,
  HOST_PHASES,
  type HostPhase,
  leastClass,
} from '@vpe/core/ha'
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { NPlusOneState } from './n-plus-one.ts'
import type { DisarmScope, Failover, HaView } from './ports.ts'

export interface HaMetricsDeps {
  readonly view: HaView
  readonly nPlusOne: () => NPlusOneState | null
  readonly isArmed: () => boolean
}

const EVERY_MS = 1_000

const BUCKETS_SECONDS = [0.1, 0.5, 1, 2.5, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600]

const PHASES = {
  suspicion: 'suspicionMs',
  proof: 'proofMs',
  placement: 'placementMs',
  start: 'startMs',
  total: 'totalMs',
  /** Known only later, and not of every guest. */
  answer: 'answerMs',
} as const satisfies Record<string, keyof FailoverDurations>

export class HaMetrics {
  readonly #deps: HaMetricsDeps
  readonly #registry = new Registry()
  readonly #seconds = new Histogram({
    name: 'vpe_ha_failover_seconds',
    help: 'Parts of failovers that have ended: total is from the last sign of life of the lost host until the new one reported the guest running',
    labelNames: ['phase', 'proof', 'pool_class'],
    buckets: BUCKETS_SECONDS,
    registers: [this.#registry],
  })
  readonly #verdicts = new Counter({
    name: 'vpe_ha_verdicts_total',
    help: 'Hosts that were judged lost',
    registers: [this.#registry],
  })
  readonly #holds = new Counter({
    name: 'vpe_ha_holds_total',
    help: 'Hosts that would have been judged lost, had there not been too many of them at once',
    registers: [this.#registry],
  })
  readonly #disarms = new Counter({
    name: 'vpe_ha_disarms_total',
    help: 'Times that somebody has disarmed the cluster, a host or an instance',
    labelNames: ['scope'],
    registers: [this.#registry],
  })
  readonly #armed = new Gauge({
    name: 'vpe_ha_armed',
    help: '0 while the whole cluster is disarmed',
    registers: [this.#registry],
  })
  readonly #hosts = new Gauge({
    name: 'vpe_ha_hosts',
    help: 'Hosts by what high availability believes of them',
    labelNames: ['phase'],
    registers: [this.#registry],
  })
  readonly #instances = new Gauge({
    name: 'vpe_ha_instances',
    help: 'Highly available instances by state',
    labelNames: ['state'],
    registers: [this.#registry],
  })
  readonly #nPlusOne = new Gauge({
    name: 'vpe_ha_n_plus_one',
    help: 'Whether the cluster survives the loss of any one host; no line until that has been looked at',
    registers: [this.#registry],
  })
  readonly #hostsAtRisk = new Gauge({
    name: 'vpe_ha_hosts_at_risk',
    help: 'Hosts whose loss would leave highly available instances without room',
    registers: [this.#registry],
  })
  /** By host: the boot of which a verdict was counted, and the phase, as they were last seen. */
  readonly #seenHosts = new Map<HostId, { readonly judgedBoot: string | null; readonly phase: HostPhase }>()
  /** Parts of failovers that were counted, of those that are still shown. */
  #counted: ReadonlySet<string>
  #timer: NodeJS.Timeout | null = null

  constructor(deps: HaMetricsDeps) {
    this.#deps = deps
    // What had ended before this process began was counted by the one before.
    this.#counted = new Set(
      deps.view
        .failovers()
        .flatMap(partsOf)
        .map(({ key }) => key),
    )
    for (const scope of ['cluster', 'host', 'instance'] as const) this.#disarms.inc({ scope }, 0)
  }

  start(): void {
    this.#timer = setInterval(() => this.look(), EVERY_MS)
  }

  close(): void {
    if (this.#timer) clearInterval(this.#timer)
  }

  countDisarm(scope: DisarmScope['kind']): void {
    this.#disarms.inc({ scope })
  }

  /** Counts what is new. */
  look(): void {
    for (const { hostId, phase, verdict } of this.#deps.view.hosts()) {
      const before = this.#seenHosts.get(hostId)
      const judgedBoot = verdict?.bootId ?? null
      if (judgedBoot !== null && judgedBoot !== before?.judgedBoot) this.#verdicts.inc()
      if (phase === 'hold' && before?.phase !== 'hold') this.#holds.inc()
      this.#seenHosts.set(hostId, { judgedBoot, phase })
    }
    const counted = new Set<string>()
    for (const failover of this.#deps.view.failovers()) {
      for (const { key, phase, ms } of partsOf(failover)) {
        counted.add(key)
        if (!this.#counted.has(key)) this.#seconds.observe({ phase, ...this.#labelsOf(failover) }, ms / 1_000)
      }
    }
    this.#counted = counted
  }

  /** All of it, in the text format of Prometheus. */
  async text(): Promise<string> {
    const { view, nPlusOne, isArmed } = this.#deps
    this.look()
    const phases = countBy(view.hosts(), ({ phase }) => phase)
    for (const phase of HOST_PHASES) this.#hosts.set({ phase }, phases.get(phase) ?? 0)
    const states = countBy(view.instances(), ({ state }) => state)
    for (const state of HA_INSTANCE_STATES) this.#instances.set({ state }, states.get(state) ?? 0)
    this.#armed.set(isArmed() ? 1 : 0)
    const verdict = nPlusOne()
    // A gauge that was never set has the value 0, which would be an alarm.
    if (verdict) {
      this.#nPlusOne.set(verdict.survives ? 1 : 0)
      this.#hostsAtRisk.set(verdict.hostsAtRisk)
    } else {
      this.#nPlusOne.remove()
      this.#hostsAtRisk.remove()
    }
    return await this.#registry.metrics()
  }

  #labelsOf({ uuid, clock, proofs }: Failover): { proof: string; pool_class: string } {
    const kinds = clock.provenBy.length > 0 ? clock.provenBy : proofs.map(({ kind }) => kind)
    return {
      proof: [...new Set(kinds)].sort().join('+') || 'none',
      pool_class: leastClass(this.#deps.view.instance(uuid)?.pools ?? []) ?? 'none',
    }
  }
}

interface FailoverPart {
  /** One for each part of each failover. */
  readonly key: string
  readonly phase: keyof typeof PHASES
  readonly ms: number
}

/** What is known of one that has ended. */
function partsOf({ uuid, generation, clock, answeredMs }: Failover): FailoverPart[] {
  if (clock.runningMs === null) return []
  const durations = failoverDurations(clock, answeredMs)
  return (Object.keys(PHASES) as FailoverPart['phase'][]).flatMap((phase) => {
    const ms = durations[PHASES[phase]]
    return ms === null ? [] : [{ key: `${uuid}/${generation} ${phase}`, phase, ms }]
  })
}

/** How many there are of each word. */
export function countBy<Thing>(
  things: Iterable<Thing>,
  wordOf: (thing: Thing) => string,
): Map<string, number> {
  const counts = new Map<string, number>()
  for (const thing of things) {
    const word = wordOf(thing)
    counts.set(word, (counts.get(word) ?? 0) + 1)
  }
  return counts
}
