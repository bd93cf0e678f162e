// The parent's side of hosts-main.ts.

import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { HostSummary } from './simulated-hosts.ts'

export type HostsCall =
  | {
      readonly what: 'start'
      readonly natsUrl: string
      readonly count: number
      readonly size: { readonly cpus: number; readonly memoryMib: number }
      readonly ip: string
    }
  | { readonly what: 'vanish'; readonly count: number }
  | { readonly what: 'comeBack' | 'inventoriesRead' | 'resetInventoriesRead' | 'domains' }

export class HostsProcess {
  readonly #child: ChildProcess
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>()
  #lastId = 0

  constructor() {
    this.#child = fork(join(import.meta.dirname, 'hosts-main.ts'), [], {
      execArgv: ['--disable-warning=ExperimentalWarning'],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    this.#child.on('message', ({ id, result }: { id: number; result: unknown }) => {
      this.#waiting.get(id)?.resolve(result)
      this.#waiting.delete(id)
    })
    this.#child.on('exit', (code, signal) => {
      const error = new Error(`a process of simulated hosts ended (${code ?? signal})`)
      for (const { reject } of this.#waiting.values()) reject(error)
      this.#waiting.clear()
    })
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  start(call: Omit<Extract<HostsCall, { what: 'start' }>, 'what'>): Promise<HostSummary[]> {
    return this.#call({ what: 'start', ...call }) as Promise<HostSummary[]>
  }

  async vanish(count: number): Promise<void> {
    await this.#call({ what: 'vanish', count })
  }

  async comeBack(): Promise<void> {
    await this.#call({ what: 'comeBack' })
  }

  async resetInventoriesRead(): Promise<void> {
    await this.#call({ what: 'resetInventoriesRead' })
  }

  inventoriesRead(): Promise<{ readonly total: number; readonly hosts: number }> {
    return this.#call({ what: 'inventoriesRead' }) as Promise<{ total: number; hosts: number }>
  }

  domains(): Promise<Record<string, string[]>> {
    return this.#call({ what: 'domains' }) as Promise<Record<string, string[]>>
  }

  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const ended = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await ended
  }

  #call(call: HostsCall): Promise<unknown> {
    const id = ++this.#lastId
    const waiting = Promise.withResolvers<unknown>()
    this.#waiting.set(id, waiting)
    this.#child.send({ id, call })
    return waiting.promise
  }
}
