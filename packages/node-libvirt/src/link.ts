// The way to libvirt behind a Connection and its handles: the current session, another when it is lost, and
// a bound on how many calls run at once.

import { setTimeout as delay } from 'node:timers/promises'
import { LibvirtError, ownError } from './error.ts'
import { errorCodes } from './error-codes.ts'
import { holdEventLoop, releaseEventLoop } from './event-loop.ts'
import type { Pointer } from './native-functions.ts'
import { type Call, type CloseReason, Session, type SessionOptions } from './session.ts'

export interface LinkOptions extends Omit<SessionOptions, 'onLost'> {
  /** undefined: a lost connection stays lost. */
  readonly reconnect: { readonly initialDelayMs: number; readonly maxDelayMs: number } | undefined
  readonly maxConcurrentCalls: number
  readonly onDisconnected: (reason: CloseReason) => void
  readonly onConnected: () => void
}

export class Link {
  readonly #options: LinkOptions
  readonly #stopping = new AbortController()
  readonly #turns: (() => void)[] = []
  #callsRunning = 0
  #session: Session | undefined
  #lossCause: unknown
  // The reconnecting and the closing of lost sessions that go on by themselves.
  #settling: Promise<unknown> = Promise.resolve()
  #closing: Promise<void> | undefined

  private constructor(options: LinkOptions) {
    this.#options = options
  }

  /** Opens the first session. Rejects with a LibvirtError, having left nothing behind. */
  static async open(options: LinkOptions): Promise<Link> {
    holdEventLoop()
    const link = new Link(options)
    try {
      await link.#openSession()
      return link
    } catch (error) {
      await releaseEventLoop()
      throw error
    }
  }

  get uri(): string {
    return this.#options.uri
  }

  get isConnected(): boolean {
    return this.#session !== undefined
  }

  /**
   * Runs `work`, one or more calls in a row on the same connection, as soon as fewer than
   * `maxConcurrentCalls` others run. Rejects at once with NO_CONNECT while there is no connection and with
   * INVALID_CONN after close().
   */
  async use<T>(work: (call: Call, connection: Pointer) => Promise<T>): Promise<T> {
    this.#currentSession()
    await this.#takeTurn()
    try {
      return await this.#currentSession().use(work)
    } finally {
      this.#passTurn()
    }
  }

  /** Refuses further calls, waits for those under way, then closes. Every call gets the same promise. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    this.#stopping.abort()
    await this.#settling
    const session = this.#session
    this.#session = undefined
    await session?.close()
    await releaseEventLoop()
  }

  #currentSession(): Session {
    if (this.#closing !== undefined) throw ownError('INVALID_CONN', `the connection to ${this.uri} is closed`)
    if (this.#session !== undefined) return this.#session
    const message = `not connected to ${this.uri}`
    throw new LibvirtError({ code: errorCodes.NO_CONNECT, domain: 0, level: 2, message }, undefined, {
      cause: this.#lossCause,
    })
  }

  async #openSession(): Promise<void> {
    const session = await Session.open({
      ...this.#options,
      onLost: (lost, reason) => this.#onLost(lost, reason),
    })
    if (!session.isLost) {
      // At once, for a loss is only noticed of the current session.
      this.#session = session
      return
    }
    await session.close()
    throw ownError('NO_CONNECT', `the connection to ${this.uri} was lost while it was being set up`)
  }

  #onLost(session: Session, reason: CloseReason): void {
    if (session !== this.#session) return
    this.#session = undefined
    this.#lossCause = new Error(`libvirt closed the connection: ${reason}`)
    this.#settling = Promise.all([this.#settling, session.close(), this.#reconnect()])
    // What a listener throws must not be taken for a failure of the call or attempt that led here.
    queueMicrotask(() => this.#options.onDisconnected(reason))
  }

  async #reconnect(): Promise<void> {
    const { reconnect } = this.#options
    if (reconnect === undefined) return
    for (let delayMs = reconnect.initialDelayMs; ; delayMs = Math.min(delayMs * 2, reconnect.maxDelayMs)) {
      try {
        await delay(delayMs, undefined, { signal: this.#stopping.signal })
      } catch {
        return
      }
      try {
        await this.#openSession()
        if (!this.#stopping.signal.aborted) queueMicrotask(() => this.#options.onConnected())
        return
      } catch (cause) {
        this.#lossCause = cause
      }
    }
  }

  async #takeTurn(): Promise<void> {
    if (this.#callsRunning < this.#options.maxConcurrentCalls) {
      this.#callsRunning++
      return
    }
    await new Promise<void>((resolve) => this.#turns.push(resolve))
  }

  // A turn is passed on, not given back, when somebody waits for it.
  #passTurn(): void {
    const next = this.#turns.shift()
    if (next !== undefined) next()
    else this.#callsRunning--
  }
}
