// The guard's side of a process that does its I/O in a pool. It is never waited for: one that says nothing is left to hang, and
// another is tried beside it, with a pause; of those that hang there is never more than one beside the one that is tried.

import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { ChildSettings, FromChild, ToChild } from './child-protocol.ts'

const MAIN = fileURLToPath(new URL('./pool-child-main.ts', import.meta.url))
/** A child that has not opened its files by then hangs. */
const READY_MS = 10_000
const RETRY_MS = 30_000
/** After one that has ended by itself. */
const RESTART_MS = 1_000

export interface PoolChildDeps {
  readonly settings: ChildSettings
  readonly onMessage: (message: FromChild) => void
  readonly log: (text: string) => void
}

export class PoolChild {
  readonly #deps: PoolChildDeps
  /** The newest that has opened its files. */
  #ready: ChildProcess | null = null
  /** One that has not yet. */
  #trying: ChildProcess | null = null
  /** For the child that is being tried. */
  #early: ToChild[] = []
  #timer: NodeJS.Timeout | null = null
  #isClosed = false

  constructor(deps: PoolChildDeps) {
    this.#deps = deps
    this.#start()
  }

  /** What cannot be sent is lost: whoever waits for an answer has a deadline. A claim waits for a child that is about to open. */
  send(message: ToChild): void {
    if (this.#ready?.connected) this.#ready.send(message, () => {})
    else if (this.#trying && message.kind === 'claim') this.#early.push(message)
  }

  close(): void {
    this.#isClosed = true
    if (this.#timer) clearTimeout(this.#timer)
    for (const child of [this.#ready, this.#trying]) {
      if (child?.connected) child.disconnect()
      child?.unref()
    }
  }

  #start(): void {
    const child = fork(MAIN, [JSON.stringify(this.#deps.settings)], {
      execArgv: ['--disable-warning=ExperimentalWarning'],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
    this.#trying = child
    child.on('message', (message) => this.#hear(child, message as FromChild))
    child.on('error', (error) => this.#lose(child, error.message))
    child.on('exit', (code, signal) => this.#lose(child, `it ended (${signal ?? code})`))
    this.#after(READY_MS, () => this.#giveUp(child))
  }

  #hear(child: ChildProcess, message: FromChild): void {
    if (message.kind === 'ready' && child === this.#trying) {
      this.#after(null)
      this.#trying = null
      this.#ready = child
      for (const early of this.#early.splice(0)) this.send(early)
    }
    if (child === this.#ready) this.#deps.onMessage(message)
  }

  #lose(child: ChildProcess, why: string): void {
    if (this.#isClosed || (child !== this.#ready && child !== this.#trying)) return
    const { role, place } = this.#deps.settings
    this.#deps.log(`${role} of ${place.path}: ${why}`)
    if (child === this.#ready) this.#ready = null
    if (child === this.#trying) this.#trying = null
    this.#early = []
    if (!this.#trying) this.#after(RESTART_MS, () => this.#start())
  }

  /** SIGKILL ends it when the storage lets go of it, and not before. */
  #giveUp(child: ChildProcess): void {
    const { role, place } = this.#deps.settings
    this.#deps.log(`${role} of ${place.path} does not answer; another is tried every ${RETRY_MS / 1000} s`)
    this.#trying = null
    this.#early = []
    child.kill('SIGKILL')
    child.unref()
    if (child.connected) child.disconnect()
    this.#after(RETRY_MS, () => this.#start())
  }

  #after(ms: number | null, then: () => void = () => {}): void {
    if (this.#timer) clearTimeout(this.#timer)
    this.#timer = ms === null ? null : setTimeout(then, ms)
  }
}
