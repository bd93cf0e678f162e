// Calls that move an instance to another host, and that call a live move off.

import { decideCancelMigration, decideMove, hostOfGuest, type InstanceRecord, VpeError } from '@vpe/core'
import {
  ControllerServiceDefinition,
  type ControllerServiceImplementation,
  type MigrateInstanceRequest,
  MigrationMode,
} from '@vpe/proto'
import { disksOf } from '../instance-disks.ts'
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
    const target = isThere ? null : targetOf(deps, instance, wanted)
    const decision = decideMove(instance, {
      hostId: target?.hostId ?? instance.hostId,
      mode: modeOf(request.mode),
      atMs: now(),
      bandwidthMibS: request.bandwidthMibS,
      downtimeMaxMs: request.downtimeMs,
    })
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

/** Begins to move an instance away from where it is; throws VpeError where that cannot be. */
export type StartMove = (
  instance: InstanceRecord,
  /** Hosts that it goes to only where no other fits. */
  avoid: readonly string[],
  /** The host that it goes to; left out for whichever fits best. */
  wanted?: string,
) => Pick<Mutation<unknown>, 'changes' | 'events'>

/** Moves that nobody has asked for by name: as its guest runs where it does. */
export function createStartMove(deps: InstanceServiceDeps): StartMove {
  const carryOut = createCarryOut(deps.store, deps.now)
  return (instance, avoid, wanted) => {
    const { hostId, placement } = targetOf(deps, instance, wanted ?? null, avoid)
    const decision = decideMove(instance, { hostId, mode: 'auto', atMs: deps.now() })
    return carryOut('instance.migrate', instance, decision, placement)
  }
}

/** @param wanted null leaves the choice to the scheduler */
function targetOf(
  deps: InstanceServiceDeps,
  instance: InstanceRecord,
  wanted: string | null,
  avoid: readonly string[] = [],
) {
  const { store } = deps
  const { hostIds } = instance
  assertCanLeave(store, instance)
  if (wanted !== null && hostIds.length > 0 && !hostIds.includes(wanted)) {
    const name = store.hosts.get(wanted)?.name ?? wanted
    throw invalid('host', `host ${name} is not among the hostIDs of the instance; allow it there first`)
  }
  const allowed = hostIds.length > 0 ? hostIds : [...store.hosts.keys()]
  const others = allowed.filter((each) => each !== instance.hostId)
  if (others.length === 0) {
    throw new VpeError('NO_HOST_FITS', `no host but its own may run instance ${instance.name}`)
  }
  if (wanted !== null) return chooseNewHost(deps, instance, [wanted])
  const rather = others.filter((each) => !avoid.includes(each))
  if (rather.length === 0 || rather.length === others.length) return chooseNewHost(deps, instance, others)
  try {
    return chooseNewHost(deps, instance, rather)
  } catch (error) {
    if (error instanceof VpeError && error.code === 'NO_HOST_FITS')
      return chooseNewHost(deps, instance, others)
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
    `instance ${instance.name} cannot move: its disks lie in local pool ${where.name} of host ${host}`,
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
