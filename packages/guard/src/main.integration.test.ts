// vpe-guard as it is started on a host, asked over its socket as an agent asks it, and killed.

import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  AttachPoolRequest,
  ClaimChange,
  ClaimOutcome,
  createRpcClientFactory,
  createUnixChannel,
  fromClientError,
  type GuardServiceClient,
  GuardServiceDefinition,
  LeaseSight,
  LockStep,
  PillScope,
  PoolClass,
} from '@vpe/proto'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { upMs } from './boot-time.ts'
import { until } from './testing/until.ts'

const MAIN = join(import.meta.dirname, 'main.ts')
const hostId = randomUUID()

let dir: string
let guard: ChildProcess
let client: GuardServiceClient
let close: () => void
let said: string

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'vpe-guard-'))
  const channel = createUnixChannel(join(dir, 'guard.sock'))
  client = createRpcClientFactory().create(GuardServiceDefinition, channel)
  close = () => channel.close()
  await start()
})
afterEach(async () => {
  close()
  await end('SIGTERM')
  rmSync(dir, { recursive: true, force: true })
})

async function start(more: NodeJS.ProcessEnv = {}): Promise<void> {
  guard = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', MAIN], {
    env: {
      ...process.env,
      VPE_HOST_ID: hostId,
      VPE_GUARD_SOCKET: join(dir, 'guard.sock'),
      VPE_GUARD_RECORD: join(dir, 'guard.json'),
      VPE_HA_PROFILE: 'fast',
      ...more,
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  said = ''
  guard.stderr?.on('data', (data) => {
    said += data
  })
  await until('it answers', () =>
    client.getArms({}).then(
      () => true,
      () => guard.exitCode !== null,
    ),
  )
}

async function end(signal: NodeJS.Signals): Promise<void> {
  if (guard.exitCode !== null || guard.signalCode !== null) return
  const exit = once(guard, 'exit')
  guard.kill(signal)
  await exit
}

const pool = () => ({
  poolUuid: randomUUID(),
  path: dir,
  clusterUuid: randomUUID(),
  slot: 0,
  slots: 4,
  poolClass: PoolClass.ENFORCED,
  canUnmount: true,
})

test('an instance is claimed and armed, and still is when the guard was killed', async () => {
  expect(statSync(join(dir, 'guard.sock')).mode & 0o777).toBe(0o600)
  const attached = pool()
  const { poolUuid } = attached
  await client.attachPool(attached)
  await client.attachPool(attached)
  const instance = { uuid: randomUUID(), generation: 3 }
  const claim = (change: ClaimChange) => client.changeClaim({ poolUuid, change, instance, epoch: 1 })
  await until('the claim is taken', async () => (await claim(ClaimChange.TAKE)).outcome === ClaimOutcome.DONE)
  await until('it is armed', async () => {
    const { refusal } = await client.armInstance({ instance, poolUuids: [poolUuid], askedMs: upMs() })
    return refusal === ''
  })
  const { arms, leases, profile, isWatchdogArmed } = await client.getArms({})
  expect({ leases, profile, isWatchdogArmed }).toEqual({
    leases: [
      {
        poolUuid,
        poolClass: PoolClass.ENFORCED,
        canUnmount: true,
        renewedMs: expect.any(Number),
        isStalled: false,
      },
    ],
    profile: 'fast',
    isWatchdogArmed: false,
  })
  const free = { mayResume: true, isNetworkCut: false, ending: '' }
  expect(arms).toEqual([{ instance, ...free, poolUuids: [poolUuid] }])
  await until('it sees its own lease', async () => {
    const { sight } = await client.sightLease({ poolUuid, hostUuid: hostId })
    return sight === LeaseSight.ALIVE
  })
  expect(existsSync(join(dir, '.ha', attached.clusterUuid, 'inst', instance.uuid))).toBe(true)

  await end('SIGKILL')
  await start()
  expect((await client.getArms({})).arms).toMatchObject([{ instance }])
  await until('the claim is still ours', async () => {
    return (await claim(ClaimChange.CHECK)).outcome === ClaimOutcome.DONE
  })
  await expect(client.detachPool({ poolUuid })).rejects.toSatisfy(
    (error: unknown) => fromClientError(error).code === 'IN_USE',
  )

  await client.noteDomain({ uuid: instance.uuid, isThere: false })
  await until('it is disarmed', async () => (await client.disarmInstance({ instance })).isDisarmed)
  expect((await claim(ClaimChange.RELEASE)).outcome).toBe(ClaimOutcome.DONE)
  await client.detachPool({ poolUuid })
})

test('the locks of a pool are tried before anyone has a lease in it', async () => {
  const { poolUuid, path, clusterUuid } = pool()
  const probed = AttachPoolRequest.fromPartial({ poolUuid, path, clusterUuid })
  const tried = await client.tryPoolLock({ pool: probed, step: LockStep.HOLD })
  expect(tried).toMatchObject({ isGranted: true, fault: '', fileSystem: expect.stringMatching(/./) })
  expect(tried.mountOptions).toContain('rw')
})

test('a drill is answered by way of the pool, ends nothing, and the lease goes on', async () => {
  const attached = pool()
  const { poolUuid } = attached
  await client.attachPool(attached)
  const instance = { uuid: randomUUID(), generation: 1 }
  await until('it is armed', async () => {
    const { refusal } = await client.armInstance({ instance, poolUuids: [poolUuid], askedMs: upMs() })
    return refusal === ''
  })
  const sight = () => client.sightLease({ poolUuid, hostUuid: hostId })
  await until('it is seen', async () => (await sight()).sight === LeaseSight.ALIVE)
  const { incarnation } = await sight()
  const pill = { epoch: 5, nonce: 77 }
  const target = { poolUuid, slot: attached.slot, pill, targetIncarnation: incarnation }
  expect((await client.sendPill({ ...target, scope: PillScope.NONE })).failure).toBe('')
  await until('it is answered', async () => (await sight()).ack?.nonce === pill.nonce)
  const after = await sight()
  expect(after).toMatchObject({ sight: LeaseSight.ALIVE, ack: pill })
  expect(after.incarnation).not.toBe(incarnation)
  expect((await client.getArms({})).arms).toMatchObject([{ instance, ending: '' }])

  // What a pill ends is said twice, and refused where the two do not fit together.
  for (const [scope, instances, why] of [
    [PillScope.UNSPECIFIED, [], /say whether the pill is for all/],
    [PillScope.NAMED, [], /names instances where it is for those/],
    [PillScope.ALL, [instance], /names instances where it is for those/],
    [PillScope.NONE, [instance], /names instances where it is for those/],
  ] as const) {
    const refused = await client.sendPill({ ...target, scope, instances: [...instances] }).then(
      () => '',
      (error: unknown) => fromClientError(error).message,
    )
    expect(refused).toMatch(why)
  }
})

test('nonsense is refused by name, and nothing comes of it', async () => {
  const refusal = (call: Promise<unknown>) =>
    call.then(
      () => 'nothing',
      (error: unknown) => fromClientError(error).message,
    )
  expect(await refusal(client.attachPool({ ...pool(), slot: 4 }))).toContain(
    'the slot must be one of the slots',
  )
  expect(await refusal(client.attachPool({ ...pool(), poolClass: PoolClass.UNSPECIFIED }))).toContain(
    'pool_class',
  )
  const poolUuid = randomUUID()
  expect(await refusal(client.sightLease({ poolUuid, hostUuid: hostId }))).toContain(
    `no lease in disk pool ${poolUuid}`,
  )
  expect(
    await refusal(
      client.armInstance({ instance: { uuid: 'x', generation: 1 }, poolUuids: [], askedMs: upMs() }),
    ),
  ).toContain('uuid')
  expect((await client.getArms({})).arms).toEqual([])
})

test('settings that are wrong are named', async () => {
  await end('SIGTERM')
  await start({ VPE_HOST_ID: 'me', VPE_WATCHDOG: 'dev' })
  await until('it says so', () => said.includes('VPE_HOST_ID') && said.includes('VPE_WATCHDOG'))
})
