// Where a nemesis plays: a lab, its highly available guests, and what has to be true of them.

import { HA_PROFILES, type HaProfile, type HaTimings } from '@vpe/core/ha'
import type { Lab } from '@vpe/deploy/lab/lab'
import { waitUntil } from '@vpe/deploy/wait-until'
import type { LabCluster } from '../e2e/lab-cluster.ts'
import type { Random } from '../soak-lab/random.ts'
import type { JournalingGuest } from './journaling-guest.ts'
import type { Runs } from './runs.ts'

export interface StageParts {
  readonly cluster: LabCluster
  readonly guests: readonly JournalingGuest[]
  readonly runs: Runs
  readonly random: Random
  readonly profile: HaProfile
  readonly say: (line: string) => void
}

/** Far beyond what anything takes, also on a slow machine: what is not so by then never is. */
const BOUND_MS = 400_000

/** What each guest is at a time: nothing must have happened to those of which it stays the same. */
type Standing = Map<string, { readonly host: string; readonly life: string | undefined }>

export class Stage {
  readonly cluster: LabCluster
  readonly lab: Lab
  readonly guests: readonly JournalingGuest[]
  readonly runs: Runs
  readonly random: Random
  readonly timings: HaTimings
  readonly say: (line: string) => void
  readonly #told = new Set<string>()
  readonly #lost = new Set<string>()

  constructor({ cluster, guests, runs, random, profile, say }: StageParts) {
    this.cluster = cluster
    this.lab = cluster.lab
    this.guests = guests
    this.runs = runs
    this.random = random
    this.timings = HA_PROFILES[profile]
    this.say = say
  }

  /** From now until the end of the case its guests may run elsewhere; of all others that would be a fault. */
  lose(host: string): void {
    this.#lost.add(host)
  }

  /** The hosts whose guests had to go elsewhere since this was last asked. */
  takeLost(): ReadonlySet<string> {
    const lost = new Set(this.#lost)
    this.#lost.clear()
    return lost
  }

  /** The host where it runs; it runs on one. */
  hostOf(guest: JournalingGuest): string {
    const hosts = this.runs.of(guest.uuid).map(({ host }) => host)
    if (hosts.length !== 1) throw new Error(`${guest.name} runs on ${hosts.join(' and ') || 'no host'}`)
    return hosts[0] as string
  }

  guestsOn(host: string): JournalingGuest[] {
    return this.guests.filter((guest) => this.hostOf(guest) === host)
  }

  /** Some host that has guests. */
  hostWithGuests(): string {
    const hosts = this.lab.hosts.map(({ name }) => name).filter((name) => this.guestsOn(name).length > 0)
    return this.random.pick(hosts) ?? ''
  }

  /**
   * Waits until all of them run elsewhere than on a host, and write there.
   *
   * @returns from `sinceMs` until each was seen to run, in ms
   */
  async elsewhere(guests: readonly JournalingGuest[], than: string, sinceMs: number): Promise<number[]> {
    const tookMs: number[] = []
    for (const guest of guests) {
      const before = guest.written()
      await this.until(`${guest.name} runs elsewhere than on ${than}`, () => {
        const run = this.runs.of(guest.uuid).find(({ host }) => host !== than)
        if (!run) return 'it runs nowhere else'
        tookMs.push(run.sinceMs - sinceMs)
        return undefined
      })
      await this.until(`${guest.name} writes there`, () =>
        guest.written() > before ? undefined : 'nothing new in its journal',
      )
    }
    return tookMs
  }

  /** Waits until a guest has begun another life than it had. */
  async livesAnew(guest: JournalingGuest, formerLife: string | undefined): Promise<void> {
    await this.until(`${guest.name} lives anew`, () =>
      guest.life() === formerLife ? 'nothing of another life in its journal' : undefined,
    )
  }

  standing(): Standing {
    return new Map(
      this.guests.map((guest) => [guest.uuid, { host: this.hostOf(guest), life: guest.life() }] as const),
    )
  }

  /** Waits until all of these guests write, which they do where they were, in the life that they had. */
  async expectUndisturbed(before: Standing): Promise<void> {
    for (const guest of this.guests.filter(({ uuid }) => before.has(uuid))) {
      const written = guest.written()
      await this.until(`${guest.name} writes`, () => {
        if (guest.written() <= written) return 'nothing new in its journal'
        // The hosts are asked in turns: one that goes on is seen a little later.
        return this.runs.of(guest.uuid).length > 0 ? undefined : 'no host has said yet that it runs'
      })
      const { host, life } = before.get(guest.uuid) ?? {}
      const now = { host: this.hostOf(guest), life: guest.life() }
      if (now.host !== host) throw new Error(`${guest.name} was on ${host}, and is on ${now.host}`)
      if (now.life !== life) throw new Error(`${guest.name} was in life ${life}, and is in life ${now.life}`)
    }
  }

  /** Waits until everything is as it should be: by the API, by each libvirt, and by what guests write. */
  async settle(): Promise<void> {
    await this.until('everything is as it should be', () => this.#whyUnsettled(), 1_000)
    this.runs.excuseNobody()
  }

  /** @param whyNot undefined when it is so, else what is missing */
  async until(
    what: string,
    whyNot: () => Promise<string | undefined> | string | undefined,
    everyMs = 200,
  ): Promise<void> {
    await waitUntil(whyNot, { what, timeoutMs: BOUND_MS, everyMs })
  }

  /** A definition of a guest that is elsewhere does no harm while it is off; that it is there is said once. */
  #noteLeft({ name }: JournalingGuest, homes: readonly string[]): void {
    for (const home of homes) {
      const left = `${name} is still defined, and off, on ${home}`
      if (!this.#told.has(left)) this.say(`    ${left}`)
      this.#told.add(left)
    }
  }

  async #whyUnsettled(): Promise<string | undefined> {
    const { body: hostList } = await this.cluster.ok('GET', '/hosts')
    for (const { name, state, recovery, conditions } of hostList.hosts) {
      if (state !== 'up') return `host ${name} is ${state}`
      if (recovery?.phase !== 'up')
        return `host ${name} is ${recovery?.phase ?? 'not watched'}: ${recovery?.why}`
      // Of three hosts, each is needed to judge another.
      const ready = conditions.find(({ type }: { type: string }) => type === 'HaReady')
      if (ready?.status !== 'ok') return `host ${name} is not ready: ${ready?.message}`
    }
    const { body: ha } = await this.cluster.ok('GET', '/ha')
    if (ha.ha.why_no_verdicts !== null) return `no verdicts are made: ${ha.ha.why_no_verdicts}`
    const defined = await this.cluster.defined()
    for (const guest of this.guests) {
      const { status, task, fault, host, recovery } = await this.cluster.instance(guest.uuid)
      const named = `${guest.name} by the API: ${status}, ${task ?? 'no task'}, on ${host}`
      if (status !== 'active' || task !== null) return `${named}, ${fault ?? 'no fault'}`
      if (recovery?.state !== 'running')
        return `${named}; for HA it is ${recovery?.state ?? 'not looked after'}: ${recovery?.why}`
      const running = this.runs.of(guest.uuid).map((run) => run.host)
      if (running.join() !== host) return `${named}; by libvirt it runs on ${running.join(' and ') || 'none'}`
      const homes = defined.get(guest.uuid) ?? []
      if (!homes.includes(host ?? '')) return `${named}; defined on ${homes.join(' and ') || 'none'}`
      this.#noteLeft(
        guest,
        homes.filter((home) => home !== host),
      )
    }
    const before = this.guests.map((guest) => guest.written())
    const silent = () => this.guests.find((guest, index) => guest.written() <= (before[index] ?? 0))
    await waitUntil(() => silent() && 'silent', { what: 'writes', timeoutMs: 20_000 }).catch(() => {})
    const guest = silent()
    return guest && `${guest.name} writes nothing`
  }
}
