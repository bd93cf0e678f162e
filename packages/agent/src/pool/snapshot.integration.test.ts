// Snapshots and copies of a disk that no guest has, by the real worker and qemu-img.

import { randomUUID } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../clock.ts'
import { markedPool } from '../testing/marked-pool.ts'
import { PoolWorkers } from './pool-workers.ts'

const MIB = 1024 ** 2
const dir = mkdtempSync(join(tmpdir(), 'vpe-snapshots-'))
const pool = markedPool(join(dir, 'pool'))
const image = randomUUID()
let workers: PoolWorkers

beforeAll(async () => {
  const path = join(dir, 'image.qcow2')
  await execa('qemu-img', ['create', '-q', '-f', 'qcow2', path, '8M'])
  await execa('qemu-io', ['-c', 'write -P 7 0 1M', path])
  const log = pino({ level: 'silent' })
  workers = new PoolWorkers({
    hostId: randomUUID(),
    imageDirs: [dir],
    imageBytesMax: 2 ** 40,
    clock: systemClock,
    log,
  })
  await workers.request(pool, 'import-image', { uuid: image, url: `file://${path}`, sha256: '' })
})
afterAll(() => {
  workers.close()
  rmSync(dir, { recursive: true, force: true })
})

async function makeDisk(kind: 'overlay' | 'copy') {
  const instanceUuid = randomUUID()
  const wish = { instanceUuid, imageUuid: image, kind, diskBytes: 16 * MIB }
  await workers.request(pool, 'make-system-disk', wish)
  return disk(instanceUuid)
}

function disk(instanceUuid: string) {
  const path = join(pool.path, `instance-${instanceUuid}.qcow2`)
  return {
    instanceUuid,
    write: (byte: number, at: string) => execa('qemu-io', ['-c', `write -P ${byte} ${at} 64k`, path]),
    /** Whether all bytes at a place are the same as expected. */
    holds: async (byte: number, at: string) => {
      const { stdout } = await execa('qemu-io', ['-r', '-c', `read -P ${byte} ${at} 64k`, path])
      return !stdout.includes('Pattern verification failed')
    },
    info: async () => JSON.parse((await execa('qemu-img', ['info', '--output=json', path])).stdout),
    check: () => execa('qemu-img', ['check', '-q', path]),
  }
}

describe.each(['overlay', 'copy'] as const)('of a disk that is made as %s', (kind) => {
  test('is made once, gone back to any number of times, and removed', async () => {
    const disk = await makeDisk(kind)
    const [first, second] = [randomUUID(), randomUUID()]
    const at = (snapshotUuid: string) => ({ instanceUuid: disk.instanceUuid, snapshotUuid })
    await disk.write(1, '0')
    for (let time = 0; time < 2; time++) await workers.request(pool, 'make-snapshot', at(first))
    await disk.write(2, '0')
    await disk.write(2, '2M')
    await workers.request(pool, 'make-snapshot', at(second))
    await disk.write(3, '0')
    expect((await disk.info()).snapshots.map(({ name }: { name: string }) => name)).toEqual([first, second])

    const back = (snapshotUuid: string) =>
      workers.request(pool, 'revert-system-disk', { ...at(snapshotUuid), diskBytes: 16 * MIB })
    for (let time = 0; time < 2; time++) {
      await back(first)
      expect(await Promise.all([disk.holds(1, '0'), disk.holds(0, '2M'), disk.holds(7, '512k')])).toEqual([
        true,
        true,
        true,
      ])
      await back(second)
      expect(await disk.holds(2, '2M')).toBe(true)
      await disk.write(9, '0')
    }

    for (let time = 0; time < 2; time++) await workers.request(pool, 'remove-snapshot', at(first))
    await expect(back(first)).rejects.toMatchObject({ code: 'NOT_FOUND' })
    expect(await disk.holds(9, '0')).toBe(true)
    await workers.request(pool, 'remove-snapshot', at(second))
    expect((await disk.info()).snapshots).toBeUndefined()
    await disk.check()
  })

  test('survives that the disk grows, and a disk that goes back keeps its size', async () => {
    const disk = await makeDisk(kind)
    const snapshot = { instanceUuid: disk.instanceUuid, snapshotUuid: randomUUID() }
    await disk.write(1, '0')
    await workers.request(pool, 'make-snapshot', snapshot)
    await workers.request(pool, 'grow-system-disk', { instanceUuid: disk.instanceUuid, diskBytes: 32 * MIB })
    await disk.write(5, '24M')
    await workers.request(pool, 'revert-system-disk', { ...snapshot, diskBytes: 32 * MIB })
    expect((await disk.info())['virtual-size']).toBe(32 * MIB)
    expect(await Promise.all([disk.holds(1, '0'), disk.holds(0, '24M')])).toEqual([true, true])
    await disk.check()
  })
})

test('of a disk that is not there cannot be made, and need not be removed', async () => {
  const nothing = { instanceUuid: randomUUID(), snapshotUuid: randomUUID() }
  await expect(workers.request(pool, 'make-snapshot', nothing)).rejects.toMatchObject({ code: 'NOT_FOUND' })
  await workers.request(pool, 'remove-snapshot', nothing)
})

describe.each(['overlay', 'copy'] as const)('a copy of a disk that is made as %s', (kind) => {
  async function copy(
    from: Awaited<ReturnType<typeof makeDisk>>,
    snapshotUuid: string | null,
    diskBytes = 0,
  ) {
    const made = disk(randomUUID())
    const request = {
      instanceUuid: made.instanceUuid,
      sourceUuid: from.instanceUuid,
      snapshotUuid,
      diskBytes,
    }
    await workers.request(pool, 'copy-system-disk', request)
    return made
  }

  test('holds what that holds, or held, and is its own from then on', async () => {
    const source = await makeDisk(kind)
    const snapshotUuid = randomUUID()
    await source.write(1, '0')
    await workers.request(pool, 'make-snapshot', { instanceUuid: source.instanceUuid, snapshotUuid })
    await source.write(2, '0')

    const now = await copy(source, null, 32 * MIB)
    const then = await copy(source, snapshotUuid)
    for (const [made, byte] of [[now, 2] as const, [then, 1] as const]) {
      expect([await made.holds(byte, '0'), await made.holds(7, '512k'), await made.holds(0, '4M')]).toEqual([
        true,
        true,
        true,
      ])
      const info = await made.info()
      expect(info.snapshots).toBeUndefined()
      expect(info['backing-filename']).toBe(kind === 'overlay' ? `image-${image}.qcow2` : undefined)
      await made.check()
    }
    expect((await now.info())['virtual-size']).toBe(32 * MIB)
    expect((await then.info())['virtual-size']).toBe(16 * MIB)

    await workers.request(pool, 'remove-system-disk', { instanceUuid: source.instanceUuid })
    await now.write(3, '0')
    expect(await then.holds(1, '0')).toBe(true)
  })

  test('is refused of a snapshot that is not there, and leaves nothing', async () => {
    const source = await makeDisk(kind)
    const before = readdirSync(pool.path)
    await expect(copy(source, randomUUID())).rejects.toMatchObject({ code: 'NOT_FOUND' })
    expect(readdirSync(pool.path)).toEqual(before)
  })
})

test('a copy of a disk that is not there is refused', async () => {
  const request = { instanceUuid: randomUUID(), sourceUuid: randomUUID(), snapshotUuid: null, diskBytes: 0 }
  await expect(workers.request(pool, 'copy-system-disk', request)).rejects.toMatchObject({
    code: 'NOT_FOUND',
  })
})
