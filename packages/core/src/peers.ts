// Whether guests can be sent between hosts as they run: each host tries a few others, and they try it, on the ports
// that libvirt and QEMU use. Which, and what is made of it, is decided here; a migration would find out too late.

import type { Finding } from './host-conditions.ts'
import type { HostId } from './ids.ts'

export const PEERS_FINDING = 'PeersReachable'

/** One try from one host to another. */
export interface PeerAttempt {
  /** The other host, by name. */
  readonly peer: string
  /** Whether the other dialled this one, or was dialled. */
  readonly direction: 'there' | 'here'
  /** The ways that did not work: what was dialled, and why not. */
  readonly faults: readonly string[]
}

/**
 * The hosts that one tries in a round: those behind it in a ring, further on in each round, so that in time
 * every pair is tried and no host is tried by all at once.
 *
 * @param ring all hosts, in an order that stays
 */
export function choosePeers(hostId: HostId, ring: readonly HostId[], round: number, count: number): HostId[] {
  const own = ring.indexOf(hostId)
  const others = own < 0 ? ring.length : ring.length - 1
  const taken = Math.min(count, others)
  const start = others === 0 ? 0 : (round * count) % others
  return Array.from({ length: taken }, (_, step) => {
    const behind = (start + step) % others
    return ring[(own + 1 + behind) % ring.length] ?? ''
  })
}

/** What a host's tries come to; `ports` says which they are, for the cure. */
export function judgePeers(attempts: readonly PeerAttempt[], ports: string): Finding {
  const type = PEERS_FINDING
  const names = [...new Set(attempts.map(({ peer }) => peer))].join(', ')
  const failed = attempts.filter(({ faults }) => faults.length > 0)
  if (failed.length === 0) {
    const message = `guests can be sent to and from ${names}: libvirt and a port for their memory were reached`
    return { type, status: 'ok', message, cure: '', latencyMs: null }
  }
  const told = failed.map(({ peer, direction, faults }) => {
    const way = direction === 'there' ? `to ${peer}` : `from ${peer}`
    return `${way}: ${faults.join(', ')}`
  })
  const cure = `Open ${ports} between all hosts, in both directions, and see that libvirtd listens there and each host's certificate is of the cluster (docs/operations.md, Live migration)`
  return { type, status: 'failed', message: `no guest can be sent ${told.join('; ')}`, cure, latencyMs: null }
}
