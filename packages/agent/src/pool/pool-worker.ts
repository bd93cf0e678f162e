// The process that does all file work of one disk pool. It is a process of its own because a pool can
// hang: a few file calls that never return stop every other file call of a Node process, and the
// process cannot even exit. So the agent never touches a pool; it asks this worker, and gives it up
// when it does not answer.
//
// Started by pool-workers.ts, with its settings as its one argument; ends when the agent does.

import { VpeError } from '@vpe/core'
import { captureImage } from './capture-image.ts'
import { copySystemDisk } from './copy-system-disk.ts'
import { growDataDisk, makeDataDisk, removeDataDisk } from './data-disk.ts'
import {
  beginDiskCopy,
  describeDisk,
  endDiskCopy,
  makeCopyTarget,
  readDisk,
  writeDiskPart,
} from './disk-copy.ts'
import { sizeOfImagePart, writeImagePart } from './image-part.ts'
import { findImage, type ImportContext, importImage } from './import-image.ts'
import { listFiles, removeFile } from './pool-content.ts'
import { PoolFolder, startTicksOf } from './pool-folder.ts'
import { assertPool, markPool, removeMarker } from './pool-marker.ts'
import {
  type FromWorker,
  type PoolImage,
  type PoolRequest,
  toWorkerSchema,
  type WorkerSettings,
  workerSettingsSchema,
} from './pool-protocol.ts'
import { makeSeed } from './seed.ts'
import { makeSnapshot, removeSnapshot, revertSystemDisk } from './snapshot.ts'
import {
  findSystemDisk,
  growSystemDisk,
  makeSystemDisk,
  removeImage,
  removeSystemDisk,
} from './system-disk.ts'

/** An import that several may wait for. */
interface SharedImport {
  readonly result: Promise<PoolImage>
  readonly abort: AbortController
  readonly listeners: Set<(percent: number) => void>
}

const settings: WorkerSettings = workerSettingsSchema.parse(JSON.parse(process.argv[2] ?? 'null'))
const folder = new PoolFolder(settings, (await startTicksOf('self')) ?? '0')
const underWay = new Map<number, AbortController>()
const imports = new Map<string, SharedImport>()
/** What dead workers left: not looked for yet, looked for while one of them was still ending, or gone. */
let leftovers: 'unknown' | 'some' | 'none' = 'unknown'

process.on('message', (message) => {
  const request = toWorkerSchema.parse(message)
  if (request.operation === 'cancel') underWay.get(request.id)?.abort()
  else void answer(request)
})
// Without an agent there is nobody to work for; a child program would otherwise write on.
process.on('disconnect', () => {
  for (const abort of underWay.values()) abort.abort()
  process.exit()
})

async function answer(request: PoolRequest): Promise<void> {
  const abort = new AbortController()
  underWay.set(request.id, abort)
  const onProgress = throttle((percent) => send({ id: request.id, kind: 'progress', percent }))
  try {
    const result = await answerFor(request, { signal: abort.signal, onProgress })
    send({ id: request.id, kind: 'done', result })
  } catch (error) {
    const { code, message } = describe(error)
    send({ id: request.id, kind: 'failed', code, message })
  } finally {
    underWay.delete(request.id)
  }
}

/**
 * Nothing is said of the content of a folder that is not the pool: below a share that is not mounted everything
 * is absent, and absent would count as removed. Asked before and after, for a share may go in between.
 */
async function answerFor(request: PoolRequest, context: ImportContext): Promise<unknown> {
  if (request.operation === 'check') {
    await folder.check()
    const marker = await markPool(folder, request.marker, request.arguments.proposedMarker)
    if (leftovers !== 'none') await clearLeftovers()
    return { ...(await folder.usage()), marker }
  }
  if (request.operation === 'remove-marker') {
    await removeMarker(folder)
    return {}
  }
  // A folder may be tried out before it is a pool.
  if (request.operation === 'probe' && request.marker === '') return carryOut(request, context)
  await assertPool(folder, request.marker)
  if (leftovers === 'unknown') await clearLeftovers()
  const result = await carryOut(request, context)
  await assertPool(folder, request.marker)
  return result
}

async function clearLeftovers(): Promise<void> {
  leftovers = (await folder.clearLeftovers()) ? 'none' : 'some'
}

async function carryOut(
  request: Exclude<PoolRequest, { operation: 'check' | 'remove-marker' }>,
  context: ImportContext,
): Promise<unknown> {
  switch (request.operation) {
    case 'probe':
      return { latencyMs: await folder.probe() }
    case 'list-files':
      return listFiles(folder)
    case 'remove-file':
      await removeFile(folder, request.arguments)
      return {}
    case 'import-image':
      return joinImport(request.arguments, context)
    case 'write-image-part':
      await writeImagePart(folder, request.arguments)
      return {}
    case 'capture-image':
      return captureImage(folder, request.arguments, context)
    case 'find-image':
      return {
        image: await findImage(folder, request.arguments.uuid),
        partBytes: await sizeOfImagePart(folder, request.arguments.uuid),
      }
    case 'remove-image':
      await removeImage(folder, request.arguments)
      return {}
    case 'find-system-disk':
      return findSystemDisk(folder, request.arguments)
    case 'make-system-disk':
      return makeSystemDisk(folder, request.arguments, context)
    case 'copy-system-disk':
      await copySystemDisk(folder, request.arguments, context)
      return {}
    case 'grow-system-disk':
      return growSystemDisk(folder, request.arguments, context)
    case 'make-seed':
      await makeSeed(folder, request.arguments, context.signal)
      return {}
    case 'make-snapshot':
      await makeSnapshot(folder, request.arguments)
      return {}
    case 'remove-snapshot':
      await removeSnapshot(folder, request.arguments)
      return {}
    case 'revert-system-disk':
      await revertSystemDisk(folder, request.arguments)
      return {}
    case 'remove-system-disk':
      await removeSystemDisk(folder, request.arguments)
      return {}
    case 'make-data-disk':
      return makeDataDisk(folder, request.arguments)
    case 'grow-data-disk':
      return growDataDisk(folder, request.arguments)
    case 'remove-data-disk':
      return removeDataDisk(folder, request.arguments)
    case 'describe-disk':
      return describeDisk(folder, request.arguments)
    case 'make-copy-target':
      await makeCopyTarget(folder, request.arguments, context.signal)
      return {}
    case 'read-disk':
      return readDisk(folder, request.arguments)
    case 'begin-disk-copy':
      await beginDiskCopy(folder, request.arguments)
      return {}
    case 'write-disk-part':
      await writeDiskPart(folder, request.arguments)
      return {}
    case 'end-disk-copy':
      await endDiskCopy(folder, request.arguments, context.signal)
      return {}
    default:
      throw new Error(`no such operation: ${JSON.stringify(request satisfies never)}`)
  }
}

/** One import for all who ask for the same image; it ends early only when the last of them has left. */
async function joinImport(
  image: Extract<PoolRequest, { operation: 'import-image' }>['arguments'],
  { signal, onProgress }: ImportContext,
): Promise<PoolImage> {
  const key = JSON.stringify(image)
  const running = imports.get(key) ?? startImport(key, image)
  running.listeners.add(onProgress)
  const left = Promise.withResolvers<never>()
  const leave = () => left.reject(signal.reason)
  signal.addEventListener('abort', leave, { once: true })
  try {
    return await Promise.race([running.result, left.promise])
  } finally {
    signal.removeEventListener('abort', leave)
    running.listeners.delete(onProgress)
    if (running.listeners.size === 0) running.abort.abort()
  }
}

function startImport(key: string, image: Parameters<typeof importImage>[1]): SharedImport {
  const abort = new AbortController()
  const listeners = new Set<(percent: number) => void>()
  const onProgress = (percent: number) => {
    for (const listener of listeners) listener(percent)
  }
  const result = importImage(folder, image, { signal: abort.signal, onProgress }).finally(() =>
    imports.delete(key),
  )
  // When everybody has left nobody hears of its end.
  result.catch(() => {})
  const running = { result, abort, listeners }
  imports.set(key, running)
  return running
}

/** A percent of a large image takes long, and so may whoever else brings it in: that goes on is said meanwhile. */
const SIGN_OF_LIFE_MS = 10_000

/** Whole percents, each once and then now and again. */
function throttle(tell: (percent: number) => void): (percent: number) => void {
  let told = -1
  let toldMs = 0
  return (percent) => {
    const whole = Math.max(told, Math.floor(percent))
    if (whole === told && performance.now() - toldMs < SIGN_OF_LIFE_MS) return
    told = whole
    toldMs = performance.now()
    tell(whole)
  }
}

const MENDS: Readonly<Record<string, string>> = {
  ENOSPC: 'free some space there',
  EDQUOT: 'raise the quota',
  EROFS: 'mount it read-write',
  EACCES: 'let the agent in',
  ENOENT: 'make the folder, or mount what belongs there',
  EIO: 'check the storage',
  ESTALE: 'mount it anew',
}

function describe(error: unknown): { code: VpeError['code']; message: string } {
  if (error instanceof VpeError) return error
  if (error instanceof Error && error.name === 'AbortError')
    return { code: 'SUPERSEDED', message: 'it was cancelled' }
  const { code: errno, message } = error as NodeJS.ErrnoException
  if (errno === undefined)
    return { code: 'INTERNAL', message: error instanceof Error ? message : String(error) }
  if (errno === 'ENOSPC' || errno === 'EDQUOT')
    return { code: 'DISK_POOL_FULL', message: `disk pool at ${folder.root}: ${message}; ${MENDS[errno]}` }
  const mend = MENDS[errno]
  return {
    code: 'DISK_POOL_FAILED',
    message: `disk pool at ${folder.root}: ${message}${mend ? `; ${mend}` : ''}`,
  }
}

function send(message: FromWorker): void {
  if (process.connected) process.send?.(message)
}
