// Calls about instances. Each reads memory, decides, and commits; what then happens on hosts is the
// reconciler's affair.

import { createHash, randomUUID } from 'node:crypto'
import {
  assertClonable,
  assertNoSnapshots,
  type DiskPoolRecord,
  type DiskSource,
  decideDelete,
  decideStart,
  decideStop,
  decideUpdate,
  defaultHostname,
  type FlavorRecord,
  groupsOf,
  groupTagFault,
  type HostTable,
  hostnameFault,
  hostsOf,
  type ImageRecord,
  type InstanceRecord,
  type InstanceSize,
  type PlacementResult,
  place,
  type Seed,
  SSH_KEYS_MAX,
  sshKeyFault,
  userDataFault,
  VpeError,
} from '@vpe/core'
import {
  ControllerServiceDefinition,
  type ControllerServiceImplementation,
  type CreateInstanceRequest,
  type InstanceName,
  type UpdateInstanceRequest,
} from '@vpe/proto'
import { joinCommits } from '../disk-commit.ts'
import type { HaShow } from '../ha/show.ts'
import { reservationOf } from '../host-table-keeper.ts'
import { commitOfDecision } from '../instance-commit.ts'
import { disksOf } from '../instance-disks.ts'
import type { Store } from '../store/store.ts'
import { change, type PlacementRecord } from '../store/tables.ts'
import { instanceToWire, poolsOfDisks, resultToWire } from '../wire.ts'
import { attachToNew, disksForInstance, reachOf } from './disks.ts'
import type { AssertFailoverRoom } from './failover-room.ts'
import { generateName } from './generated-name.ts'
import { assertProtectable, type HaReadiness } from './ha-admission.ts'
import { haIsolationOf, haPriorityOf, haWishOf } from './ha-wish.ts'
import { imageHomeOf, isAvailable } from './images.ts'
import { listInstances } from './instance-list.ts'
import { InstanceMessages } from './instance-messages.ts'
import { createCarryOut } from './instance-wish.ts'
import { moveRequest, withFoldersOfTheirOwn } from './move-request.ts'
import { type Mutations, startOperation } from './mutation.ts'
import { assertBetween, assertName, getOr404, invalid, refer, referHosts } from './references.ts'

const GIB = 1024 ** 3
const DEFAULT_NAMESPACE = 'default'
const TAGS_MAX = 256
/** The flavor of an instance whose creator names none, where there is one of that name. */
const DEFAULT_FLAVOR = 'default'

type InstanceMethods = Pick<
  ControllerServiceImplementation,
  | 'createInstance'
  | 'explainPlacement'
  | 'getInstance'
  | 'findInstance'
  | 'listInstances'
  | 'updateInstance'
  | 'deleteInstance'
  | 'startInstance'
  | 'stopInstance'
>

export interface InstanceServiceDeps {
  readonly store: Store
  readonly mutations: Mutations
  /** All hosts, as placement reads them. */
  readonly hosts: HostTable
  /** Images that are being deleted. */
  readonly imagesGoing: ReadonlySet<string>
  readonly assertFailoverRoom: AssertFailoverRoom
  readonly show: HaShow
  readonly now: () => number
}

export function instanceMethods(
  deps: InstanceServiceDeps & { readonly haPools: HaReadiness },
): InstanceMethods {
  const { store, mutations, hosts, haPools, imagesGoing, assertFailoverRoom, show, now } = deps
  const { methods } = ControllerServiceDefinition
  const messages = new InstanceMessages(store)
  const carryOut = createCarryOut(store, now)

  /** With what changes without its record: lists keep messages for as long as that is the same. */
  const showWhole = (instance: InstanceRecord) => ({
    ...instanceToWire(store, instance),
    recovery: show.instance(instance.uuid),
  })

  /** Everything about a new instance but where it goes. */
  function draw(request: CreateInstanceRequest) {
    const namespace = request.namespace || DEFAULT_NAMESPACE
    assertName('name', request.name)
    assertName('namespace', namespace)
    assertTags(request.tags)
    assertInstanceNameFree(store, namespace, request.name)
    const origin = request.sourceUuid
      ? originOfClone(store, request)
      : originOfImage(store, imagesGoing, request)
    const { image, size, pool, source } = origin
    const disks = disksForInstance(store, request.diskUuids)
    if (pool && request.shareStorage && !pool.shared) {
      throw invalid(
        'disk_pool',
        `disk pool ${pool.name} is local to its host, but shared storage is asked for`,
      )
    }
    assertSeed(request)
    if (pool && image.hostId !== '' && pool.uuid !== image.diskPoolUuid)
      throw invalid('disk_pool', notThere(store, image))
    const haWish = haWishOf(request)
    assertFailoverRoom(null, { ha: request.ha, power: 'on', ...size })
    const hostIds = referHosts(store.hosts, 'host_ids', request.hostIds).map((host) => host.uuid)
    const result = place(
      {
        ...size,
        hostIds: source ? [source.hostId] : hostIds,
        excludeHostIds: [],
        diskPoolUuid: pool?.uuid ?? null,
        sharedPoolOnly: request.shareStorage,
        imageHome: imageHomeOf(store, image),
        dataDisks: disks.map((disk) => ({ name: disk.name, ...reachOf(store, disk) })),
        cpuFeatures: [],
        ha: request.ha,
        groups: groupsOf(namespace, request.tags),
      },
      hosts,
    )
    return { namespace, origin, disks, hostIds, haWish, result }
  }

  function create(request: CreateInstanceRequest) {
    const { namespace, origin, disks, hostIds, haWish, result } = draw(request)
    const { image, size, source } = origin
    if (result.hostId === null) throw new VpeError('NO_HOST_FITS', result.refusal)
    const poolUuids = new Set([result.diskPoolUuid, ...disks.map((disk) => disk.diskPoolUuid)])
    if (request.ha) assertProtectable(store, haPools, poolUuids, hostIds)
    const uuid = randomUUID()
    const instance: InstanceRecord = {
      uuid,
      name: request.name,
      generatedName: generateName(now()),
      namespace,
      ...size,
      imageUuid: image.uuid,
      diskPoolUuid: result.diskPoolUuid,
      hostId: result.hostId,
      leavingHostId: null,
      migration: null,
      staleCopies: [],
      hostIds,
      shareStorage: request.shareStorage,
      tags: request.tags,
      ha: request.ha,
      ...haWish,
      ...seedOf(request, uuid, source),
      power: 'on',
      locked: false,
      generation: 1,
      rebootGeneration: 0,
      rebootKind: 'soft',
      diskGeneration: 0,
      diskSnapshotUuid: null,
      diskSource: origin.diskSource,
      settledGeneration: 0,
      status: 'shutoff',
      task: 'creating',
      fault: '',
      restarts: 0,
      addresses: [],
      lastDiskSlot: disks.length,
      createdAtMs: now(),
    }
    const placement = placementRecord(instance.uuid, result, now())
    const operation = startOperation('instance.create', instance.uuid, now(), {
      generation: 1,
      placementUuid: placement.uuid,
    })
    const why = `created on ${store.hosts.get(result.hostId)?.name}`
    const attached = attachToNew(store, disks, instance, now())
    const created = commitOfDecision(null, { next: instance, why }, [operation], now(), attached.disks)
    const { changes, events } = joinCommits([created, attached])
    const names = attached.disks.map(({ uuid, name }) => ({ uuid, name }))
    return {
      changes: [
        ...changes,
        change.placement(placement),
        ...(request.userData ? [change.userData({ instanceUuid: uuid, text: request.userData })] : []),
      ],
      events,
      response: {
        instance: { ...instanceToWire(store, instance), disks: names },
        operationUuid: operation.uuid,
      },
    }
  }

  function assertInstanceProtectable(instance: InstanceRecord, hostIds: readonly string[]): void {
    assertProtectable(store, haPools, poolsOfDisks(store, instance.uuid, instance.diskPoolUuid), hostIds)
  }

  /** The instance that a request is about, by uuid or by what it is called. */
  function named({ uuid, called }: { uuid: string; called?: InstanceName | undefined }): InstanceRecord {
    if (uuid !== '' || !called) return getOr404(store.instances, 'instance', uuid)
    return findInstance(store, called.name, called.namespace)
  }

  function update(request: UpdateInstanceRequest) {
    const instance = named(request)
    if (request.name !== undefined) assertName('name', request.name)
    if (request.tags) assertTags(request.tags.values)
    if (request.name !== undefined && request.name !== instance.name) {
      assertInstanceNameFree(store, instance.namespace, request.name)
    }
    const image =
      request.image === undefined ? null : rebuildImage(store, imagesGoing, instance, request.image)
    if (image && image.uuid !== instance.imageUuid) assertRebuildable(store, instance)
    const hostIds =
      request.hostIds && referHosts(store.hosts, 'host_ids', request.hostIds.values).map((host) => host.uuid)
    const isAllowed = !hostIds || hostIds.length === 0 || hostIds.includes(instance.hostId)
    if (request.ha === true && !instance.ha) assertInstanceProtectable(instance, hostIds ?? instance.hostIds)
    const target = isAllowed ? null : chooseNewHost(deps, instance, hostIds)
    const decision = decideUpdate(instance, {
      ...(request.name !== undefined && { name: request.name }),
      ...(request.ha !== undefined && { ha: request.ha }),
      ...(request.haPriority !== undefined && { haPriority: haPriorityOf(request.haPriority) }),
      ...(request.haIsolation !== undefined && { haIsolation: haIsolationOf(request.haIsolation) }),
      ...(request.tags && { tags: request.tags.values }),
      ...(hostIds && { hostIds }),
      ...(image && { imageUuid: image.uuid }),
      ...(target && { move: { hostId: target.hostId, mode: 'auto', orCold: true, atMs: now() } }),
    })
    if (decision?.next) assertFailoverRoom(instance, decision.next)
    return carryOut('instance.update', instance, decision, target?.placement)
  }

  return {
    createInstance: mutations.method(methods.createInstance, create),
    updateInstance: mutations.method(methods.updateInstance, update),
    deleteInstance: mutations.method(methods.deleteInstance, (request) => {
      const instance = named(request)
      const decision = decideDelete(instance)
      const away = hostsOf(instance).find((uuid) => store.hosts.get(uuid)?.state !== 'up')
      if (decision && request.needsHost && away !== undefined) {
        throw new VpeError(
          'HOST_UNREACHABLE',
          `host ${store.hosts.get(away)?.name ?? away} of the instance is down`,
        )
      }
      return carryOut('instance.delete', instance, decision)
    }),
    startInstance: mutations.method(methods.startInstance, ({ uuid }) => {
      const instance = getOr404(store.instances, 'instance', uuid)
      if (instance.ha) assertInstanceProtectable(instance, instance.hostIds)
      const decision = decideStart(instance)
      if (decision?.next) assertFailoverRoom(instance, decision.next)
      return carryOut('instance.start', instance, decision)
    }),
    stopInstance: mutations.method(methods.stopInstance, ({ uuid }) => {
      const instance = getOr404(store.instances, 'instance', uuid)
      return carryOut('instance.stop', instance, decideStop(instance))
    }),
    async explainPlacement({ create: request }) {
      await store.durable()
      if (!request) throw invalid('create', 'create: an instance must be given')
      return { placement: resultToWire(draw(request).result, now()) }
    },
    async getInstance({ uuid }) {
      await store.durable()
      return { instance: showWhole(getOr404(store.instances, 'instance', uuid)) }
    },
    async findInstance({ called }) {
      await store.durable()
      return { instance: showWhole(named({ uuid: '', called })) }
    },
    async listInstances(request) {
      await store.durable()
      const { instances, nextMarker } = listInstances(store, request)
      const kept = new Set(request.keptRun === messages.run ? request.kept : [])
      const listed = instances.map((instance) => {
        const { edition, instance: bytes } = messages.encode(instance)
        return kept.has(edition) ? { edition } : { edition, instance: bytes }
      })
      return { instances: listed, nextMarker, run: messages.run }
    },
  }
}

interface NewHost {
  readonly hostId: string
  /** Null where it was not placed anew, but stays. */
  readonly placement: PlacementRecord | null
}

/**
 * One of the hosts that may run an instance, other than the one where it is. Its disks stay where they lie.
 * @param copyDisks those in local pools come along
 */
export function chooseNewHost(
  { store, hosts, now }: InstanceServiceDeps,
  instance: InstanceRecord,
  hostIds: readonly string[],
  copyDisks = false,
): NewHost {
  const { leavingHostId, diskPoolUuid } = instance
  const disks = disksOf(store, instance.uuid)
  // Its place on the host that it is leaving is still its own.
  if (
    leavingHostId !== null &&
    hostIds.includes(leavingHostId) &&
    disks.every(({ hostId }) => hostId === null || hostId === leavingHostId)
  )
    return { hostId: leavingHostId, placement: null }
  const pool = getOr404(store.diskPools, 'disk pool', diskPoolUuid)
  if (!pool.shared && !copyDisks) {
    const host = store.hosts.get(instance.hostId)?.name ?? instance.hostId
    throw new VpeError(
      'CONFLICT',
      `the instance is on host ${host}, which is not among the hosts given, and cannot move: its system disk lies in disk pool ${pool.name}, which is local to that host; allow that host, too, or make the instance anew with shareStorage`,
    )
  }
  const local = disks.find(({ hostId }) => hostId !== null)
  if (local && !copyDisks) {
    throw new VpeError(
      'CONFLICT',
      `instance ${instance.name} cannot move: its disk ${local.name} lies in a disk pool that is local to ${reachOf(store, local).home}; detach that disk first`,
    )
  }
  const allowed = copyDisks ? withFoldersOfTheirOwn(store, instance, hostIds) : hostIds
  const request = moveRequest(store, instance, allowed, copyDisks)
  const result = hosts.without(hostsOf(instance), reservationOf(instance), () => place(request, hosts))
  if (result.hostId === null) throw new VpeError('NO_HOST_FITS', result.refusal)
  return { hostId: result.hostId, placement: placementRecord(instance.uuid, result, now()) }
}

function placementRecord(
  instanceUuid: string,
  { hostId, diskPoolUuid, verdict }: Extract<PlacementResult, { hostId: string }>,
  createdAtMs: number,
): PlacementRecord {
  return { uuid: randomUUID(), instanceUuid, hostId, diskPoolUuid, verdict, createdAtMs }
}

/** By generated name, which is unique for ever, or by the user's name in one namespace or in all. */
function findInstance(store: Store, name: string, namespace: string): InstanceRecord {
  const uuid = store.usage.findByGeneratedName(name)
  const generated = uuid === null ? undefined : store.instances.get(uuid)
  if (generated && (namespace === '' || generated.namespace === namespace)) return generated
  const named =
    namespace === ''
      ? [...store.instances.values()].filter((instance) => instance.name === name)
      : [store.instances.get(store.usage.findByName(namespace, name) ?? '')].filter(
          (each) => each !== undefined,
        )
  const [only, ...others] = named
  if (!only) throw new VpeError('NOT_FOUND', `there is no instance named ${JSON.stringify(name)}`)
  if (others.length === 0) return only
  const namespaces = named.map((instance) => instance.namespace).join(', ')
  throw new VpeError(
    'AMBIGUOUS_NAME',
    `${named.length} instances are named ${JSON.stringify(name)}, in the namespaces ${namespaces}; give a namespace`,
  )
}

function assertInstanceNameFree(store: Store, namespace: string, name: string): void {
  const holder = store.usage.findByName(namespace, name)
  if (holder === null) return
  throw new VpeError(
    'NAME_TAKEN',
    `there is already an instance named ${JSON.stringify(name)} in namespace ${namespace} (${holder})`,
  )
}

function assertTags(tags: readonly string[]): void {
  assertBetween('tags', tags.length, 0, TAGS_MAX)
  for (const tag of tags) {
    assertName('tags', tag)
    const fault = groupTagFault(tag)
    if (fault) throw invalid('tags', fault)
  }
}

function assertSeed({ hostname, sshKeys, userData }: Seed): void {
  assertBetween('ssh_keys', sshKeys.length, 0, SSH_KEYS_MAX)
  const faults = [
    { field: 'hostname', message: hostname && hostnameFault(hostname) },
    ...sshKeys.map((key, index) => ({ field: `ssh_keys[${index}]`, message: sshKeyFault(key) })),
    { field: 'user_data', message: userDataFault(userData) },
  ]
  for (const { field, message } of faults) if (message) throw invalid(field, `${field}: ${message}`)
}

/** What a new instance is made of. */
interface Origin {
  readonly image: ImageRecord
  readonly size: InstanceSize
  readonly pool: DiskPoolRecord | null
  /** The instance that it is a clone of. */
  readonly source: InstanceRecord | null
  readonly diskSource: DiskSource | null
}

function originOfImage(
  store: Store,
  imagesGoing: ReadonlySet<string>,
  request: CreateInstanceRequest,
): Origin {
  const flavor = request.flavor
    ? refer(store.flavors, 'flavor', 'flavor', request.flavor)
    : defaultFlavor(store)
  const image = usableImage(store, imagesGoing, request.image)
  const pool = request.diskPool ? refer(store.diskPools, 'disk pool', 'disk_pool', request.diskPool) : null
  const { uuid: flavorUuid, vcpus, memoryMib } = flavor
  const size = { flavorUuid, vcpus, memoryMib, diskBytes: systemDiskBytes(flavor, image) }
  return { image, size, pool, source: null, diskSource: null }
}

/** A clone lies where its source does: only there can the one disk be copied into the other. */
function originOfClone(
  store: Store,
  { sourceUuid, sourceSnapshotUuid, flavor }: CreateInstanceRequest,
): Origin {
  const source = getOr404(store.instances, 'instance', sourceUuid)
  const snapshot = sourceSnapshotUuid ? store.snapshots.get(sourceSnapshotUuid) : null
  if (snapshot === undefined || (snapshot && snapshot.instanceUuid !== sourceUuid))
    throw invalid('source_snapshot_uuid', `instance ${sourceUuid} has no snapshot ${sourceSnapshotUuid}`)
  assertClonable(source, snapshot)
  const size = flavor ? cloneSize(source, refer(store.flavors, 'flavor', 'flavor', flavor)) : sizeOf(source)
  return {
    image: getOr404(store.images, 'image', source.imageUuid),
    size,
    pool: getOr404(store.diskPools, 'disk pool', source.diskPoolUuid),
    source,
    diskSource: { instanceUuid: sourceUuid, snapshotUuid: sourceSnapshotUuid || null },
  }
}

function sizeOf({ flavorUuid, vcpus, memoryMib, diskBytes }: InstanceRecord): InstanceSize {
  return { flavorUuid, vcpus, memoryMib, diskBytes }
}

function cloneSize(
  source: InstanceRecord,
  { uuid, name, vcpus, memoryMib, diskGib }: FlavorRecord,
): InstanceSize {
  const diskBytes = diskGib === 0 ? source.diskBytes : diskGib * GIB
  if (diskBytes < source.diskBytes) {
    const words = `${(source.diskBytes / GIB).toFixed(1)} GiB, which flavor ${name} cannot hold`
    throw invalid('flavor', `instance ${source.uuid} has a system disk of ${words}`)
  }
  return { flavorUuid: uuid, vcpus, memoryMib, diskBytes }
}

/**
 * What the record keeps of what the guest is told; nothing, where the user gave nothing. A clone of a guest that
 * was told something is told its own name, and the same keys: else it would take itself for the other.
 */
function seedOf(
  { name, hostname, sshKeys, userData }: Seed & { name: string },
  uuid: string,
  source: InstanceRecord | null,
) {
  const isGiven = hostname !== '' || sshKeys.length > 0 || userData !== ''
  const isTold = isGiven || (source?.hostname ?? '') !== ''
  return {
    hostname: isTold ? hostname || defaultHostname(name, uuid) : '',
    sshKeys: isGiven ? sshKeys : (source?.sshKeys ?? []),
    userDataSha256: userData && createHash('sha256').update(userData).digest('hex'),
  }
}

function defaultFlavor(store: Store): FlavorRecord {
  const flavors = [...store.flavors.values()]
  const named = flavors.find((flavor) => flavor.name === DEFAULT_FLAVOR)
  const [smallest] = flavors.sort((a, b) => a.memoryMib - b.memoryMib || a.vcpus - b.vcpus)
  const flavor = named ?? smallest
  if (!flavor) throw invalid('flavor', 'no flavor exists yet; create one with POST /flavors')
  return flavor
}

function usableImage(store: Store, imagesGoing: ReadonlySet<string>, uuidOrName: string): ImageRecord {
  const image = refer(store.images, 'image', 'image', uuidOrName)
  if (imagesGoing.has(image.uuid)) throw invalid('image', `image ${image.name} is being deleted`)
  if (image.status === 'uploading') throw invalid('image', `image ${image.name} waits for its upload`)
  if (image.status === 'error')
    throw invalid('image', `image ${image.name} could not be imported: ${image.fault}`)
  return image
}

/** An image that the system disk of an instance can be made from anew. */
export function rebuildImage(
  store: Store,
  imagesGoing: ReadonlySet<string>,
  instance: InstanceRecord,
  uuidOrName: string,
): ImageRecord {
  const image = usableImage(store, imagesGoing, uuidOrName)
  if (image.status !== 'active') {
    throw invalid(
      'image',
      `image ${image.name} is being imported; a guest is only stopped for one that is there`,
    )
  }
  if (image.virtualSizeBytes > instance.diskBytes && instance.diskBytes > 0) {
    throw invalid('image', diskTooSmall(image, instance.diskBytes))
  }
  const pool = store.diskPools.get(instance.diskPoolUuid)
  if (pool && !isAvailable(image, pool, instance.hostId)) throw invalid('image', notThere(store, image))
  return image
}

/** Why an image without a URL cannot be had elsewhere. */
function notThere(store: Store, image: ImageRecord): string {
  const pool = store.diskPools.get(image.diskPoolUuid)?.name ?? image.diskPoolUuid
  const host = store.hosts.get(image.hostId)?.name ?? image.hostId
  return `image ${image.name} has no URL: it can be used where it is, in disk pool ${pool} on host ${host}`
}

/** A disk that is made anew is another file: the snapshots in the old one would go with it. */
export function assertRebuildable(store: Store, instance: InstanceRecord): void {
  assertNoSnapshots(instance, store.snapshotIndex.ofInstance(instance.uuid).length, 'be rebuilt')
}

function systemDiskBytes(flavor: FlavorRecord, image: ImageRecord): number {
  if (flavor.diskGib === 0) {
    if (image.status === 'active') return image.virtualSizeBytes
    const why = `image ${image.name} is being imported, so its size is not known yet, and flavor ${flavor.name} sets none`
    throw invalid('flavor', `${why}; wait until the image is active, or take a flavor with a disk size`)
  }
  const bytes = flavor.diskGib * GIB
  if (image.virtualSizeBytes > bytes) throw invalid('flavor', diskTooSmall(image, bytes))
  return bytes
}

function diskTooSmall(image: ImageRecord, bytes: number): string {
  const gib = (size: number) => `${(size / GIB).toFixed(1)} GiB`
  return `image ${image.name} needs a system disk of ${gib(image.virtualSizeBytes)}, it would get ${gib(bytes)}`
}
