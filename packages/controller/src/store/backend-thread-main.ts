// The other side of backend-thread.ts: one call after the other, as SQLite has it.

import { parentPort, workerData } from 'node:worker_threads'
import { VpeError } from '@vpe/core'
import type { BackendAnswer, BackendCall, BackendMethod } from './backend-thread.ts'
import { SqliteBackend } from './sqlite-backend.ts'

if (!parentPort) throw new Error('this file is a thread of backend-thread.ts')
const port = parentPort

let backend: SqliteBackend | undefined

port.on('message', async ({ id, method, args }: BackendCall) => {
  port.postMessage(await answer(id, method, args))
})

async function answer(id: number, method: BackendMethod, args: unknown[]): Promise<BackendAnswer> {
  try {
    backend ??= new SqliteBackend(workerData.path)
    const call = backend[method] as (...args: unknown[]) => Promise<unknown>
    return { id, result: await call.apply(backend, args) }
  } catch (error) {
    return { id, error, code: error instanceof VpeError ? error.code : null }
  }
}
