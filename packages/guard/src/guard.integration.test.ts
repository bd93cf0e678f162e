// The guard with real processes for guests, real files for a pool, and a watchdog that counts. Times are a tenth of those of the fast
// profile.

import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { InstanceId } from '@vpe/core'
import { type Arm, HA_PROFILES } from '@vpe/core/ha'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { upMs } from './boot-time.ts'
import type { Role } from './child-protocol.ts'
import { Guard, type GuardedPool, type GuardMemory } from './guard.ts'
import { cgroupRoot, KernelGuestProcesses } from './guest-processes.ts'
import { PoolChild } from './pool-child.ts'
import { tenth } from './testing/tenth.ts'
import { until } from './testing/until.ts'

// Time to end guests and unmount comes out of the watchdog's own, less two seconds.
const timings = { ...tenth(HA_PROFILES.fast), watchdogMs: 6_000 }
/** For tests in which nothing is to happen: also a machine that stalls for seconds must not make it happen. */
const patient = { ...timings, tryMs: 60_000, selfMs: 120_000 }
const hostId = randomUUID()
const bootId = randomUUID()

let dir: string
let group: string
let pool: GuardedPool
let pets: number
let resets: string[]
let unmounted: string[]
let canUnmount: boolean
let memory: GuardMemory
let writer: PoolChild | null
let guard: Guard
let guests: ChildProcess[]

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'vpe-guard-'))
  group = `vpe-test-${randomUUID()}`
  memory = { pools: [], arms: [], renewals: [] }
  pets = 0
  resets = []
  unmounted = []
  canUnmount = true
  guests = []
})
afterEach(async () => {
  guard.close()
  for (const guest of guests) {
    if (guest.exitCode !== null || guest.signalCode !== null) continue
    const exit = once(guest, 'exit')
    guest.kill('SIGKILL')
    await exit
  }
  rmSync(dir, { recursive: true, force: true })
  const path = join(cgroupRoot(), group)
  for (const { uuid } of memory.arms) {
    const left = join(path, `guest-${uuid}`)
    if (existsSync(left)) rmdirSync(left)
  }
  if (existsSync(path)) rmdirSync(path)
})

function begin(poolClass: 'E' | 'T', times = timings): void {
  const place = { pool: randomUUID(), path: dir, clusterId: randomUUID(), slot: 0, slots: 4 }
  pool = { place, poolClass, canUnmount }
  guard = startGuard(poolClass, times)
  guard.attach(pool)
  guard.start()
}

function startGuard(poolClass: 'E' | 'T', times = timings): Guard {
  const watchdog = { open: async (timeoutMs: number) => timeoutMs, pet: () => void pets++ }
  return new Guard(
    {
      nowMs: upMs,
      randomUuid: randomUUID,
      watchdog: poolClass === 'T' ? watchdog : null,
      guests: new KernelGuestProcesses(cgroupRoot(), group),
      startChild: (role, { place }, onMessage) => {
        const settings = { role, place, hostId, bootId, timings: times }
        const child = new PoolChild({ settings, onMessage, log: () => {} })
        if (role === ('lease-writer' satisfies Role)) writer = child
        return child
      },
      unmount: async (path) => {
        unmounted.push(path)
        return canUnmount
      },
      save: (next) => {
        memory = next
      },
      resetHost: (why) => resets.push(why),
      log: () => {},
    },
    times,
    memory,
  )
}

/** A process that looks like a QEMU of libvirt's: it waits for a line that never comes. */
function startGuest(uuid: string): ChildProcess {
  const guest = spawn('sh', ['-c', 'read line', 'qemu', '-uuid', uuid], {
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  guests.push(guest)
  return guest
}

function newArm(): Arm {
  const { poolClass } = pool
  const pools = [{ pool: pool.place.pool, poolClass, canUnmount }]
  return { uuid: randomUUID() as InstanceId, generation: 1, pools }
}

async function run(): Promise<{ arm: Arm; guest: ChildProcess; ended: Promise<unknown> }> {
  const arm = newArm()
  await until('the guard takes it', async () => (await guard.arm(arm)) === null)
  const guest = startGuest(arm.uuid)
  const ended = once(guest, 'exit')
  await until('it runs', () => guest.pid !== undefined)
  guard.noteDomain(arm.uuid, true)
  return { arm, guest, ended }
}

/** As when the storage is gone: nothing is renewed any more. */
function cutStorage(): void {
  writer?.close()
}

/** Of this host, as the pool's reader sees it. */
async function seenLease() {
  const { sighting, ack } = await guard.sight(pool.place.pool, hostId)
  return sighting.kind === 'alive' ? { ...sighting.lease, ack } : null
}

describe('in class T', () => {
  test('a guest goes on for as long as the lease is renewed, and the watchdog is petted', async () => {
    begin('T', patient)
    const { guest } = await run()
    const before = pets
    const { seq } = await until('its lease is seen', seenLease)
    await until('it is petted', () => pets > before + 20)
    await until('its lease is renewed', async () => ((await seenLease())?.seq ?? 0) > seq + 3)
    expect(guest.exitCode ?? guest.signalCode).toBeNull()
    expect(resets).toEqual([])
  })

  test('without renewals it is killed, its pool unmounted, and the host goes on', async () => {
    begin('T')
    const { arm, ended } = await run()
    cutStorage()
    expect(await ended).toEqual([null, 'SIGKILL'])
    guard.noteDomain(arm.uuid, false)
    await until('it is unmounted', () => unmounted.length > 0)
    await until('it is let go of', () => guard.status().length === 0)
    const before = pets
    await until('it is petted again', () => pets > before)
    expect(resets).toEqual([])
  })

  test('where it cannot be unmounted the host is reset, and not petted before', async () => {
    canUnmount = false
    begin('T')
    const { ended } = await run()
    cutStorage()
    await ended
    const before = pets
    await until('the host is reset', () => resets.length > 0)
    expect(pets).toBe(before)
    expect(resets[0]).toContain('is not gone')
  })

  test('a guest that libvirt may still be about to create is not believed to be gone', async () => {
    begin('T')
    const arm = newArm()
    await until('the guard takes it', async () => (await guard.arm(arm)) === null)
    cutStorage()
    await until('the host is reset', () => resets.length > 0)
    expect(unmounted).toEqual([])
  })
})

describe('in class E', () => {
  test('nothing is killed for being slow', async () => {
    begin('E')
    const { arm, guest } = await run()
    cutStorage()
    guard.noteIoError(arm)
    await until('it may not be resumed', () => guard.status()[0]?.mayResume === false)
    expect(guest.exitCode ?? guest.signalCode).toBeNull()
    expect(resets).toEqual([])
  })
})

test('a drill in class T, where a pill for some is one for all, ends nothing', async () => {
  begin('T', patient)
  const { guest } = await run()
  const before = await until('its lease is seen', seenLease)
  const pill = { kind: 'mailbox', epoch: 1, nonce: 9, targetIncarnation: before.incarnation } as const
  expect(await guard.sendPill(pool.place.pool, 0, { ...pill, scope: 'none' })).toBeNull()
  await until('it is answered', async () => (await seenLease())?.ack?.nonce === 9)
  const petted = pets
  await until('it pets on', () => pets > petted + 2)
  expect([guest.exitCode, guest.signalCode, unmounted, resets]).toEqual([null, null, [], []])
})

test('a guest that was stopped is disarmed; one that runs is not', async () => {
  begin('E')
  const { arm, guest, ended } = await run()
  guard.noteDomain(arm.uuid, false)
  const early = guard.disarm(arm)
  expect(guard.status()).toHaveLength(1)
  guest.kill('SIGTERM')
  await ended
  await until('nothing of it is left', async () => (await guard.disarm(arm)) === true)
  await early
  expect(guard.status()).toEqual([])
})

test('a guest that was started anew is ended as the first would have been', async () => {
  begin('E')
  const { arm, guest, ended } = await run()
  guest.kill('SIGKILL')
  await ended
  const second = startGuest(arm.uuid)
  const secondEnded = once(second, 'exit')
  guard.noteDomain(arm.uuid, true)
  guard.endGuest(arm.uuid)
  expect(await secondEnded).toEqual([null, 'SIGKILL'])
  guard.noteDomain(arm.uuid, false)
  await until('nothing of it is left', async () => (await guard.disarm(arm)) === true)
})

test('the next guard has the guests of the last', async () => {
  begin('E')
  const { arm, guest } = await run()
  guard.close()
  guard = startGuard('E')
  guard.start()
  expect(guard.status()).toMatchObject([{ uuid: arm.uuid, generation: 1 }])
  expect(guest.exitCode ?? guest.signalCode).toBeNull()
})

test('nothing is armed in a pool without a lease', async () => {
  begin('E')
  const arm = newArm()
  const elsewhere = { ...arm, pools: [{ pool: randomUUID(), poolClass: 'E', canUnmount } as const] }
  expect(await guard.arm(elsewhere)).toMatch(/^the guard has no lease in pool/)
})
