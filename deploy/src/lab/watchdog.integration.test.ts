// A watchdog as a guard meets it: over its socket.

import { mkdtempSync, rmSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { waitUntil } from '../wait-until.ts'
import { Watchdog } from './watchdog.ts'

let folder: string
let resets: string[]
let watchdogs: Watchdog[]
let sockets: Socket[]

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vpe-watchdog-'))
  resets = []
  watchdogs = []
  sockets = []
})
afterEach(() => {
  for (const socket of sockets) socket.destroy()
  for (const watchdog of watchdogs) watchdog.close()
  rmSync(folder, { recursive: true })
})

/** A host's watchdog; what it resets is the boot, which is named like the host. */
async function watchdogOf(host: string, { isOn = true } = {}): Promise<void> {
  const reset = (boot: string) => void resets.push(boot)
  const watchdog = new Watchdog({ bootId: () => (isOn ? host : undefined), reset, log: () => {} })
  watchdogs.push(watchdog)
  await watchdog.listen(join(folder, host))
}

/** Opens it, and returns what it answered; empty when it closed the connection. */
async function open(host: string, timeoutMs: number): Promise<{ socket: Socket; answer: string }> {
  const socket = connect(join(folder, host))
  sockets.push(socket)
  const { promise, resolve } = Promise.withResolvers<string>()
  socket.on('data', (data) => resolve(data.toString('latin1')))
  socket.on('close', () => resolve(''))
  socket.write(`open ${timeoutMs}\n`)
  return { socket, answer: await promise }
}

const isReset = (host: string) =>
  waitUntil(() => (resets.includes(host) ? undefined : `reset: ${resets}`), {
    what: `the reset of ${host}`,
    timeoutMs: 100_000,
    everyMs: 10,
  })

test('who is not petted is reset, once; who is petted, disarmed, taken over or never opened is not', async () => {
  for (const host of ['petted', 'disarmed', 'taken-over', 'never-opened', 'neglected']) await watchdogOf(host)
  const { socket: petted, answer } = await open('petted', 10_000)
  expect(answer).toBe('timeout 10000\n')
  const petting = setInterval(() => petted.write('pet\n'), 50)
  const { socket: disarmed } = await open('disarmed', 10_000)
  disarmed.write('disarm\n')
  const { socket: former } = await open('taken-over', 10_000)
  former.destroy()
  await open('taken-over', 100_000)

  await open('neglected', 20_000)
  await isReset('neglected')
  expect(resets).toEqual(['neglected'])
  clearInterval(petting)
  await isReset('petted')
  expect(resets).toEqual(['neglected', 'petted'])
})

test('a guard that ends without a word is followed by a reset', async () => {
  await watchdogOf('host')
  const { socket } = await open('host', 1_000)
  socket.destroy()
  await isReset('host')
})

test('it may be had for no less than a second, by no host that is off, and by nobody who talks nonsense', async () => {
  await watchdogOf('host')
  await watchdogOf('off', { isOn: false })
  expect((await open('host', 1)).answer).toBe('timeout 1000\n')
  expect((await open('off', 1_000)).answer).toBe('')
  const { socket, answer } = await open('host', 100_000)
  expect(answer).toBe('timeout 100000\n')
  const closed = new Promise((resolve) => socket.once('close', resolve))
  socket.write('please\n')
  await closed
})
