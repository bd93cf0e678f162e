// Whether an instance may be made highly available. Where its pools are protected, somebody must be there to keep that promise; where they
// are not, or there is one host alone, highly available means that its own host keeps it on, and its `unprotected` says so.

import { VpeError } from '@vpe/core'
import type { HaPoolKeeper } from '../ha/ha-pools.ts'
import type { Store } from '../store/store.ts'

export type HaReadiness = Pick<HaPoolKeeper, 'classOf' | 'whyNotReady'>

const NAMED_MAX = 3

/**
 * Refuses an instance whose pools are all protected while none of the hosts that may run it is ready.
 * @param hostIds those that may run it; empty for all
 * @throws VpeError CONFLICT that says why, of the first few
 */
export function assertProtectable(
  store: Store,
  haPools: HaReadiness,
  poolUuids: ReadonlySet<string>,
  hostIds: readonly string[],
): void {
  const pools = [...poolUuids]
  if (pools.some((uuid) => haPools.classOf(uuid).poolClass === 'N')) return
  const faults: string[] = []
  for (const host of store.hosts.values()) {
    if (hostIds.length > 0 && !hostIds.includes(host.uuid)) continue
    if (!pools.every((uuid) => store.poolHosts.find(uuid, host.uuid))) continue
    const why = haPools.whyNotReady(host)
    if (why === null) return
    faults.push(`${host.name}: ${why}`)
  }
  if (faults.length === 0) return
  const more = faults.length > NAMED_MAX ? `; and ${faults.length - NAMED_MAX} more` : ''
  throw new VpeError(
    'CONFLICT',
    `no host that could run it is ready for high availability: ${faults.slice(0, NAMED_MAX).join('; ')}${more}`,
  )
}
