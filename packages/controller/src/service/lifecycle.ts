// Calls that lead an instance through its life beyond start and stop: reboot, pause, resume, rebuild, resize,
// lock. What they mean is decided in core; here it is looked up what they name.

import {
  decideLock,
  decidePause,
  decideReboot,
  decideRebuild,
  decideResize,
  decideResume,
  explainMisfit,
  type FlavorRecord,
  type InstanceRecord,
  type InstanceSize,
  type PlacementRequest,
  VpeError,
} from '@vpe/core'
import { ControllerServiceDefinition, type ControllerServiceImplementation, RebootKind } from '@vpe/proto'
import { reservationOf } from '../host-table-keeper.ts'
import { createCarryOut } from './instance-wish.ts'
import { assertRebuildable, type InstanceServiceDeps, rebuildImage } from './instances.ts'
import { getOr404, refer } from './references.ts'

const GIB = 1024 ** 3

type LifecycleMethods = Pick<
  ControllerServiceImplementation,
  | 'rebootInstance'
  | 'pauseInstance'
  | 'resumeInstance'
  | 'rebuildInstance'
  | 'resizeInstance'
  | 'lockInstance'
  | 'unlockInstance'
>

export function lifecycleMethods(deps: InstanceServiceDeps): LifecycleMethods {
  const { store, mutations, imagesGoing, assertFailoverRoom, now } = deps
  const { methods } = ControllerServiceDefinition
  const carryOut = createCarryOut(store, now)
  const instanceOf = ({ uuid }: { uuid: string }) => getOr404(store.instances, 'instance', uuid)

  return {
    rebootInstance: mutations.method(methods.rebootInstance, (request) => {
      const instance = instanceOf(request)
      const kind = request.kind === RebootKind.HARD ? 'hard' : 'soft'
      return carryOut('instance.reboot', instance, decideReboot(instance, kind))
    }),
    pauseInstance: mutations.method(methods.pauseInstance, (request) => {
      const instance = instanceOf(request)
      return carryOut('instance.pause', instance, decidePause(instance))
    }),
    resumeInstance: mutations.method(methods.resumeInstance, (request) => {
      const instance = instanceOf(request)
      return carryOut('instance.resume', instance, decideResume(instance))
    }),
    rebuildInstance: mutations.method(methods.rebuildInstance, (request) => {
      const instance = instanceOf(request)
      const image = rebuildImage(store, imagesGoing, instance, request.image ?? instance.imageUuid)
      assertRebuildable(store, instance)
      return carryOut('instance.rebuild', instance, decideRebuild(instance, image.uuid))
    }),
    resizeInstance: mutations.method(methods.resizeInstance, (request) => {
      const instance = instanceOf(request)
      const flavor = refer(store.flavors, 'flavor', 'flavor', request.flavor)
      const size = sizeOf(flavor, instance)
      const decision = decideResize(instance, size, request.restart)
      if (decision) assertFits(deps, instance, flavor.name, size)
      if (decision?.next) assertFailoverRoom(instance, decision.next)
      return carryOut('instance.resize', instance, decision)
    }),
    lockInstance: mutations.method(methods.lockInstance, (request) => {
      const instance = instanceOf(request)
      return carryOut('instance.lock', instance, decideLock(instance, true))
    }),
    unlockInstance: mutations.method(methods.unlockInstance, (request) => {
      const instance = instanceOf(request)
      return carryOut('instance.unlock', instance, decideLock(instance, false))
    }),
  }
}

/** A flavor without a disk size leaves the disk as it is. */
function sizeOf({ uuid, vcpus, memoryMib, diskGib }: FlavorRecord, instance: InstanceRecord): InstanceSize {
  return { flavorUuid: uuid, vcpus, memoryMib, diskBytes: diskGib === 0 ? instance.diskBytes : diskGib * GIB }
}

/** By the rules of placement, on the host where it is, with its present size given back. */
function assertFits(
  { store, hosts }: InstanceServiceDeps,
  instance: InstanceRecord,
  flavorName: string,
  { vcpus, memoryMib, diskBytes }: InstanceSize,
): void {
  const host = getOr404(store.hosts, 'host', instance.hostId)
  const request = inPlace(instance, { vcpus, memoryMib, diskBytes })
  const misfit = hosts.without([host.uuid], reservationOf(instance), () =>
    explainMisfit(request, hosts, host.uuid),
  )
  if (misfit === null) return
  throw new VpeError(
    'CONFLICT',
    `instance ${instance.uuid} cannot be resized to flavor ${flavorName} on host ${host.name}: ${misfit}`,
  )
}

/** What is asked of its host by an instance that stays there. */
export function inPlace(
  { diskPoolUuid }: InstanceRecord,
  size: Pick<InstanceSize, 'vcpus' | 'memoryMib' | 'diskBytes'>,
): PlacementRequest {
  return {
    ...size,
    hostIds: [],
    excludeHostIds: [],
    diskPoolUuid,
    sharedPoolOnly: false,
    imageHome: null,
    dataDisks: [],
    cpuFeatures: [],
    ha: false,
    groups: [],
  }
}
