// The agent's side of the workers: one child process per pool, kept warm, asked by messages, never
// waited for without a deadline. One that does not answer is given up: it and the programs it started
// get SIGKILL, nobody waits for their end (in a hung file call even that may never come), and another is
// started, after a pause that grows while the pool stays bad.

import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { type NfsSource, VpeError } from '@vpe/core'
import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import { type MountTools, mountNfs, systemMountTools, unmountNfs } from './nfs-mount.ts'
import {
  fromWorkerSchema,
  type PoolArguments,
  type PoolOperation,
  type PoolResult,
  parseResult,
  type ToWorker,
  type WorkerSettings,
} from './pool-protocol.ts'

const WORKER = fileURLToPath(new URL('./pool-worker.ts', import.meta.url))

/** How long an operation may go without a sign of life (a result, or progress). */
const STALL_MS: Record<PoolOperation, number> = {
  check: 15_000,
  // Whoever asks gives up sooner; a slow pool is no reason to cut off what else goes on in it.
  probe: 60_000,
  'remove-marker': 15_000,
  'list-files': 60_000,
  'remove-file': 60_000,
  'find-system-disk': 15_000,
  'make-seed': 60_000,
  'remove-system-disk': 60_000,
  'remove-image': 60_000,
  'make-data-disk': 60_000,
  'grow-data-disk': 60_000,
  'remove-data-disk': 60_000,
  'describe-disk': 15_000,
  'make-copy-target': 60_000,
  'read-disk': 60_000,
  'begin-disk-copy': 60_000,
  'write-disk-part': 60_000,
  // All that was written goes to the disk.
  'end-disk-copy': 300_000,
  // The worker gives a silent source up by itself, and tries it three times; this is for the pool.
  'import-image': 150_000,
  'write-image-part': 60_000,
  'capture-image': 300_000,
  // An image whose record a crash took is read whole.
  'find-image': 60_000,
  'make-system-disk': 300_000,
  'copy-system-disk': 300_000,
  'grow-system-disk': 60_000,
  // They touch the tables of the disk, not its content.
  'make-snapshot': 60_000,
  'remove-snapshot': 60_000,
  'revert-system-disk': 60_000,
}

/** They only look, and how long they take says as much of what else goes on in the pool as of the pool. */
const LOOKS: ReadonlySet<PoolOperation> = new Set([
  'check',
  'probe',
  'list-files',
  'find-system-disk',
  'find-image',
])

/** They move much data, for as long as they say that they go on: to cut one off for a look would lose hours. */
const LONG: ReadonlySet<PoolOperation> = new Set([
  'import-image',
  'capture-image',
  'make-system-disk',
  'copy-system-disk',
])

const PAUSE_FIRST_MS = 500
const PAUSE_LONGEST_MS = 30_000

export interface PoolRef {
  readonly uuid: string
  readonly path: string
  /** What the pool's marker says; empty or absent while that is not known. */
  readonly marker?: string
}

export interface RequestOptions {
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((percent: number) => void) | undefined
}

/** What the agent needs of pools' files. */
export interface PoolFiles {
  request<O extends PoolOperation>(
    pool: PoolRef,
    operation: O,
    args: PoolArguments<O>,
    options?: RequestOptions,
  ): Promise<PoolResult<O>>
  /** Mounts an export where a pool has it, unless it is mounted. */
  mount(source: NfsSource, path: string): Promise<void>
  unmount(source: NfsSource, path: string): Promise<void>
  /** Starts the worker of a pool ahead of need. */
  warm(pool: PoolRef): void
  /** Ends the worker of a pool that is no longer used. */
  release(poolUuid: string): void
  close(): void
}

export interface PoolWorkersDeps {
  readonly hostId: string
  readonly imageDirs: readonly string[]
  readonly imageBytesMax: number
  readonly clock: Clock
  readonly log: Logger
  /** Below it exports are mounted; nowhere, where it is not given. */
  readonly mountDir?: string
  /** Overrides for tests. */
  readonly mountTools?: MountTools
  readonly stallMs?: Partial<Record<PoolOperation, number>>
}

interface PendingRequest {
  readonly operation: PoolOperation
  readonly resolve: (value: unknown) => void
  readonly reject: (error: VpeError) => void
  readonly onProgress: ((percent: number) => void) | undefined
  readonly timer: NodeJS.Timeout
}

export class PoolWorkers implements PoolFiles {
  readonly #deps: PoolWorkersDeps
  readonly #workers = new Map<string, PoolWorker>()

  constructor(deps: PoolWorkersDeps) {
    this.#deps = deps
  }

  request<O extends PoolOperation>(
    pool: PoolRef,
    operation: O,
    args: PoolArguments<O>,
    options: RequestOptions = {},
  ): Promise<PoolResult<O>> {
    return this.#worker(pool).request(operation, args, pool.marker ?? '', options)
  }

  async mount(source: NfsSource, path: string): Promise<void> {
    const { mountDir, mountTools = systemMountTools } = this.#deps
    if (mountDir === undefined) throw new VpeError('DISK_POOL_FAILED', 'this host mounts nothing')
    await mountNfs(source, path, mountDir, mountTools)
  }

  async unmount(source: NfsSource, path: string): Promise<void> {
    await unmountNfs(source, path, this.#deps.mountTools ?? systemMountTools)
  }

  warm(pool: PoolRef): void {
    this.#worker(pool).warm()
  }

  release(poolUuid: string): void {
    this.#workers.get(poolUuid)?.close()
    this.#workers.delete(poolUuid)
  }

  close(): void {
    for (const worker of this.#workers.values()) worker.close()
    this.#workers.clear()
  }

  #worker(pool: PoolRef): PoolWorker {
    const known = this.#workers.get(pool.uuid)
    if (known?.path === pool.path) return known
    known?.close()
    const worker = new PoolWorker(pool, this.#deps)
    this.#workers.set(pool.uuid, worker)
    return worker
  }
}

class PoolWorker {
  readonly path: string
  readonly #uuid: string
  readonly #deps: PoolWorkersDeps
  readonly #log: Logger
  readonly #pending = new Map<number, PendingRequest>()
  #child: ChildProcess | null = null
  #nextId = 0
  #failures = 0
  #retryAtMs = 0

  constructor(pool: PoolRef, deps: PoolWorkersDeps) {
    this.path = pool.path
    this.#uuid = pool.uuid
    this.#deps = deps
    this.#log = deps.log.child({ disk_pool: pool.uuid, path: pool.path })
  }

  warm(): void {
    if (!this.#child && this.#deps.clock.nowMs() >= this.#retryAtMs) this.#child = this.#start()
  }

  async request<O extends PoolOperation>(
    operation: O,
    args: PoolArguments<O>,
    marker: string,
    { signal, onProgress }: RequestOptions,
  ): Promise<PoolResult<O>> {
    signal?.throwIfAborted()
    this.warm()
    const child = this.#child
    if (!child) throw this.#silence('it was given up a moment ago')
    const id = this.#nextId++
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    const stallMs = this.#deps.stallMs?.[operation] ?? STALL_MS[operation]
    const timer = setTimeout(
      () => this.#stall(id, `${operation} took longer than ${stallMs / 1000} s`),
      stallMs,
    )
    this.#pending.set(id, { operation, resolve, reject, onProgress, timer })
    // A cancelled request still ends by the worker's answer: until then its files are not at rest.
    const cancel = () => this.#send(child, { id, operation: 'cancel' })
    signal?.addEventListener('abort', cancel, { once: true })
    try {
      this.#send(child, { id, operation, marker, arguments: args } as ToWorker)
      const result = parseResult(operation, await promise)
      this.#failures = 0
      return result
    } catch (error) {
      signal?.throwIfAborted()
      throw error
    } finally {
      signal?.removeEventListener('abort', cancel)
      clearTimeout(timer)
      this.#pending.delete(id)
    }
  }

  close(): void {
    const child = this.#child
    this.#child = null
    child?.unref()
    if (child?.connected) child.disconnect()
    this.#rejectAll('the agent is stopping')
  }

  #start(): ChildProcess {
    const settings: WorkerSettings = {
      poolUuid: this.#uuid,
      poolPath: this.path,
      hostId: this.#deps.hostId,
      imageDirs: [...this.#deps.imageDirs],
      imageBytesMax: this.#deps.imageBytesMax,
    }
    const child = fork(WORKER, [JSON.stringify(settings)], {
      // A group of its own, so that the programs it starts can be ended with it.
      detached: true,
      execArgv: ['--disable-warning=ExperimentalWarning'],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      // Bytes go as bytes: what is uploaded comes this way.
      serialization: 'advanced',
    })
    child.on('message', (message) => this.#receive(child, message))
    child.on('error', (error) => this.#lose(child, `it could not be started: ${error.message}`))
    child.on('exit', (code, signal) => this.#lose(child, `it ended by itself (${signal ?? code})`))
    this.#log.debug({ pid: child.pid }, 'disk pool worker started')
    return child
  }

  #receive(child: ChildProcess, message: unknown): void {
    if (child !== this.#child) return
    const parsed = fromWorkerSchema.safeParse(message)
    if (!parsed.success) {
      this.#abandon('it sent what is no answer')
      return
    }
    const answer = parsed.data
    const request = this.#pending.get(answer.id)
    switch (answer.kind) {
      case 'progress':
        request?.timer.refresh()
        request?.onProgress?.(answer.percent)
        return
      case 'done':
        request?.resolve(answer.result)
        return
      case 'failed':
        request?.reject(new VpeError(answer.code, answer.message))
    }
  }

  /**
   * A request has taken too long. A look alone is given up where something long goes on beside it: that has a deadline
   * of its own, and if the pool hangs, that is what ends the worker.
   */
  #stall(id: number, why: string): void {
    const request = this.#pending.get(id)
    const long = [...this.#pending.values()].find(({ operation }) => LONG.has(operation))
    if (request && LOOKS.has(request.operation) && long) {
      this.#log.warn({ why, beside: long.operation }, 'a look at the disk pool was given up')
      request.reject(this.#silence(`${why}, while ${long.operation} goes on`))
    } else this.#abandon(why)
  }

  /** Gives the worker up, with all it was asked. */
  #abandon(why: string): void {
    const child = this.#child
    if (!child) return
    if (child.pid !== undefined) killGroup(child.pid)
    child.unref()
    if (child.connected) child.disconnect()
    this.#lose(child, why)
  }

  #lose(child: ChildProcess, why: string): void {
    if (child !== this.#child) return
    this.#child = null
    const pauseMs = Math.min(PAUSE_LONGEST_MS, PAUSE_FIRST_MS * 2 ** this.#failures)
    this.#failures++
    this.#retryAtMs = this.#deps.clock.nowMs() + pauseMs
    this.#log.warn({ pid: child.pid, why, pauseMs }, 'disk pool worker given up')
    this.#rejectAll(why)
  }

  #rejectAll(why: string): void {
    for (const request of this.#pending.values()) request.reject(this.#silence(why))
  }

  #silence(why: string): VpeError {
    return new VpeError(
      'UNAVAILABLE',
      `the disk pool at ${this.path} does not answer: ${why}; check its storage`,
    )
  }

  #send(child: ChildProcess, message: ToWorker): void {
    if (child.connected) child.send(message, (error) => error && this.#lose(child, error.message))
  }
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}
