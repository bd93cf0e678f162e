// Times at which a person has asked to be trusted more than what is seen: while the network or a filer is worked on, nothing is
// judged lost, and nothing is restarted elsewhere.

import type { HostId, InstanceId } from '../ids.ts'

/** Until when, on the clock of whoever steps. */
export interface Disarms {
  readonly clusterUntilMs: number
  readonly hosts: ReadonlyMap<HostId, number>
  readonly instances: ReadonlyMap<InstanceId, number>
}

export const NO_DISARMS: Disarms = Object.freeze({
  clusterUntilMs: Number.NEGATIVE_INFINITY,
  hosts: new Map(),
  instances: new Map(),
})

export function isClusterDisarmed({ clusterUntilMs }: Disarms, nowMs: number): boolean {
  return nowMs < clusterUntilMs
}

/** Whether a host is, by itself or with all others. */
export function isHostDisarmed(disarms: Disarms, hostId: HostId, nowMs: number): boolean {
  return isClusterDisarmed(disarms, nowMs) || nowMs < (disarms.hosts.get(hostId) ?? Number.NEGATIVE_INFINITY)
}

/** Whether an instance is, by itself, or with the host that has it. */
export function isInstanceDisarmed(
  disarms: Disarms,
  { uuid, hostId }: { readonly uuid: InstanceId; readonly hostId: HostId },
  nowMs: number,
): boolean {
  const ownUntilMs = disarms.instances.get(uuid) ?? Number.NEGATIVE_INFINITY
  return isHostDisarmed(disarms, hostId, nowMs) || nowMs < ownUntilMs
}
