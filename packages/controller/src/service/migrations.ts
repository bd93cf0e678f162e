// Calls that move an instance to another host, and that call a live move off.

import { decideCancelMigration, decideMove, hostOfGuest, type InstanceRecord, VpeError } from '@vpe/core'
import {
  ControllerServiceDefinition,
  type ControllerServiceImplementation,
  type MigrateInstanceRequest,
  MigrationMode,
} from '@vpe/proto'
import { disksOf, hasLocalDisks } from '../instance-disks.ts'
import type { Store } from '../store/store.ts'
import { createCarryOut } from './instance-wish.ts'
import { chooseNewHost, type InstanceServiceDeps } from './instances.ts'
import type { Mutation } from './mutation.ts'
import { assertBetween, getOr404, invalid, refer } from './references.ts'

/** 1 TiB/s. */
const BANDWIDTH_MIB_S_MAX = 1_048_576
/** What libvirt takes. */
const DOWNTIME_MS_MAX = 2_000_000

type MigrationMethods = Pick<ControllerServiceImplementation, 'migrateInstance' | 'cancelMigration'>

export function migrationMethods(deps: InstanceServiceDeps): MigrationMethods {
  const { store, mutations, now } = deps
  const { methods } = ControllerServiceDefinition
  const carryOut = createCarryOut(store, now)

  function migrate(request: MigrateInstanceRequest) {
    const instance = getOr404(store.instances, 'instance', request.uuid)
    assertBetween('bandwidth_mib_s', request.bandwidthMibS, 0, BANDWIDTH_MIB_S_MAX)
    assertBetween('downtime_ms', request.downtimeMs, 0, DOWNTIME_MS_MAX)
    const wanted = request.host ? refer(store.hosts, 'host', 'host', request.host).uuid : null
    const isThere = wanted !== null && wanted === instance.hostId
    const { copyDisks, postCopy } = request
    const target = isThere ? null : targetOf(deps, instance, wanted, { copyDisks })
    const decision = decideMove(instance, {
      hostId: target?.hostId ?? instance.hostId,
      mode: modeOf(request.mode),
      atMs: now(),
      bandwidthMibS: request.bandwidthMibS,
      downtimeMaxMs: request.downtimeMs,
      copyDisks: copyDisks && hasLocalDisks(store, instance),
      postCopy,
    })
    if (copyDisks) assertCopiedWhole(store, decision?.next ?? null)
    return carryOut('instance.migrate', instance, decision, target?.placement)
  }

  return {
    migrateInstance: mutations.method(methods.migrateInstance, migrate),
    cancelMigration: mutations.method(methods.cancelMigration, ({ uuid }) => {
      const instance = getOr404(store.instances, 'instance', uuid)
      return carryOut('instance.cancel_migration', instance, decideCancelMigration(instance))
    }),
  }
}

export interface HowToMove {
  /** The host that it goes to; left out for whichever fits best. */
  readonly wanted?: string | null
  /** Hosts that it goes to only where no other fits. */
  readonly avoid?: readonly string[]
  /** Its disks in local pools come along. */
  readonly copyDisks?: boolean
}

/** Begins to move an instance away from where it is; throws VpeError where that cannot be. */
export type StartMove = (
  instance: InstanceRecord,
  how?: HowToMove,
) => Pick<Mutation<unknown>, 'changes' | 'events'>

/** Moves that nobody has asked for by name: as its guest runs where it does. */
export function createStartMove(deps: InstanceServiceDeps): StartMove {
  const carryOut = createCarryOut(deps.store, deps.now)
  return (instance, { wanted = null, avoid = [], copyDisks = false } = {}) => {
    const { hostId, placement } = targetOf(deps, instance, wanted, { avoid, copyDisks })
    const isCopied = copyDisks && hasLocalDisks(deps.store, instance)
    const decision = decideMove(instance, { hostId, mode: 'auto', atMs: deps.now(), copyDisks: isCopied })
    if (isCopied) assertCopiedWhole(deps.store, decision?.next ?? null)
    return carryOut('instance.migrate', instance, decision, placement)
  }
}

/** @param wanted null leaves the choice to the scheduler */
function targetOf(
  deps: InstanceServiceDeps,
  instance: InstanceRecord,
  wanted: string | null,
  { avoid = [], copyDisks }: { avoid?: readonly string[]; copyDisks: boolean },
) {
  const { store } = deps
  const { hostIds } = instance
  // Back to where its disks are still whole, nothing need come along.
  if (!copyDisks && (wanted === null || wanted !== instance.leavingHostId)) assertCanLeave(store, instance)
  const choose = (among: readonly string[]) => chooseNewHost(deps, instance, among, copyDisks)
  if (wanted !== null && hostIds.length > 0 && !hostIds.includes(wanted)) {
    const name = store.hosts.get(wanted)?.name ?? wanted
    throw invalid('host', `host ${name} is not among the hostIDs of the instance; allow it there first`)
  }
  const allowed = hostIds.length > 0 ? hostIds : [...store.hosts.keys()]
  const others = allowed.filter((each) => each !== instance.hostId)
  if (others.length === 0) {
    throw new VpeError('NO_HOST_FITS', `no host but its own may run instance ${instance.name}`)
  }
  if (wanted !== null) return choose([wanted])
  const rather = others.filter((each) => !avoid.includes(each))
  if (rather.length === 0 || rather.length === others.length) return choose(others)
  try {
    return choose(rather)
  } catch (error) {
    if (error instanceof VpeError && error.code === 'NO_HOST_FITS') return choose(others)
    throw error
  }
}

/** @throws VpeError CONFLICT where a disk lies on one host alone */
function assertCanLeave(store: Store, instance: InstanceRecord): void {
  const pool = getOr404(store.diskPools, 'disk pool', instance.diskPoolUuid)
  const local = disksOf(store, instance.uuid).find(({ hostId }) => hostId !== null)
  const where = pool.shared ? store.diskPools.get(local?.diskPoolUuid ?? '') : pool
  if (!where) return
  const host = store.hosts.get(local?.hostId ?? hostOfGuest(instance))?.name ?? hostOfGuest(instance)
  throw new VpeError(
    'CONFLICT',
    `instance ${instance.name} cannot move: its disks lie in local pool ${where.name} of host ${host}; give "copy_disks": true to have them copied along`,
  )
}

/** @throws VpeError CONFLICT where what a guest sees of its disk is not all that is in it */
function assertCopiedWhole(store: Store, next: InstanceRecord | null): void {
  if (next?.migration?.mode !== 'live' || store.diskPools.get(next.diskPoolUuid)?.shared !== false) return
  const { length } = store.snapshotIndex.ofInstance(next.uuid)
  if (length === 0) return
  throw new VpeError(
    'CONFLICT',
    `instance ${next.name} cannot move live with its disks: its ${length} snapshot(s) would stay behind; delete them, or move it with "mode": "cold"`,
  )
}

function modeOf(mode: MigrationMode): 'live' | 'cold' | 'auto' {
  switch (mode) {
    case MigrationMode.LIVE:
      return 'live'
    case MigrationMode.COLD:
      return 'cold'
    default:
      return 'auto'
  }
}
