// One look at whether the host is fit: everything is measured at the same time, each with a deadline, and judged.

import {
  type Finding,
  judgeBridge,
  judgeKvm,
  judgeLibvirt,
  judgeMigrationTls,
  judgeNats,
  judgePool,
  judgePrograms,
  judgeQemu,
  judgeStateFolder,
  type MigrationTlsSetup,
} from '@vpe/core'
import type { Clock } from '../clock.ts'
import type { HypervisorFacts } from '../hypervisor/hypervisor.ts'
import type { PoolFiles, PoolRef } from '../pool/pool-workers.ts'
import { attempt } from './deadline.ts'
import type { Machine } from './machine.ts'

const DEADLINE_MS = 5_000

export interface BusProbe {
  /** As it was given, with what is secret in it. */
  readonly url: string
  roundTripMs(): Promise<number>
}

export interface PreflightParts {
  readonly machine: Machine
  /** What libvirt says, or why it says nothing; never rejects. */
  readonly libvirt: Promise<HypervisorFacts | { readonly fault: string }>
  readonly bus: BusProbe
  readonly probes: PoolProbes
  readonly pools: readonly PoolRef[]
  readonly stateDir: string
  /** The bridge that guests shall be on, where one is set. */
  readonly bridge: string | undefined
  /** How guests on their way are encrypted, null where they are not; undefined where none come. */
  readonly migrationTls: (() => Promise<MigrationTlsSetup | null>) | undefined
  readonly clock: Clock
}

export async function runPreflight(parts: PreflightParts): Promise<Finding[]> {
  const { machine, libvirt, bus, probes, stateDir, bridge, migrationTls, clock } = parts
  const pools = Promise.all(parts.pools.map(async (pool) => judgePool(pool, await probes.probe(pool))))
  const answer = await attempt(bus.roundTripMs(), DEADLINE_MS, clock)
  const hypervisor = await libvirt
  const nats = 'fault' in answer ? answer : { latencyMs: answer.value }
  return [
    judgeKvm(machine.kvm),
    judgeLibvirt('fault' in hypervisor ? hypervisor : { version: hypervisor.libvirtVersion }),
    // Without libvirt nothing is known of QEMU.
    ...('fault' in hypervisor ? [] : [judgeQemu(hypervisor.hypervisorVersion)]),
    judgePrograms(machine.missingPrograms),
    judgeStateFolder(stateDir, machine.stateFolder),
    judgeNats(withoutSecrets(bus.url), nats),
    ...(migrationTls === undefined ? [] : [judgeMigrationTls(await migrationTls())]),
    ...(bridge === undefined ? [] : [judgeBridge(bridge, machine.bridges)]),
    ...(await pools),
  ]
}

/**
 * Probes of pools. One that hangs is not asked again before it has answered or its worker was given up, and keeps nobody waiting.
 */
export class PoolProbes {
  readonly #files: PoolFiles
  readonly #clock: Clock
  readonly #deadlineMs: number
  readonly #underWay = new Map<string, { readonly sinceMs: number; readonly answer: Promise<number> }>()

  constructor(files: PoolFiles, clock: Clock, deadlineMs = DEADLINE_MS) {
    this.#files = files
    this.#clock = clock
    this.#deadlineMs = deadlineMs
  }

  async probe(pool: PoolRef): Promise<{ readonly latencyMs: number } | { readonly fault: string }> {
    const earlier = this.#underWay.get(pool.uuid)
    if (earlier) {
      const waitedS = Math.round((this.#clock.nowMs() - earlier.sinceMs) / 1_000)
      const answer = await attempt(earlier.answer, this.#deadlineMs, this.#clock)
      return 'value' in answer
        ? { latencyMs: answer.value }
        : { fault: waitedS > 0 ? `${answer.fault}; it was asked ${waitedS} s before` : answer.fault }
    }
    const answer = this.#files.request(pool, 'probe', {}).then(({ latencyMs }) => latencyMs)
    this.#underWay.set(pool.uuid, { sinceMs: this.#clock.nowMs(), answer })
    const forget = () => void this.#underWay.delete(pool.uuid)
    answer.then(forget, forget)
    const outcome = await attempt(answer, this.#deadlineMs, this.#clock)
    return 'value' in outcome ? { latencyMs: outcome.value } : outcome
  }
}

function withoutSecrets(url: string): string {
  return url.replaceAll(/\/\/[^@/,]*@/g, '//')
}
