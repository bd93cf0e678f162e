// Disarms as they are kept, by time of day, and as the machine counts them.

import { type Disarms, NO_DISARMS } from '@vpe/core/ha'
import type { Disarm, DisarmScope } from './ports.ts'

export function disarmKey(scope: DisarmScope): string {
  switch (scope.kind) {
    case 'cluster':
      return 'cluster'
    case 'host':
      return `host/${scope.hostId}`
    case 'instance':
      return `instance/${scope.uuid}`
    default:
      throw new Error(`no such scope: ${scope satisfies never}`)
  }
}

/** @param dayOffsetMs from the machine's clock to the time of day */
export function disarmsOf(kept: Iterable<Disarm>, dayOffsetMs: number): Disarms {
  const hosts = new Map<string, number>()
  const instances = new Map<string, number>()
  let { clusterUntilMs } = NO_DISARMS
  for (const { scope, untilMs } of kept) {
    const atMs = untilMs - dayOffsetMs
    if (scope.kind === 'host') hosts.set(scope.hostId, atMs)
    else if (scope.kind === 'instance') instances.set(scope.uuid, atMs)
    else clusterUntilMs = atMs
  }
  return { clusterUntilMs, hosts, instances }
}
