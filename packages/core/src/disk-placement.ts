// Where a new data disk goes: the ready pool, and on pools that are not shared the host, with the most
// room. A disk stays where it is made.

import { VpeError } from './errors.ts'
import type { DiskPoolId, HostId } from './ids.ts'
import { freeBytes } from './placement/pool-choice.ts'
import type { OvercommitPolicy, PoolCandidate } from './placement/rules.ts'

/** A pool on one of its hosts. */
export interface DiskHome extends PoolCandidate {
  readonly hostId: HostId
  readonly hostName: string
  readonly isHostUp: boolean
}

export interface DiskPlace {
  readonly diskPoolUuid: DiskPoolId
  /** Null in a shared pool. */
  readonly hostId: HostId | null
}

/**
 * Chooses among the homes that the user's wish leaves.
 * @throws VpeError with the figures when there is none
 */
export function placeDisk(
  sizeBytes: number,
  homes: readonly DiskHome[],
  policy: OvercommitPolicy,
): DiskPlace {
  const usable = homes.filter(({ state, isHostUp }) => state === 'ready' && isHostUp)
  const [best] = [...usable].sort(
    (a, b) => freeBytes(b, policy) - freeBytes(a, policy) || (homeKey(a) < homeKey(b) ? -1 : 1),
  )
  if (!best) {
    const found = homes.map((home) => `${where(home)}: ${stateOf(home)}`)
    throw new VpeError(
      'CONFLICT',
      `no disk pool is ready for the disk (${found.join('; ') || 'there is none'})`,
    )
  }
  assertRoom(sizeBytes, best, policy)
  return { diskPoolUuid: best.uuid, hostId: best.shared ? null : best.hostId }
}

/** @throws VpeError DISK_POOL_FULL when so much more cannot be promised there */
export function assertRoom(moreBytes: number, home: DiskHome, policy: OvercommitPolicy): void {
  const free = freeBytes(home, policy)
  if (moreBytes <= free) return
  throw new VpeError(
    'DISK_POOL_FULL',
    `${where(home)} has ${gib(Math.max(0, free))} of ${gib(home.capacityBytes)} left, and ${gib(moreBytes)} are needed`,
  )
}

function where({ name, shared, hostName }: DiskHome): string {
  return shared ? `disk pool ${name}` : `disk pool ${name} on host ${hostName}`
}

function stateOf({ isHostUp, state, fault }: DiskHome): string {
  if (!isHostUp) return 'the host is down'
  return fault || state
}

function homeKey({ uuid, hostId }: DiskHome): string {
  return `${uuid}/${hostId}`
}

export function gib(bytes: number): string {
  return `${(bytes / 1024 ** 3).toFixed(1)} GiB`
}
