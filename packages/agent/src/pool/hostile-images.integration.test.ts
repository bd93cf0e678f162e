// Images that were made to do harm, by real qemu-img, through every way in: by URL, by upload, and as what
// lies where a system disk should be. None gets a name in the pool, and none makes QEMU open another file.

import { randomUUID } from 'node:crypto'
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
import { execa } from 'execa'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { systemClock } from '../clock.ts'
import { type MarkedPool, markedPool } from '../testing/marked-pool.ts'
import { imageFile, MARKER_FILE, systemDiskFile } from './pool-files.ts'
import { PoolWorkers } from './pool-workers.ts'

const MIB = 1024 ** 2

let dir: string
let pool: MarkedPool
let hostile: string
let workers: PoolWorkers
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'vpe-hostile-'))
  pool = markedPool(join(dir, 'pool'))
  hostile = join(dir, 'image')
  const deps = { hostId: randomUUID(), imageDirs: [dir], imageBytesMax: 2 ** 41, clock: systemClock }
  workers = new PoolWorkers({ ...deps, log: pino({ level: 'silent' }) })
})
afterEach(() => {
  workers.close()
  rmSync(dir, { recursive: true, force: true })
})

const create = (...options: readonly string[]) => execa('qemu-img', ['create', '-q', ...options])
const qcow2 = (...options: readonly string[]) => create('-f', 'qcow2', ...options, hostile, '8M')

/**
 * Makes an image with a LUKS header. qemu-img first times a key derivation by the CPU time of its thread and
 * gives up ("Unable to get accurate CPU usage") when that has not moved meanwhile: on a CPU with SHA
 * instructions under a kernel that counts CPU time in ticks, one time in three. Trying again is the cure.
 */
const luks = (make: () => Promise<unknown>) => vi.waitFor(make, { timeout: 60_000 })

/** A good image with some bytes of its header changed. */
async function forged(change: (bytes: Buffer) => void): Promise<void> {
  await qcow2()
  const bytes = readFileSync(hostile)
  change(bytes)
  writeFileSync(hostile, bytes)
}

const HOSTILE: readonly [string, () => Promise<unknown>, RegExp][] = [
  ['lies on /etc/passwd', () => qcow2('-u', '-b', '/etc/passwd', '-F', 'raw'), /backing file/],
  [
    'names its backing file in JSON',
    () =>
      qcow2(
        '-u',
        '-b',
        'json:{"driver":"raw","file":{"driver":"file","filename":"/etc/passwd"}}',
        '-F',
        'raw',
      ),
    /backing file/,
  ],
  ['lies on a server', () => qcow2('-u', '-b', 'nbd://127.0.0.1:1/x', '-F', 'raw'), /backing file/],
  [
    'keeps its data in another file',
    () => qcow2('-o', `data_file=${dir}/data,data_file_raw=on`),
    /another file/,
  ],
  [
    'stands for 10 TB in less than 1 MB',
    async () => {
      await create('-f', 'qcow2', hostile, '10T')
      expect(statSync(hostile).size).toBeLessThan(MIB)
    },
    /virtual size is 10995116277760 bytes; this host takes up to 2048 GiB/,
  ],
  [
    'is encrypted',
    () =>
      luks(() =>
        qcow2(
          '--object',
          'secret,id=key,data=secret',
          '-o',
          'encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10',
        ),
      ),
    /encrypted/,
  ],
  [
    'holds a snapshot',
    async () => {
      await qcow2()
      await execa('qemu-img', ['snapshot', '-c', 'hidden', hostile])
    },
    /snapshots/,
  ],
  ['says that it is corrupt', () => forged((bytes) => bytes.writeBigUInt64BE(2n, 72)), /corrupt/],
  ['needs what nobody knows', () => forged((bytes) => bytes.writeBigUInt64BE(1n << 60n, 72)), /damaged/],
  [
    'has a first table beyond its end',
    () => forged((bytes) => bytes.writeBigUInt64BE(1n << 50n, 40)),
    /damaged/,
  ],
  [
    'has a first table that fills all memory',
    () => forged((bytes) => bytes.writeUInt32BE(0x7fffffff, 36)),
    /damaged/,
  ],
  ['has clusters of an absurd size', () => forged((bytes) => bytes.writeUInt32BE(63, 20)), /damaged/],
  [
    'was cut short',
    async () => {
      await qcow2()
      truncateSync(hostile, 4096)
    },
    /damaged|cut short/,
  ],
  [
    'is a VMDK that describes other files',
    () => create('-f', 'vmdk', '-o', 'subformat=monolithicFlat', hostile, '8M'),
    /VMDK descriptor/,
  ],
  ['is a VMDK', () => create('-f', 'vmdk', hostile, '8M'), /VMDK/],
  ['is a VDI', () => create('-f', 'vdi', hostile, '8M'), /VDI/],
  ['is a VHDX', () => create('-f', 'vhdx', hostile, '8M'), /VHDX/],
  ['is a QED', () => create('-f', 'qed', hostile, '8M'), /QED/],
  [
    'is a LUKS volume',
    () =>
      luks(() =>
        create(
          '-f',
          'luks',
          '--object',
          'secret,id=key,data=secret',
          '-o',
          'key-secret=key,iter-time=10',
          hostile,
          '8M',
        ),
      ),
    /LUKS/,
  ],
  ['is no image', async () => writeFileSync(hostile, '<html>'), /no disk image/],
  ['is empty', async () => writeFileSync(hostile, ''), /empty/],
]

const uuid = randomUUID()
const inPool = () =>
  readdirSync(pool.path)
    .filter((name) => name !== MARKER_FILE)
    .sort()

async function upload(path: string): Promise<void> {
  await workers.request(pool, 'write-image-part', { uuid, upload: 1, offset: 0, data: readFileSync(path) })
}

describe.each(HOSTILE)('an image that %s', (_what, make, why) => {
  test('is refused by URL and by upload, and leaves nothing', { timeout: 120_000 }, async () => {
    await make()
    const refusal = { code: 'IMAGE_INVALID', message: expect.stringMatching(why) }
    const byUrl = workers.request(pool, 'import-image', { uuid, url: `file://${hostile}`, sha256: '' })
    await expect(byUrl).rejects.toMatchObject(refusal)
    expect(inPool()).toEqual([])
    await upload(hostile)
    const byUpload = workers.request(pool, 'import-image', { uuid, url: '', sha256: '' })
    await expect(byUpload).rejects.toMatchObject(refusal)
    expect(inPool()).toEqual([])
  })
})

test('one that is larger than its pool is refused, since no disk could be made of it there', async () => {
  await execa('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', pool.path])
  try {
    pool = markedPool(pool.path, pool.uuid)
    await create('-f', 'qcow2', hostile, '65M')
    const args = { uuid, url: `file://${hostile}`, sha256: '' }
    await expect(workers.request(pool, 'import-image', args)).rejects.toMatchObject({
      code: 'IMAGE_INVALID',
      message: expect.stringContaining(`${pool.path} has ${64 * MIB} in all`),
    })
  } finally {
    workers.close()
    await execa('umount', ['-l', pool.path])
  }
})

describe('a capture', () => {
  const instanceUuid = randomUUID()
  const capture = () => workers.request(pool, 'capture-image', { uuid, instanceUuid })
  const disk = () => join(pool.path, systemDiskFile(instanceUuid))
  const refusal = (words: string) => ({ code: 'IMAGE_INVALID', message: expect.stringContaining(words) })

  test.each<[string, () => readonly string[], string]>([
    ['on /etc/passwd', () => ['-u', '-b', '/etc/passwd', '-F', 'raw'], 'which is no image of vpe'],
    ['with its data elsewhere', () => ['-o', `data_file=${dir}/data`], 'another file'],
  ])('of what was put in place of a disk, %s, is refused', async (_what, options, words) => {
    await create('-f', 'qcow2', ...options(), disk(), '8M')
    await expect(capture()).rejects.toMatchObject(refusal(words))
    expect(inPool()).toEqual([systemDiskFile(instanceUuid)])
  })

  test('takes what a guest has written for bytes, also where it looks like an image', async () => {
    await create('-f', 'qcow2', '-u', '-b', '/etc/passwd', '-F', 'raw', hostile, '8M')
    truncateSync(hostile, 8 * MIB)
    await execa('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', hostile, disk()])
    expect(await capture()).toMatchObject({ format: 'qcow2', virtualSizeBytes: 8 * MIB })
    const image = join(pool.path, imageFile(uuid, 'qcow2'))
    await execa('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', hostile, image])
    const { stdout } = await execa('qemu-img', ['info', '--output=json', '-f', 'qcow2', image])
    expect(JSON.parse(stdout)).not.toHaveProperty('backing-filename')
  })

  test('needs nothing of the image that the disk lies on, and is made once', async () => {
    await create('-f', 'raw', hostile, '8M')
    const base = randomUUID()
    writeFileSync(hostile, Buffer.alloc(8 * MIB, 'base'))
    await workers.request(pool, 'import-image', { uuid: base, url: `file://${hostile}`, sha256: '' })
    await workers.request(pool, 'make-system-disk', {
      instanceUuid,
      imageUuid: base,
      kind: 'overlay',
      diskBytes: 16 * MIB,
    })
    await execa('qemu-io', ['-f', 'qcow2', '-c', 'write -P 7 1M 64k', disk()])
    const { stdout: before } = await execa('qemu-img', ['map', '--output=json', disk()])
    const image = await capture()
    expect(image).toMatchObject({ format: 'qcow2', virtualSizeBytes: 16 * MIB })
    expect(await capture()).toEqual(image)
    await execa('qemu-img', [
      'compare',
      '-f',
      'qcow2',
      '-F',
      'qcow2',
      disk(),
      join(pool.path, imageFile(uuid, 'qcow2')),
    ])
    expect((await execa('qemu-img', ['map', '--output=json', disk()])).stdout).toBe(before)
    await workers.request(pool, 'remove-system-disk', { instanceUuid })
    await workers.request(pool, 'remove-image', { uuid: base })
    expect(inPool()).toEqual([`image-${uuid}.json`, imageFile(uuid, 'qcow2')])
    expect(await workers.request(pool, 'find-image', { uuid })).toEqual({ image, partBytes: 0 })
  })

  test('of a disk that is not there says so', async () => {
    await expect(capture()).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })
})
