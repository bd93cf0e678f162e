// The process as supervisors see it: started by its command, over a real gRPC server.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { VpeError } from '@vpe/core'
import { ControllerServiceDefinition, createRpcServer } from '@vpe/proto'
import { afterEach, expect, test } from 'vitest'
import { createFakeController, type FakeController } from './fake-controller.ts'

const MAIN = fileURLToPath(new URL('main.ts', import.meta.url))

const cleanups: (() => unknown)[] = []

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function startController(): Promise<{ controller: FakeController; address: string; stop: () => void }> {
  const controller = createFakeController()
  const rpc = createRpcServer(() => {})
  // The fake's methods take (request, options with metadata and signal), which a call's context has too.
  rpc.add(ControllerServiceDefinition, controller)
  const port = await rpc.listen('127.0.0.1:0')
  const stop = () => rpc.forceShutdown()
  cleanups.push(stop)
  return { controller, address: `127.0.0.1:${port}`, stop }
}

function startMain(environment: Record<string, string>): ChildProcess {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', MAIN], {
    env: { PATH: process.env.PATH ?? '', VPE_API_LISTEN: '127.0.0.1:0', ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  cleanups.push(() => child.kill('SIGKILL'))
  return child
}

async function startApi(controllerAddress: string) {
  const child = startMain({ VPE_CONTROLLER_ADDRESS: controllerAddress })
  const lines: Record<string, unknown>[] = []
  if (!child.stdout) throw new Error('no stdout')
  createInterface({ input: child.stdout }).on('line', (line) => lines.push(JSON.parse(line)))
  await expect.poll(() => lines.find((line) => line.msg === 'listening')).toBeDefined()
  const port = lines.find((line) => line.msg === 'listening')?.port
  return { child, lines, url: `http://127.0.0.1:${port}` }
}

test('serves, tells readiness, and ends with 0 on SIGTERM', async () => {
  const { controller, address, stop } = await startController()
  const { child, lines, url } = await startApi(address)

  expect((await fetch(`${url}/healthz`)).status).toBe(200)
  expect(await (await fetch(`${url}/readyz`)).json()).toEqual({ ready: true, reasons: [] })

  const body = JSON.stringify({ flavor: { name: 'f', vcpus: 1, memory_mib: 64 } })
  const init = {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/json', 'idempotency-key': 'a, b; c' },
  }
  const created = await fetch(`${url}/flavors`, init)
  expect(created.status).toBe(200)
  expect(created.headers.get('operation-id')).toMatch(/^[0-9a-f-]{36}$/)
  expect(await (await fetch(`${url}/flavors`, init)).json()).toEqual(await created.json())
  expect(controller.calls.at(-1)?.idempotencyKey).toBe('a, b; c')

  const unknown = await fetch(`${url}/instances`, {
    method: 'POST',
    body: JSON.stringify({ instance: { name: 'vm', flavor_uuid: 'f', image_uuid: 'nothing' } }),
    headers: { 'content-type': 'application/json' },
  })
  expect(unknown.status).toBe(400)
  expect(await unknown.json()).toMatchObject({
    code: 'INVALID_ARGUMENT',
    errors: [{ field: 'instance.image_uuid', message: 'there is no image nothing' }],
  })

  stop()
  await expect.poll(async () => (await fetch(`${url}/readyz`)).status).toBe(503)
  const silent = await fetch(`${url}/flavors`)
  expect(silent.status).toBe(503)
  expect(silent.headers.get('retry-after')).toBe('1')
  expect(await silent.json()).toMatchObject({ code: 'UNAVAILABLE', detail: 'the controller does not answer' })

  child.kill('SIGTERM')
  expect(await once(child, 'exit')).toEqual([0, null])
  await expect.poll(() => lines.at(-1), { timeout: 30_000 }).toMatchObject({ msg: 'stopped' })
})

test('a wait under way ends when the process is told to stop', async () => {
  const { controller, address } = await startController()
  const { child, url } = await startApi(address)
  const { operationUuid } = await controller.createImage({ name: 'i', url: 'file:///i' })
  const waiting = fetch(`${url}/operations/${operationUuid}?wait=60s`)
  await expect.poll(() => controller.calls.at(-1)?.method).toBe('getOperation')
  child.kill('SIGTERM')
  expect((await waiting).status).toBe(503)
  expect(await once(child, 'exit')).toEqual([0, null])
})

test.each([
  [{ VPE_API_LISTEN: '0.0.0.0:8080' }, /^vpe-api: VPE_API_LISTEN=0\.0\.0\.0:8080: .*loopback/],
  [{ VPE_LOG_LEVEL: 'loud' }, /^vpe-api: VPE_LOG_LEVEL=loud: expected/],
])('refuses to start with %j', async (environment, message) => {
  const child = startMain(environment)
  let stderr = ''
  child.stderr?.on('data', (chunk) => {
    stderr += chunk
  })
  const [code] = await once(child, 'close')
  expect(code).toBe(2)
  expect(stderr).toMatch(message)
})

test('a port that is taken ends it with 1', async () => {
  const { address } = await startController()
  const { url } = await startApi(address)
  const child = startMain({ VPE_API_LISTEN: url.replace('http://', '') })
  let stdout = ''
  child.stdout?.on('data', (chunk) => {
    stdout += chunk
  })
  expect((await once(child, 'close'))[0]).toBe(1)
  expect(stdout).toMatch(/EADDRINUSE/)
})

test('errors survive the wire', async () => {
  const { controller, address } = await startController()
  const { url } = await startApi(address)
  controller.failures.set('listHosts', new VpeError('IN_USE', 'used'))
  expect(await (await fetch(`${url}/hosts`)).json()).toMatchObject({ code: 'IN_USE', detail: 'used' })
  controller.failures.set('listHosts', new VpeError('UNAVAILABLE', 'the store is opening'))
  expect(await (await fetch(`${url}/hosts`)).json()).toMatchObject({
    code: 'UNAVAILABLE',
    detail: 'the store is opening',
  })
})
