// What a pool's folder must be before anything is said of it, and what holds when several hosts have it: workers of
// two hosts, for real, on one folder.

import { randomUUID } from 'node:crypto'
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { systemClock } from '../clock.ts'
import { markedPool } from '../testing/marked-pool.ts'
import { MARKER_FILE } from './pool-files.ts'
import type { PoolArguments, PoolOperation } from './pool-protocol.ts'
import { PoolWorkers } from './pool-workers.ts'

const MIB = 1024 ** 2

let dir: string
let path: string
let hosts: [PoolWorkers, PoolWorkers]
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'vpe-shared-'))
  path = join(dir, 'pool')
  mkdirSync(path)
  const make = () =>
    new PoolWorkers({
      hostId: randomUUID(),
      imageDirs: [dir],
      imageBytesMax: 2 ** 40,
      clock: systemClock,
      log: pino({ level: 'silent' }),
    })
  hosts = [make(), make()]
})
afterEach(() => {
  for (const workers of hosts) workers.close()
  rmSync(dir, { recursive: true, force: true })
})

const inPool = () => readdirSync(path).filter((name) => name !== MARKER_FILE)
const check = (host: 0 | 1, pool: { uuid: string; path: string; marker?: string }, proposedMarker = '') =>
  hosts[host].request(pool, 'check', { proposedMarker })

describe('a folder', () => {
  test('is marked once, by the first; the second host finds that', async () => {
    const pool = { uuid: randomUUID(), path }
    await expect(check(0, pool)).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    expect(await check(0, pool, 'first')).toMatchObject({ marker: 'first' })
    expect(await check(1, pool, 'second')).toMatchObject({ marker: 'first' })
    expect(await check(1, { ...pool, marker: 'first' })).toMatchObject({ marker: 'first' })
    const text = JSON.parse(readFileSync(join(path, MARKER_FILE), 'utf8'))
    expect(text).toEqual({ pool: pool.uuid, marker: 'first', made_at: expect.any(String) })
    expect(inPool()).toEqual([])
  })

  test('of another pool is refused, marked or not', async () => {
    const other = markedPool(path)
    const message = expect.stringContaining(other.uuid)
    const pool = { uuid: randomUUID(), path }
    await expect(check(0, pool, 'mine')).rejects.toMatchObject({ code: 'DISK_POOL_FAILED', message })
    await hosts[0].request(pool, 'remove-marker', {})
    expect(await check(1, other)).toMatchObject({ marker: other.marker })
    await hosts[1].request(other, 'remove-marker', {})
    expect(await check(0, pool, 'mine')).toMatchObject({ marker: 'mine' })
  })

  const ids = {
    uuid: randomUUID(),
    instanceUuid: randomUUID(),
    diskUuid: randomUUID(),
    snapshotUuid: randomUUID(),
  }
  const ASKED: { [O in PoolOperation]?: PoolArguments<O> } = {
    'find-image': { uuid: ids.uuid },
    'remove-image': { uuid: ids.uuid },
    'import-image': { uuid: ids.uuid, url: 'file:///nowhere', sha256: '' },
    'write-image-part': { uuid: ids.uuid, upload: 1, offset: 0, data: new Uint8Array(1) },
    'find-system-disk': { instanceUuid: ids.instanceUuid },
    'make-system-disk': {
      instanceUuid: ids.instanceUuid,
      imageUuid: ids.uuid,
      kind: 'overlay',
      diskBytes: 0,
    },
    'remove-system-disk': { instanceUuid: ids.instanceUuid },
    'make-seed': { instanceUuid: ids.instanceUuid, hostname: 'a', sshKeys: [], userData: '' },
    'remove-snapshot': { instanceUuid: ids.instanceUuid, snapshotUuid: ids.snapshotUuid },
    'make-data-disk': { diskUuid: ids.diskUuid, sizeBytes: MIB },
    'remove-data-disk': { diskUuid: ids.diskUuid },
    'list-files': {},
    'remove-file': { name: `disk-${ids.diskUuid}.raw`, checkOnly: false },
  }

  test.each(Object.entries(ASKED))(
    'that is not the pool is never the answer to %s',
    async (operation, args) => {
      const pool = { uuid: randomUUID(), path, marker: randomUUID() }
      const ask = () => hosts[0].request(pool, operation as 'find-image', args as PoolArguments<'find-image'>)
      await expect(ask()).rejects.toMatchObject({
        code: 'DISK_POOL_FAILED',
        message: expect.stringContaining('is it mounted?'),
      })
      markedPool(path, pool.uuid)
      await expect(ask()).rejects.toMatchObject({
        code: 'DISK_POOL_FAILED',
        message: expect.stringContaining('is the right one mounted?'),
      })
      expect(inPool()).toEqual([])
    },
  )

  test('whose marker is damaged is not marked anew', async () => {
    writeFileSync(join(path, MARKER_FILE), '{')
    await expect(check(0, { uuid: randomUUID(), path }, 'm')).rejects.toMatchObject({
      code: 'DISK_POOL_FAILED',
    })
    expect(readFileSync(join(path, MARKER_FILE), 'utf8')).toBe('{')
  })
})

describe('an image that two hosts want at once', () => {
  async function served(test: (url: string, requests: () => number, send: () => void) => Promise<void>) {
    const maySend = Promise.withResolvers<void>()
    let requests = 0
    const server = createServer(async (_request, response) => {
      requests++
      await maySend.promise
      response.end(Buffer.alloc(MIB, 1))
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    try {
      const { port } = server.address() as AddressInfo
      await test(`http://127.0.0.1:${port}/a.raw`, () => requests, maySend.resolve)
    } finally {
      server.closeAllConnections()
      server.close()
    }
  }

  test('is read once, and both have it', () =>
    served(async (url, requests, send) => {
      const pool = markedPool(path)
      const image = { uuid: randomUUID(), url, sha256: '' }
      const waits = Promise.withResolvers<void>()
      const first = hosts[0].request(pool, 'import-image', image)
      await expect.poll(requests, { timeout: 60_000 }).toBe(1)
      const second = hosts[1].request(pool, 'import-image', image, { onProgress: () => waits.resolve() })
      // It has seen that somebody is at it.
      await waits.promise
      send()
      expect(await second).toEqual(await first)
      expect(requests()).toBe(1)
      expect(inPool().sort()).toEqual([`image-${image.uuid}.json`, `image-${image.uuid}.raw`])
    }))

  test('is brought in by the second when the first gives up', () =>
    served(async (url, requests, send) => {
      const pool = markedPool(path)
      const image = { uuid: randomUUID(), url, sha256: '' }
      const waits = Promise.withResolvers<void>()
      const abort = new AbortController()
      const first = hosts[0]
        .request(pool, 'import-image', image, { signal: abort.signal })
        .catch(() => 'given up')
      await expect.poll(requests, { timeout: 60_000 }).toBe(1)
      const second = hosts[1].request(pool, 'import-image', image, { onProgress: () => waits.resolve() })
      await waits.promise
      abort.abort()
      expect(await first).toBe('given up')
      await expect.poll(requests, { timeout: 60_000 }).toBe(2)
      send()
      expect(await second).toMatchObject({ sizeBytes: MIB })
    }))
})

describe('files that nobody owns', () => {
  test('are told by their names; those of others are only counted', async () => {
    const pool = markedPool(path)
    const [a, b, c] = [randomUUID(), randomUUID(), randomUUID()]
    const ours: [string, string, string][] = [
      [`instance-${a}.qcow2`, 'system-disk', a],
      [`instance-${a}.seed.iso`, 'seed', a],
      [`disk-${b}.raw`, 'data-disk', b],
      [`image-${c}.qcow2`, 'image', c],
      [`image-${c}.json`, 'image', c],
      [`image-${c}.part`, 'part', c],
      [`image-${c}.${a}.1.2.tmp`, 'part', c],
    ]
    for (const [name] of ours) writeFileSync(join(path, name), 'x')
    for (const name of ['notes.txt', `disk-${b}.raw.bak`, 'image-x.raw']) writeFileSync(join(path, name), 'x')
    mkdirSync(join(path, `disk-${c}.raw`))
    const { files, foreign } = await hosts[0].request(pool, 'list-files', {})
    expect(files.map(({ name, kind, ownerUuid }) => [name, kind, ownerUuid]).sort()).toEqual(ours.sort())
    expect(foreign).toBe(4)
  })

  test('go when asked for, unless somebody has them open or a disk lies on them', async () => {
    const pool = markedPool(path)
    const name = `disk-${randomUUID()}.raw`
    const remove = (name: string, checkOnly = false) =>
      hosts[0].request(pool, 'remove-file', { name, checkOnly })
    writeFileSync(join(path, name), 'x')
    const fd = openSync(join(path, name), 'r')
    try {
      await expect(remove(name, true)).rejects.toMatchObject({
        code: 'IN_USE',
        message: expect.stringContaining(`process ${process.pid}`),
      })
    } finally {
      closeSync(fd)
    }
    await remove(name, true)
    expect(existsSync(join(path, name))).toBe(true)
    for (let time = 0; time < 2; time++) await remove(name)
    expect(inPool()).toEqual([])

    const [image, instance] = [randomUUID(), randomUUID()]
    writeFileSync(join(path, `image-${image}.raw`), Buffer.alloc(MIB))
    const overlay = ['create', '-q', '-f', 'qcow2', '-b', `image-${image}.raw`, '-F', 'raw']
    await execa('qemu-img', [...overlay, join(path, `instance-${instance}.qcow2`)])
    await expect(remove(`image-${image}.raw`)).rejects.toMatchObject({ code: 'IN_USE' })
  })

  test.each(['../secret', 'notes.txt', '.vpe-pool', '/etc/passwd', 'disk-x.raw', ''])(
    '%j is none',
    async (name) => {
      const pool = markedPool(path)
      writeFileSync(join(dir, 'secret'), 'x')
      await expect(hosts[0].request(pool, 'remove-file', { name, checkOnly: false })).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      })
      expect(existsSync(join(dir, 'secret'))).toBe(true)
    },
  )
})

describe('a pool that is full', () => {
  beforeEach(() => execa('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'vpe-test', path]))
  afterEach(() => execa('umount', ['-l', path]))

  test('refuses an image before anything of it is written, and names the figures', async () => {
    const pool = markedPool(path)
    writeFileSync(join(dir, 'a.raw'), Buffer.alloc(8 * MIB, 1))
    const image = { uuid: randomUUID(), url: `file://${dir}/a.raw`, sha256: '' }
    await expect(hosts[0].request(pool, 'import-image', image)).rejects.toMatchObject({
      code: 'DISK_POOL_FULL',
      message: expect.stringMatching(/takes 8388608 bytes, and .* has \d+ left/),
    })
    expect(inPool()).toEqual([])
  })

  test('keeps nothing half-made when it turns out to be so while it is written to', async () => {
    const pool = markedPool(path)
    // Without a length nobody knows before.
    const server = createServer((_request, response) => {
      response.write(Buffer.alloc(4 * MIB, 1))
      response.end(Buffer.alloc(4 * MIB, 1))
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/a.raw`
    const image = { uuid: randomUUID(), url, sha256: '' }
    await expect(hosts[0].request(pool, 'import-image', image)).rejects.toMatchObject({
      code: 'DISK_POOL_FULL',
      message: expect.stringContaining('free some space'),
    })
    server.closeAllConnections()
    server.close()
    expect(inPool()).toEqual([])

    const source = randomUUID()
    const disk = join(path, `instance-${source}.qcow2`)
    await execa('qemu-img', ['create', '-q', '-f', 'qcow2', disk, '16M'])
    await execa('qemu-io', ['-c', 'write -P 1 0 2500k', disk])
    const copy = { instanceUuid: randomUUID(), sourceUuid: source, snapshotUuid: null, diskBytes: 0 }
    await expect(hosts[0].request(pool, 'copy-system-disk', copy)).rejects.toMatchObject({
      code: 'DISK_POOL_FULL',
    })
    expect(inPool()).toEqual([`instance-${source}.qcow2`])
  })
})
