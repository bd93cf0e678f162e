// Who is connected to which guest's console. A screen takes several viewers, who all see and type the
// same. A serial line takes one: the guest cannot tell two apart, and half of what it says would go to
// each. The latest opener has it, so that a forgotten window keeps nobody out.

import { once } from 'node:events'
import { connect } from 'node:net'
import type { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { isUp, VpeError } from '@vpe/core'
import type { Logger } from 'pino'
import type { HostSettings } from './definition.ts'
import type { Hypervisor } from './hypervisor/hypervisor.ts'
import { recognise } from './marked-domains.ts'
import { serialSocketPath } from './serial-socket.ts'

/** QEMU serves 32 by default, and each costs it a copy of the screen. */
const SCREEN_VIEWERS_MAX = 16

/** Over all guests of this host. */
const CONSOLES_MAX = 256

/** QEMU lets one wait behind the one it serves. On a busy host it takes a while until it comes to that. */
const FULL_RETRY_MS = 100
const FULL_RETRIES = 100

export interface ConsoleTarget {
  readonly uuid: string
  readonly kind: 'vnc' | 'serial'
}

export interface ConsolesDeps {
  readonly hostId: string
  readonly hypervisor: Hypervisor
  readonly settings: Pick<HostSettings, 'consoleDir'>
  readonly log: Logger
}

export class Consoles {
  readonly #deps: ConsolesDeps
  readonly #lines = new Map<Duplex, ConsoleTarget>()
  /** Who asked for the serial line of an instance last. */
  readonly #latestOpeners = new Map<string, symbol>()

  constructor(deps: ConsolesDeps) {
    this.#deps = deps
  }

  /**
   * Connects to a console of an instance whose guest runs. The caller reads, writes and closes the line;
   * it fails with SUPERSEDED when another opener takes it over.
   * @throws VpeError NOT_FOUND, CONFLICT with what to do, or what the hypervisor says
   */
  async open(target: ConsoleTarget): Promise<Duplex> {
    const { uuid, kind } = target
    await this.#assertRunning(uuid)
    this.#assertRoom(target)
    const line =
      kind === 'vnc'
        ? this.#keep(target, await this.#deps.hypervisor.openScreen(uuid))
        : await this.#openSerial(target)
    this.#deps.log.info({ instance: uuid, kind }, 'console open')
    return line
  }

  /** Ends them all: the agent stops. */
  close(): void {
    const why = new VpeError('UNAVAILABLE', 'the agent is stopping; open the console again in a moment')
    for (const line of this.#lines.keys()) line.destroy(why)
  }

  async #assertRunning(uuid: string): Promise<void> {
    const domain = await this.#deps.hypervisor.findDomain(uuid)
    if (!domain || recognise(domain, this.#deps.hostId).kind !== 'ours') {
      throw new VpeError('NOT_FOUND', `this host has no instance ${uuid}`)
    }
    if (!isUp(domain.guest)) {
      throw new VpeError('CONFLICT', 'the guest is off: start the instance first')
    }
  }

  #assertRoom(target: ConsoleTarget): void {
    const viewers = this.#of(target).length
    if (target.kind === 'vnc' && viewers >= SCREEN_VIEWERS_MAX) {
      throw new VpeError('CONFLICT', `the screen has ${viewers} viewers already: close one first`)
    }
    if (this.#lines.size >= CONSOLES_MAX) {
      throw new VpeError('CONFLICT', `${CONSOLES_MAX} consoles are open on this host: close one first`)
    }
  }

  #keep(target: ConsoleTarget, line: Duplex): Duplex {
    this.#lines.set(line, target)
    // Errors are its reader's; without a listener here, one that comes before there is a reader ends the process.
    line.on('error', () => {})
    line.once('close', () => {
      this.#lines.delete(line)
      this.#deps.log.info({ instance: target.uuid, kind: target.kind }, 'console closed')
    })
    return line
  }

  async #openSerial(target: ConsoleTarget): Promise<Duplex> {
    const path = serialSocketPath(this.#deps.settings.consoleDir, target.uuid)
    if (path === undefined) {
      throw new VpeError(
        'CONFLICT',
        'the path of the agent’s state folder is too long for the sockets of serial lines: set VPE_AGENT_STATE_DIR to a shorter one, then stop the instance and start it again',
      )
    }
    const opener = Symbol()
    this.#latestOpeners.set(target.uuid, opener)
    for (const [line] of this.#of(target)) line.destroy(superseded())
    try {
      for (let retries = 0; ; retries += 1) {
        // Kept before it is connected: of two who open at once, the later finds the earlier.
        const socket = connect(path)
        const line = this.#keep(target, socket)
        try {
          await once(socket, 'connect')
          return line
        } catch (cause) {
          assertMayRetry(cause, retries)
        }
        await sleep(FULL_RETRY_MS)
        if (this.#latestOpeners.get(target.uuid) !== opener) throw superseded()
      }
    } finally {
      if (this.#latestOpeners.get(target.uuid) === opener) this.#latestOpeners.delete(target.uuid)
    }
  }

  #of({ uuid, kind }: ConsoleTarget): [Duplex, ConsoleTarget][] {
    return [...this.#lines].filter(([, target]) => target.uuid === uuid && target.kind === kind)
  }
}

function superseded(): VpeError {
  return new VpeError('SUPERSEDED', 'somebody else has opened the serial line, which serves one')
}

/** Too many wait at the socket: that passes. Anything else does not. */
function assertMayRetry(cause: unknown, retries: number): void {
  if (cause instanceof VpeError) throw cause
  if ((cause as NodeJS.ErrnoException).code !== 'EAGAIN') {
    throw new VpeError(
      'CONFLICT',
      'the guest was started by a version of vpe without serial consoles: stop the instance and start it again',
      { cause },
    )
  }
  if (retries < FULL_RETRIES) return
  throw new VpeError('UNAVAILABLE', 'the guest’s QEMU is too busy to take the serial line: try again', {
    cause,
  })
}
