// Whether a highly available instance may be powered on, or grow: room is kept for the loss of hosts.

import { type HostTable, hostsOf, type InstanceRecord, VpeError } from '@vpe/core'
import { type AdmissionHost, type Amounts, type FailoverPolicy, refuseHaStart } from '@vpe/core/ha'
import type { Store } from '../store/store.ts'

/** What counts against the room: of one that is not highly available, or is to be off, nothing. */
type Load = Pick<InstanceRecord, 'ha' | 'power' | 'vcpus' | 'memoryMib'>

/** @throws VpeError NO_FAILOVER_ROOM where `next` needs more of it than `before`, which is null for a new one */
export type AssertFailoverRoom = (before: InstanceRecord | null, next: Load) => void

export function createAssertFailoverRoom(
  store: Store,
  hosts: HostTable,
  policy: FailoverPolicy,
): AssertFailoverRoom {
  return (before, next) => {
    if (policy.mode === 'advise' || policy.hosts === 0) return
    const [had, needs] = [loadOf(before), loadOf(next)]
    if (needs.vcpus <= had.vcpus && needs.memoryMib <= had.memoryMib) return
    const refusal = refuseHaStart(hostsWithout(store, hosts, before), needs, policy)
    if (refusal !== null) throw new VpeError('NO_FAILOVER_ROOM', refusal)
  }
}

function loadOf(instance: Load | null): Amounts {
  return instance?.ha && instance.power !== 'off' ? instance : { vcpus: 0, memoryMib: 0 }
}

/** As if the instance were nowhere. Hosts that are down have been lost already, and cordoned ones take nothing. */
function hostsWithout(store: Store, hosts: HostTable, instance: InstanceRecord | null): AdmissionHost[] {
  const its = new Set(instance ? hostsOf(instance) : [])
  return [...hosts.order].flatMap((row) => {
    if (hosts.blocked[row] !== 0) return []
    const hostId = hosts.ids[row] ?? ''
    const { haVcpus, haMemoryMib } = store.usage.ofHost(hostId)
    const own = instance && its.has(hostId) ? instance : { vcpus: 0, memoryMib: 0 }
    const ownHa = own === instance ? loadOf(instance) : own
    return {
      name: hosts.names[row] ?? '',
      total: { vcpus: hosts.vcpusTotal[row] ?? 0, memoryMib: hosts.memoryTotal[row] ?? 0 },
      used: {
        vcpus: (hosts.vcpusUsed[row] ?? 0) - own.vcpus,
        memoryMib: (hosts.memoryUsed[row] ?? 0) - own.memoryMib,
      },
      usedByHa: { vcpus: haVcpus - ownHa.vcpus, memoryMib: haMemoryMib - ownHa.memoryMib },
    }
  })
}
