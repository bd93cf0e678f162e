// Where an image comes from: a web server, or a file below a folder that the operator allows.

import { constants } from 'node:fs'
import { type FileHandle, open, readlink, realpath } from 'node:fs/promises'
import { sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { VpeError } from '@vpe/core'
import { VIRTUAL_SIZE_MAX } from './image-header.ts'

const CHUNK_BYTES = 1024 * 1024

export interface ImageStream {
  readonly chunks: AsyncIterable<Uint8Array>
  /** Null when the source does not say. */
  readonly sizeBytes: number | null
}

/**
 * Opens an image for reading.
 * @throws VpeError IMAGE_INVALID when it cannot be had, UNAVAILABLE when it may be had later
 */
export async function openImage(
  url: string,
  imageDirs: readonly string[],
  signal: AbortSignal,
): Promise<ImageStream> {
  const { protocol } = parseUrl(url)
  switch (protocol) {
    case 'http:':
    case 'https:':
      return openWeb(url, signal)
    case 'file:':
      return openFile(url, imageDirs)
    default:
      throw invalid(`image URL ${url}: ${protocol} is not supported; use http, https or file`)
  }
}

async function openWeb(url: string, signal: AbortSignal): Promise<ImageStream> {
  let response: Response
  try {
    response = await fetch(url, { signal, headers: { 'accept-encoding': 'identity' } })
  } catch (error) {
    signal.throwIfAborted()
    throw fetchError(url, error)
  }
  if (!response.ok || !response.body) {
    const message = `${url} answers ${response.status} ${response.statusText}`
    throw response.status >= 500 ? new VpeError('UNAVAILABLE', message) : invalid(message)
  }
  const isEncoded = response.headers.get('content-encoding') !== null
  const length = Number(response.headers.get('content-length') ?? Number.NaN)
  const sizeBytes = isEncoded || !Number.isSafeInteger(length) ? null : length
  if ((sizeBytes ?? 0) > VIRTUAL_SIZE_MAX) throw invalid(`${url} is ${sizeBytes} bytes long, beyond any disk`)
  return { chunks: webChunks(url, response.body, signal), sizeBytes }
}

async function* webChunks(url: string, body: AsyncIterable<Uint8Array>, signal: AbortSignal) {
  try {
    yield* body
  } catch (error) {
    signal.throwIfAborted()
    throw fetchError(url, error)
  }
}

function fetchError(url: string, error: unknown): VpeError {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  const why = cause instanceof Error ? cause.message : String(cause)
  const isWrongName = (cause as NodeJS.ErrnoException | undefined)?.code === 'ENOTFOUND'
  const code = isWrongName ? 'IMAGE_INVALID' : 'UNAVAILABLE'
  return new VpeError(code, `${url} could not be read: ${why}`, { cause: error })
}

/** Opened first and judged by what was opened: nothing can be swapped in between. */
async function openFile(url: string, imageDirs: readonly string[]): Promise<ImageStream> {
  const path = filePath(url)
  if (imageDirs.length === 0) throw invalid(`${url}: this host imports no files; set VPE_AGENT_IMAGE_DIRS`)
  let file: FileHandle
  try {
    // Non-blocking: a named pipe would otherwise wait for a writer for ever.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (error) {
    throw invalid(`${path} cannot be opened: ${(error as Error).message}`, error)
  }
  try {
    const real = await readlink(`/proc/self/fd/${file.fd}`)
    const allowed = await Promise.all(imageDirs.map((dir) => realpath(dir).catch(() => null)))
    if (!allowed.some((dir) => dir !== null && real.startsWith(dir.endsWith(sep) ? dir : dir + sep))) {
      const where = real === path ? path : `${path} (really ${real})`
      throw invalid(`${where} is not below ${imageDirs.join(' or ')}, the folders of VPE_AGENT_IMAGE_DIRS`)
    }
    const info = await file.stat()
    if (!info.isFile()) throw invalid(`${path} is no file`)
    return { chunks: fileChunks(file), sizeBytes: info.size }
  } catch (error) {
    await file.close()
    throw error
  }
}

async function* fileChunks(file: FileHandle): AsyncGenerator<Uint8Array> {
  const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES)
  try {
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, CHUNK_BYTES)
      if (bytesRead === 0) return
      yield buffer.subarray(0, bytesRead)
    }
  } finally {
    await file.close()
  }
}

function parseUrl(url: string): URL {
  const parsed = URL.parse(url)
  if (!parsed) throw invalid(`image URL ${url} is not a URL; write http://…, https://… or file:///…`)
  return parsed
}

function filePath(url: string): string {
  try {
    return fileURLToPath(url)
  } catch (error) {
    throw invalid(`image URL ${url}: ${(error as Error).message}`, error)
  }
}

function invalid(message: string, cause?: unknown): VpeError {
  return new VpeError('IMAGE_INVALID', message, { cause })
}
