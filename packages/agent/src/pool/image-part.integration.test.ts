// Uploads as the worker of a pool sees them: pieces, each at its place or refused.

import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { systemClock } from '../clock.ts'
import { type MarkedPool, markedPool } from '../testing/marked-pool.ts'
import { imageFile, imagePartFile, MARKER_FILE } from './pool-files.ts'
import { PoolWorkers } from './pool-workers.ts'

const MIB = 1024 ** 2
const uuid = randomUUID()
const bytes = randomBytes(3 * MIB)
const sha256 = createHash('sha256').update(bytes).digest('hex')

let pool: MarkedPool
let workers: PoolWorkers
beforeEach(() => {
  pool = markedPool(mkdtempSync(join(tmpdir(), 'vpe-upload-')))
  workers = makeWorkers()
})
afterEach(() => {
  workers.close()
  rmSync(pool.path, { recursive: true })
})

function makeWorkers(imageBytesMax = 2 ** 41): PoolWorkers {
  const deps = { hostId: randomUUID(), imageDirs: [], imageBytesMax, clock: systemClock }
  return new PoolWorkers({ ...deps, log: pino({ level: 'silent' }) })
}

const write = (offset: number, data: Uint8Array, upload = 1) =>
  workers.request(pool, 'write-image-part', { uuid, upload, offset, data })
const inPool = () =>
  readdirSync(pool.path)
    .filter((name) => name !== MARKER_FILE)
    .sort()
const arrived = async () => (await workers.request(pool, 'find-image', { uuid })).partBytes
const finish = (wanted = '') => workers.request(pool, 'import-image', { uuid, url: '', sha256: wanted })

test('pieces become an image, over the end of the worker between them', async () => {
  await write(0, bytes.subarray(0, MIB))
  await write(MIB, bytes.subarray(MIB, 2 * MIB))
  workers.close()
  workers = makeWorkers()
  expect(await arrived()).toBe(2 * MIB)
  await write(2 * MIB, bytes.subarray(2 * MIB))
  const image = await finish(sha256)
  expect(image).toEqual({ sha256, format: 'raw', sizeBytes: 3 * MIB, virtualSizeBytes: 3 * MIB })
  expect(inPool()).toEqual([`image-${uuid}.json`, imageFile(uuid, 'raw')])
  expect(statSync(join(pool.path, imageFile(uuid, 'raw'))).mode & 0o777).toBe(0o444)
  expect(await finish()).toEqual(image)
})

test('a piece that does not go on where the last one ended is refused, and says where that was', async () => {
  await write(0, bytes.subarray(0, MIB))
  for (const offset of [1, MIB - 1, MIB + 1]) {
    await expect(write(offset, bytes)).rejects.toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining(`${MIB} bytes`),
    })
  }
  expect(await arrived()).toBe(MIB)
})

test('a new upload begins anew, and one before it has nothing more to say, not even from the start', async () => {
  await write(0, bytes, 1)
  await write(0, bytes.subarray(0, MIB), 2)
  for (const offset of [0, MIB])
    await expect(write(offset, bytes, 1)).rejects.toMatchObject({ code: 'SUPERSEDED' })
  expect(await arrived()).toBe(MIB)
})

test('what is not what was announced is thrown away', async () => {
  await write(0, bytes)
  await expect(finish('ab'.repeat(32))).rejects.toMatchObject({
    code: 'IMAGE_INVALID',
    message: expect.stringContaining(sha256),
  })
  expect(inPool()).toEqual([])
  await expect(finish()).rejects.toMatchObject({
    code: 'IMAGE_INVALID',
    message: expect.stringContaining('uploaded'),
  })
})

test('an upload without end is cut off', async () => {
  workers.close()
  workers = makeWorkers(2 * MIB)
  await write(0, bytes.subarray(0, 2 * MIB))
  await expect(write(2 * MIB, bytes.subarray(0, 1))).rejects.toMatchObject({ code: 'IMAGE_INVALID' })
})

test('where the disk is full, what has arrived stays, and the rest is taken once there is room', async () => {
  const blocker = join(pool.path, 'blocker')
  await execa('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', pool.path])
  try {
    pool = markedPool(pool.path, pool.uuid)
    await execa('dd', ['if=/dev/zero', `of=${blocker}`, 'bs=1M', 'count=2'])
    await write(0, bytes.subarray(0, MIB))
    await expect(write(MIB, bytes.subarray(MIB))).rejects.toMatchObject({
      code: 'DISK_POOL_FULL',
      message: expect.stringContaining('free some space'),
    })
    expect(await arrived()).toBe(MIB)
    rmSync(blocker)
    await write(MIB, bytes.subarray(MIB))
    expect(await finish(sha256)).toMatchObject({ sizeBytes: 3 * MIB })
  } finally {
    workers.close()
    await execa('umount', ['-l', pool.path])
  }
})

test('goes with its image', async () => {
  await write(0, bytes)
  expect(inPool()).toEqual([imagePartFile(uuid)])
  await workers.request(pool, 'remove-image', { uuid })
  expect(inPool()).toEqual([])
})
