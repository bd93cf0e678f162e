// The whole agent as a process, against libvirtd, QEMU and NATS. Guests have no system on their disk: they
// run all the same, and ignore the power button.

import { randomUUID } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectBus, decodeHeartbeat } from '@vpe/bus'
import { TestNatsServer } from '@vpe/bus/testing'
import { writeFillingDisk } from '@vpe/node-libvirt/testing/filling-disk'
import {
  DiskPoolSpec,
  fromClientError,
  HoldUp,
  type InstanceSpec,
  Power,
  RebootKind,
  StopCause,
  SystemDiskKind,
} from '@vpe/proto'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { AgentProcess } from './testing/agent-process.ts'
import { TestLab, until } from './testing/lab.ts'
import { markedPool } from './testing/marked-pool.ts'

let lab: TestLab
let nats: TestNatsServer
let bus: Awaited<ReturnType<typeof connectBus>>
let agent: AgentProcess
const subjects: string[] = []
let digest = ''
/** 16 MiB of storage. */
let smallDir: string

const pool = DiskPoolSpec.fromPartial({
  uuid: randomUUID(),
  kind: 'dir',
  systemDisks: SystemDiskKind.OVERLAY,
})
const image = { uuid: randomUUID(), url: '', sha256: '' }

beforeAll(async () => {
  // Before libvirtd, which sees the mounts that were there when it began.
  smallDir = mkdtempSync(join(tmpdir(), 'vpe-small-'))
  await execa('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'vpe-test', smallDir])
  ;[lab, nats] = await Promise.all([TestLab.start(), TestNatsServer.start()])
  Object.assign(pool, markedPool(join(lab.dir, 'pool'), pool.uuid))
  const file = join(lab.folder('images'), 'empty.qcow2')
  await execa('qemu-img', ['create', '-q', '-f', 'qcow2', file, '16M'])
  image.url = `file://${file}`
  bus = await connectBus(nats.url, 'test')
  void watch()
  agent = await new AgentProcess(environment()).ready()
})
afterAll(async () => {
  await agent.end('SIGTERM')
  await bus.close()
  await nats[Symbol.asyncDispose]()
  await lab[Symbol.asyncDispose]()
  await execa('umount', ['--lazy', smallDir])
  rmdirSync(smallDir)
})

function environment(): Record<string, string> {
  return {
    VPE_AGENT_STATE_DIR: lab.folder('state'),
    VPE_LIBVIRT_URI: lab.libvirtUri,
    VPE_NATS_URL: nats.url,
    VPE_AGENT_IMAGE_DIRS: lab.folder('images'),
  }
}

async function watch(): Promise<void> {
  for await (const message of bus.subscribe('vpe.>')) {
    subjects.push(message.subject)
    if (!message.subject.endsWith('.heartbeat')) continue
    const decoded = decodeHeartbeat(message.string())
    if ('heartbeat' in decoded) digest = decoded.heartbeat.digest
  }
}

function makeSpec(changes: Partial<InstanceSpec> = {}): InstanceSpec {
  return {
    uuid: randomUUID(),
    name: 'web',
    generation: 1,
    power: Power.ON,
    ha: false,
    vcpus: 1,
    memoryMib: 64,
    diskBytes: 0,
    image,
    diskPool: pool,
    disks: [],
    stopGraceMs: 1_000,
    rebootGeneration: 0,
    rebootKind: RebootKind.UNSPECIFIED,
    diskGeneration: 0,
    seed: undefined,
    hasDisk: false,
    ownership: undefined,
    diskSnapshotUuid: '',
    diskSource: undefined,
    ...changes,
  }
}

const domain = (spec: InstanceSpec) => `vpe-${spec.uuid}`
const killGuest = (spec: InstanceSpec, signal: NodeJS.Signals = 'SIGKILL') =>
  process.kill(lab.qemuPid(domain(spec)), signal)

async function failureOf(call: Promise<unknown>) {
  try {
    await call
  } catch (error) {
    return fromClientError(error)
  }
  throw new Error('it should have failed')
}

describe('an instance', () => {
  test('comes to run, as everybody can see', async () => {
    const spec = makeSpec({ name: 'R&D <"web"> 中文', vcpus: 2 })
    const { report, steps } = await agent.apply(spec)
    expect(report).toEqual({
      uuid: spec.uuid,
      generation: 1,
      power: Power.ON,
      stopCause: StopCause.UNSPECIFIED,
      fault: '',
      converging: false,
      restarts: 0,
      holdUp: HoldUp.UNSPECIFIED,
    })
    expect(steps).toEqual(expect.arrayContaining([expect.stringContaining('starting the guest')]))
    expect(await lab.virsh('domstate', domain(spec))).toBe('running')
    expect(await lab.virsh('desc', '--title', domain(spec))).toBe(spec.name)
    expect(await lab.virsh('dominfo', domain(spec))).toMatch(/Autostart:\s+disable/)
    expect(await lab.virsh('domdisplay', domain(spec))).toMatch(/^vnc:\/\/\/|^vnc\+unix|\.sock$/)
    expect(existsSync(join(lab.dir, 'state', 'console', `${spec.uuid}.log`))).toBe(true)
    const inventory = await agent.client.getInventory({})
    expect(subjects).toContain(`vpe.host.${inventory.hostId}.changed`)
    await until('a heartbeat with this digest', () => digest === inventory.digest)
  })

  test('that is as wanted is left alone', async () => {
    const spec = makeSpec()
    await agent.apply(spec)
    const pid = lab.qemuPid(domain(spec))
    const { steps } = await agent.apply(spec)
    expect(steps).toEqual([])
    expect(lab.qemuPid(domain(spec))).toBe(pid)
  })

  test('whose guest ignores the power button is powered off after its grace time', async () => {
    const spec = makeSpec()
    await agent.apply(spec)
    const startMs = performance.now()
    const { report, steps } = await agent.apply({ ...spec, generation: 2, power: Power.OFF })
    expect(performance.now() - startMs).toBeGreaterThan(1_000)
    expect(report).toMatchObject({ power: Power.OFF, stopCause: StopCause.REQUESTED, generation: 2 })
    expect(steps.join()).toMatch(
      /asking the guest.*powering the guest off: the guest did not shut down within 1 s/,
    )
    expect(await lab.virsh('domstate', '--reason', domain(spec))).toBe('shut off (destroyed)')
  })

  test('whose process dies stays off, and is reported as crashed', async () => {
    const spec = makeSpec()
    await agent.apply(spec)
    killGuest(spec)
    const isSettled = async () => {
      const report = await agent.report(spec.uuid)
      return report?.power === Power.OFF && report.stopCause === StopCause.CRASH && !report.converging
    }
    await until('the crash is reported', isSettled)
    expect(await lab.virsh('metadata', domain(spec), 'https://vpe.dev/xmlns/instance/1')).toContain(
      'power="off"',
    )
  })

  test('whose process is told to end by the host was not stopped by its guest', async () => {
    const spec = makeSpec()
    await agent.apply(spec)
    killGuest(spec, 'SIGTERM')
    const isSettled = async () => {
      const report = await agent.report(spec.uuid)
      return report?.power === Power.OFF && !report.converging
    }
    await until('it is off', isSettled)
    expect(await agent.report(spec.uuid)).toMatchObject({ stopCause: StopCause.UNSPECIFIED, generation: 1 })
  })

  test('that is highly available is back at once when its process dies', async () => {
    const spec = makeSpec({ ha: true })
    await agent.apply(spec)
    const pid = lab.qemuPid(domain(spec))
    killGuest(spec)
    const isBack = async () => {
      const report = await agent.report(spec.uuid)
      return report?.power === Power.ON && !report.converging && ![0, pid].includes(lab.qemuPid(domain(spec)))
    }
    await until('it is back', isBack)
  })

  test('that is highly available stands still while its pool is full, and goes on when there is room', async () => {
    const small = { ...pool, ...markedPool(smallDir) }
    const ballast = join(smallDir, 'ballast')
    writeFileSync(ballast, Buffer.alloc(12 * 1024 ** 2))
    const file = join(lab.folder('images'), 'filling')
    await writeFillingDisk(`${file}.raw`, 12 * 1024 ** 2)
    await execa('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', `${file}.raw`, `${file}.qcow2`])
    const filling = { uuid: randomUUID(), url: `file://${file}.qcow2`, sha256: '' }
    const spec = makeSpec({ ha: true, image: filling, diskPool: small })
    await agent.apply(spec)
    const pid = lab.qemuPid(domain(spec))
    const isSeen = async (power: Power, holdUp: HoldUp) => {
      const report = await agent.report(spec.uuid)
      return report?.power === power && report.holdUp === holdUp && !report.converging
    }
    await until('it stands still', () => isSeen(Power.PAUSED, HoldUp.FULL_POOL))
    const isTried = () => agent.said('there may be room in its pool: letting it go on')
    await until('that was tried in vain', isTried)
    await until('it stands still again', () => isSeen(Power.PAUSED, HoldUp.FULL_POOL))

    rmSync(ballast)
    await until('it goes on', () => isSeen(Power.ON, HoldUp.UNSPECIFIED))
    expect(lab.qemuPid(domain(spec))).toBe(pid)
    await agent.client.removeInstance({ epoch: 1, uuid: spec.uuid, generation: 2, diskPool: small })
  })

  test('gets another image, and a disk on it', async () => {
    const spec = makeSpec()
    await agent.apply(spec)
    const other = join(lab.folder('images'), 'other.raw')
    writeFileSync(other, Buffer.alloc(1024 ** 2))
    const rebuilt = {
      ...spec,
      generation: 2,
      image: { uuid: randomUUID(), url: `file://${other}`, sha256: '' },
    }
    expect((await agent.apply(rebuilt)).report).toMatchObject({ power: Power.ON, generation: 2 })
    const disk = join(pool.path, `instance-${spec.uuid}.qcow2`)
    const { stdout } = await execa('qemu-img', ['info', '-U', '--output=json', disk])
    expect(JSON.parse(stdout)['backing-filename']).toBe(`image-${rebuilt.image.uuid}.raw`)
  })

  test('whose guest does not let go of a disk keeps it, and is told what helps; off, it gives it up', async () => {
    const disk = { uuid: randomUUID(), diskPool: pool, sizeBytes: 1024 ** 2 }
    await agent.client.ensureDisk({ epoch: 1, disk })
    const spec = makeSpec()
    await agent.apply(spec)
    const withDisk = { ...spec, generation: 2, disks: [{ disk, target: 'vdb' }] }
    expect((await agent.apply(withDisk)).report).toMatchObject({ generation: 2, power: Power.ON })
    const file = `disk-${disk.uuid}.raw`
    expect(await lab.virsh('domblklist', domain(spec))).toContain(file)

    // A guest without a system hears nothing.
    expect(await failureOf(agent.apply({ ...spec, generation: 3 }))).toMatchObject({
      code: 'DEVICE_BUSY',
      message: expect.stringContaining('stop the instance'),
    })
    expect(await failureOf(agent.client.removeDisk({ epoch: 1, disk }))).toMatchObject({ code: 'IN_USE' })
    expect((await agent.apply({ ...withDisk, generation: 4 })).report).toMatchObject({ power: Power.ON })
    expect(await lab.virsh('domblklist', domain(spec))).toContain(file)

    await agent.apply({ ...spec, generation: 5, power: Power.OFF })
    expect(await lab.virsh('domblklist', domain(spec), '--inactive')).not.toContain(file)
    await agent.client.removeDisk({ epoch: 1, disk })
    expect(existsSync(join(pool.path, file))).toBe(false)
  })

  test('that is removed leaves nothing', async () => {
    const spec = makeSpec()
    await agent.apply(spec)
    const removal = { epoch: 1, uuid: spec.uuid, generation: 2, diskPool: pool }
    await agent.client.removeInstance(removal)
    await agent.client.removeInstance(removal)
    expect(await lab.virsh('list', '--all', '--name')).not.toContain(spec.uuid)
    expect(readdirSync(pool.path).join()).not.toContain(spec.uuid)
    expect(readdirSync(join(lab.dir, 'state', 'console')).join()).not.toContain(spec.uuid)
    expect(await failureOf(agent.apply(spec))).toMatchObject({ code: 'STALE_GENERATION' })
  })

  test('is refused when it makes no sense, and nothing is changed', async () => {
    const before = await lab.virsh('list', '--all', '--name')
    expect(await failureOf(agent.apply(makeSpec({ vcpus: 0 })))).toMatchObject({
      code: 'INVALID_ARGUMENT',
      fields: [expect.objectContaining({ field: 'spec.vcpus' })],
    })
    expect(await failureOf(agent.apply(makeSpec({ diskBytes: 512 })))).toMatchObject({
      code: 'INVALID_ARGUMENT',
    })
    const relative = { ...pool, uuid: randomUUID(), path: 'disks' }
    expect(await failureOf(agent.apply(makeSpec({ diskPool: relative })))).toMatchObject({
      code: 'DISK_POOL_FAILED',
    })
    const page = join(lab.folder('images'), 'page.html')
    writeFileSync(page, '<html>')
    const wrong = { uuid: randomUUID(), url: `file://${page}`, sha256: '' }
    expect(await failureOf(agent.apply(makeSpec({ image: wrong })))).toMatchObject({ code: 'IMAGE_INVALID' })
    const impossible = makeSpec({ memoryMib: 2 ** 31 - 1 })
    expect(await failureOf(agent.apply(impossible))).toMatchObject({ code: 'HYPERVISOR_FAILED' })
    await agent.client.removeInstance({ epoch: 1, uuid: impossible.uuid, generation: 2, diskPool: pool })
    expect(await lab.virsh('list', '--all', '--name')).toBe(before)
  })
})

describe('the agent', () => {
  test('killed, knows everything again; guests run on, and lower epochs are still refused', async () => {
    const spec = makeSpec({ generation: 3 })
    await agent.apply(spec, 5)
    const pid = lab.qemuPid(domain(spec))
    const before = await agent.client.getInventory({})
    await agent.end('SIGKILL')
    agent = await new AgentProcess(environment()).ready()
    expect(await agent.client.getInventory({})).toEqual(before)
    expect(lab.qemuPid(domain(spec))).toBe(pid)
    expect(await failureOf(agent.apply(makeSpec(), 4))).toMatchObject({ code: 'STALE_EPOCH' })
    expect((await agent.apply(spec, 5)).steps).toEqual([])
    expect(await failureOf(agent.apply({ ...spec, generation: 2 }, 5))).toMatchObject({
      code: 'STALE_GENERATION',
    })
  })

  test('killed in the middle of creations, ends them when asked again: none twice, nothing left over', async () => {
    const specs = Array.from({ length: 4 }, () => makeSpec())
    const cutShort = specs.map((spec) => agent.apply(spec, 5).catch(() => null))
    const isUnderWay = () => agent.log.filter(({ step }) => step === 'make-system-disk').length >= 2
    await until('some have a disk', isUnderWay)
    await agent.end('SIGKILL')
    await Promise.all(cutShort)
    agent = await new AgentProcess(environment()).ready()
    const reports = await Promise.all(specs.map((spec) => agent.apply(spec, 5)))
    expect(reports.map(({ report }) => report.power)).toEqual(specs.map(() => Power.ON))
    const running = (await lab.virsh('list', '--name')).split('\n')
    for (const spec of specs) expect(running.filter((name) => name === domain(spec))).toHaveLength(1)
    expect(readdirSync(pool.path).filter((name) => name.endsWith('.tmp'))).toEqual([])
    await Promise.all(
      specs.map(({ uuid }) => agent.client.removeInstance({ epoch: 5, uuid, generation: 2, diskPool: pool })),
    )
  })

  test('brings back what is highly available and died while it was away', async () => {
    const spec = makeSpec({ ha: true })
    await agent.apply(spec, 5)
    await agent.end('SIGKILL')
    killGuest(spec)
    agent = await new AgentProcess(environment()).ready()
    await until('it is back', async () => (await agent.report(spec.uuid))?.power === Power.ON)
  })

  test('outlives libvirtd, and keeps and makes guests again', async () => {
    const spec = makeSpec({ ha: true })
    await agent.apply(spec, 5)
    const pid = lab.qemuPid(domain(spec))
    await lab.killLibvirtd()
    await until('it noticed', () => agent.said('libvirt is away; guests run on'))
    expect(await failureOf(agent.client.getInventory({}))).toMatchObject({ code: 'UNAVAILABLE' })
    await lab.startDaemons()
    await until('it is connected again', () => agent.said('libvirt is back'))
    expect(lab.qemuPid(domain(spec))).toBe(pid)
    killGuest(spec)
    const isBack = async () =>
      (await lab.virsh('domstate', domain(spec))) === 'running' &&
      ![0, pid].includes(lab.qemuPid(domain(spec)))
    await until('the guest is back', () => isBack().catch(() => false))
    expect((await agent.apply(makeSpec(), 5)).report.power).toBe(Power.ON)
  })

  test('works on without NATS, and beats again when it is back', async () => {
    await nats.kill()
    await until('it noticed', () => agent.said('NATS is away; the agent works on without it'))
    expect((await agent.apply(makeSpec(), 5)).report.power).toBe(Power.ON)
    await nats.start()
    await until('it is connected again', () => agent.said('NATS is back'))
    const inventory = await agent.client.getInventory({})
    await until('a heartbeat with the present digest', () => digest === inventory.digest)
  })

  test('ends cleanly when told to, also in the middle of work, and guests run on', async () => {
    const spec = makeSpec({ stopGraceMs: 60_000 })
    await agent.apply(spec, 5)
    const stopping = failureOf(agent.apply({ ...spec, generation: 2, power: Power.OFF }, 5))
    const isAsked = () => agent.log.some(({ step, instance }) => step === 'mark' && instance === spec.uuid)
    await until('the guest is asked to shut down', isAsked)
    const startMs = performance.now()
    expect(await agent.end('SIGTERM')).toBe(0)
    // Less than what it gives to calls that do not end.
    expect(performance.now() - startMs).toBeLessThan(10_000)
    expect(await stopping).toMatchObject({ code: 'UNAVAILABLE' })
    expect(await lab.virsh('domstate', domain(spec))).toBe('running')
    agent = await new AgentProcess(environment()).ready()
  })

  test('killed in the middle of a reboot goes on with it, and the guest boots once', async () => {
    const spec = makeSpec({ ha: true, stopGraceMs: 60_000 })
    await agent.apply(spec, 5)
    const reboot = { ...spec, generation: 2, rebootGeneration: 2 }
    const cut = failureOf(agent.apply(reboot, 5))
    const isAsked = () => agent.log.some(({ step, instance }) => step === 'mark' && instance === spec.uuid)
    await until('the guest is asked to shut down', isAsked)
    await agent.end('SIGKILL')
    await cut
    const before = lab.qemuPid(domain(spec))
    agent = await new AgentProcess(environment()).ready()
    const goOn = { ...reboot, stopGraceMs: 500 }
    expect((await agent.apply(goOn, 5)).report).toMatchObject({ generation: 2, power: Power.ON, restarts: 0 })
    const after = lab.qemuPid(domain(spec))
    expect([0, before]).not.toContain(after)
    expect((await agent.apply(goOn, 5)).steps).toEqual([])
    expect(lab.qemuPid(domain(spec))).toBe(after)
  })

  test('pauses a guest, and leaves alone what somebody else has paused', async () => {
    const spec = makeSpec()
    await agent.apply(spec, 5)
    const paused = { ...spec, generation: 2, power: Power.PAUSED }
    expect((await agent.apply(paused, 5)).report).toMatchObject({ generation: 2, power: Power.PAUSED })
    expect(await lab.virsh('domstate', domain(spec))).toBe('paused')
    await agent.apply({ ...spec, generation: 3 }, 5)
    expect(await lab.virsh('domstate', domain(spec))).toBe('running')

    await lab.virsh('suspend', domain(spec))
    const renamed = { ...spec, generation: 4, name: 'other' }
    expect((await agent.apply(renamed, 5)).report).toMatchObject({ generation: 4, power: Power.PAUSED })
    expect(await lab.virsh('domstate', domain(spec))).toBe('paused')
    expect(await lab.virsh('desc', '--config', '--title', domain(spec))).toBe('other')
  })

  test('waits for libvirt, and says so', async () => {
    const early = new AgentProcess({
      ...environment(),
      VPE_AGENT_STATE_DIR: lab.folder('early'),
      VPE_LIBVIRT_URI: `qemu:///system?socket=${lab.dir}/nobody`,
    })
    await until('it says so', () => early.said('waiting for libvirt'))
    expect(await early.end('SIGTERM')).toBe(0)
  })

  test('starts without NATS, and says so', async () => {
    const early = new AgentProcess({
      ...environment(),
      VPE_AGENT_STATE_DIR: lab.folder('early'),
      VPE_NATS_URL: 'nats://127.0.0.1:1',
    })
    await early.ready()
    expect(early.log.some(({ msg }) => String(msg).startsWith('NATS is away'))).toBe(true)
    // Another host by its id: none of these domains is its own.
    expect((await early.client.getInventory({})).instances).toEqual([])
    expect(await early.end('SIGTERM')).toBe(0)
  })

  test('refuses settings that are wrong, by name', async () => {
    const wrong = new AgentProcess({ VPE_AGENT_STATE_DIR: 'state', VPE_AGENT_LISTEN: '0.0.0.0:7702' })
    expect(await wrong.ended).toBe(1)
    expect(wrong.stderr).toContain('VPE_AGENT_STATE_DIR=state')
  })

  test('keeps its identity', () => {
    const { hostId } = JSON.parse(readFileSync(join(lab.dir, 'state', 'identity.json'), 'utf8'))
    expect(subjects.some((subject) => subject === `vpe.host.${hostId}.heartbeat`)).toBe(true)
  })
})
