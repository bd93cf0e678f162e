// An agent and a guard as processes, a libvirtd with real QEMU, a pool in a folder; no controller and no NATS. Guests have no system
// on their disk: they run all the same, and ignore the power button.

import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { readdirSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  ClaimChange,
  ClaimOutcome,
  createRpcClientFactory,
  createUnixChannel,
  DiskPoolSpec,
  fromClientError,
  type GuardServiceClient,
  GuardServiceDefinition,
  HaPhase,
  type InstanceReport,
  InstanceSpec,
  PoolClass,
  Power,
  SystemDiskKind,
} from '@vpe/proto'
import { execa } from 'execa'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { AgentProcess } from '../testing/agent-process.ts'
import { TestLab, until } from '../testing/lab.ts'
import { markedPool } from '../testing/marked-pool.ts'

const GUARD = fileURLToPath(new URL('../../../guard/src/main.ts', import.meta.url))
const hostId = randomUUID()
const clusterUuid = randomUUID()
const cgroup = `vpe-test-${randomUUID()}`
const image = { uuid: randomUUID(), url: '', sha256: '' }
const pool = DiskPoolSpec.fromPartial({
  uuid: randomUUID(),
  kind: 'dir',
  systemDisks: SystemDiskKind.OVERLAY,
})
let lab: TestLab
let guard: GuardProcess
let agent: AgentProcess
let bootId: string

/** A guard, and what asks it. */
class GuardProcess {
  readonly client: GuardServiceClient
  readonly socket: string
  readonly #process: ChildProcess
  readonly #close: () => void

  constructor(name: string, id: string) {
    this.socket = join(lab.dir, `${name}.sock`)
    const env = {
      ...process.env,
      VPE_HOST_ID: id,
      VPE_GUARD_SOCKET: this.socket,
      VPE_GUARD_RECORD: join(lab.dir, `${name}.json`),
      VPE_GUARD_CGROUP: cgroup,
      VPE_HA_PROFILE: 'default',
    }
    this.#process = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', GUARD], {
      env,
      stdio: 'ignore',
    })
    const channel = createUnixChannel(this.socket)
    this.client = createRpcClientFactory().create(GuardServiceDefinition, channel)
    this.#close = () => channel.close()
  }

  async ready(): Promise<this> {
    await until('the guard answers', () =>
      this.client.getArms({}).then(
        () => true,
        () => false,
      ),
    )
    return this
  }

  async end(): Promise<void> {
    this.#close()
    const exit = once(this.#process, 'exit')
    this.#process.kill('SIGKILL')
    await exit
  }
}

beforeAll(async () => {
  lab = await TestLab.start()
  Object.assign(pool, markedPool(join(lab.dir, 'pool'), pool.uuid))
  const file = join(lab.folder('images'), 'empty.qcow2')
  await execa('qemu-img', ['create', '-q', '-f', 'qcow2', file, '16M'])
  image.url = `file://${file}`
  writeFileSync(join(lab.folder('state'), 'identity.json'), JSON.stringify({ hostId }))
  guard = await new GuardProcess('guard', hostId).ready()
  agent = await startAgent()
  bootId = (await agent.client.getHaReport({})).bootId
  await agent.client.setLeases({ epoch: 1, pools: [lease(0)] })
})
afterAll(async () => {
  await agent.end('SIGTERM')
  await lab[Symbol.asyncDispose]()
  await guard.end()
  const root = (await execa('findmnt', ['-nro', 'TARGET', '-t', 'cgroup2'])).stdout.split('\n')[0] ?? ''
  const group = join(root, cgroup)
  const children = readdirSync(group, { withFileTypes: true }).filter((entry) => entry.isDirectory())
  for (const { name } of children) rmdirSync(join(group, name))
  rmdirSync(group)
})

function startAgent(): Promise<AgentProcess> {
  return new AgentProcess({
    VPE_AGENT_STATE_DIR: lab.folder('state'),
    VPE_LIBVIRT_URI: lab.libvirtUri,
    // Nobody is there.
    VPE_NATS_URL: 'nats://127.0.0.1:9',
    VPE_AGENT_IMAGE_DIRS: lab.folder('images'),
    VPE_AGENT_GUARD_SOCKET: guard.socket,
  }).ready()
}

function lease(slot: number) {
  const { uuid: poolUuid, path } = pool
  const rest = { clusterUuid, slot, slots: 4, poolClass: PoolClass.ENFORCED, canUnmount: false }
  return { poolUuid, path, ...rest }
}

function makeSpec(changes: Partial<InstanceSpec> = {}): InstanceSpec {
  const pools = [{ poolUuid: pool.uuid, poolClass: PoolClass.ENFORCED, canUnmount: false }]
  return InstanceSpec.fromPartial({
    uuid: randomUUID(),
    name: 'web',
    generation: 1,
    power: Power.ON,
    ha: true,
    vcpus: 1,
    memoryMib: 64,
    image,
    diskPool: pool,
    stopGraceMs: 1_000,
    ownership: { generation: 1, bootId, pools },
    ...changes,
  })
}

/** Applies until it succeeds, as a controller does: a lease may not have been renewed lately on a machine that is busy. */
async function start(spec: InstanceSpec): Promise<InstanceReport | undefined> {
  let report: InstanceReport | undefined
  await until('it is started', async () => {
    report = await agent.apply(spec).then(
      (applied) => applied.report,
      () => undefined,
    )
    return report !== undefined
  })
  return report
}

const pidOf = ({ uuid }: InstanceSpec) => lab.qemuPid(`vpe-${uuid}`)
const phaseOf = async ({ uuid }: InstanceSpec) => {
  const { instances } = await agent.client.getHaReport({})
  return instances.find(({ instance }) => instance?.uuid === uuid)?.phase
}
const armOf = async ({ uuid }: InstanceSpec) => {
  const { arms } = await guard.client.getArms({})
  return arms.find(({ instance }) => instance?.uuid === uuid)
}

test('an owned guest is claimed and armed, kept on by host and agent alone, and let go of at its end', async () => {
  const spec = makeSpec()
  const instance = { uuid: spec.uuid, generation: 1 }
  expect(await start(spec)).toMatchObject({ power: Power.ON, generation: 1 })
  expect(await armOf(spec)).toMatchObject({ instance, poolUuids: [pool.uuid] })
  const check = { poolUuid: pool.uuid, change: ClaimChange.CHECK, instance, epoch: 1 }
  expect(await guard.client.changeClaim(check)).toMatchObject({ outcome: ClaimOutcome.DONE })
  const xml = await lab.virsh('dumpxml', `vpe-${spec.uuid}`)
  expect(xml).toContain("error_policy='stop' rerror_policy='stop'")
  expect(xml).toMatch(/<watchdog model='i6300esb' action='reset'>/)

  const first = pidOf(spec)
  process.kill(first, 'SIGKILL')
  await until('it runs again', async () => ![0, first].includes(pidOf(spec)))
  await until('that is reported', async () => (await phaseOf(spec)) === HaPhase.RUNNING)
  expect(await agent.report(spec.uuid)).toMatchObject({ power: Power.ON, restarts: 1 })

  const second = pidOf(spec)
  await agent.end('SIGKILL')
  agent = await startAgent()
  await until('it is taken up', async () => (await phaseOf(spec)) === HaPhase.RUNNING)
  expect(pidOf(spec)).toBe(second)
  process.kill(second, 'SIGKILL')
  await until('it runs once more', async () => ![0, second].includes(pidOf(spec)))
  await until('that is reported', async () => (await phaseOf(spec)) === HaPhase.RUNNING)

  const off = await agent.apply({ ...spec, generation: 2, power: Power.OFF })
  expect(off.report).toMatchObject({ power: Power.OFF })
  expect(await armOf(spec)).toBeUndefined()
  expect(await phaseOf(spec)).toBe(HaPhase.CLOSED)
  expect(await guard.client.changeClaim(check)).toMatchObject({ outcome: ClaimOutcome.OTHERS })
})

test('a guard that is killed and comes back has its guests, which run on', async () => {
  const spec = makeSpec()
  await start(spec)
  const pid = pidOf(spec)
  await guard.end()
  guard = await new GuardProcess('guard', hostId).ready()
  expect(await armOf(spec)).toMatchObject({ instance: { uuid: spec.uuid } })
  await until('its claim is checked', async () => (await armOf(spec))?.mayResume === true)
  await until('the agent knows', async () => (await agent.client.getHaReport({})).guardFault === '')
  expect(pidOf(spec)).toBe(pid)
  await agent.client.orderHa({
    epoch: 1,
    order: {
      $case: 'release',
      value: { instance: { uuid: spec.uuid, generation: 1 }, pools: spec.ownership?.pools ?? [] },
    },
  })
  await until('it is closed', async () => (await phaseOf(spec)) === HaPhase.CLOSED)
  expect(await lab.virsh('domstate', `vpe-${spec.uuid}`)).toBe('shut off')
})

test('what another host has claimed is not started', async () => {
  const spec = makeSpec()
  const other = await new GuardProcess('other', randomUUID()).ready()
  try {
    await other.client.attachPool(lease(1))
    const instance = { uuid: spec.uuid, generation: 7 }
    const take = { poolUuid: pool.uuid, change: ClaimChange.TAKE, instance, epoch: 1 }
    await until('it has it', async () => {
      return (await other.client.changeClaim(take)).outcome === ClaimOutcome.DONE
    })
    let why = ''
    await until('it is refused for that', async () => {
      why = await agent.apply(spec).then(
        () => 'nothing was in the way',
        (error: unknown) => fromClientError(error).message,
      )
      return !why.includes('is not fresh')
    })
    expect(why).toContain('another host holds its claim')
    expect(pidOf(spec)).toBe(0)
    expect(await armOf(spec)).toBeUndefined()
  } finally {
    await other.end()
  }
})
