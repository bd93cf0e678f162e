/**
 * The watchdog of a lab host: a socket that the host's guard opens and pets, with somebody behind it who can reset the host. It speaks as
 * SocketWatchdog of packages/guard does, in lines: `open <ms>` arms it, is a pet, and is answered `timeout <ms>`; `pet`; `disarm`, which
 * is the only way to stop it. A connection that ends changes nothing: a guard that dies is followed by a reset, unless another takes over.
 */
import { rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'

export interface WatchdogPorts {
  /** Asked when it is armed: what is to be reset. Undefined for a host that is off. */
  readonly bootId: () => string | undefined
  /** Resets the host, if it is still in that boot. */
  readonly reset: (bootId: string) => void
  readonly log: (text: string) => void
}

interface Armed {
  readonly timeoutMs: number
  readonly bootId: string
  readonly timer: NodeJS.Timeout
  pets: number
}

const [timeoutMsMin, timeoutMsMax] = [1_000, 3_600_000]

export class Watchdog {
  readonly #ports: WatchdogPorts
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  #armed: Armed | undefined

  constructor(ports: WatchdogPorts) {
    this.#ports = ports
    this.#server = createServer((socket) => this.#serve(socket))
  }

  /** Returns when it can be reached at that path. */
  async listen(path: string): Promise<void> {
    rmSync(path, { force: true })
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#server.once('error', reject)
    this.#server.listen(path, resolve)
    await promise
  }

  close(): void {
    this.#disarm()
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }

  #serve(socket: Socket): void {
    let heard = ''
    this.#sockets.add(socket)
    socket.setEncoding('latin1')
    socket.on('data', (data) => {
      const lines = `${heard}${data}`.split('\n')
      heard = lines.pop() ?? ''
      for (const line of lines) this.#hear(line, socket)
    })
    socket.on('error', (error) => this.#ports.log(`the guard's connection: ${error.message}`))
    socket.on('close', () => this.#sockets.delete(socket))
  }

  #hear(line: string, socket: Socket): void {
    const open = /^open (\d+)$/.exec(line)
    if (open) this.#open(Number(open[1]), socket)
    else if (line === 'pet') this.#pet()
    else if (line === 'disarm') this.#disarm()
    else {
      this.#ports.log(`what is this? ${JSON.stringify(line)}`)
      socket.destroy()
    }
  }

  #open(wantedMs: number, socket: Socket): void {
    const bootId = this.#ports.bootId()
    if (bootId === undefined) {
      this.#ports.log('it was opened by a host that is off')
      socket.destroy()
      return
    }
    const timeoutMs = Math.min(Math.max(wantedMs, timeoutMsMin), timeoutMsMax)
    this.#disarm()
    this.#armed = { timeoutMs, bootId, timer: setTimeout(() => this.#expire(), timeoutMs), pets: 0 }
    socket.write(`timeout ${timeoutMs}\n`)
  }

  #disarm(): void {
    clearTimeout(this.#armed?.timer)
    this.#armed = undefined
  }

  #pet(): void {
    if (!this.#armed) return
    this.#armed.pets++
    this.#armed.timer.refresh()
  }

  #expire(): void {
    const armed = this.#armed
    const pets = armed?.pets
    // Pets that wait to be read, since we were held up ourselves, count: a device would have taken them in time.
    setImmediate(() => {
      if (!armed || this.#armed !== armed || armed.pets !== pets) return
      this.#armed = undefined
      this.#ports.log(`not petted for ${armed.timeoutMs} ms: boot ${armed.bootId} is reset`)
      this.#ports.reset(armed.bootId)
    })
  }
}
