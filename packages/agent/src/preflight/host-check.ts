// What this host is and whether it is fit, looked at every few minutes and whenever there is a reason. The controller
// learns from the digest in heartbeats that there is something new, and asks.

import { createHash } from 'node:crypto'
import { type Finding, type HostFacts, VpeError } from '@vpe/core'
import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import type { HostSettings } from '../definition.ts'
import { hostFacts } from '../host-facts.ts'
import type { GuestCpu, Hypervisor, HypervisorFacts } from '../hypervisor/hypervisor.ts'
import type { PoolFiles, PoolRef } from '../pool/pool-workers.ts'
import { attempt } from './deadline.ts'
import type { Machine } from './machine.ts'
import { type BusProbe, PoolProbes, type PreflightParts, runPreflight } from './run-preflight.ts'

const INTERVAL_MS = 120_000
/** After a look that has found another status: the next one tells whether it lasts. */
const CONFIRM_MS = 15_000
const LIBVIRT_DEADLINE_MS = 5_000

export interface HostCheckDeps {
  readonly bootId: string
  readonly version: string
  readonly hypervisor: Hypervisor
  readonly files: PoolFiles
  readonly settings: HostSettings
  readonly stateDir: string
  readonly readMachine: () => Promise<Machine>
  readonly bus: BusProbe
  readonly migrationTls: PreflightParts['migrationTls']
  readonly pools: () => readonly PoolRef[]
  readonly clock: Clock
  readonly log: Logger
  /** Ends the looks. */
  readonly signal: AbortSignal
}

export interface HostState {
  readonly facts: HostFacts
  /** Of the last look. */
  readonly findings: readonly Finding[]
  /** When that was, by the clock of this host. */
  readonly checkedAtMs: number
  /** Digest of all this; empty before the first look. */
  readonly digest: string
}

interface LibvirtAnswer {
  readonly hypervisor: HypervisorFacts
  readonly guestCpu: GuestCpu
}

export class HostCheck {
  readonly #deps: HostCheckDeps
  readonly #probes: PoolProbes
  #state: HostState | null = null
  #looking: Promise<HostState> | null = null
  #wake = Promise.withResolvers<void>()

  constructor(deps: HostCheckDeps) {
    this.#deps = deps
    this.#probes = new PoolProbes(deps.files, deps.clock)
  }

  /** Of the last look; empty before the first. */
  get findings(): readonly Finding[] {
    return this.#state?.findings ?? []
  }

  /** Empty before the first look. */
  get digest(): string {
    return this.#state?.digest ?? ''
  }

  /**
   * What was found last, or is found now; before the first look is over there are facts only.
   * @throws VpeError UNAVAILABLE when libvirt has never answered yet
   */
  async state(isFresh: boolean): Promise<HostState> {
    if (!isFresh) return this.#state ?? { facts: await this.#readFacts(), ...NOTHING_FOUND }
    // One that is under way may have measured before whatever is asked about.
    if (this.#looking) await this.#looking.catch(() => {})
    return this.#look()
  }

  lookSoon(): void {
    this.#wake.resolve()
  }

  /** Looks until the signal. */
  async run(): Promise<void> {
    const { clock, log, signal } = this.#deps
    const stopped = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()))
    while (!signal.aborted) {
      const before = statusesOf(this.findings)
      const looked = this.#look().catch((error: unknown) =>
        log.warn({ err: error }, 'the host could not be looked at; the next look comes soon'),
      )
      await Promise.race([looked, stopped])
      const pauseMs = statusesOf(this.findings) === before && this.#state ? INTERVAL_MS : CONFIRM_MS
      const over = new AbortController()
      const pause = clock.sleep(pauseMs, AbortSignal.any([signal, over.signal])).catch(() => {})
      await Promise.race([pause, this.#wake.promise])
      over.abort()
      this.#wake = Promise.withResolvers()
    }
  }

  /** One at a time; who comes while one is under way gets that. */
  #look(): Promise<HostState> {
    this.#looking ??= this.#lookOnce().finally(() => {
      this.#looking = null
    })
    return this.#looking
  }

  async #lookOnce(): Promise<HostState> {
    const { settings, clock, log } = this.#deps
    const machine = await this.#deps.readMachine()
    const libvirt = this.#askLibvirt()
    const findings = await runPreflight({
      ...this.#deps,
      machine,
      libvirt: libvirt.then((answer) => ('fault' in answer ? answer : answer.value.hypervisor)),
      probes: this.#probes,
      pools: this.#deps.pools(),
      bridge: settings.bridge,
      migrationTls: settings.migration.receive && this.#deps.migrationTls,
    })
    const answer = await libvirt
    // What libvirt does not tell now has hardly changed.
    const facts =
      'fault' in answer ? (this.#state?.facts ?? noFacts(answer.fault)) : this.#factsOf(machine, answer.value)
    for (const { type, status, message, cure } of findings) {
      const known = this.findings.find((finding) => finding.type === type)
      if (known?.status !== status && (known || status !== 'ok'))
        log[status === 'ok' ? 'info' : 'warn']({ type, status, cure }, message)
    }
    const checkedAtMs = clock.dateMs()
    const digest = createHash('sha256').update(JSON.stringify({ facts, findings, checkedAtMs })).digest('hex')
    this.#state = { facts, findings, checkedAtMs, digest }
    return this.#state
  }

  async #readFacts(): Promise<HostFacts> {
    const [machine, answer] = await Promise.all([this.#deps.readMachine(), this.#askLibvirt()])
    return 'fault' in answer ? noFacts(answer.fault) : this.#factsOf(machine, answer.value)
  }

  #askLibvirt(): Promise<{ readonly value: LibvirtAnswer } | { readonly fault: string }> {
    const { hypervisor, settings, clock } = this.#deps
    const ask = async () => {
      const [facts, guestCpu] = await Promise.all([
        hypervisor.facts(),
        hypervisor.guestCpu(settings.platform),
      ])
      return { hypervisor: facts, guestCpu }
    }
    return attempt(ask(), LIBVIRT_DEADLINE_MS, clock)
  }

  #factsOf(machine: Machine, answer: LibvirtAnswer): HostFacts {
    const { settings, bootId, version } = this.#deps
    return hostFacts({ ...answer, machine, platform: settings.platform, bootId, version })
  }
}

const NOTHING_FOUND = { findings: [], checkedAtMs: 0, digest: '' } as const

/** @throws VpeError UNAVAILABLE */
function noFacts(fault: string): never {
  throw new VpeError('UNAVAILABLE', fault)
}

function statusesOf(findings: readonly Finding[]): string {
  return findings.map(({ type, status }) => `${type} ${status}`).join()
}
