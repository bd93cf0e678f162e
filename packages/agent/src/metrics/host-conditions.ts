// What the last look at the host has found, in Prometheus' text format.

import { FINDING_STATUSES, type Finding } from '@vpe/core'
import { Gauge, Registry } from 'prom-client'

export interface Checked {
  /** Of the last look; empty before the first. */
  readonly findings: readonly Finding[]
}

export function conditionRegistry(check: Checked): Registry {
  const registers = [new Registry()]
  new Gauge({
    name: 'vpe_host_condition',
    help: 'Whether a condition of this host has a status: 1 or 0',
    labelNames: ['type', 'status'],
    registers,
    collect() {
      this.reset()
      for (const { type, status } of check.findings)
        for (const each of FINDING_STATUSES) this.set({ type, status: each }, each === status ? 1 : 0)
    },
  })
  new Gauge({
    name: 'vpe_host_latency_seconds',
    help: 'How long it took to answer: a disk pool to write, fsync and read back a little, NATS a round trip',
    labelNames: ['type'],
    registers,
    collect() {
      this.reset()
      for (const { type, latencyMs } of check.findings)
        if (latencyMs !== null) this.set({ type }, latencyMs / 1_000)
    },
  })
  return Registry.merge(registers)
}
