// Calls about images: where they come from, which pools have them, and how they go.

import { randomUUID } from 'node:crypto'
import {
  type DiskPoolRecord,
  endOperation,
  gib,
  type HostRecord,
  type ImageHome,
  type ImageRecord,
  VpeError,
} from '@vpe/core'
import {
  ControllerServiceDefinition,
  type ControllerServiceImplementation,
  type CreateImageRequest,
} from '@vpe/proto'
import type { Agents } from '../agents.ts'
import type { ImageImporter } from '../image-importer.ts'
import type { ImageUploads } from '../image-uploads.ts'
import type { Store } from '../store/store.ts'
import { change } from '../store/tables.ts'
import { diskPoolSpecToWire, imageToWire, markerOn } from '../wire.ts'
import { callAgent } from './agent-call.ts'
import { type Mutations, startOperation } from './mutation.ts'
import { assertName, assertNameFree, getOr404, invalid, listByName, refer } from './references.ts'
import { assertUnused, resourceEvent } from './resources.ts'

type ImageMethods = Pick<
  ControllerServiceImplementation,
  | `${'create' | 'get' | 'delete'}Image`
  | 'listImages'
  | `${'get' | 'begin' | 'write' | 'finish'}ImageUpload`
  | 'listImageCopies'
  | 'deleteImageCopy'
>

export interface ImageServiceDeps {
  readonly store: Store
  readonly mutations: Mutations
  readonly agents: Agents
  readonly importer: ImageImporter
  readonly uploads: ImageUploads
  /** Images of which files are being removed: no new instance may start to use them. */
  readonly imagesGoing: Set<string>
  readonly now: () => number
}

export function imageMethods(deps: ImageServiceDeps): ImageMethods {
  const { store, mutations, agents, importer, uploads, imagesGoing, now } = deps
  const { methods } = ControllerServiceDefinition

  const find = (uuid: string) => getOr404(store.images, 'image', uuid)

  const show = (image: ImageRecord) =>
    imageToWire(
      store,
      image,
      image.status === 'uploading' ? uploads.progressPercent(image) : importer.progressPercent(image.uuid),
    )

  return {
    createImage: mutations.method(methods.createImage, (request) => {
      assertName('name', request.name)
      assertNameFree(store.images, 'image', request.name)
      const image: ImageRecord = {
        uuid: randomUUID(),
        name: request.name,
        url: request.url,
        instanceUuid: request.instanceUuid,
        sha256: request.sha256,
        format: null,
        sizeBytes: request.sizeBytes,
        virtualSizeBytes: 0,
        status: request.url || request.instanceUuid ? 'importing' : 'uploading',
        fault: '',
        ...whereTo(store, request),
        createdAtMs: now(),
      }
      assertRoomForImage(store, image)
      const operation = startOperation('image.create', image.uuid, now())
      return {
        changes: [change.image(image), change.operation(operation)],
        events: [resourceEvent('image', image, image.status)],
        response: { image: show(image), operationUuid: operation.uuid },
      }
    }),
    deleteImage: mutations.method(methods.deleteImage, async ({ uuid }) => {
      assertUnused(store, 'image', find(uuid))
      imagesGoing.add(uuid)
      try {
        await importer.cancel(uuid)
        await uploads.end(uuid)
        // The files go first: a row that is left over can be deleted again, a file without a row cannot.
        for (const pool of store.diskPools.values()) await removeCopies(uuid, pool)
      } catch (error) {
        imagesGoing.delete(uuid)
        importer.look(uuid)
        throw error
      }
      return () => {
        imagesGoing.delete(uuid)
        const image = find(uuid)
        const cancelled = runningOperationsOf(uuid).map((running) =>
          change.operation(endOperation(running, 'cancelled', now(), 'the image was deleted')),
        )
        const operation = endOperation(startOperation('image.delete', uuid, now()), 'succeeded', now())
        return {
          changes: [change.remove('images', uuid), ...cancelled, change.operation(operation)],
          events: [resourceEvent('image', image, 'deleted')],
          response: { image: show(image), operationUuid: operation.uuid },
        }
      }
    }),
    async getImage({ uuid }) {
      await store.durable()
      return { image: show(find(uuid)) }
    },
    async listImages({ name }) {
      await store.durable()
      return { images: listByName(store.images, name).map(show) }
    },

    async getImageUpload({ uuid }) {
      await store.durable()
      const image = find(uuid)
      return { receivedBytes: await uploads.received(image), sizeBytes: image.sizeBytes }
    },
    async beginImageUpload({ uuid, offset }) {
      await store.durable()
      assertStays(uuid)
      return { upload: await uploads.begin(find(uuid), offset) }
    },
    async writeImageUpload({ uuid, upload, offset, data }) {
      await uploads.write(find(uuid), upload, offset, data)
      return {}
    },
    finishImageUpload: mutations.method(methods.finishImageUpload, async ({ uuid, upload, sizeBytes }) => {
      await uploads.finish(find(uuid), upload, sizeBytes)
      return () => {
        assertStays(uuid)
        const image: ImageRecord = { ...find(uuid), status: 'importing' }
        void uploads.end(uuid)
        return {
          changes: [change.image(image)],
          events: [resourceEvent('image', image, 'importing')],
          response: { image: show(image), operationUuid: runningOperationsOf(uuid)[0]?.uuid ?? '' },
        }
      }
    }),

    async listImageCopies({ uuid }) {
      await store.durable()
      find(uuid)
      const places = [...store.diskPools.values()].flatMap((pool) =>
        hostsOf(pool).map((host) => ({ pool, host })),
      )
      const answers = await Promise.all(places.map((place) => copyAt(uuid, place)))
      return {
        copies: answers.filter((answer) => answer !== null && typeof answer === 'object'),
        silentHosts: [...new Set(answers.filter((answer) => typeof answer === 'string'))],
      }
    },
    deleteImageCopy: mutations.method(methods.deleteImageCopy, async ({ uuid, diskPoolUuid }) => {
      const image = find(uuid)
      const pool = getOr404(store.diskPools, 'disk pool', diskPoolUuid)
      assertRemovable(image, pool)
      imagesGoing.add(uuid)
      try {
        await removeCopies(uuid, pool)
      } finally {
        imagesGoing.delete(uuid)
      }
      return () => {
        const operation = endOperation(startOperation('image.evict', uuid, now()), 'succeeded', now())
        return {
          changes: [change.operation(operation)],
          events: [],
          response: { image: show(find(uuid)), operationUuid: operation.uuid },
        }
      }
    }),
  }

  function runningOperationsOf(uuid: string) {
    return [...store.operations.values()].filter(({ resourceUuid }) => resourceUuid === uuid)
  }

  function assertStays(uuid: string): void {
    if (imagesGoing.has(uuid)) throw new VpeError('CONFLICT', `image ${find(uuid).name} is being deleted`)
  }

  function assertRemovable(image: ImageRecord, pool: DiskPoolRecord): void {
    assertStays(image.uuid)
    if (image.status !== 'active') {
      throw new VpeError('CONFLICT', `image ${image.name} is ${image.status}; delete it whole, or wait`)
    }
    if (image.url === '' && image.diskPoolUuid === pool.uuid) {
      throw new VpeError(
        'CONFLICT',
        `image ${image.name} has no URL: what disk pool ${pool.name} has of it can be had from nowhere else`,
      )
    }
    const users = usersOf(image.uuid, pool, null)
    if (users > 0) {
      throw new VpeError(
        'IN_USE',
        `image ${image.name} is used by ${users} instance(s) in disk pool ${pool.name}; delete them first`,
      )
    }
  }

  /** How many instances use a pool's copy of an image: on one host, or on all. */
  function usersOf(imageUuid: string, pool: DiskPoolRecord, host: HostRecord | null): number {
    return [...store.instances.values()].filter(
      (instance) =>
        instance.imageUuid === imageUuid &&
        instance.diskPoolUuid === pool.uuid &&
        (host === null || instance.hostId === host.uuid),
    ).length
  }

  /** The hosts that know all of a pool together: of a shared one any does, if possible one that is up. */
  function hostsOf(pool: DiskPoolRecord): HostRecord[] {
    const hosts = pool.hosts
      // Where it has never been ready, nothing of it is.
      .filter(({ hostId }) => markerOn(store, pool, hostId) !== '')
      .flatMap(({ hostId }) => store.hosts.get(hostId) ?? [])
      .sort((a, b) => Number(b.state === 'up') - Number(a.state === 'up'))
    return pool.shared ? hosts.slice(0, 1) : hosts
  }

  /** The copy, null where there is none, the name of the host where it does not say. */
  async function copyAt(imageUuid: string, { pool, host }: { pool: DiskPoolRecord; host: HostRecord }) {
    try {
      const diskPool = diskPoolSpecToWire(store, pool, host.uuid)
      const { image } = await callAgent(host, (signal) =>
        agents.client(host).findImage({ imageUuid, diskPool }, { signal }),
      )
      if (!image) return null
      const at = pool.shared ? { hostId: '', hostName: '' } : { hostId: host.uuid, hostName: host.name }
      const instances = usersOf(imageUuid, pool, pool.shared ? null : host)
      return {
        diskPoolUuid: pool.uuid,
        diskPoolName: pool.name,
        ...at,
        sizeBytes: image.sizeBytes,
        instances,
      }
    } catch (error) {
      if (error instanceof VpeError) return host.name
      throw error
    }
  }

  async function removeCopies(imageUuid: string, pool: DiskPoolRecord): Promise<void> {
    for (const host of hostsOf(pool)) {
      await callAgent(host, (signal) =>
        agents
          .client(host)
          .removeImage(
            { epoch: store.epoch, imageUuid, diskPool: diskPoolSpecToWire(store, pool, host.uuid) },
            { signal },
          ),
      )
    }
  }
}

/** The pool for a new image and, where it comes without a URL, the host that takes it in. */
function whereTo(store: Store, request: CreateImageRequest): Pick<ImageRecord, 'diskPoolUuid' | 'hostId'> {
  const named = request.diskPool ? refer(store.diskPools, 'disk pool', 'disk_pool', request.diskPool) : null
  if (request.instanceUuid) {
    const { diskPoolUuid, hostId } = capturable(store, request.instanceUuid)
    if (named && named.uuid !== diskPoolUuid) {
      throw invalid('disk_pool', 'an instance is captured into the disk pool that its system disk is in')
    }
    return { diskPoolUuid, hostId }
  }
  const pool = named ?? choosePool(store)
  if (pool.deletionUuid !== null)
    throw new VpeError('CONFLICT', `disk pool ${pool.name} is being deleted; take another`)
  if (request.url) return { diskPoolUuid: pool.uuid, hostId: '' }
  const host = pool.hosts
    .filter(({ state }) => state === 'ready')
    .map(({ hostId }) => store.hosts.get(hostId))
    .find((candidate) => candidate?.state === 'up')
  if (host) return { diskPoolUuid: pool.uuid, hostId: host.uuid }
  throw new VpeError(
    'CONFLICT',
    `no host can take an upload into disk pool ${pool.name} now: none is up and has it ready`,
  )
}

/** @throws VpeError DISK_POOL_FULL when an image of known size has no room where it is to come */
function assertRoomForImage(store: Store, { sizeBytes, diskPoolUuid, hostId, name }: ImageRecord): void {
  const pool = store.diskPools.get(diskPoolUuid)
  const known = pool?.hosts.filter(
    (host) => host.state === 'ready' && (hostId === '' || host.hostId === hostId),
  )
  if (!pool || !known || known.length === 0) return
  const availableBytes = Math.max(...known.map((host) => host.availableBytes))
  if (sizeBytes <= availableBytes) return
  throw new VpeError(
    'DISK_POOL_FULL',
    `image ${name} takes ${gib(sizeBytes)}, and disk pool ${pool.name} has ${gib(availableBytes)} left`,
  )
}

/** The instance, if its system disk can be captured now. */
function capturable(store: Store, uuid: string) {
  const instance = store.instances.get(uuid)
  if (!instance) throw invalid('instance_uuid', `there is no instance ${uuid}`)
  if (instance.status === 'shutoff' && instance.task === null && instance.power === 'off') return instance
  const task = instance.task ? ` and its task is ${instance.task}` : ''
  throw new VpeError(
    'CONFLICT',
    `instance ${instance.name} is ${instance.status}${task}; stop it first: only a disk at rest can be captured`,
  )
}

/** @throws VpeError CONFLICT while an image is made of its system disk */
export function assertNotCaptured(
  store: Store,
  instance: { readonly uuid: string; readonly name: string },
): void {
  for (const image of store.images.values()) {
    if (image.status !== 'importing' || image.instanceUuid !== instance.uuid) continue
    throw new VpeError(
      'CONFLICT',
      `instance ${instance.name} is being captured as image ${image.name}: wait until that is active, or delete it`,
    )
  }
}

/** Gives up the images that are being made of an instance's system disk: it is being deleted. */
export function commitOfEndedCaptures(
  store: Store,
  instance: { readonly uuid: string; readonly name: string },
  nowMs: number,
) {
  const captures = [...store.images.values()].filter(
    ({ status, instanceUuid }) => status === 'importing' && instanceUuid === instance.uuid,
  )
  const fault = `instance ${instance.name} was deleted before it was captured`
  const uuids = new Set<string>(captures.map(({ uuid }) => uuid))
  const running = [...store.operations.values()].filter(({ resourceUuid }) => uuids.has(resourceUuid))
  return {
    changes: [
      ...captures.map((image) => change.image({ ...image, status: 'error', fault })),
      ...running.map((operation) => change.operation(endOperation(operation, 'failed', nowMs, fault))),
    ],
    events: captures.map(({ uuid, name }) => ({
      kind: 'image' as const,
      id: uuid,
      what: 'failed',
      data: { uuid, name, status: 'error', fault },
    })),
  }
}

/** Whether a host can have an image in a pool: one without a URL is only where it was taken in. */
export function isAvailable(image: ImageRecord, pool: DiskPoolRecord, hostId: string): boolean {
  if (image.hostId === '') return true
  return pool.uuid === image.diskPoolUuid && (pool.shared || hostId === image.hostId)
}

/** The only place where an image can be had; null when any pool can get it. */
export function imageHomeOf(store: Store, { hostId, diskPoolUuid }: ImageRecord): ImageHome | null {
  if (hostId === '') return null
  return { diskPoolUuid, hostId: store.diskPools.get(diskPoolUuid)?.shared ? null : hostId }
}

/** The pool for an image whose creator names none: a ready one, by name. */
function choosePool(store: Store): DiskPoolRecord {
  const pools = listByName(store.diskPools, '').filter(({ deletionUuid }) => deletionUuid === null)
  const pool = pools.find(({ hosts }) => hosts.some(({ state }) => state === 'ready')) ?? pools[0]
  if (!pool)
    throw new VpeError(
      'CONFLICT',
      'there is no disk pool to import into yet; create one with POST /disk_pools',
    )
  return pool
}
