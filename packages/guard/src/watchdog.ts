// The watchdog: resets the host unless it is petted in time. The guard keeps the device open for good and never closes it the way that
// would stop it: a guard that dies must be followed by a reset, unless another one takes over in time.
//
// It is pluggable: `/dev/watchdog` and its like are devices of the kernel; a socket is the power switch of a host that is made of
// namespaces (the lab), where a reset of the machine would end everybody's.

import { constants, openSync, writeSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import koffi from 'koffi'

export interface Watchdog {
  /** Opens it, which is a pet, and says what its timeout then is. */
  open(timeoutMs: number): Promise<number>
  pet(): void
}

/** From <linux/watchdog.h>; both take a pointer to an int, in seconds. */
const WDIOC_SETTIMEOUT = 0xc0045706
const WDIOC_GETTIMEOUT = 0x80045707

const ioctl = koffi.load(null).func('ioctl', 'int', ['int', 'ulong', koffi.inout(koffi.pointer('int'))])

/** A device of the kernel, hardware or softdog. */
export class KernelWatchdog implements Watchdog {
  readonly #path: string
  #fd: number | null = null

  constructor(path: string) {
    this.#path = path
  }

  /** @throws Error when there is none, somebody else has it, or it takes no timeout */
  async open(timeoutMs: number): Promise<number> {
    const fd = this.#fd ?? openSync(this.#path, constants.O_WRONLY)
    this.#fd = fd
    const seconds = [Math.round(timeoutMs / 1_000)]
    for (const request of [WDIOC_SETTIMEOUT, WDIOC_GETTIMEOUT]) {
      if (ioctl(fd, request, seconds) !== 0)
        throw new Error(`${this.#path} takes no timeout (errno ${koffi.errno()})`)
    }
    return (seconds[0] ?? 0) * 1_000
  }

  pet(): void {
    if (this.#fd !== null) writeSync(this.#fd, '\0')
  }
}

/** A socket at whose other end somebody holds the power switch: it says what it is asked, and takes a line for each pet. */
export class SocketWatchdog implements Watchdog {
  readonly #path: string
  #socket: Socket | null = null

  constructor(path: string) {
    this.#path = path
  }

  open(timeoutMs: number): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<number>()
    this.#socket?.destroy()
    const socket = connect(this.#path)
    this.#socket = socket
    let heard = ''
    socket.on('connect', () => socket.write(`open ${timeoutMs}\n`))
    socket.on('data', (data) => {
      heard += data.toString('latin1')
      const answer = /^timeout (\d+)\n/.exec(heard)?.[1]
      if (answer !== undefined) resolve(Number(answer))
    })
    socket.on('error', reject)
    socket.on('close', () => reject(new Error(`${this.#path} was closed`)))
    return promise
  }

  pet(): void {
    this.#socket?.write('pet\n')
  }
}
