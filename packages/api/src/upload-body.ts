// The body of an upload, in pieces: however long it is, no more of it is held than one piece, and the next
// is read only when the one before has been taken. There is no limit to how long it may take, as long as
// something comes.

import { RequestFault } from './request-fault.ts'

const PIECE_BYTES = 1024 * 1024

/** A client that sends nothing for so long is taken for gone. */
const STALL_MS = 30_000

const TYPES = new Set(['', 'application/octet-stream', 'application/x-www-form-urlencoded'])

export function uploadPieces(request: Request, stallMs = STALL_MS): AsyncGenerator<Uint8Array> {
  const type = (request.headers.get('content-type') ?? '').split(';')[0]?.trim().toLowerCase() ?? ''
  if (!TYPES.has(type)) {
    throw new RequestFault(
      'UNSUPPORTED_MEDIA_TYPE',
      `the body is declared as ${type.slice(0, 100)}; send the image, with the header Content-Type: application/octet-stream`,
    )
  }
  return inPieces(chunksOf(request.body, stallMs))
}

async function* inPieces(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let piece = Buffer.allocUnsafeSlow(PIECE_BYTES)
  let filled = 0
  for await (const chunk of chunks) {
    for (let taken = 0; taken < chunk.length; ) {
      const some = chunk.subarray(taken, taken + PIECE_BYTES - filled)
      piece.set(some, filled)
      filled += some.length
      taken += some.length
      if (filled < PIECE_BYTES) continue
      yield piece
      piece = Buffer.allocUnsafeSlow(PIECE_BYTES)
      filled = 0
    }
  }
  if (filled > 0) yield piece.subarray(0, filled)
}

async function* chunksOf(
  body: ReadableStream<Uint8Array> | null,
  stallMs: number,
): AsyncGenerator<Uint8Array> {
  const reader = body?.getReader()
  if (!reader) return
  try {
    for (;;) {
      const { done, value } = await within(stallMs, reader.read())
      if (done) return
      yield value
    }
  } catch (cause) {
    if (cause instanceof RequestFault) throw cause
    throw new RequestFault(
      'UNREADABLE_BODY',
      'the request ended before its body was complete; what has come is kept: go on from there',
      { cause },
    )
  }
}

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const message = `nothing has come for ${ms / 1000} s; what has come is kept: go on from there`
  const timer = setTimeout(() => reject(new RequestFault('UNREADABLE_BODY', message)), ms)
  try {
    return await Promise.race([work, promise])
  } finally {
    clearTimeout(timer)
  }
}
