// Asks each host's libvirt all the time which guests run there.

import { setTimeout as sleep } from 'node:timers/promises'
import type { HostMachine } from '@vpe/deploy/lab/host-machine'
import type { Lab } from '@vpe/deploy/lab/lab'
import { type Connection, connect, isLibvirtError } from '@vpe/node-libvirt'
import { Runs } from './runs.ts'

const EVERY_MS = 200

export class DomainWatch {
  readonly #ended = new AbortController()
  readonly #loops: readonly Promise<void>[]
  readonly runs = new Runs()

  /** @param onLook is called after each look */
  constructor(lab: Lab, onLook: () => void = () => {}) {
    this.#loops = lab.hosts.map((host) => this.#watch(host, onLook))
    // Until the end nobody waits for them; then whatever it was is thrown.
    for (const loop of this.#loops) loop.catch(() => {})
  }

  /** Ends the looking. @throws whatever made a look fail that was not libvirt's */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended.abort()
    await Promise.all(this.#loops)
  }

  async #watch(host: HostMachine, onLook: () => void): Promise<void> {
    let uri: string | undefined
    let connection: Connection | undefined
    const drop = () => {
      connection?.close().catch(unlessLibvirt)
      connection = undefined
    }
    while (!this.#ended.signal.aborted) {
      const next = host.libvirtUri()
      if (next !== uri) drop()
      uri = next
      const fromMs = performance.now()
      try {
        connection ??= uri ? await connect(uri, { readOnly: true, reconnect: false }) : undefined
        const domains = (await connection?.listDomains({ running: true })) ?? []
        this.runs.note(host.name, new Set(domains.map(({ uuid }) => uuid)), fromMs, performance.now())
      } catch (error) {
        unlessLibvirt(error)
        drop()
        this.runs.note(host.name, new Set(), fromMs, performance.now())
      }
      onLook()
      await sleep(EVERY_MS, undefined, { signal: this.#ended.signal }).catch(() => {})
    }
    drop()
  }
}

function unlessLibvirt(error: unknown): void {
  if (!isLibvirtError(error)) throw error
}
