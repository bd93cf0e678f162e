// Calls about disk pools: what they are, which hosts have them, and what lies in them that nobody owns.

import { randomUUID } from 'node:crypto'
import {
  cephNameFault,
  type DiskPoolHost,
  type DiskPoolKind,
  type DiskPoolRecord,
  endOperation,
  type HostRecord,
  isOwned,
  monitorFault,
  nfsExportFault,
  nfsOptionsFault,
  nfsServerFault,
  type Orphan,
  VpeError,
} from '@vpe/core'
import {
  ControllerServiceDefinition,
  type ControllerServiceImplementation,
  type CreateDiskPoolRequest,
  type DiskPool,
} from '@vpe/proto'
import type { CallContext } from 'nice-grpc'
import type { Agents } from '../agents.ts'
import type { DiskPoolKeeper } from '../disk-pool-keeper.ts'
import type { HaPoolKeeper } from '../ha/ha-pools.ts'
import { type OrphanFinder, ownersOf } from '../orphan-finder.ts'
import { hostsThatReach } from '../pool-reach.ts'
import type { Store } from '../store/store.ts'
import { change } from '../store/tables.ts'
import { diskPoolSpecToWire, diskPoolToWire, markerOn, orphanToWire, systemDisksFromWire } from '../wire.ts'
import { callAgent } from './agent-call.ts'
import { leasesOfNew } from './ha-pools.ts'
import { type Mutations, startOperation } from './mutation.ts'
import { assertPoolUnused, usesOnHost } from './pool-uses.ts'
import { assertName, assertNameFree, getOr404, invalid, listByName, refer, referHosts } from './references.ts'
import { pendingOn, resourceEvent } from './resources.ts'

type DiskPoolMethods = Pick<
  ControllerServiceImplementation,
  | `${'create' | 'get' | 'delete'}DiskPool`
  | 'listDiskPools'
  | 'attachDiskPoolHost'
  | 'detachDiskPoolHost'
  | 'listOrphans'
  | 'deleteOrphan'
>

export interface DiskPoolServiceDeps {
  readonly store: Store
  readonly mutations: Mutations
  readonly agents: Agents
  readonly keeper: DiskPoolKeeper
  readonly haPools: Pick<HaPoolKeeper, 'canRevoke'>
  readonly orphans: OrphanFinder
  readonly now: () => number
}

/** Where exports are mounted unless their pool says otherwise: the default of the agents' own setting. */
const MOUNT_DIR = '/var/lib/vpe/mnt'

export function diskPoolMethods(deps: DiskPoolServiceDeps): DiskPoolMethods {
  const { store, mutations, agents, keeper, haPools, orphans, now } = deps
  const { methods } = ControllerServiceDefinition

  const show = (pool: DiskPoolRecord, leases = store.poolLeases.get(pool.uuid)) =>
    diskPoolToWire(pool, leases, haPools.canRevoke(pool.uuid))
  const find = (uuid: string) => getOr404(store.diskPools, 'disk pool', uuid)

  /** What has been done by the very commit that records it. */
  function done(
    kind: string,
    pool: DiskPoolRecord,
    what: string,
    data: Readonly<Record<string, unknown>> = {},
  ) {
    const operation = endOperation(startOperation(kind, pool.uuid, now()), 'succeeded', now())
    const event = resourceEvent('disk_pool', pool, what)
    return {
      changes: [change.operation(operation)],
      events: [{ ...event, data: { ...event.data, ...data } }],
      response: { diskPool: show(pool), operationUuid: operation.uuid },
    }
  }

  return {
    createDiskPool: mutations.method(methods.createDiskPool, (request) => {
      assertName('name', request.name)
      assertNameFree(store.diskPools, 'disk pool', request.name)
      const uuid = randomUUID()
      const source = sourceOf(uuid, request)
      const named = referHosts(store.hosts, 'hosts', request.hosts)
      const hosts = named.length > 0 ? named : [...store.hosts.values()]
      if (hosts.length === 0)
        throw new VpeError('CONFLICT', 'no host is registered yet; add one with POST /hosts')
      const pool: DiskPoolRecord = {
        uuid,
        name: request.name,
        ...source,
        marker: '',
        orphans: [],
        deletionUuid: null,
        systemDisks: systemDisksFromWire(request.systemDisks),
        everyHost: named.length === 0,
        hosts: hosts.map((host) => pendingOn(host.uuid)),
        createdAtMs: now(),
      }
      for (const host of hosts) assertFolderFree(pool, host)
      const leases = leasesOfNew(pool, request.protection, request.slots)
      const { changes, response, ...rest } = done('disk_pool.create', pool, 'created')
      return {
        ...rest,
        // What its leases are set to comes first: blocks are given out when the pool is there.
        changes: [...(leases ? [change.poolLeases(leases)] : []), change.diskPool(pool), ...changes],
        response: { ...response, diskPool: show(pool, leases ?? undefined) },
      }
    }),
    deleteDiskPool: whenTried(mutations.method(methods.deleteDiskPool, remove)),
    attachDiskPoolHost: mutations.method(methods.attachDiskPoolHost, (request) => {
      const pool = find(request.uuid)
      const host = refer(store.hosts, 'host', 'host', request.host)
      if (pool.deletionUuid !== null)
        throw new VpeError('CONFLICT', `disk pool ${pool.name} is being deleted`)
      const known = store.poolHosts.find(pool.uuid, host.uuid)
      if (known?.state === 'leaving')
        throw new VpeError(
          'CONFLICT',
          `disk pool ${pool.name} is being taken from host ${host.name}: wait for operation ${known.leavingBy}, then attach it again`,
        )
      if (known) {
        return { ...done('disk_pool.attach', pool, ''), events: [] }
      }
      assertFolderFree(pool, host)
      const next = { ...pool, hosts: [...pool.hosts, pendingOn(host.uuid)] }
      const { changes, ...rest } = done('disk_pool.attach', next, 'host_attached', { host_uuid: host.uuid })
      return { ...rest, changes: [change.diskPool(next), ...changes] }
    }),
    detachDiskPoolHost: whenTried(mutations.method(methods.detachDiskPoolHost, detach)),
    async getDiskPool({ uuid }) {
      await store.durable()
      return { diskPool: show(find(uuid)) }
    },
    async listDiskPools({ name }) {
      await store.durable()
      return { diskPools: listByName(store.diskPools, name).map((pool) => show(pool)) }
    },
    async listOrphans({ uuid }) {
      await store.durable()
      find(uuid)
      const look = await orphans.look(uuid)
      await store.durable()
      return {
        orphans: look.orphans.map((orphan) => orphanToWire(store, orphan)),
        foreign: look.foreign,
        silentHosts: look.silent.map(({ name }) => name),
      }
    },
    deleteOrphan: mutations.method(methods.deleteOrphan, async ({ uuid, file, host: hostName }) => {
      const host = hostName ? refer(store.hosts, 'host', 'host', hostName) : null
      const look = await orphans.look(find(uuid).uuid)
      const orphan = theOrphan(find(uuid), look.orphans, file, host)
      await removeOrphan(find(uuid), orphan)
      return () => {
        const pool = find(uuid)
        const left = pool.orphans.filter((each) => each.name !== file || each.hostId !== orphan.hostId)
        const next = { ...pool, orphans: left }
        const { changes, ...rest } = done('disk_pool.delete_orphan', next, 'orphan_deleted', {
          host_uuid: orphan.hostId,
          file,
        })
        return { ...rest, changes: [change.diskPool(next), ...changes] }
      }
    }),
  }

  /** Answers when its hosts have been asked once, with what has come of it. */
  function whenTried<
    Request extends { readonly uuid: string },
    Answer extends { diskPool?: DiskPool | undefined },
  >(method: (request: Request, context: CallContext) => Promise<Answer>): typeof method {
    return async (request, context) => {
      const answer = await method(request, context)
      await keeper.settled(request.uuid)
      await store.durable()
      const pool = store.diskPools.get(request.uuid)
      return pool ? { ...answer, diskPool: show(pool) } : answer
    }
  }

  function remove({ uuid }: { readonly uuid: string }) {
    const pool = find(uuid)
    if (pool.deletionUuid !== null) {
      const response = { diskPool: show(pool), operationUuid: pool.deletionUuid }
      return { changes: [], events: [], response }
    }
    assertPoolUnused(store, pool)
    if (pool.hosts.length === 0) {
      const { changes, ...rest } = done('disk_pool.delete', pool, 'deleted')
      return { ...rest, changes: [change.remove('diskPools', uuid), ...changes] }
    }
    const operation = startOperation('disk_pool.delete', uuid, now())
    const next: DiskPoolRecord = {
      ...pool,
      deletionUuid: operation.uuid,
      hosts: pool.hosts.map((on) => (on.state === 'leaving' ? on : leaving(on, operation.uuid))),
    }
    return {
      changes: [change.diskPool(next), change.operation(operation)],
      events: [resourceEvent('disk_pool', next, 'deleting')],
      response: { diskPool: show(next), operationUuid: operation.uuid },
    }
  }

  function detach({ uuid, hostUuid }: { readonly uuid: string; readonly hostUuid: string }) {
    const pool = find(uuid)
    assertDetachable(pool, hostUuid)
    const onHost = pool.hosts.find(({ hostId }) => hostId === hostUuid)
    if (onHost?.leavingBy) {
      const response = { diskPool: show(pool), operationUuid: onHost.leavingBy }
      return { changes: [], events: [], response }
    }
    const operation = startOperation('disk_pool.detach', uuid, now())
    const hosts = pool.hosts.map((on) => (on === onHost ? leaving(on, operation.uuid) : on))
    const next = { ...pool, hosts }
    return {
      changes: [change.diskPool(next), change.operation(operation)],
      events: [],
      response: { diskPool: show(next), operationUuid: operation.uuid },
    }
  }

  /** @throws VpeError CONFLICT when another pool of the host has that folder, or one around or in it */
  function assertFolderFree({ uuid, path, nfs, rbd }: DiskPoolRecord, host: HostRecord): void {
    for (const pool of store.diskPools.values()) {
      if (pool.uuid === uuid || !store.poolHosts.find(pool.uuid, host.uuid)) continue
      if (path !== '' && (`${pool.path}/`.startsWith(`${path}/`) || `${path}/`.startsWith(`${pool.path}/`)))
        throw new VpeError(
          'CONFLICT',
          `disk pool ${pool.name} already uses ${pool.path} on host ${host.name}`,
        )
      const isSameExport = nfs && pool.nfs?.server === nfs.server && pool.nfs.export === nfs.export
      const isSameCeph =
        rbd && pool.rbd?.pool === rbd.pool && pool.rbd.monitors.join() === rbd.monitors.join()
      if (isSameExport || isSameCeph)
        throw new VpeError('CONFLICT', `disk pool ${pool.name} already uses it on host ${host.name}`)
    }
  }

  /** @throws VpeError IN_USE, naming what is in use */
  function assertDetachable(pool: DiskPoolRecord, hostUuid: string): void {
    const host = getOr404(store.hosts, 'host', hostUuid)
    if (!store.poolHosts.find(pool.uuid, hostUuid))
      throw new VpeError('NOT_FOUND', `host ${host.name} does not have disk pool ${pool.name}`)
    const uses = usesOnHost(store, pool, hostUuid)
    if (uses.length > 0) {
      const shown = uses.slice(0, 5).join(', ') + (uses.length > 5 ? ` and ${uses.length - 5} more` : '')
      const message = `disk pool ${pool.name} is in use on host ${host.name}: ${shown}; move or delete them first`
      throw new VpeError('IN_USE', message)
    }
    // What lies in a shared pool would be out of everybody's reach.
    const isLast = pool.hosts.every(({ hostId, state }) => hostId === hostUuid || state === 'leaving')
    if (pool.shared && isLast) assertPoolUnused(store, pool)
  }

  /** Asks every host that sees the file whether it is in use, then has it removed by one. */
  async function removeOrphan(pool: DiskPoolRecord, orphan: Orphan): Promise<void> {
    const { name, hostId } = orphan
    const hosts = pool.hosts
      .filter((on) => hostId === null || on.hostId === hostId)
      .filter((on) => markerOn(store, pool, on.hostId) !== '')
      .flatMap((on) => store.hosts.get(on.hostId) ?? [])
    const away = hosts.find(({ state }) => state !== 'up')
    if (away)
      throw new VpeError(
        'HOST_UNREACHABLE',
        `host ${away.name} is down, and may be using ${name}; try again later`,
      )
    const ask = (host: HostRecord, checkOnly: boolean) => {
      const diskPool = diskPoolSpecToWire(store, pool, host.uuid)
      const request = { epoch: store.epoch, diskPool, name, checkOnly }
      return callAgent(host, (signal) => agents.client(host).removePoolFile(request, { signal }))
    }
    await Promise.all(hosts.map((host) => ask(host, true)))
    const [remover] = hostsThatReach(store, pool, hostId)
    if (!remover) throw new VpeError('HOST_UNREACHABLE', `no host that reaches disk pool ${pool.name} is up`)
    if (isOwned(orphan, pool, hostId, ownersOf(store)))
      throw new VpeError(
        'CONFLICT',
        `${name} in disk pool ${pool.name} belongs to ${orphan.ownerUuid} by now`,
      )
    await ask(remover, false)
  }

  function theOrphan(
    pool: DiskPoolRecord,
    found: readonly Orphan[],
    file: string,
    host: HostRecord | null,
  ): Orphan {
    const named = found.filter(({ name }) => name === file)
    const [orphan, another] = named.filter(({ hostId }) => !host || hostId === null || hostId === host.uuid)
    if (!orphan) {
      const where = host ? ` on host ${host.name}` : ''
      const message = `disk pool ${pool.name} has no orphan ${JSON.stringify(file.slice(0, 255))}${where}`
      throw new VpeError('NOT_FOUND', message)
    }
    if (another) throw invalid('host', `several hosts have an orphan ${file}; say which with ?host=`)
    return orphan
  }
}

/** It is to let go of the pool: nothing more is made there. */
function leaving(onHost: DiskPoolHost, operationUuid: string): DiskPoolHost {
  return { ...onHost, state: 'leaving', leavingBy: operationUuid, fault: '' }
}

/** What kind of storage it is, and where. */
function sourceOf(
  uuid: string,
  request: CreateDiskPoolRequest,
): Pick<DiskPoolRecord, 'kind' | 'path' | 'shared' | 'nfs' | 'rbd'> {
  const kind = kindOf(request.kind)
  if (kind !== 'nfs' && request.nfs) throw invalid('nfs', `a disk pool of kind ${kind} has no export`)
  if (kind !== 'rbd' && request.rbd) throw invalid('rbd', `a disk pool of kind ${kind} has no Ceph pool`)
  switch (kind) {
    case 'dir':
      if (request.path === '') throw invalid('path', 'a disk pool of kind dir needs the path of its folder')
      return { kind, path: request.path, shared: request.shared, nfs: null, rbd: null }
    case 'nfs': {
      const { nfs } = request
      if (!nfs) throw invalid('nfs', 'a disk pool of kind nfs needs its server and export')
      refuse('nfs.server', nfsServerFault(nfs.server))
      refuse('nfs.export', nfsExportFault(nfs.export))
      refuse('nfs.options', nfsOptionsFault(nfs.options))
      // Every host that mounts it sees the same files, whatever was said.
      return { kind, path: request.path || `${MOUNT_DIR}/${uuid}`, shared: true, nfs: { ...nfs }, rbd: null }
    }
    case 'rbd': {
      const { rbd } = request
      if (!rbd) throw invalid('rbd', 'a disk pool of kind rbd needs its monitors, pool, user and secret')
      if (request.path !== '') throw invalid('path', 'a disk pool of kind rbd has no path')
      if (rbd.monitors.length === 0) throw invalid('rbd.monitors', 'name at least one monitor')
      for (const monitor of rbd.monitors) refuse('rbd.monitors', monitorFault(monitor))
      refuse('rbd.pool', cephNameFault(rbd.pool))
      refuse('rbd.user', cephNameFault(rbd.user))
      return { kind, path: '', shared: true, nfs: null, rbd: { ...rbd } }
    }
    default:
      throw new Error(`no such kind: ${kind satisfies never}`)
  }
}

function kindOf(kind: string): DiskPoolKind {
  if (kind === 'dir' || kind === 'nfs' || kind === 'rbd') return kind
  throw invalid('kind', `a disk pool of kind ${JSON.stringify(kind)} is not supported; use dir or nfs`)
}

function refuse(field: string, fault: string | null): void {
  if (fault !== null) throw invalid(field, fault)
}
