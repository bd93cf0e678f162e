// Calls about data disks. Each reads memory, decides, and commits; what then happens on hosts is the
// keeper's affair, or, for a disk that an instance has, the reconciler's.

import { randomUUID } from 'node:crypto'
import {
  assertRoom,
  type DiskDecision,
  type DiskHome,
  type DiskRecord,
  decideAttach,
  decideDetach,
  decideDiskDelete,
  decideDisksChange,
  decideDiskUpdate,
  type InstanceRecord,
  nextDiskSlot,
  type OvercommitPolicy,
  placeDisk,
  VpeError,
} from '@vpe/core'
import {
  ControllerServiceDefinition,
  type ControllerServiceImplementation,
  type CreateDiskRequest,
} from '@vpe/proto'
import { commitOfDiskDecision, joinCommits } from '../disk-commit.ts'
import { commitOfDecision } from '../instance-commit.ts'
import { disksOf } from '../instance-disks.ts'
import type { Store } from '../store/store.ts'
import { diskToWire } from '../wire.ts'
import { type Mutations, startOperation } from './mutation.ts'
import { poolOnHost } from './pool-on-host.ts'
import {
  assertBetween,
  assertName,
  assertNameFree,
  getOr404,
  invalid,
  listByName,
  refer,
} from './references.ts'

const GIB = 1024 ** 3
const SIZE_MAX = 64 * 1024 * GIB

type DiskMethods = Pick<
  ControllerServiceImplementation,
  'createDisk' | 'getDisk' | 'listDisks' | 'updateDisk' | 'deleteDisk' | 'attachDisk' | 'detachDisk'
>

export interface DiskServiceDeps {
  readonly store: Store
  readonly mutations: Mutations
  readonly policy: OvercommitPolicy
  readonly now: () => number
}

export function diskMethods({ store, mutations, policy, now }: DiskServiceDeps): DiskMethods {
  const { methods } = ControllerServiceDefinition

  /** A user's wish about one disk, as an operation; one that changes nothing has succeeded already. */
  function carryOut(
    kind: string,
    disk: DiskRecord,
    decision: DiskDecision | null,
    instance?: InstanceRecord,
  ) {
    const next = decision?.next ?? disk
    const operation = startOperation(kind, disk.uuid, now())
    const response = { disk: diskToWire(store, next), operationUuid: operation.uuid }
    const running = store.runningOperationsOn(disk.uuid)
    if (!decision) {
      const { changes } = commitOfDiskDecision(disk, { next: disk, why: '' }, [...running, operation], now())
      return { changes: changes.filter(({ table }) => table === 'operations'), events: [], response }
    }
    const ofDisk = commitOfDiskDecision(disk, decision, [...running, operation], now())
    if (!instance) return { ...ofDisk, response }
    // Its host must carry it out: that is a wish about the instance, too, in the same commit.
    const wish = decideDisksChange(instance, `disk ${next.name}: ${decision.why}`)
    const lastDiskSlot = next.status === 'attaching' ? next.slot : instance.lastDiskSlot
    const changed = wish.next && { ...wish.next, lastDiskSlot }
    const disks = [...disksOf(store, instance.uuid).filter(({ uuid }) => uuid !== next.uuid), next]
    const ofInstance = commitOfDecision(
      instance,
      { ...wish, next: changed },
      store.runningOperationsOf(instance.uuid),
      now(),
      disks,
    )
    return { ...joinCommits([ofDisk, ofInstance]), response }
  }

  const holderOf = (disk: DiskRecord) => store.instances.get(disk.instanceUuid ?? '')
  const holderName = (disk: DiskRecord) => holderOf(disk)?.name ?? ''

  function create(request: CreateDiskRequest) {
    assertName('name', request.name)
    assertNameFree(store.disks, 'disk', request.name)
    assertBetween('size_bytes', request.sizeBytes, 1, SIZE_MAX)
    const pool = request.diskPool ? refer(store.diskPools, 'disk pool', 'disk_pool', request.diskPool) : null
    const host = request.host ? refer(store.hosts, 'host', 'host', request.host) : null
    if (pool?.shared && host) {
      throw invalid('host', `disk pool ${pool.name} is shared: a disk in it lies on no single host`)
    }
    const homes = homesOf(store).filter(
      (home) => (!pool || home.uuid === pool.uuid) && (!host || (home.hostId === host.uuid && !home.shared)),
    )
    if (homes.length === 0 && (pool || host)) {
      const what = `${pool ? `disk pool ${pool.name}` : 'no disk pool of its own'}${host ? ` on host ${host.name}` : ''}`
      throw new VpeError('CONFLICT', `there is ${pool ? 'no ' : ''}${what}; take another`)
    }
    const place = placeDisk(request.sizeBytes, homes, policy)
    const disk: DiskRecord = {
      uuid: randomUUID(),
      name: request.name,
      ...place,
      sizeBytes: request.sizeBytes,
      settledBytes: 0,
      status: 'creating',
      fault: '',
      instanceUuid: null,
      slot: 0,
      createdAtMs: now(),
    }
    const operation = startOperation('disk.create', disk.uuid, now())
    const decision = { next: disk, why: 'it was asked for' }
    return {
      ...commitOfDiskDecision(null, decision, [operation], now()),
      response: { disk: diskToWire(store, disk), operationUuid: operation.uuid },
    }
  }

  return {
    createDisk: mutations.method(methods.createDisk, create),
    updateDisk: mutations.method(methods.updateDisk, ({ uuid, name, sizeBytes }) => {
      const disk = getOr404(store.disks, 'disk', uuid)
      if (name !== undefined) assertName('name', name)
      if (name !== undefined && name !== disk.name) assertNameFree(store.disks, 'disk', name)
      if (sizeBytes !== undefined) assertBetween('size_bytes', sizeBytes, 1, SIZE_MAX)
      const changes = { ...(name !== undefined && { name }), ...(sizeBytes !== undefined && { sizeBytes }) }
      const decision = decideDiskUpdate(disk, changes, holderName(disk))
      if (decision?.next?.status !== 'resizing' || disk.status === 'resizing') {
        return carryOut('disk.update', disk, decision)
      }
      const home = homesOf(store).find(
        (each) => each.uuid === disk.diskPoolUuid && (disk.hostId === null || each.hostId === disk.hostId),
      )
      if (home) assertRoom(decision.next.sizeBytes - disk.sizeBytes, home, policy)
      return carryOut('disk.update', disk, decision, holderOf(disk))
    }),
    deleteDisk: mutations.method(methods.deleteDisk, ({ uuid }) => {
      const disk = getOr404(store.disks, 'disk', uuid)
      return carryOut('disk.delete', disk, decideDiskDelete(disk, holderName(disk)))
    }),
    attachDisk: mutations.method(methods.attachDisk, (request) => {
      const instance = getOr404(store.instances, 'instance', request.instanceUuid)
      const disk = refer(store.disks, 'disk', 'disk', request.disk)
      const others = disksOf(store, instance.uuid)
      const decision = decideAttach(disk, {
        instance,
        count: others.length,
        slot: nextDiskSlot(instance.lastDiskSlot, new Set(others.map(({ slot }) => slot))),
        ...reachOf(store, disk),
        holder: holderName(disk),
        host: store.hosts.get(instance.hostId)?.name ?? instance.hostId,
      })
      return carryOut('disk.attach', disk, decision, instance)
    }),
    detachDisk: mutations.method(methods.detachDisk, (request) => {
      const instance = getOr404(store.instances, 'instance', request.instanceUuid)
      const disk = getOr404(store.disks, 'disk', request.diskUuid)
      if (disk.instanceUuid !== instance.uuid) {
        throw new VpeError('NOT_FOUND', `instance ${instance.name} does not have disk ${disk.name}`)
      }
      if (instance.power === 'paused') {
        const cure = 'its guest can let go of nothing; resume or stop it first'
        throw new VpeError('CONFLICT', `instance ${instance.name} is paused: ${cure}`)
      }
      return carryOut('disk.detach', disk, decideDetach(disk, instance.name), instance)
    }),
    async getDisk({ uuid }) {
      await store.durable()
      return { disk: diskToWire(store, getOr404(store.disks, 'disk', uuid)) }
    },
    async listDisks({ name }) {
      await store.durable()
      return { disks: listByName(store.disks, name).map((disk) => diskToWire(store, disk)) }
    },
  }
}

/** The disks that a new instance shall have, each once, with the slots that they get. */
export function disksForInstance(store: Store, uuidsOrNames: readonly string[]): DiskRecord[] {
  const disks = uuidsOrNames.map((each) => refer(store.disks, 'disk', 'disks', each))
  const twice = disks.find((disk, index) => disks.indexOf(disk) !== index)
  if (twice) throw invalid('disks', `disk ${twice.name} is given more than once`)
  return disks
}

/** Attaches disks to an instance that is being created, as part of its creation. */
export function attachToNew(
  store: Store,
  disks: readonly DiskRecord[],
  instance: InstanceRecord,
  nowMs: number,
) {
  const host = store.hosts.get(instance.hostId)?.name ?? instance.hostId
  const attached = disks.map((disk, count) => {
    const holder = store.instances.get(disk.instanceUuid ?? '')?.name ?? ''
    const decision = decideAttach(disk, {
      instance,
      count,
      slot: count + 1,
      ...reachOf(store, disk),
      holder,
      host,
    })
    if (!decision?.next) throw new Error(`disk ${disk.uuid} belongs to an instance that is not there yet`)
    return { disk, decision, next: decision.next }
  })
  const commits = attached.map(({ disk, decision }) => commitOfDiskDecision(disk, decision, [], nowMs))
  return { ...joinCommits(commits), disks: attached.map(({ next }) => next) }
}

/** The hosts on which a disk can be had, and where that is in words. */
export function reachOf(store: Store, disk: DiskRecord): { hostIds: string[]; home: string } {
  const pool = store.diskPools.get(disk.diskPoolUuid)
  if (disk.hostId === null) {
    const hosts = pool?.hosts.filter(({ state }) => state === 'pending' || state === 'ready') ?? []
    return { hostIds: hosts.map(({ hostId }) => hostId), home: `disk pool ${pool?.name}` }
  }
  return { hostIds: [disk.hostId], home: `host ${store.hosts.get(disk.hostId)?.name}` }
}

/** Every pool on every host that it belongs to. */
function homesOf(store: Store): DiskHome[] {
  return [...store.diskPools.values()].flatMap((pool) =>
    pool.hosts.flatMap((onHost) => {
      const host = store.hosts.get(onHost.hostId)
      if (!host) return []
      const { name, state } = host
      return {
        ...poolOnHost(store, pool, onHost),
        hostId: host.uuid,
        hostName: name,
        isHostUp: state === 'up',
      }
    }),
  )
}
