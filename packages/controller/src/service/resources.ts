// Calls about what instances are made from and run on: flavors, images, disk pools, hosts.

import { randomUUID } from 'node:crypto'
import type { EventKind, VpeEvent } from '@vpe/bus'
import { type DiskPoolHost, type DiskPoolRecord, endOperation, type HostRecord, VpeError } from '@vpe/core'
import {
  ControllerServiceDefinition,
  type ControllerServiceImplementation,
  fromClientError,
} from '@vpe/proto'
import type { Agents } from '../agents.ts'
import type { HostMonitor } from '../host-monitor.ts'
import type { ImageImporter } from '../image-importer.ts'
import type { Store } from '../store/store.ts'
import { type Change, change } from '../store/tables.ts'
import {
  diskPoolSpecToWire,
  diskPoolToWire,
  factsFromWire,
  flavorToWire,
  hostToWire,
  imageToWire,
  systemDisksFromWire,
} from '../wire.ts'
import { type Mutations, startOperation } from './mutation.ts'
import {
  assertBetween,
  assertName,
  assertNameFree,
  getOr404,
  invalid,
  listByName,
  refer,
  referHosts,
} from './references.ts'

const AGENT_TIMEOUT_MS = 10_000

type ResourceMethods = Pick<
  ControllerServiceImplementation,
  | `${'create' | 'get' | 'delete'}${'Flavor' | 'Image' | 'DiskPool' | 'Host'}`
  | 'listFlavors'
  | 'listImages'
  | 'listDiskPools'
  | 'listHosts'
>

export interface ResourceServiceDeps {
  readonly store: Store
  readonly mutations: Mutations
  readonly agents: Agents
  readonly importer: ImageImporter
  readonly monitor: HostMonitor
  /** Images whose files are being removed: no new instance may start to use them. */
  readonly imagesGoing: Set<string>
  readonly now: () => number
}

export function resourceMethods(deps: ResourceServiceDeps): ResourceMethods {
  const { store, mutations, agents, importer, monitor, imagesGoing, now } = deps
  const { methods } = ControllerServiceDefinition

  /** An operation that has succeeded by the very commit that records it. */
  const doneOperation = (kind: string, uuid: string) =>
    endOperation(startOperation(kind, uuid, now()), 'succeeded', now())

  const showHost = (host: HostRecord) =>
    hostToWire(store, host, monitor.lastHeartbeatMs(host.uuid), monitor.unknownInstances(host.uuid))

  function assertUnused(kind: string, { uuid, name }: { uuid: string; name: string }): void {
    const users = store.usage.references(uuid)
    if (users > 0)
      throw new VpeError('IN_USE', `${kind} ${name} is used by ${users} instance(s); delete them first`)
  }

  return {
    createFlavor: mutations.method(methods.createFlavor, (request) => {
      assertName('name', request.name)
      assertBetween('vcpus', request.vcpus, 1, 4_096)
      assertBetween('memory_mib', request.memoryMib, 1, 64 * 1024 ** 2)
      assertBetween('disk_gib', request.diskGib, 0, 1024 ** 2)
      assertNameFree(store.flavors, 'flavor', request.name)
      const flavor = { uuid: randomUUID(), ...request, createdAtMs: now() }
      const operation = doneOperation('flavor.create', flavor.uuid)
      return {
        changes: [change.flavor(flavor), change.operation(operation)],
        events: [resourceEvent('flavor', flavor, 'created')],
        response: { flavor: flavorToWire(flavor), operationUuid: operation.uuid },
      }
    }),
    deleteFlavor: mutations.method(methods.deleteFlavor, ({ uuid }) => {
      const flavor = getOr404(store.flavors, 'flavor', uuid)
      assertUnused('flavor', flavor)
      const operation = doneOperation('flavor.delete', uuid)
      return {
        changes: [change.remove('flavors', uuid), change.operation(operation)],
        events: [resourceEvent('flavor', flavor, 'deleted')],
        response: { flavor: flavorToWire(flavor), operationUuid: operation.uuid },
      }
    }),
    async getFlavor({ uuid }) {
      await store.durable()
      return { flavor: flavorToWire(getOr404(store.flavors, 'flavor', uuid)) }
    },
    async listFlavors({ name }) {
      await store.durable()
      return { flavors: listByName(store.flavors, name).map(flavorToWire) }
    },

    createImage: mutations.method(methods.createImage, (request) => {
      assertName('name', request.name)
      assertNameFree(store.images, 'image', request.name)
      const pool = request.diskPool
        ? refer(store.diskPools, 'disk pool', 'disk_pool', request.diskPool)
        : choosePool(store)
      const image = {
        uuid: randomUUID(),
        name: request.name,
        url: request.url,
        sha256: request.sha256,
        format: null,
        sizeBytes: 0,
        virtualSizeBytes: 0,
        status: 'importing' as const,
        fault: '',
        diskPoolUuid: pool.uuid,
        createdAtMs: now(),
      }
      const operation = startOperation('image.create', image.uuid, now())
      return {
        changes: [change.image(image), change.operation(operation)],
        events: [resourceEvent('image', image, 'importing')],
        response: { image: imageToWire(image, 0), operationUuid: operation.uuid },
      }
    }),
    deleteImage: mutations.method(methods.deleteImage, async ({ uuid }) => {
      assertUnused('image', getOr404(store.images, 'image', uuid))
      imagesGoing.add(uuid)
      try {
        await importer.cancel(uuid)
        // The files go first: a row that is left over can be deleted again, a file without a row cannot.
        for (const pool of store.diskPools.values()) await removeCopies(uuid, pool)
      } catch (error) {
        imagesGoing.delete(uuid)
        importer.look(uuid)
        throw error
      }
      return () => {
        imagesGoing.delete(uuid)
        const image = getOr404(store.images, 'image', uuid)
        const cancelled = [...store.operations.values()]
          .filter(({ resourceUuid }) => resourceUuid === uuid)
          .map((running) =>
            change.operation(endOperation(running, 'cancelled', now(), 'the image was deleted')),
          )
        const operation = doneOperation('image.delete', uuid)
        return {
          changes: [change.remove('images', uuid), ...cancelled, change.operation(operation)],
          events: [resourceEvent('image', image, 'deleted')],
          response: { image: imageToWire(image, 0), operationUuid: operation.uuid },
        }
      }
    }),
    async getImage({ uuid }) {
      await store.durable()
      return { image: imageToWire(getOr404(store.images, 'image', uuid), importer.progressPercent(uuid)) }
    },
    async listImages({ name }) {
      await store.durable()
      const images = listByName(store.images, name)
      return { images: images.map((image) => imageToWire(image, importer.progressPercent(image.uuid))) }
    },

    createDiskPool: mutations.method(methods.createDiskPool, (request) => {
      assertName('name', request.name)
      assertNameFree(store.diskPools, 'disk pool', request.name)
      if (request.kind !== 'dir')
        throw invalid(
          'kind',
          `a disk pool of kind ${JSON.stringify(request.kind)} is not supported; use "dir"`,
        )
      const named = referHosts(store.hosts, 'hosts', request.hosts)
      const hosts = named.length > 0 ? named : [...store.hosts.values()]
      if (hosts.length === 0)
        throw new VpeError('CONFLICT', 'no host is registered yet; add one with POST /hosts')
      for (const pool of store.diskPools.values()) {
        const host = hosts.find(({ uuid }) => pool.hosts.some(({ hostId }) => hostId === uuid))
        if (host && pool.path === request.path) {
          throw new VpeError(
            'CONFLICT',
            `disk pool ${pool.name} already uses ${pool.path} on host ${host.name}`,
          )
        }
      }
      const pool: DiskPoolRecord = {
        uuid: randomUUID(),
        name: request.name,
        kind: 'dir',
        path: request.path,
        shared: request.shared,
        systemDisks: systemDisksFromWire(request.systemDisks),
        everyHost: named.length === 0,
        hosts: hosts.map(({ uuid }) => pendingOn(uuid)),
        createdAtMs: now(),
      }
      const operation = doneOperation('disk_pool.create', pool.uuid)
      return {
        changes: [change.diskPool(pool), change.operation(operation)],
        events: [resourceEvent('disk_pool', pool, 'created')],
        response: { diskPool: diskPoolToWire(pool), operationUuid: operation.uuid },
      }
    }),
    deleteDiskPool: mutations.method(methods.deleteDiskPool, async ({ uuid }) => {
      assertPoolUnused(getOr404(store.diskPools, 'disk pool', uuid))
      for (const { hostId } of getOr404(store.diskPools, 'disk pool', uuid).hosts) {
        const host = store.hosts.get(hostId)
        if (!host) continue
        await callAgent(host, (signal) =>
          agents.client(host).removeDiskPool({ epoch: store.epoch, uuid }, { signal }),
        )
      }
      return () => {
        const pool = getOr404(store.diskPools, 'disk pool', uuid)
        assertPoolUnused(pool)
        const operation = doneOperation('disk_pool.delete', uuid)
        return {
          changes: [change.remove('diskPools', uuid), change.operation(operation)],
          events: [resourceEvent('disk_pool', pool, 'deleted')],
          response: { diskPool: diskPoolToWire(pool), operationUuid: operation.uuid },
        }
      }
    }),
    async getDiskPool({ uuid }) {
      await store.durable()
      return { diskPool: diskPoolToWire(getOr404(store.diskPools, 'disk pool', uuid)) }
    },
    async listDiskPools({ name }) {
      await store.durable()
      return { diskPools: listByName(store.diskPools, name).map(diskPoolToWire) }
    },

    createHost: mutations.method(methods.createHost, async (request) => {
      assertName('name', request.name)
      assertNameFree(store.hosts, 'host', request.name)
      const described = await describe(request.address)
      const host: HostRecord = {
        uuid: described.hostId,
        name: request.name,
        address: request.address,
        state: 'up',
        facts: factsFromWire(described.facts),
        createdAtMs: now(),
      }
      return () => {
        const known = store.hosts.get(host.uuid)
        if (known) {
          throw new VpeError(
            'CONFLICT',
            `the agent at ${host.address} is host ${host.uuid}, which is registered as ${known.name}`,
          )
        }
        assertNameFree(store.hosts, 'host', host.name)
        const operation = doneOperation('host.create', host.uuid)
        const joined = [...store.diskPools.values()].filter(({ everyHost }) => everyHost)
        return {
          changes: [
            change.host(host),
            ...joined.map((pool) =>
              change.diskPool({ ...pool, hosts: [...pool.hosts, pendingOn(host.uuid)] }),
            ),
            change.operation(operation),
          ],
          events: [resourceEvent('host', host, 'created')],
          response: { host: showHost(host), operationUuid: operation.uuid },
        }
      }
    }),
    deleteHost: mutations.method(methods.deleteHost, ({ uuid }) => {
      const host = getOr404(store.hosts, 'host', uuid)
      const { instances } = store.usage.ofHost(uuid)
      if (instances > 0)
        throw new VpeError('IN_USE', `host ${host.name} has ${instances} instance(s); delete them first`)
      const operation = doneOperation('host.delete', uuid)
      const changes: Change[] = [change.remove('hosts', uuid), change.operation(operation)]
      for (const pool of store.diskPools.values()) {
        const hosts = pool.hosts.filter(({ hostId }) => hostId !== uuid)
        if (hosts.length < pool.hosts.length) changes.push(change.diskPool({ ...pool, hosts }))
      }
      agents.forget(uuid)
      return {
        changes,
        events: [resourceEvent('host', host, 'deleted')],
        response: { host: showHost(host), operationUuid: operation.uuid },
      }
    }),
    async getHost({ uuid }) {
      await store.durable()
      return { host: showHost(getOr404(store.hosts, 'host', uuid)) }
    },
    async listHosts({ name }) {
      await store.durable()
      return { hosts: listByName(store.hosts, name).map(showHost) }
    },
  }

  function assertPoolUnused(pool: DiskPoolRecord): void {
    assertUnused('disk pool', pool)
    const image = [...store.images.values()].find(({ diskPoolUuid }) => diskPoolUuid === pool.uuid)
    if (image)
      throw new VpeError('IN_USE', `disk pool ${pool.name} holds image ${image.name}; delete it first`)
  }

  /** Removes a pool's copies of an image: on one host, if possible one that is up, when it is shared, else on each. */
  async function removeCopies(imageUuid: string, pool: DiskPoolRecord): Promise<void> {
    const hosts = pool.hosts
      .flatMap(({ hostId }) => store.hosts.get(hostId) ?? [])
      .sort((a, b) => Number(b.state === 'up') - Number(a.state === 'up'))
    for (const host of pool.shared ? hosts.slice(0, 1) : hosts) {
      await callAgent(host, (signal) =>
        agents
          .client(host)
          .removeImage({ epoch: store.epoch, imageUuid, diskPool: diskPoolSpecToWire(pool) }, { signal }),
      )
    }
  }

  async function callAgent(host: HostRecord, call: (signal: AbortSignal) => Promise<unknown>): Promise<void> {
    try {
      await call(AbortSignal.timeout(AGENT_TIMEOUT_MS))
    } catch (cause) {
      const error = fromClientError(cause)
      throw new VpeError(error.code, `host ${host.name}: ${error.message}`, { cause })
    }
  }

  async function describe(address: string) {
    const connection = agents.dial(address)
    try {
      return await connection.client.describeHost({}, { signal: AbortSignal.timeout(AGENT_TIMEOUT_MS) })
    } catch (cause) {
      const { message } = fromClientError(cause)
      throw new VpeError(
        'HOST_UNREACHABLE',
        `no agent answers at ${address}: ${message}; check that vpe-agent runs there and that the address is right`,
        { cause },
      )
    } finally {
      connection.close()
    }
  }
}

function pendingOn(hostId: string): DiskPoolHost {
  return { hostId, state: 'pending', fault: '', capacityBytes: 0, availableBytes: 0 }
}

/** The pool for an image whose creator names none: a ready one, by name. */
function choosePool(store: Store): DiskPoolRecord {
  const pools = listByName(store.diskPools, '')
  const pool = pools.find(({ hosts }) => hosts.some(({ state }) => state === 'ready')) ?? pools[0]
  if (!pool)
    throw new VpeError(
      'CONFLICT',
      'there is no disk pool to import into yet; create one with POST /disk_pools',
    )
  return pool
}

function resourceEvent(kind: EventKind, resource: { uuid: string; name: string }, what: string): VpeEvent {
  return { kind, id: resource.uuid, what, data: { uuid: resource.uuid, name: resource.name } }
}
