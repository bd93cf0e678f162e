// Two hosts, played by two guards' processes on one machine, try the locks of a pool that nobody has a lease in.

import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { HA_PROFILES } from '@vpe/core/ha'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { LockProbes } from './lock-probes.ts'
import { PoolChild } from './pool-child.ts'

let dir: string
let hosts: LockProbes[]

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'vpe-probe-'))
  hosts = [newHost(), newHost()]
})
afterEach(() => {
  for (const host of hosts) host.close()
  rmSync(dir, { recursive: true, force: true })
})

function newHost(): LockProbes {
  const of = { hostId: randomUUID(), bootId: randomUUID(), timings: HA_PROFILES.fast }
  return new LockProbes((place, onMessage) => {
    const settings = { role: 'lock-prober' as const, place, ...of }
    return new PoolChild({ settings, onMessage, log: () => {} })
  })
}

test('a lock that one holds is seen by the other, refused to it, and had once it was let go of', async () => {
  const [a, b] = hosts
  const place = { pool: randomUUID(), path: dir, clusterId: randomUUID(), slot: 0, slots: 1 }
  const granted = { isGranted: true, fault: '' }
  const refused = { isGranted: false, fault: '' }
  expect(await b?.tryLock(place, 'ask')).toEqual(granted)
  expect(await a?.tryLock(place, 'hold')).toEqual(granted)
  expect(await b?.tryLock(place, 'ask')).toEqual(refused)
  expect(await b?.tryLock(place, 'take')).toEqual(refused)
  expect(await a?.tryLock(place, 'drop')).toEqual(granted)
  expect(await b?.tryLock(place, 'take')).toEqual(granted)
  expect(await a?.tryLock(place, 'hold')).toEqual(granted)
})

test('where there is no folder, none is made, and that is said', async () => {
  const path = join(dir, 'not-mounted')
  const place = { pool: randomUUID(), path, clusterId: randomUUID(), slot: 0, slots: 1 }
  const tried = await hosts[0]?.tryLock(place, 'ask')
  expect(tried).toEqual({ isGranted: false, fault: expect.stringContaining('ENOENT') })
})
