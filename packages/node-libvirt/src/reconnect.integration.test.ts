// A connection survives its libvirtd: the handles stay usable, events come again, calls fail at once in between.

import { once } from 'node:events'
import { readdirSync, readlinkSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { connect } from './connection.ts'
import type { LifecycleEvent } from './domain-events.ts'
import { eventually } from './test-support/eventually.ts'
import { PrivateLibvirtd } from './test-support/private-libvirtd.ts'
import { testDomainXml } from './test-support/xml.ts'

let daemon: PrivateLibvirtd

beforeAll(async () => {
  daemon = await PrivateLibvirtd.start()
})

afterAll(async () => {
  await daemon[Symbol.asyncDispose]()
})

test('a killed libvirtd is noticed, and come back to', async () => {
  await using connection = await connect(daemon.testUri, {
    reconnect: { initialDelayMs: 20, maxDelayMs: 100 },
  })
  const domain = await connection.lookupDomainByName('test')
  const disconnected = once(connection, 'disconnected')
  await daemon.killDaemon()
  expect(await disconnected).toEqual([{ reason: 'eof' }])
  expect(connection.isConnected).toBe(false)
  await expect(domain.state()).rejects.toMatchObject({
    name: 'LibvirtError',
    codeName: 'NO_CONNECT',
    call: undefined,
  })

  const connected = once(connection, 'connected')
  await daemon.startDaemon()
  await connected
  expect(connection.isConnected).toBe(true)
  // The handle is from before; the test driver's domain has the same uuid every time.
  expect(await domain.state()).toMatchObject({ state: 'running' })
  const lifecycle = once(connection, 'lifecycle')
  await domain.destroy()
  const [event] = (await lifecycle) as [LifecycleEvent]
  expect(event).toEqual({
    domain: { uuid: domain.uuid, name: 'test' },
    event: 'stopped',
    detail: 'destroyed',
  })
})

test('ten restarts leave no socket behind', async () => {
  await using connection = await connect(daemon.testUri, { reconnect: { initialDelayMs: 5, maxDelayMs: 20 } })
  await connection.listDomains()
  const socketsBefore = openSockets()
  for (let restart = 0; restart < 10; restart++) {
    const connected = once(connection, 'connected')
    await daemon.killDaemon()
    await daemon.startDaemon()
    await connected
    await connection.listDomains()
  }
  await eventually(() => openSockets() <= socketsBefore, 'lost sockets are closed')
})

test('calls under way when libvirtd dies are told that their outcome is unknown', async () => {
  await using connection = await connect(daemon.testUri, { reconnect: false })
  daemon.pauseDaemon()
  const calls = [
    connection.defineDomain(testDomainXml('a')),
    connection.hostname(),
    connection.listDomains(),
    connection.capabilities(),
    // The fifth waits for its turn and is never made.
    connection.nodeInfo(),
  ].map((call) => call.catch((error: unknown) => error))
  await delay(100)
  await daemon.killDaemon()
  const errors = await Promise.all(calls)
  expect(errors).toMatchObject([
    { codeName: 'NO_CONNECT', call: 'virDomainDefineXMLFlags' },
    { codeName: 'NO_CONNECT', call: 'virConnectGetHostname' },
    { codeName: 'NO_CONNECT', call: 'virConnectListAllDomains' },
    { codeName: 'NO_CONNECT', call: 'virConnectGetCapabilities' },
    { codeName: 'NO_CONNECT', call: undefined },
  ])
  await daemon.startDaemon()
})

test('a silent libvirtd is given up by keep-alive', async () => {
  await using connection = await connect(daemon.testUri, {
    keepAlive: { intervalSeconds: 1, count: 1 },
    reconnect: { initialDelayMs: 20, maxDelayMs: 100 },
  })
  const disconnected = once(connection, 'disconnected')
  daemon.pauseDaemon()
  expect(await disconnected).toEqual([{ reason: 'keepalive' }])
  const connected = once(connection, 'connected')
  daemon.resumeDaemon()
  await connected
  expect(await connection.hostname()).not.toBe('')
})

test('closing waits for calls under way and refuses new ones', async () => {
  const connection = await connect(daemon.testUri)
  const calls = Array.from({ length: 8 }, () => connection.capabilities())
  await Promise.all(calls.slice(0, 1))
  const outcomes = Promise.allSettled(calls)
  await connection.close()
  const settled = await outcomes
  // Every call either ran to its end or was refused before it began.
  for (const outcome of settled) {
    if (outcome.status === 'rejected')
      expect(outcome.reason).toMatchObject({ codeName: 'INVALID_CONN', call: undefined })
  }
  await expect(connection.hostname()).rejects.toMatchObject({ codeName: 'INVALID_CONN' })
  await connection.close()
})

test('a connection can be closed while it is lost', async () => {
  const connection = await connect(daemon.testUri, { reconnect: { initialDelayMs: 10, maxDelayMs: 10 } })
  const disconnected = once(connection, 'disconnected')
  await daemon.killDaemon()
  await disconnected
  await connection.close()
  await daemon.startDaemon()
})

// Threads that came up meanwhile have files of their own open, but no sockets.
function openSockets(): number {
  return readdirSync('/proc/self/fd').filter((fd) => linkTarget(fd).startsWith('socket:')).length
}

function linkTarget(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    return ''
  }
}
