import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { VpeError } from '@vpe/core'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { BackendThread } from './backend-thread.ts'
import { change } from './tables.ts'

let dir: string
let backend: BackendThread

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'vpe-store-'))
  backend = new BackendThread(join(dir, 'controller.sqlite'))
})
afterEach(async () => {
  await backend.close().catch(() => {})
  rmSync(dir, { recursive: true, force: true })
})

const key = {
  key: 'k',
  method: 'm',
  requestSha256: '00',
  response: Buffer.from([0, 255, 7]),
  createdAtMs: 1,
}

test('what is written is there for the next call, and for the next opening', async () => {
  expect(await backend.open()).toMatchObject({ epoch: 1, lastPosition: 0 })
  const event = { kind: 'instance' as const, id: 'i', what: 'created', data: { deep: { list: [1, null] } } }
  const entry = { position: 1, atMs: 5, event }
  const written = backend.write([change.idempotencyKey(key)], [entry])
  expect(await backend.findIdempotencyKey('k')).toEqual({ ...key, response: new Uint8Array(key.response) })
  await written
  await backend.close()

  backend = new BackendThread(join(dir, 'controller.sqlite'))
  expect(await backend.open()).toMatchObject({ epoch: 2, lastPosition: 1 })
  expect(await backend.readOutbox(0, 10)).toEqual([entry])
})

test('a refusal keeps its code, and what comes after it goes on', async () => {
  await backend.open()
  const usurper = new BackendThread(join(dir, 'controller.sqlite'))
  await usurper.open()
  const refused = await backend.write([], []).catch((error: unknown) => error)
  expect(refused).toBeInstanceOf(VpeError)
  expect(refused).toMatchObject({ code: 'STALE_EPOCH', message: expect.stringContaining('epoch 2') })
  expect(await backend.findPlacement('none')).toBeNull()
  await usurper.close()
})

test('a file that is no database is told by the first call', async () => {
  const none = new BackendThread(dir)
  await expect(none.open()).rejects.toThrow('unable to open database file')
  await expect(none.close()).rejects.toThrow('unable to open database file')
})

test('calls after the end of the thread fail, rather than wait', async () => {
  await backend.open()
  await backend.close()
  await expect(backend.findPlacement('none')).rejects.toThrow('ended')
})
