// Bytes both ways between a console's line and a call, at the pace of the slower side: nothing is read
// from either that the other has not taken, beyond what sockets and streams hold by themselves. The end of
// one side is the end of the other.

import type { Duplex } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { VpeError } from '@vpe/core'

/**
 * A viewer that takes nothing for so long loses the line. Until then a guest's write to its serial line
 * waits for the viewer, and a guest must not wait for a browser that sleeps.
 */
const STALL_MS = 10_000

/**
 * How a socket ends whose other side goes away with bytes unread: QEMU does, when it ends while a viewer
 * is at it.
 */
const HUNG_UP: readonly unknown[] = ['ECONNRESET', 'EPIPE']

/**
 * What the line says, while it is told what `input` says.
 * @param signal ends both
 */
export function carry(
  line: Duplex,
  input: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
  stallMs = STALL_MS,
): AsyncGenerator<Uint8Array> {
  const hangUp = () => line.destroy()
  signal.addEventListener('abort', hangUp, { once: true })
  line.once('close', () => signal.removeEventListener('abort', hangUp))
  if (signal.aborted) hangUp()
  // Its failure is the line's, and is told to whoever reads the line; that of `input` closes the line.
  pipeline(input, line).catch(hangUp)
  return read(line, stallMs)
}

async function* read(line: Duplex, stallMs: number): AsyncGenerator<Uint8Array> {
  const drop = () =>
    line.destroy(
      new VpeError('CONFLICT', `the viewer took nothing for ${stallMs / 1000} s, so its console was closed`),
    )
  try {
    for await (const chunk of line) {
      const stall = setTimeout(drop, stallMs)
      try {
        yield chunk
      } finally {
        clearTimeout(stall)
      }
    }
  } catch (error) {
    if (!HUNG_UP.includes((error as NodeJS.ErrnoException).code)) throw error
  } finally {
    line.destroy()
  }
}
