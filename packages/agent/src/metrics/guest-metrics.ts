// What this host measures of its instances: one call to the hypervisor every few seconds, for all of them
// together, and the last hour of each in memory. It is lost with the process: metrics are to look at, not
// to decide by. Rates are made by core's guest-metrics.ts.
//
// Only neighbouring samples make a point. After a sample that failed, and over a time in which a guest was
// off, there is a gap, since nobody knows what happened in it.

import {
  type GuestPoint,
  inSteps,
  type ObservedDomain,
  pointBetween,
  type TimedSample,
  VpeError,
} from '@vpe/core'
import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import type { Hypervisor } from '../hypervisor/hypervisor.ts'
import { Ring } from './ring.ts'

export const METRICS_INTERVAL_MS = 5_000

/** An hour of samples. */
const POINTS_MAX = 720

export interface GuestMetricsDeps {
  readonly hypervisor: Pick<Hypervisor, 'sampleGuests'>
  readonly clock: Clock
  readonly log: Logger
  /** This host's instances as they were last seen; others are not measured. */
  readonly domains: () => readonly ObservedDomain[]
}

export interface CurrentFigures extends TimedSample {
  /** Null until it has been measured twice. */
  readonly point: GuestPoint | null
}

export interface MeasuredInstance {
  readonly intervalMs: number
  /** Null while the guest is off, or not measured for another reason. */
  readonly current: CurrentFigures | null
  /** Oldest first. */
  readonly series: readonly GuestPoint[]
}

export class GuestMetrics {
  readonly #deps: GuestMetricsDeps
  readonly #current = new Map<string, CurrentFigures>()
  readonly #series = new Map<string, Ring<GuestPoint>>()
  #isFailing = false

  constructor(deps: GuestMetricsDeps) {
    this.#deps = deps
  }

  /** Measures every instance that runs. To be called every METRICS_INTERVAL_MS; never rejects. */
  async sample(): Promise<void> {
    const { hypervisor, clock, log, domains } = this.#deps
    try {
      const samples = await hypervisor.sampleGuests()
      const at = { atMs: clock.dateMs(), clockMs: clock.nowMs() }
      const ours = new Set(domains().map(({ mark }) => mark.uuid))
      const before = new Map(this.#current)
      this.#current.clear()
      for (const sample of samples) {
        if (ours.has(sample.uuid)) this.#note({ sample, ...at }, before.get(sample.uuid))
      }
      for (const uuid of this.#series.keys()) if (!ours.has(uuid)) this.#series.delete(uuid)
      this.#isFailing = false
    } catch (error) {
      this.#current.clear()
      const isExpected = error instanceof VpeError && error.code === 'UNAVAILABLE'
      if (!isExpected && !this.#isFailing) log.warn({ err: error }, 'instances cannot be measured')
      this.#isFailing = true
    }
  }

  of(uuid: string, sinceMs: number, stepMs: number): MeasuredInstance {
    const points = (this.#series.get(uuid)?.values() ?? []).filter(({ atMs }) => atMs > sinceMs)
    return {
      intervalMs: METRICS_INTERVAL_MS,
      current: this.#current.get(uuid) ?? null,
      series: inSteps(points, stepMs),
    }
  }

  /** Every instance of this host, with what was measured last. */
  all(): readonly { readonly domain: ObservedDomain; readonly current: CurrentFigures | null }[] {
    return this.#deps
      .domains()
      .map((domain) => ({ domain, current: this.#current.get(domain.mark.uuid) ?? null }))
  }

  #note(now: TimedSample, before: CurrentFigures | undefined): void {
    const { uuid } = now.sample
    const point = before ? pointBetween(before, now) : null
    this.#current.set(uuid, { ...now, point })
    if (!point) return
    const series = this.#series.get(uuid) ?? new Ring<GuestPoint>(POINTS_MAX)
    this.#series.set(uuid, series)
    series.push(point)
  }
}
