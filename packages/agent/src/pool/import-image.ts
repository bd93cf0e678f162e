// Brings an image into a pool: read once, hashed on the way, judged, and only then given its name. A
// name is given by link(), which refuses to replace: on a shared pool two hosts may import the same
// image at once, and a file that disks lie on must never change.

import { createHash } from 'node:crypto'
import { chmod, type FileHandle, link, open, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { type DiskFormat, VpeError } from '@vpe/core'
import { HEADER_BYTES, inspectHeader } from './image-header.ts'
import { openImage } from './image-source.ts'
import { withImageClaim } from './import-claim.ts'
import { imageFile, imagePartFile, imageRecordFile } from './pool-files.ts'
import { type PoolFolder, syncFile } from './pool-folder.ts'
import { imageRecordSchema, type PoolArguments, type PoolImage } from './pool-protocol.ts'
import { judgeByQemuImg } from './qemu-img.ts'

/** A source that sends nothing for so long is taken for dead. */
const STALL_MS = 30_000
/** A source that fails may do better a moment later; one that keeps failing is a fault to report. */
const TRIES = 3
const PAUSE_MS = 1_000
const FORMATS: readonly DiskFormat[] = ['qcow2', 'raw']

export interface ImportContext {
  readonly signal: AbortSignal
  readonly onProgress: (percent: number) => void
}

/** The image in the pool; imported first if it is not there. */
export async function importImage(
  folder: PoolFolder,
  image: PoolArguments<'import-image'>,
  context: ImportContext,
): Promise<PoolImage> {
  const present = await findImage(folder, image.uuid)
  if (present) return expectHash(image, present.sha256, present)
  if (image.url === '') return importUpload(folder, image, context)
  const find = () => findImage(folder, image.uuid)
  const work = () => importUrl(folder, image, context)
  // While another host brings it in, its progress is not ours to know; but that all is well is.
  const imported = await withImageClaim(
    folder,
    image.uuid,
    context.signal,
    () => context.onProgress(0),
    find,
    work,
  )
  return expectHash(image, imported.sha256, imported)
}

async function importUrl(
  folder: PoolFolder,
  image: PoolArguments<'import-image'>,
  context: ImportContext,
): Promise<PoolImage> {
  const part = folder.temporary(`image-${image.uuid}`)
  try {
    const contents = await readSource(folder, image, part, context)
    return await admitImage(folder, image, part, contents, context.signal)
  } finally {
    await rm(part, { force: true })
  }
}

/** What has been uploaded stays until it has become an image, or turned out to be none. */
async function importUpload(
  folder: PoolFolder,
  image: PoolArguments<'import-image'>,
  { signal, onProgress }: ImportContext,
): Promise<PoolImage> {
  const part = folder.path(imagePartFile(image.uuid))
  try {
    const contents = await hashFile(part, onProgress, signal)
    await syncFile(part)
    const admitted = await admitImage(folder, image, part, contents, signal)
    await rm(part, { force: true })
    return admitted
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
      const why = 'it came without a URL, and neither it nor what was uploaded of it is there'
      throw new VpeError('IMAGE_INVALID', `image ${image.uuid} is not in ${folder.root}: ${why}`, {
        cause: error,
      })
    }
    if (error instanceof VpeError && error.code === 'IMAGE_INVALID') await rm(part, { force: true })
    throw error
  }
}

/**
 * Judges a file that is complete, and if it is fit gives it its name in the pool.
 * @throws VpeError IMAGE_INVALID
 */
export async function admitImage(
  folder: PoolFolder,
  image: PoolArguments<'import-image'>,
  part: string,
  contents: { readonly sha256: string; readonly sizeBytes: number },
  signal: AbortSignal,
): Promise<PoolImage> {
  expectHash(image, contents.sha256, null)
  const record = { ...contents, ...(await judge(folder, nameOf(image), part, contents.sizeBytes, signal)) }
  await chmod(part, 0o444)
  signal.throwIfAborted()
  const isOurs = await giveName(part, folder.path(imageFile(image.uuid, record.format)))
  if (isOurs) await writeRecord(folder, image.uuid, record)
  await folder.sync()
  const imported = await findImage(folder, image.uuid)
  if (!imported) throw new VpeError('DISK_POOL_FAILED', `image ${image.uuid} vanished from ${folder.root}`)
  return expectHash(image, imported.sha256, imported)
}

/** What is known of an image in the pool; null when it is not there. */
export async function findImage(folder: PoolFolder, uuid: string): Promise<PoolImage | null> {
  for (const format of FORMATS) {
    const path = folder.path(imageFile(uuid, format))
    const file = await openIfThere(path)
    if (!file) continue
    try {
      return (await readRecord(folder, uuid)) ?? (await relearn(folder, uuid, format, file))
    } finally {
      await file.close()
    }
  }
  return null
}

/** The record is written after the image got its name; a crash in between leaves it to be found out again. */
async function relearn(
  folder: PoolFolder,
  uuid: string,
  format: DiskFormat,
  file: FileHandle,
): Promise<PoolImage> {
  const { sha256, sizeBytes } = await hashFile(folder.path(imageFile(uuid, format)))
  const header = await inspect(file, sizeBytes)
  if ('refused' in header)
    throw new VpeError('IMAGE_INVALID', `${imageFile(uuid, format)}: ${header.refused}`)
  const record = { ...header, format, sizeBytes, sha256 }
  await writeRecord(folder, uuid, record)
  return record
}

/** The SHA-256 and the size of a whole file. */
export async function hashFile(
  path: string,
  onProgress: (percent: number) => void = () => {},
  signal?: AbortSignal,
): Promise<{ sha256: string; sizeBytes: number }> {
  const hash = createHash('sha256')
  let sizeBytes = 0
  const file = await open(path, 'r')
  const { size } = await file.stat()
  for await (const chunk of file.createReadStream({ highWaterMark: 1024 ** 2 })) {
    signal?.throwIfAborted()
    hash.update(chunk)
    sizeBytes += chunk.length
    onProgress(Math.min(99, (sizeBytes / size) * 100))
  }
  return { sha256: hash.digest('hex'), sizeBytes }
}

async function readSource(
  folder: PoolFolder,
  image: PoolArguments<'import-image'>,
  part: string,
  context: ImportContext,
): Promise<{ sha256: string; sizeBytes: number }> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await readOnce(folder, image, part, context)
    } catch (error) {
      context.signal.throwIfAborted()
      if (!(error instanceof VpeError) || error.code !== 'UNAVAILABLE') throw error
      if (attempt === TRIES) {
        throw new VpeError('IMAGE_INVALID', `${error.message} (tried ${TRIES} times)`, { cause: error })
      }
      await sleep(PAUSE_MS * attempt, undefined, { signal: context.signal })
    }
  }
}

async function readOnce(
  folder: PoolFolder,
  image: PoolArguments<'import-image'>,
  part: string,
  { signal, onProgress }: ImportContext,
): Promise<{ sha256: string; sizeBytes: number }> {
  const stall = new AbortController()
  const timer = setTimeout(() => stall.abort(), STALL_MS)
  const file = await open(part, 'w', 0o600)
  try {
    const either = AbortSignal.any([signal, stall.signal])
    const source = await openImage(image.url, folder.imageDirs, either)
    if (source.sizeBytes !== null) await folder.assertRoom(source.sizeBytes, `image ${image.url}`)
    const hash = createHash('sha256')
    let sizeBytes = 0
    for await (const chunk of source.chunks) {
      either.throwIfAborted()
      timer.refresh()
      hash.update(chunk)
      await file.writeFile(chunk)
      sizeBytes += chunk.length
      if (sizeBytes > folder.imageBytesMax) {
        throw new VpeError('IMAGE_INVALID', `${image.url} does not end after ${sizeBytes} bytes`)
      }
      if (source.sizeBytes) onProgress(Math.min(99, (sizeBytes / source.sizeBytes) * 100))
    }
    if (source.sizeBytes !== null && sizeBytes !== source.sizeBytes) {
      throw new VpeError('UNAVAILABLE', `${image.url} ended after ${sizeBytes} of ${source.sizeBytes} bytes`)
    }
    await file.sync()
    return { sha256: hash.digest('hex'), sizeBytes }
  } catch (error) {
    if (stall.signal.aborted && !signal.aborted) {
      throw new VpeError('UNAVAILABLE', `${image.url} sent nothing for ${STALL_MS / 1000} s`, {
        cause: error,
      })
    }
    throw error
  } finally {
    clearTimeout(timer)
    await file.close()
  }
}

async function judge(
  folder: PoolFolder,
  name: string,
  path: string,
  sizeBytes: number,
  signal: AbortSignal,
): Promise<{ format: DiskFormat; virtualSizeBytes: number }> {
  const file = await open(path, 'r')
  try {
    const header = await inspect(file, sizeBytes, folder.imageBytesMax)
    if ('refused' in header) throw new VpeError('IMAGE_INVALID', `${name} is refused: ${header.refused}`)
    const { capacityBytes } = await folder.usage()
    if (header.virtualSizeBytes > capacityBytes) {
      // No disk can be made from it here: placement lets disks grow as far as the pool is large, and no farther.
      const why = `its virtual size is ${header.virtualSizeBytes} bytes, and ${folder.root} has ${capacityBytes} in all`
      throw new VpeError('IMAGE_INVALID', `${name} is refused: ${why}`)
    }
    const refused = await judgeByQemuImg(path, header.format, header.virtualSizeBytes, signal)
    if (refused) throw new VpeError('IMAGE_INVALID', `${name} is refused: ${refused}`)
    return header
  } finally {
    await file.close()
  }
}

async function inspect(file: FileHandle, sizeBytes: number, virtualSizeMax?: number) {
  const head = Buffer.alloc(HEADER_BYTES)
  const { bytesRead } = await file.read(head, 0, HEADER_BYTES, 0)
  return inspectHeader(head.subarray(0, bytesRead), sizeBytes, virtualSizeMax)
}

function expectHash<T>(image: PoolArguments<'import-image'>, sha256: string, value: T): T {
  if (image.sha256 === '' || image.sha256 === sha256) return value
  throw new VpeError(
    'IMAGE_INVALID',
    `${nameOf(image)} has the SHA-256 ${sha256}, not the expected ${image.sha256}`,
  )
}

function nameOf(image: PoolArguments<'import-image'>): string {
  return image.url || `image ${image.uuid}`
}

/** Whether the name is now ours; false when another file has it already. */
async function giveName(part: string, path: string): Promise<boolean> {
  try {
    await link(part, path)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

async function readRecord(folder: PoolFolder, uuid: string): Promise<PoolImage | null> {
  try {
    return imageRecordSchema.parse(JSON.parse(await readFile(folder.path(imageRecordFile(uuid)), 'utf8')))
  } catch {
    // Absent, cut short, or not ours: the image itself tells.
    return null
  }
}

async function writeRecord(folder: PoolFolder, uuid: string, record: PoolImage): Promise<void> {
  const part = folder.temporary(`image-${uuid}`, 'json')
  await writeFile(part, `${JSON.stringify(record)}\n`)
  await rename(part, folder.path(imageRecordFile(uuid)))
}

async function openIfThere(path: string): Promise<FileHandle | null> {
  try {
    return await open(path, 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}
