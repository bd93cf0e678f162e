// The worker of a pool, for real: forked, with files, qemu-img and a web server.

import { spawn } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { systemClock } from '../clock.ts'
import { until } from '../testing/lab.ts'
import { markedPool } from '../testing/marked-pool.ts'
import { MARKER_FILE, temporaryFile } from './pool-files.ts'
import { startTicksOf } from './pool-folder.ts'
import type { PoolOperation } from './pool-protocol.ts'
import { PoolWorkers } from './pool-workers.ts'

const MIB = 1024 ** 2
const hostId = randomUUID()

let dir: string
let pool: { uuid: string; path: string }
let images: string
let logs: Record<string, unknown>[]
let workers: PoolWorkers
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'vpe-pool-'))
  pool = markedPool(join(dir, 'pool'))
  images = join(dir, 'images')
  mkdirSync(images)
  logs = []
  workers = makeWorkers()
})
afterEach(async () => {
  workers.close()
  await until('workers end', () => workerPids().every((pid) => !existsSync(`/proc/${pid}`)))
  rmSync(dir, { recursive: true, force: true })
})

function makeWorkers(stallMs: Partial<Record<PoolOperation, number>> = {}): PoolWorkers {
  const log = pino({ level: 'debug' }, { write: (line) => logs.push(JSON.parse(line)) })
  const deps = { hostId, imageDirs: [images], imageBytesMax: 2 ** 41, clock: systemClock, log, stallMs }
  return new PoolWorkers(deps)
}

const workerPids = () =>
  logs.flatMap(({ msg, pid }) => (msg === 'disk pool worker started' ? [Number(pid)] : []))
const inPool = () =>
  readdirSync(pool.path)
    .filter((name) => name !== MARKER_FILE)
    .sort()

async function qemuImage(name: string, ...options: readonly string[]): Promise<string> {
  const path = join(images, name)
  await execa('qemu-img', ['create', '-q', '-f', 'qcow2', ...options, path, '8M'])
  return path
}

function importImage(
  url: string,
  {
    uuid = randomUUID() as string,
    sha256 = '',
    onProgress = (_: number) => {},
    signal = new AbortController().signal,
  } = {},
) {
  return workers.request(pool, 'import-image', { uuid, url, sha256 }, { onProgress, signal })
}

const refusal = (words: string | RegExp, code = 'IMAGE_INVALID') => ({
  code,
  message: typeof words === 'string' ? expect.stringContaining(words) : expect.stringMatching(words),
})

async function imageInfo(file: string) {
  const { stdout } = await execa('qemu-img', ['info', '--output=json', join(pool.path, file)])
  return JSON.parse(stdout)
}

describe('an import from a file', () => {
  test('gives a read-only image that is known whole, and once only', async () => {
    const path = await qemuImage('a.qcow2')
    const uuid = randomUUID()
    const sha256 = createHash('sha256').update(readFileSync(path)).digest('hex')
    const image = await importImage(`file://${path}`, { uuid, sha256 })
    expect(image).toEqual({
      sha256,
      format: 'qcow2',
      sizeBytes: statSync(path).size,
      virtualSizeBytes: 8 * MIB,
    })
    expect(inPool()).toEqual([`image-${uuid}.json`, `image-${uuid}.qcow2`])
    expect(statSync(join(pool.path, `image-${uuid}.qcow2`)).mode & 0o777).toBe(0o444)
    rmSync(path)
    expect(await importImage(`file://${path}`, { uuid })).toEqual(image)
  })

  test('finds out again what a crash kept from being written down', async () => {
    const path = await qemuImage('a.qcow2')
    const uuid = randomUUID()
    const image = await importImage(`file://${path}`, { uuid })
    rmSync(join(pool.path, `image-${uuid}.json`))
    expect(await importImage(`file://${path}`, { uuid })).toEqual(image)
    expect(inPool()).toContain(`image-${uuid}.json`)
  })

  test('takes raw images', async () => {
    writeFileSync(join(images, 'a.raw'), Buffer.alloc(MIB, 1))
    const uuid = randomUUID()
    expect(await importImage(`file://${images}/a.raw`, { uuid })).toMatchObject({
      format: 'raw',
      virtualSizeBytes: MIB,
    })
    expect(inPool()).toContain(`image-${uuid}.raw`)
  })

  test('reports how far it is', async () => {
    writeFileSync(join(images, 'big.raw'), Buffer.alloc(64 * MIB, 1))
    const percents: number[] = []
    await importImage(`file://${images}/big.raw`, { onProgress: (percent) => percents.push(percent) })
    expect(percents.length).toBeGreaterThan(10)
    expect(percents).toEqual([...percents].sort((a, b) => a - b))
  })

  test('refuses another content than expected, naming both, also when the image is there', async () => {
    const path = await qemuImage('a.qcow2')
    const uuid = randomUUID()
    const expected = 'a'.repeat(64)
    await expect(importImage(`file://${path}`, { uuid, sha256: expected })).rejects.toMatchObject(
      refusal(/[0-9a-f]{64}.*a{64}/),
    )
    expect(inPool()).toEqual([])
    await importImage(`file://${path}`, { uuid })
    await expect(importImage(`file://${path}`, { uuid, sha256: expected })).rejects.toMatchObject(
      refusal(expected),
    )
  })

  test('refuses images that reach for other files', async () => {
    const target = join(dir, 'secret')
    writeFileSync(target, Buffer.alloc(MIB))
    const backed = await qemuImage('backed.qcow2', '-b', target, '-F', 'raw')
    await expect(importImage(`file://${backed}`)).rejects.toMatchObject(refusal('backing file'))
    const passwd = await qemuImage('passwd.qcow2', '-u', '-b', '/etc/passwd', '-F', 'raw')
    await expect(importImage(`file://${passwd}`)).rejects.toMatchObject(refusal('backing file'))
    const external = await qemuImage('external.qcow2', '-o', `data_file=${dir}/data.raw`)
    await expect(importImage(`file://${external}`)).rejects.toMatchObject(refusal('another file'))
    expect(inPool()).toEqual([])
  })

  test('refuses what is no image, and one whose header lies', async () => {
    writeFileSync(join(images, 'page.html'), '<html>')
    await expect(importImage(`file://${images}/page.html`)).rejects.toMatchObject(refusal('no disk image'))
    const broken = await qemuImage('broken.qcow2')
    writeFileSync(broken, readFileSync(broken).subarray(0, 4096))
    await expect(importImage(`file://${broken}`)).rejects.toMatchObject(refusal('refused'))
    expect(inPool()).toEqual([])
  })

  test('reads nothing outside of the allowed folders, by whatever way', async () => {
    const outside = join(dir, 'outside.raw')
    writeFileSync(outside, Buffer.alloc(512))
    symlinkSync(outside, join(images, 'link.raw'))
    mkdirSync(join(dir, 'images-too'))
    writeFileSync(join(dir, 'images-too', 'a.raw'), Buffer.alloc(512))
    symlinkSync(dir, join(images, 'up'))
    await execa('mkfifo', [join(images, 'pipe')])
    for (const [url, words] of [
      [`file://${outside}`, 'VPE_AGENT_IMAGE_DIRS'],
      [`file://${images}/../outside.raw`, 'VPE_AGENT_IMAGE_DIRS'],
      [`file://${images}/%2e%2e/outside.raw`, 'VPE_AGENT_IMAGE_DIRS'],
      [`file://${images}/link.raw`, `really ${outside}`],
      [`file://${images}/up/outside.raw`, `really ${outside}`],
      [`file://${dir}/images-too/a.raw`, 'VPE_AGENT_IMAGE_DIRS'],
      [`file://${images}/pipe`, 'no file'],
      [`file://${images}`, 'VPE_AGENT_IMAGE_DIRS'],
      [`file://${images}/absent.raw`, 'ENOENT'],
      ['file://otherhost/a.raw', 'otherhost'],
      ['ftp://images/a.raw', 'not supported'],
      ['images/a.raw', 'not a URL'],
    ] as const) {
      await expect(importImage(url), url).rejects.toMatchObject(refusal(words))
    }
    expect(inPool()).toEqual([])
  })
})

describe('an import from the web', () => {
  let server: Server
  let requests: string[]
  let answer: (response: ServerResponse) => void
  const url = () => `http://127.0.0.1:${(server.address() as AddressInfo).port}/a.raw`
  beforeEach(async () => {
    requests = []
    server = createServer((request, response) => {
      requests.push(request.url ?? '')
      answer(response)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  })
  afterEach(() => {
    server.closeAllConnections()
    server.close()
  })

  test('is read once for all who want it at the same time', async () => {
    const { promise, resolve } = Promise.withResolvers<void>()
    answer = (response) => void promise.then(() => response.end(Buffer.alloc(MIB)))
    const uuid = randomUUID()
    const both = [importImage(url(), { uuid }), importImage(url(), { uuid })]
    await until('the request', () => requests.length > 0)
    resolve()
    const [one, other] = await Promise.all(both)
    expect(one).toEqual(other)
    expect(requests).toHaveLength(1)
  })

  test('goes on when one of two leaves, and ends when both have', async () => {
    const { promise, resolve } = Promise.withResolvers<void>()
    let isClosed = false
    answer = (response) => {
      response.writeHead(200, { 'content-length': MIB }).write(Buffer.alloc(512))
      response.on('close', () => {
        isClosed = true
      })
      void promise.then(() => response.end(Buffer.alloc(MIB - 512)))
    }
    const uuid = randomUUID()
    const leaving = new AbortController()
    const left = importImage(url(), { uuid, signal: leaving.signal })
    const stays = importImage(url(), { uuid })
    await until('the request', () => requests.length > 0)
    leaving.abort(new Error('left'))
    await expect(left).rejects.toThrow('left')
    resolve()
    expect(await stays).toMatchObject({ sizeBytes: MIB })
    expect(isClosed).toBe(true)

    const alone = new AbortController()
    answer = (response) => {
      isClosed = false
      response.on('close', () => {
        isClosed = true
      })
      response.writeHead(200, { 'content-length': MIB }).write(Buffer.alloc(512))
    }
    const abandoned = importImage(url(), { signal: alone.signal })
    await until('the second request', () => requests.length > 1)
    alone.abort(new Error('left too'))
    await expect(abandoned).rejects.toThrow('left too')
    await until('the server sees the end', () => isClosed)
    await until('nothing half is left', () => inPool().every((name) => !name.endsWith('.tmp')))
  })

  test('follows redirections', async () => {
    answer = (response) =>
      requests.length === 1
        ? response.writeHead(302, { location: '/b.raw' }).end()
        : response.end(Buffer.alloc(512))
    expect(await importImage(url())).toMatchObject({ format: 'raw' })
    expect(requests).toEqual(['/a.raw', '/b.raw'])
  })

  test('says at once what the server refuses', async () => {
    answer = (response) => response.writeHead(404).end()
    await expect(importImage(url())).rejects.toMatchObject(refusal('404 Not Found'))
    expect(requests).toHaveLength(1)
  })

  test('tries again what was cut short, and says so when it stays so', async () => {
    answer = (response) => {
      response.writeHead(200, { 'content-length': 4096 }).write(Buffer.alloc(512))
      setImmediate(() => response.destroy())
    }
    await expect(importImage(url())).rejects.toMatchObject(refusal('tried 3 times'))
    expect(requests).toHaveLength(3)
    expect(inPool()).toEqual([])
  })

  test('recovers from a server that is away for a moment', async () => {
    answer = (response) =>
      requests.length < 3 ? response.writeHead(503).end() : response.end(Buffer.alloc(512))
    expect(await importImage(url())).toMatchObject({ format: 'raw' })
  })
})

describe('a system disk', () => {
  let imageUuid: string
  beforeEach(async () => {
    imageUuid = randomUUID()
    await importImage(`file://${await qemuImage('a.qcow2')}`, { uuid: imageUuid })
  })
  const make = (
    changes: {
      kind?: 'overlay' | 'copy'
      diskBytes?: number
      imageUuid?: string
      instanceUuid?: string
    } = {},
    onProgress = (_: number) => {},
  ) => {
    const disk = {
      instanceUuid: randomUUID() as string,
      imageUuid,
      kind: 'overlay' as const,
      diskBytes: 0,
      ...changes,
    }
    return workers.request(pool, 'make-system-disk', disk, { onProgress })
  }

  test('is an overlay on the image, as large as wanted', async () => {
    const instanceUuid = randomUUID()
    expect(await make({ instanceUuid, diskBytes: 16 * MIB })).toEqual({ virtualSizeBytes: 16 * MIB })
    const file = `instance-${instanceUuid}.qcow2`
    expect(await imageInfo(file)).toMatchObject({
      format: 'qcow2',
      'virtual-size': 16 * MIB,
      'backing-filename': `image-${imageUuid}.qcow2`,
      'backing-filename-format': 'qcow2',
    })
    expect(await workers.request(pool, 'find-system-disk', { instanceUuid })).toEqual({
      isFound: true,
      imageUuid,
    })
    expect(inPool()).toHaveLength(3)
  })

  test('or a copy that depends on nothing', async () => {
    const instanceUuid = randomUUID()
    const percents: number[] = []
    await make({ instanceUuid, kind: 'copy', diskBytes: 32 * MIB }, (percent) => percents.push(percent))
    const info = await imageInfo(`instance-${instanceUuid}.qcow2`)
    expect(info).toMatchObject({ format: 'qcow2', 'virtual-size': 32 * MIB })
    expect(info['backing-filename']).toBeUndefined()
    expect(percents.at(-1)).toBe(100)
    const found = await workers.request(pool, 'find-system-disk', { instanceUuid })
    expect(found).toEqual({ isFound: true, imageUuid: null })
  })

  test('grows, never shrinks, and keeps what is in it', async () => {
    const instanceUuid = randomUUID()
    await make({ instanceUuid, diskBytes: 16 * MIB })
    const path = join(pool.path, `instance-${instanceUuid}.qcow2`)
    await execa('qemu-io', ['-f', 'qcow2', '-c', 'write -P 7 4096 4096', path])
    for (const [diskBytes, expected] of [
      [32 * MIB, 32 * MIB],
      [32 * MIB, 32 * MIB],
      [16 * MIB, 32 * MIB],
    ] as const) {
      expect(await workers.request(pool, 'grow-system-disk', { instanceUuid, diskBytes })).toEqual({
        virtualSizeBytes: expected,
      })
    }
    const info = await imageInfo(`instance-${instanceUuid}.qcow2`)
    expect(info).toMatchObject({ 'virtual-size': 32 * MIB, 'backing-filename-format': 'qcow2' })
    await execa('qemu-io', ['-r', '-f', 'qcow2', '-c', 'read -P 7 4096 4096', path])
    const absent = workers.request(pool, 'grow-system-disk', { instanceUuid: randomUUID(), diskBytes: MIB })
    await expect(absent).rejects.toMatchObject({ code: 'DISK_POOL_FAILED' })
  })

  test('is as large as the image when no size is given', async () => {
    expect(await make()).toEqual({ virtualSizeBytes: 8 * MIB })
  })

  test('is refused when it is too small, and when the image is not there', async () => {
    await expect(make({ diskBytes: MIB })).rejects.toMatchObject(refusal('larger flavor', 'INVALID_ARGUMENT'))
    await expect(make({ imageUuid: randomUUID() })).rejects.toMatchObject(refusal('is not in', 'NOT_FOUND'))
  })

  test('keeps its image from being removed; both can go, and be gone already', async () => {
    const instanceUuid = randomUUID()
    await make({ instanceUuid })
    const removeImage = () => workers.request(pool, 'remove-image', { uuid: imageUuid })
    await expect(removeImage()).rejects.toMatchObject(refusal(instanceUuid, 'IN_USE'))
    for (let twice = 0; twice < 2; twice++) {
      await workers.request(pool, 'remove-system-disk', { instanceUuid })
      await removeImage()
    }
    expect(inPool()).toEqual([])
    const found = await workers.request(pool, 'find-system-disk', { instanceUuid })
    expect(found).toEqual({ isFound: false, imageUuid: null })
  })

  test('is made in some tens of milliseconds by a warm worker', async () => {
    await make()
    const times: number[] = []
    for (let turn = 0; turn < 5; turn++) {
      const startMs = performance.now()
      await make()
      times.push(performance.now() - startMs)
    }
    expect(Math.min(...times)).toBeLessThan(250)
  })
})

describe('a data disk', () => {
  const diskUuid = randomUUID()
  const disk = () => join(pool.path, `disk-${diskUuid}.raw`)
  const request = (what: 'make-data-disk' | 'grow-data-disk', sizeBytes: number) =>
    workers.request(pool, what, { diskUuid, sizeBytes })

  test('is made empty, takes no room, and is for nobody else’s eyes', async () => {
    await request('make-data-disk', 64 * MIB)
    expect(statSync(disk())).toMatchObject({ size: 64 * MIB, blocks: 0 })
    expect(statSync(disk()).mode & 0o777).toBe(0o600)
    expect(inPool()).toEqual([`disk-${diskUuid}.raw`])
  })

  test('keeps what is on it when it is made again, and when it grows', async () => {
    await request('make-data-disk', MIB)
    writeFileSync(disk(), 'precious', { flag: 'r+' })
    await request('make-data-disk', 2 * MIB)
    expect(statSync(disk()).size).toBe(MIB)
    await request('grow-data-disk', 2 * MIB)
    await request('grow-data-disk', MIB)
    expect(statSync(disk()).size).toBe(2 * MIB)
    expect(readFileSync(disk(), 'utf8').slice(0, 8)).toBe('precious')
  })

  test('that is not there is not made by growing: what was on it would be missed by nobody', async () => {
    await expect(request('grow-data-disk', MIB)).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: expect.stringContaining(diskUuid),
    })
    expect(inPool()).toEqual([])
  })

  test('is never reached through a link', async () => {
    const other = join(dir, 'other')
    writeFileSync(other, 'x')
    symlinkSync(other, disk())
    await expect(request('grow-data-disk', MIB)).rejects.toMatchObject({ code: 'DISK_POOL_FAILED' })
    expect(statSync(other).size).toBe(1)
  })

  test('is removed, and may be gone already', async () => {
    await request('make-data-disk', MIB)
    for (let times = 0; times < 2; times++) await workers.request(pool, 'remove-data-disk', { diskUuid })
    expect(inPool()).toEqual([])
  })
})

describe('a worker', () => {
  test('says how full the pool is', async () => {
    const usage = await workers.request(pool, 'check', { proposedMarker: '' })
    expect(usage.capacityBytes).toBeGreaterThan(usage.availableBytes)
    expect(usage.availableBytes).toBeGreaterThan(0)
    expect(inPool()).toEqual([])
  })

  test('clears away what dead workers of this host left, and nothing else', async () => {
    const dead = { hostId, pid: process.pid, startTicks: '1' }
    const alive = { hostId, pid: process.pid, startTicks: (await startTicksOf('self')) ?? '' }
    const foreign = { ...dead, hostId: randomUUID() }
    const files = [dead, alive, foreign].map((owner) => temporaryFile(`image-${randomUUID()}`, owner))
    for (const name of [...files, 'notes.tmp']) writeFileSync(join(pool.path, name), '')
    await workers.request(pool, 'check', { proposedMarker: '' })
    expect(inPool()).toEqual([...files.slice(1), 'notes.tmp'].sort())
  })

  test('clears away what a worker left that was still ending, and ends what writes on without one', async () => {
    const ending = spawn('sleep', ['1000'])
    const owner = { hostId, pid: ending.pid ?? 0, startTicks: (await startTicksOf(ending.pid ?? 0)) ?? '' }
    const late = temporaryFile(`image-${randomUUID()}`, owner)
    const dead = temporaryFile(`image-${randomUUID()}`, { ...owner, startTicks: '1' })
    for (const name of [late, dead]) writeFileSync(join(pool.path, name), '')
    const writer = spawn('tail', ['-f', join(pool.path, dead)])
    const other = spawn('tail', ['-f', join(pool.path, late)])
    const [writerEnds, endingEnds] = [writer, ending].map((child) => once(child, 'exit'))
    try {
      await workers.request(pool, 'check', { proposedMarker: '' })
      expect(inPool()).toEqual([late])
      expect((await writerEnds)?.at(1)).toBe('SIGKILL')
      expect(other.exitCode ?? other.signalCode).toBeNull()
      ending.kill()
      await endingEnds
      await workers.request(pool, 'check', { proposedMarker: '' })
      expect(inPool()).toEqual([])
    } finally {
      for (const child of [ending, writer, other]) child.kill('SIGKILL')
    }
  })

  test('makes a capture anew that a dead worker had left half done', async () => {
    const [uuid, instanceUuid] = [randomUUID(), randomUUID()]
    await execa('qemu-img', [
      'create',
      '-q',
      '-f',
      'qcow2',
      join(pool.path, `instance-${instanceUuid}.qcow2`),
      '8M',
    ])
    const dead = { hostId, pid: process.pid, startTicks: '1' }
    writeFileSync(join(pool.path, temporaryFile(`image-${uuid}`, dead)), 'half')
    expect(await workers.request(pool, 'capture-image', { uuid, instanceUuid })).toMatchObject({
      format: 'qcow2',
      virtualSizeBytes: 8 * MIB,
    })
    expect(inPool()).toEqual([`image-${uuid}.json`, `image-${uuid}.qcow2`, `instance-${instanceUuid}.qcow2`])
  })

  test('names the cure when the folder is not there', async () => {
    const nowhere = { uuid: randomUUID(), path: join(dir, 'nowhere') }
    await expect(workers.request(nowhere, 'check', { proposedMarker: '' })).rejects.toMatchObject(
      refusal('make the folder', 'DISK_POOL_FAILED'),
    )
  })

  test('that dies is replaced', async () => {
    await workers.request(pool, 'check', { proposedMarker: '' })
    const [pid] = workerPids()
    process.kill(pid ?? 0, 'SIGKILL')
    await until('it is given up', () => logs.some(({ msg }) => msg === 'disk pool worker given up'))
    await expect(workers.request(pool, 'check', { proposedMarker: '' })).rejects.toMatchObject(
      refusal('does not answer', 'UNAVAILABLE'),
    )
    await until('another answers', () =>
      workers.request(pool, 'check', { proposedMarker: '' }).then(
        () => true,
        () => false,
      ),
    )
  })

  test('that hangs is given up with all that it was asked, and replaced', async () => {
    workers.close()
    workers = makeWorkers({ check: 1_000 })
    // Not by a check: on a busy machine a worker takes longer than that to start.
    await workers.request(pool, 'find-system-disk', { instanceUuid: randomUUID() })
    const pid = workerPids().at(-1) ?? 0
    process.kill(pid, 'SIGSTOP')
    const disk = workers.request(pool, 'find-system-disk', { instanceUuid: randomUUID() })
    await expect(workers.request(pool, 'check', { proposedMarker: '' })).rejects.toMatchObject(
      refusal('longer than 1 s', 'UNAVAILABLE'),
    )
    await expect(disk).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    await until('it is gone', () => !existsSync(`/proc/${pid}`))
    await until('another answers', () =>
      workers.request(pool, 'find-system-disk', { instanceUuid: randomUUID() }).then(
        () => true,
        () => false,
      ),
    )
  })

  test('that is slow to a look is not given up while it brings an image in', async () => {
    workers.close()
    workers = makeWorkers({ check: 1, 'find-system-disk': 1 })
    const givenUp = () => logs.filter(({ msg }) => msg === 'disk pool worker given up')
    const { promise: asked, resolve: ask } = Promise.withResolvers<ServerResponse>()
    const server = createServer((_request, response) => ask(response))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    try {
      const image = importImage(`http://127.0.0.1:${(server.address() as AddressInfo).port}/a.raw`)
      const response = await asked
      response.write(Buffer.alloc(MIB))
      const pid = workerPids().at(-1) ?? 0
      // So that it does not answer in time.
      process.kill(pid, 'SIGSTOP')
      const looks = await Promise.allSettled([
        workers.request(pool, 'check', { proposedMarker: '' }),
        workers.request(pool, 'find-system-disk', { instanceUuid: randomUUID() }),
      ])
      const reason = refusal('while import-image goes on', 'UNAVAILABLE')
      expect(looks).toMatchObject([{ reason }, { reason }])
      process.kill(pid, 'SIGCONT')
      response.end(Buffer.alloc(MIB))
      expect(await image).toMatchObject({ format: 'raw', sizeBytes: 2 * MIB })
      expect(givenUp()).toEqual([])
      process.kill(pid, 'SIGSTOP')
      const alone = workers.request(pool, 'check', { proposedMarker: '' })
      await expect(alone).rejects.toMatchObject({ code: 'UNAVAILABLE' })
      expect(givenUp()).toHaveLength(1)
    } finally {
      server.closeAllConnections()
      server.close()
    }
  })

  test('ends with the agent', async () => {
    await workers.request(pool, 'check', { proposedMarker: '' })
    const [pid] = workerPids()
    workers.close()
    await until('it ends', () => !existsSync(`/proc/${pid}`))
  })
})
