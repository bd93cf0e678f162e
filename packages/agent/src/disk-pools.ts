// Disk pools on this host: a libvirt storage pool, so that operators see it where they look, and a
// worker that does the file work. What was made ready stays so until libvirt is lost: a libvirtd that
// starts again knows its pools but has none of them started.

import { normalize } from 'node:path'
import { type DesiredDiskPool, VpeError } from '@vpe/core'
import type { Logger } from 'pino'
import type { Hypervisor } from './hypervisor/hypervisor.ts'
import type { PoolResult } from './pool/pool-protocol.ts'
import type { PoolFiles, PoolRef } from './pool/pool-workers.ts'

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
  readonly #ready = new Map<string, { path: string; made: Promise<PoolResult<'check'>> }>()

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
    if (known?.path === pool.path) await known.made
    else await this.inspect(pool)
  }

  /** Makes a pool ready, looks at it afresh, and says how full it is. */
  async inspect(pool: DesiredDiskPool | PoolRef): Promise<PoolResult<'check'>> {
    const path = judgePath(pool.path)
    const isNew = this.#known.get(pool.uuid)?.path !== path
    this.#known.set(pool.uuid, { uuid: pool.uuid, path })
    if (isNew) this.#deps.onNew()
    const made = this.#make({ uuid: pool.uuid, path })
    const entry = { path: pool.path, made }
    this.#ready.set(pool.uuid, entry)
    try {
      return await made
    } catch (error) {
      if (this.#ready.get(pool.uuid) === entry) this.#ready.delete(pool.uuid)
      throw error
    }
  }

  async remove(poolUuid: string): Promise<void> {
    this.#known.delete(poolUuid)
    this.#ready.delete(poolUuid)
    this.#deps.files.release(poolUuid)
    await withDeadline(this.#deps.hypervisor.forgetPool(poolUuid), poolUuid)
    this.#deps.log.info({ disk_pool: poolUuid }, 'disk pool forgotten; its files stay')
  }

  async #make(pool: PoolRef): Promise<PoolResult<'check'>> {
    this.#deps.files.warm(pool)
    await withDeadline(this.#deps.hypervisor.ensurePool(pool.uuid, pool.path), pool.path)
    return this.#deps.files.request(pool, 'check', {})
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
