// The SQLite backend on a thread of its own. SQLite is synchronous, and most of a commit is the wait for the
// disk: on the event loop every other request, and every list, would wait with it.

import { Worker } from 'node:worker_threads'
import type { StreamEntry } from '@vpe/bus'
import { type ErrorCode, VpeError } from '@vpe/core'
import type { LoadedState, StoreBackend } from './backend.ts'
import { type EncodedState, RowCodec } from './sqlite-rows.ts'
import type { Change } from './tables.ts'

export type BackendMethod = PlainMethod | 'openEncoded' | 'writeEncoded'

/** Those whose arguments and results pass as they are. */
type PlainMethod = Exclude<keyof StoreBackend, 'open' | 'write'>

/** A call of a method, and its answer, as they pass between the threads. */
export interface BackendCall {
  readonly id: number
  readonly method: BackendMethod
  readonly args: unknown[]
}
export type BackendAnswer = { readonly id: number } & (
  | { readonly result: unknown }
  | { readonly error: unknown; readonly code: ErrorCode | null }
)

export class BackendThread implements StoreBackend {
  readonly #worker: Worker
  readonly #calls = new Map<number, PromiseWithResolvers<unknown>>()
  readonly #codec = new RowCodec()
  #lastId = 0
  #death: Error | null = null

  readonly readOutbox = this.#method('readOutbox')
  readonly trimOutbox = this.#method('trimOutbox')
  readonly findOperation = this.#method('findOperation')
  readonly listOperations = this.#method('listOperations')
  readonly findUserData = this.#method('findUserData')
  readonly findPlacement = this.#method('findPlacement')
  readonly findIdempotencyKey = this.#method('findIdempotencyKey')
  readonly prune = this.#method('prune')

  /** Opens or makes the file at `path`; what is wrong with it is told by the first call. */
  constructor(path: string) {
    this.#worker = new Worker(new URL('./backend-thread-main.ts', import.meta.url), { workerData: { path } })
    this.#worker.on('message', (answer: BackendAnswer) => this.#settle(answer))
    this.#worker.on('error', (error) => this.#die(error))
    this.#worker.on('exit', (code) => this.#die(new Error(`the thread of the store ended with code ${code}`)))
  }

  async open(): Promise<LoadedState> {
    return this.#codec.decodeState((await this.#call('openEncoded', [])) as EncodedState)
  }

  async write(changes: readonly Change[], events: readonly StreamEntry[]): Promise<void> {
    await this.#call('writeEncoded', [this.#codec.encodeWrite(changes, events)])
  }

  async close(): Promise<void> {
    try {
      await this.#call('close', [])
    } finally {
      await this.#worker.terminate()
    }
  }

  #method<M extends PlainMethod>(name: M): StoreBackend[M] {
    // The other thread passes the arguments on to the method of that name.
    return ((...args: unknown[]) => this.#call(name, args)) as StoreBackend[M]
  }

  #call(method: BackendMethod, args: unknown[]): Promise<unknown> {
    if (this.#death) return Promise.reject(this.#death)
    const id = ++this.#lastId
    const call = Promise.withResolvers<unknown>()
    this.#calls.set(id, call)
    this.#worker.postMessage({ id, method, args } satisfies BackendCall)
    return call.promise
  }

  #settle(answer: BackendAnswer): void {
    const call = this.#calls.get(answer.id)
    this.#calls.delete(answer.id)
    if ('result' in answer) call?.resolve(answer.result)
    else call?.reject(answer.code === null ? answer.error : revived(answer.code, answer.error))
  }

  #die(error: Error): void {
    this.#death ??= error
    for (const call of this.#calls.values()) call.reject(this.#death)
    this.#calls.clear()
  }
}

/** An error of ours loses its class on the way. */
function revived(code: ErrorCode, error: unknown): VpeError {
  return new VpeError(code, error instanceof Error ? error.message : String(error), { cause: error })
}
