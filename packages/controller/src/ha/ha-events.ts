// What is told of recovery, beside what is told of records.

import type { VpeEvent } from '@vpe/bus'
import type { HostRecord } from '@vpe/core'
import type { HaInstance, HostPhase, Proof } from '@vpe/core/ha'
import { hostEvent } from '../host-event.ts'

const WHAT_OF_PHASE: Readonly<Record<HostPhase, string>> = {
  // `up` is told of a host that answers again, whatever it has.
  up: 'admitted',
  suspect: 'suspect',
  isolated: 'isolated',
  'pool-outage': 'pool_outage',
  hold: 'hold',
  stale: 'stale',
  fenced: 'fenced',
  quarantined: 'quarantined',
}

export function phaseEvent(host: HostRecord, from: HostPhase, to: HostPhase, why: string): VpeEvent {
  return hostEvent(host, WHAT_OF_PHASE[to], { ha_phase: to, previous: from, why })
}

export function proofEvent(host: HostRecord, { kind, bootId, pool, why }: Proof): VpeEvent {
  return hostEvent(host, 'proven', { proof: kind, boot_id: bootId, disk_pool_uuid: pool, why })
}

/** What an event of an instance says of its recovery. */
export function showRecovery({ generation, startedBy, clock }: HaInstance, fromHostId: string | null) {
  return {
    ownership_generation: generation,
    from_host_uuid: fromHostId,
    proofs: startedBy.map(({ kind, pool, why }) => ({ proof: kind, disk_pool_uuid: pool, why })),
    clock: {
      last_heard_ms: clock.lastHeardMs,
      suspected_ms: clock.suspectedMs,
      proven_ms: clock.provenMs,
      placed_ms: clock.placedMs,
      running_ms: clock.runningMs,
    },
  }
}
