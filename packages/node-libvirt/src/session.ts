// One open virConnectPtr, from virConnectOpen to virConnectClose. A lost session never comes back; link.ts
// opens another.
//
// virConnectClose frees the connection whatever other threads do with it, so a session counts the calls under
// way and closes when they are done.

import koffi from 'koffi'
import {
  type DomainEventCallback,
  type DomainEventName,
  type DomainEvents,
  domainEventCallbacks,
} from './domain-events.ts'
import { isLibvirtError, LibvirtError } from './error.ts'
import { errorCodes } from './error-codes.ts'
import type { ArgumentsOf, FunctionName, Pointer, SuccessOf } from './native-functions.ts'
import { callNative } from './native-threads.ts'

const closeReasons = ['error', 'eof', 'keepalive', 'client'] as const
/** Why libvirt gave up a connection: virConnectCloseReason. */
export type CloseReason = (typeof closeReasons)[number]

export interface SessionOptions {
  readonly uri: string
  readonly isReadOnly: boolean
  readonly keepAlive: { readonly intervalSeconds: number; readonly count: number }
  /** Called once, when the connection is lost. */
  readonly onLost: (session: Session, reason: CloseReason) => void
  readonly onEvent: <N extends DomainEventName>(name: N, event: DomainEvents[N]) => void
}

/** Makes a libvirt call in the course of Session.use. */
export type Call = <N extends FunctionName>(name: N, ...args: ArgumentsOf<N>) => Promise<SuccessOf<N>>

const sessions = new Map<bigint, Session>()
let nextId = 1n
let callbacks:
  | { readonly onClose: Pointer; readonly domainEvents: readonly DomainEventCallback[] }
  | undefined

export class Session {
  readonly #options: SessionOptions
  readonly #pointer: Pointer
  readonly #id = nextId++
  readonly #registrations: number[] = []
  #callsUnderWay = 0
  #drained: PromiseWithResolvers<void> | undefined
  #hasCloseCallback = false
  #lostBecause: CloseReason | undefined

  private constructor(options: SessionOptions, pointer: Pointer) {
    this.#options = options
    this.#pointer = pointer
    sessions.set(this.#id, this)
  }

  /** Opens a connection with keep-alive and events. The event loop must be held. Rejects with a LibvirtError. */
  static async open(options: SessionOptions): Promise<Session> {
    const open = options.isReadOnly ? 'virConnectOpenReadOnly' : 'virConnectOpen'
    const session = new Session(options, await callNative(open, options.uri))
    try {
      await session.#listen()
      return session
    } catch (error) {
      await session.close()
      throw error
    }
  }

  get isLost(): boolean {
    return this.#lostBecause !== undefined
  }

  /**
   * Runs `work` on the connection, which stays open until it is done. When the connection is lost meanwhile,
   * rejects with NO_CONNECT: whether the call took effect is then unknown.
   */
  async use<T>(work: (call: Call, connection: Pointer) => Promise<T>): Promise<T> {
    this.#callsUnderWay++
    try {
      return await work((name, ...args) => this.#call(name, args), this.#pointer)
    } finally {
      this.#callsUnderWay--
      if (this.#callsUnderWay === 0) this.#drained?.resolve()
    }
  }

  /** Closes the connection once the calls under way have returned. Never rejects. */
  async close(): Promise<void> {
    if (this.#callsUnderWay > 0) {
      this.#drained = Promise.withResolvers()
      await this.#drained.promise
    }
    // On a lost connection these fail at once, having done their local part: each registration holds a
    // reference that would keep the connection from being freed.
    for (const id of this.#registrations) {
      await tolerate(callNative('virConnectDomainEventDeregisterAny', this.#pointer, id))
    }
    if (this.#hasCloseCallback) {
      await tolerate(
        callNative('virConnectUnregisterCloseCallback', this.#pointer, nativeCallbacks().onClose),
      )
    }
    sessions.delete(this.#id)
    await tolerate(callNative('virConnectClose', this.#pointer))
  }

  /** Marks the session as lost and says so, once. */
  lose(reason: CloseReason): void {
    if (this.#lostBecause !== undefined) return
    this.#lostBecause = reason
    this.#options.onLost(this, reason)
  }

  deliver<N extends DomainEventName>(name: N, event: DomainEvents[N]): void {
    this.#options.onEvent(name, event)
  }

  async #call<N extends FunctionName>(name: N, args: ArgumentsOf<N>): Promise<SuccessOf<N>> {
    try {
      return await callNative(name, ...args)
    } catch (error) {
      if (!(await this.#wasLostBy(error))) throw error
      const message = `the connection to ${this.#options.uri} was lost during ${name}, which may have taken effect`
      throw new LibvirtError({ code: errorCodes.NO_CONNECT, domain: 0, level: 2, message }, name, {
        cause: error,
      })
    }
  }

  // An error of the transport can overtake the close callback, so ask.
  async #wasLostBy(error: unknown): Promise<boolean> {
    if (!(error instanceof LibvirtError)) return false
    if (this.isLost) return true
    if (error.domainName !== 'RPC' && error.domainName !== 'REMOTE') return false
    if ((await callNative('virConnectIsAlive', this.#pointer)) === 1) return false
    this.lose('error')
    return true
  }

  async #listen(): Promise<void> {
    const { intervalSeconds, count } = this.#options.keepAlive
    const { onClose, domainEvents } = nativeCallbacks()
    await ifSupported(callNative('virConnectSetKeepAlive', this.#pointer, intervalSeconds, count))
    const registered = await ifSupported(
      callNative('virConnectRegisterCloseCallback', this.#pointer, onClose, this.#id, null),
    )
    this.#hasCloseCallback = registered !== undefined
    for (const { id, address } of domainEvents) {
      const registration = await ifSupported(
        callNative('virConnectDomainEventRegisterAny', this.#pointer, null, id, address, this.#id, null),
      )
      if (registration !== undefined) this.#registrations.push(registration)
    }
  }
}

function nativeCallbacks(): NonNullable<typeof callbacks> {
  callbacks ??= {
    onClose: koffi.register(
      (_connection: Pointer, reason: number, id: bigint) => {
        queueMicrotask(() => sessions.get(BigInt(id))?.lose(closeReasons[reason] ?? 'error'))
      },
      koffi.pointer(koffi.proto('void', ['void *', 'int', 'void *'])),
    ),
    domainEvents: domainEventCallbacks((id, name, event) => sessions.get(id)?.deliver(name, event)),
  }
  return callbacks
}

// Drivers without a daemon have no keep-alive and nothing to be cut off from; some have no events.
async function ifSupported<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call
  } catch (error) {
    if (isLibvirtError(error, 'NO_SUPPORT', 'ARGUMENT_UNSUPPORTED')) return undefined
    throw error
  }
}

// Closing goes on whatever happens: what is left undone dies with the connection.
async function tolerate(call: Promise<unknown>): Promise<void> {
  try {
    await call
  } catch (error) {
    if (!isLibvirtError(error)) process.emitWarning(error instanceof Error ? error : String(error))
  }
}
