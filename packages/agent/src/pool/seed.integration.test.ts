// The seed of an instance, made by a real worker and read back from the image. That a guest finds it is
// shown in test/e2e/cloud-init.test.ts.

import { randomUUID } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { systemClock } from '../clock.ts'
import { markedPool } from '../testing/marked-pool.ts'
import { MARKER_FILE, seedFile, seedPath } from './pool-files.ts'
import { PoolWorkers } from './pool-workers.ts'
import { seedFiles } from './seed.ts'

const SEED = {
  instanceUuid: randomUUID(),
  hostname: '1e3',
  sshKeys: ['ssh-ed25519 AAAA ann: "home" # mine', 'ssh-rsa BBBB'],
  userData: '#!/bin/sh\necho ünïcode: $HOME\n',
}

let pool: { uuid: string; path: string }
let workers: PoolWorkers
beforeEach(() => {
  pool = markedPool(mkdtempSync(join(tmpdir(), 'vpe-seed-=-')))
  const log = pino({ level: 'silent' })
  workers = new PoolWorkers({
    hostId: randomUUID(),
    imageDirs: [],
    imageBytesMax: 2 ** 41,
    clock: systemClock,
    log,
  })
})
afterEach(() => {
  workers.close()
  rmSync(pool.path, { recursive: true })
})

/** A file of the image under the name that a guest sees, by Rock Ridge or by Joliet. */
async function inSeed(name: string, names: '-R' | '-J'): Promise<string> {
  const path = seedPath(pool.path, SEED.instanceUuid)
  return (await execa('isoinfo', ['-i', path, names, '-x', `/${name}`], { stripFinalNewline: false })).stdout
}

test('is an image with the label and the files that cloud-init looks for, for nobody else’s eyes', async () => {
  await workers.request(pool, 'make-seed', SEED)
  const path = seedPath(pool.path, SEED.instanceUuid)
  expect(readdirSync(pool.path).sort()).toEqual([MARKER_FILE, seedFile(SEED.instanceUuid)])
  expect(statSync(path).mode & 0o777).toBe(0o600)
  expect((await execa('isoinfo', ['-d', '-i', path])).stdout).toContain('Volume id: cidata')
  for (const names of ['-R', '-J'] as const) {
    expect(await inSeed('meta-data', names)).toBe(seedFiles(SEED)['meta-data'])
    expect(await inSeed('user-data', names)).toBe(SEED.userData)
  }
})

test('is replaced by the next, and goes with the system disk', async () => {
  await workers.request(pool, 'make-seed', SEED)
  await workers.request(pool, 'make-seed', { ...SEED, userData: '' })
  expect(await inSeed('user-data', '-R')).toBe('')
  await workers.request(pool, 'remove-system-disk', { instanceUuid: SEED.instanceUuid })
  expect(readdirSync(pool.path)).toEqual([MARKER_FILE])
})

test('its meta-data is YAML whatever its user wrote: every value is a string', () => {
  expect(seedFiles(SEED)['meta-data'].split('\n')).toEqual([
    `instance-id: "${SEED.instanceUuid}"`,
    'local-hostname: "1e3"',
    'public-keys:',
    '  - "ssh-ed25519 AAAA ann: \\"home\\" # mine"',
    '  - "ssh-rsa BBBB"',
    '',
  ])
  expect(seedFiles({ ...SEED, sshKeys: [] })['meta-data']).not.toContain('public-keys')
})
