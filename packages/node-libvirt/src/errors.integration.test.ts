// Every failing call gets its own error, also when many fail at once; nothing is printed on stderr.

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Connection, connect } from './connection.ts'
import { isLibvirtError } from './error.ts'
import { loadLibrary } from './library.ts'
import { NativeThread } from './native-threads.ts'

let connection: Connection

beforeAll(async () => {
  connection = await connect('test:///default', { maxConcurrentCalls: 16 })
})

afterAll(async () => {
  await connection.close()
})

test('an error carries what libvirt knows', async () => {
  const error = await connection.lookupDomainByName('nobody').catch((reason: unknown) => reason)
  expect(isLibvirtError(error)).toBe(true)
  expect(isLibvirtError(error, 'NO_DOMAIN')).toBe(true)
  expect(isLibvirtError(error, 'NO_STORAGE_POOL', 'NO_CONNECT')).toBe(false)
  expect(error).toMatchObject({
    message: 'Domain not found',
    code: 42,
    codeName: 'NO_DOMAIN',
    domainName: 'TEST',
    level: 'error',
    call: 'virDomainLookupByName',
  })
})

// 960 failing calls, 16 at a time, of four kinds whose messages name what was asked for.
test('calls that fail at the same time do not mix up their errors', async () => {
  const kinds = [
    (n: number) => ({ call: connection.lookupVolumeByKey(`key-${n}`), text: `key-${n}` }),
    (n: number) => ({ call: connection.lookupStoragePoolByName(`pool-${n}`), text: `pool-${n}` }),
    (n: number) => ({ call: connection.defineStoragePool(`<pool type='kind-${n}'/>`), text: `kind-${n}` }),
    (n: number) => ({ call: connection.lookupVolumeByPath(`/path-${n}`), text: `/path-${n}` }),
  ]
  const attempts = Array.from({ length: 240 }, (_, n) => kinds.map((kind) => kind(n))).flat()
  const outcomes = await Promise.all(
    attempts.map(async ({ call, text }) => {
      const error = await call.catch((reason: unknown) => reason)
      return isLibvirtError(error) && new RegExp(`${text}(?!\\d)`).test(error.message)
    }),
  )
  expect(outcomes.filter((isOwn) => !isOwn)).toEqual([])
})

test('failing calls among succeeding ones fail alone', async () => {
  const outcomes = await Promise.allSettled(
    Array.from({ length: 400 }, (_, n) => connection.lookupDomainByName(n % 2 === 0 ? 'test' : 'nobody')),
  )
  expect(outcomes.map(({ status }) => status)).toEqual(
    Array.from({ length: 400 }, (_, n) => (n % 2 === 0 ? 'fulfilled' : 'rejected')),
  )
})

test('a connection that cannot be opened says why', async () => {
  await expect(connect('test:///nonexistent.xml')).rejects.toMatchObject({
    codeName: 'XML_ERROR',
    call: 'virConnectOpen',
  })
  const socket = '/nonexistent/libvirt-sock'
  const message = `Failed to connect socket to '${socket}': No such file or directory`
  await expect(connect(`qemu:///system?socket=${socket}`)).rejects.toMatchObject({
    codeName: 'SYSTEM_ERROR',
    message,
    int1: 2,
  })
})

test('a read-only connection changes nothing', async () => {
  await using readOnly = await connect('test:///default', { readOnly: true })
  const domain = await readOnly.lookupDomainByName('test')
  await expect(domain.destroy()).rejects.toMatchObject({ codeName: 'OPERATION_DENIED' })
})

test('a function the installed libvirt does not have is named', async () => {
  const thread = new NativeThread()
  await expect(thread.callSymbol('virDomainTeleport', ['int', 'void *'], [null])).rejects.toMatchObject({
    codeName: 'NO_SUPPORT',
    message: 'the installed libvirt.so.0 has no function virDomainTeleport: it is too old for it',
  })
  await thread.dismiss()
})

test('a missing library is explained', () => {
  const load = () => loadLibrary('libvirt-that-is-not-there.so.0')
  expect(load).toThrow(/apt-get install libvirt0/)
  expect(load).toThrow(expect.objectContaining({ code: 'ERR_LIBVIRT_MISSING' }))
})

test('libvirt itself prints nothing', async () => {
  const program = `
    import { connect } from ${JSON.stringify(import.meta.resolve('./index.ts'))}
    await connect('nonsense:///').catch(() => {})
    const connection = await connect('test:///default')
    await connection.lookupDomainByName('nobody').catch(() => {})
    await connection.close()`
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [
    '--input-type=module',
    '--eval',
    program,
  ])
  expect(stdout + stderr).toBe('')
})
