// Disk pools on this host: a libvirt storage pool, so that operators see it where they look, and a
// worker that does the file work. What was made ready stays so until libvirt is lost: a libvirtd that
// starts again knows its pools but has none of them started.

import { normalize } from 'node:path'
import { type DesiredDiskPool, VpeError } from '@vpe/core'
import type { Logger } from 'pino'
import type { Hypervisor } from './hypervisor/hypervisor.ts'
import type { PoolResult } from './pool/pool-protocol.ts'
import type { PoolFiles, PoolRef } from './pool/pool-workers.ts'
import { rbdPoolXml } from './rbd-definition.ts'

/** For what libvirt does on the pool's folder; a hung one would otherwise hang a caller for ever. */
const LIBVIRT_DEADLINE_MS = 30_000

export interface DiskPoolsDeps {
  readonly hypervisor: Hypervisor
  readonly files: PoolFiles
  readonly log: Logger
  /** Told of a pool that was not known before. */
  readonly onNew: () => void
}

export class DiskPools {
  readonly #deps: DiskPoolsDeps
  /** Every pool that was asked for and not removed, also those that do not work. */
  readonly #known = new Map<string, PoolRef>()
  readonly #ready = new Map<string, { path: string; marker: string; made: Promise<PoolResult<'check'>> }>()

  constructor(deps: DiskPoolsDeps) {
    this.#deps = deps
    deps.hypervisor.onEvent((event) => {
      if (event.kind === 'disconnected') this.#ready.clear()
    })
  }

  known(): readonly PoolRef[] {
    return [...this.#known.values()]
  }

  /** Makes a pool ready; quick when it is. */
  async ensure(pool: DesiredDiskPool | PoolRef): Promise<void> {
    const known = this.#ready.get(pool.uuid)
    const isKnown = known?.path === pool.path && (!pool.marker || pool.marker === known.marker)
    if (isKnown) await known.made
    else await this.inspect(pool)
  }

  /**
   * Makes a pool ready, looks at it afresh, and says how full it is.
   * @param proposedMarker what to mark it with where it has no marker; empty where it must have one
   */
  async inspect(pool: DesiredDiskPool | PoolRef, proposedMarker = ''): Promise<PoolResult<'check'>> {
    if ('rbd' in pool && pool.rbd) {
      const definition = rbdPoolXml(pool.uuid, pool.rbd)
      this.#deps.log.info({ disk_pool: pool.uuid, definition }, 'disk pool of a kind that is not supported')
      const cure = 'use a pool of kind dir or nfs'
      throw new VpeError(
        'DISK_POOL_FAILED',
        `disk pools of kind rbd are not supported by this agent; ${cure}`,
      )
    }
    const path = judgePath(pool.path)
    const isNew = this.#known.get(pool.uuid)?.path !== path
    this.#known.set(pool.uuid, { uuid: pool.uuid, path, marker: pool.marker ?? '' })
    if (isNew) this.#deps.onNew()
    const made = this.#make({ ...pool, path }, proposedMarker)
    const entry = { path: pool.path, marker: pool.marker ?? '', made }
    this.#ready.set(pool.uuid, entry)
    try {
      return await made
    } catch (error) {
      if (this.#ready.get(pool.uuid) === entry) this.#ready.delete(pool.uuid)
      throw error
    }
  }

  /**
   * Forgets a pool; its files stay, and an export is unmounted.
   * @param isNoMore its folder may become another pool's
   */
  async remove(poolUuid: string, pool?: DesiredDiskPool, isNoMore = false): Promise<void> {
    const { files, hypervisor, log } = this.#deps
    this.#known.delete(poolUuid)
    this.#ready.delete(poolUuid)
    if (pool && isNoMore && pool.kind !== 'rbd') {
      // A folder that cannot be reached keeps its marker; whoever gives it to another pool is told so then.
      await files.request(pool, 'remove-marker', {}).catch((error: unknown) => {
        log.warn({ disk_pool: poolUuid, path: pool.path, err: error }, 'the marker of a disk pool stays')
      })
    }
    files.release(poolUuid)
    await withDeadline(hypervisor.forgetPool(poolUuid), poolUuid)
    if (pool?.nfs) await files.unmount(pool.nfs, judgePath(pool.path))
    log.info({ disk_pool: poolUuid }, 'disk pool forgotten; its files stay')
  }

  async #make(pool: DesiredDiskPool | PoolRef, proposedMarker: string): Promise<PoolResult<'check'>> {
    if ('nfs' in pool && pool.nfs) await this.#deps.files.mount(pool.nfs, pool.path)
    this.#deps.files.warm(pool)
    await withDeadline(this.#deps.hypervisor.ensurePool(pool.uuid, pool.path), pool.path)
    return this.#deps.files.request(pool, 'check', { proposedMarker })
  }
}

/**
 * The path as every part of vpe and libvirt writes it.
 * @throws VpeError DISK_POOL_FAILED
 */
export function judgePath(path: string): string {
  if (!path.startsWith('/')) throw refused(path, 'it is not absolute; write the whole path from /')
  if (/^\/+$/.test(path)) throw refused(path, 'it is the root of the filesystem; choose a folder of its own')
  if (path !== normalize(path) || path.endsWith('/')) {
    throw refused(path, `write it plainly: ${normalize(path).replace(/\/+$/, '')}`)
  }
  if (/\p{Cc}/u.test(path)) throw refused(path, 'it holds control characters')
  return path
}

function refused(path: string, why: string): VpeError {
  return new VpeError('DISK_POOL_FAILED', `disk pool path ${JSON.stringify(path)}: ${why}`)
}

async function withDeadline<T>(work: Promise<T>, what: string): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => {
    const message = `disk pool ${what}: libvirt has not answered for ${LIBVIRT_DEADLINE_MS / 1000} s; check its storage`
    reject(new VpeError('UNAVAILABLE', message))
  }, LIBVIRT_DEADLINE_MS)
  try {
    return await Promise.race([work, promise])
  } finally {
    clearTimeout(timer)
  }
}
