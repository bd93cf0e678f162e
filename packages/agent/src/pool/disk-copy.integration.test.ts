// Files of disks as the workers of two pools pass them on: whole or not at all, and as full of holes as they were.

import { randomBytes, randomUUID } from 'node:crypto'
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { systemClock } from '../clock.ts'
import { type MarkedPool, markedPool } from '../testing/marked-pool.ts'
import { dataDiskFile, MARKER_FILE, systemDiskFile } from './pool-files.ts'
import { PoolWorkers } from './pool-workers.ts'

const MIB = 1024 ** 2
const disk = { kind: 'data', uuid: randomUUID() } as const
const content = randomBytes(MIB)

let here: MarkedPool
let there: MarkedPool
let workers: PoolWorkers
beforeEach(() => {
  const [first, second] = [1, 2].map(() => markedPool(mkdtempSync(join(tmpdir(), 'vpe-copy-'))))
  if (!first || !second) throw new Error('two were made')
  ;[here, there] = [first, second]
  const deps = { hostId: randomUUID(), imageDirs: [], imageBytesMax: 2 ** 41, clock: systemClock }
  workers = new PoolWorkers({ ...deps, log: pino({ level: 'silent' }) })
})
afterEach(() => {
  workers.close()
  for (const { path } of [here, there]) rmSync(path, { recursive: true })
})

const inPool = ({ path }: MarkedPool) => readdirSync(path).filter((name) => name !== MARKER_FILE)
const read = (offset: number) => workers.request(here, 'read-disk', { disk, offset, length: MIB })

/** 64 MiB, of which the third alone is no hole, and half of one at the end. */
function makeFile(): string {
  const path = join(here.path, dataDiskFile(disk.uuid))
  writeFileSync(path, Buffer.concat([Buffer.alloc(2 * MIB), content]))
  truncateSync(path, 64 * MIB + MIB / 2)
  return path
}

test('a file arrives as it was, holes and all, and is there when it is whole', async () => {
  const path = makeFile()
  expect((await read(0)).data).toHaveLength(0)
  const { data, fileBytes } = await read(2 * MIB)
  expect(fileBytes).toBe(64 * MIB + MIB / 2)
  await workers.request(there, 'begin-disk-copy', { disk, fileBytes })
  await workers.request(there, 'write-disk-part', { disk, offset: 2 * MIB, data })
  expect(inPool(there).every((name) => name.endsWith('.tmp'))).toBe(true)
  await workers.request(there, 'end-disk-copy', { disk, isWhole: true })
  expect(inPool(there)).toEqual([dataDiskFile(disk.uuid)])
  const copy = join(there.path, dataDiskFile(disk.uuid))
  expect(readFileSync(copy).equals(readFileSync(path))).toBe(true)
  expect(statSync(copy).mode & 0o777).toBe(0o600)
  expect(statSync(copy).blocks * 512).toBeLessThan(4 * MIB)
})

test('one that was given up leaves nothing, and what comes late for it is refused', async () => {
  await workers.request(there, 'begin-disk-copy', { disk, fileBytes: MIB })
  const tooFar = workers.request(there, 'write-disk-part', { disk, offset: MIB, data: content })
  await expect(tooFar).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await workers.request(there, 'end-disk-copy', { disk, isWhole: false })
  expect(inPool(there)).toEqual([])
  const late = workers.request(there, 'write-disk-part', { disk, offset: 0, data: content })
  await expect(late).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  const end = workers.request(there, 'end-disk-copy', { disk, isWhole: true })
  await expect(end).rejects.toMatchObject({ code: 'UNAVAILABLE' })
})

test('what a migration fills is empty, as large as it is told, and takes the place of what was there', async () => {
  const system = { kind: 'system', uuid: randomUUID() } as const
  const target = { disk: system, sizeBytes: 8 * MIB, imageUuid: null }
  writeFileSync(join(there.path, systemDiskFile(system.uuid)), 'half a copy')
  await workers.request(there, 'make-copy-target', target)
  const made = await workers.request(there, 'describe-disk', system)
  expect(made).toMatchObject({ sizeBytes: 8 * MIB, imageUuid: null })
  await workers.request(there, 'make-copy-target', { disk, sizeBytes: MIB, imageUuid: null })
  expect(await workers.request(there, 'describe-disk', disk)).toMatchObject({
    sizeBytes: MIB,
    allocatedBytes: 0,
  })
})
