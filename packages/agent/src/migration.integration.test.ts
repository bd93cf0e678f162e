// A running guest from one libvirtd to another, with real QEMU and a real system in it that counts on its serial
// line. What the two hosts share is a folder, as they would an NFS export.

import { randomUUID } from 'node:crypto'
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import {
  Departure,
  type DepartureReport,
  type DiskCopy,
  DiskPoolSpec,
  fromClientError,
  type InstanceSpec,
  type MigrationTarget,
  Power,
  RebootKind,
  SystemDiskKind,
} from '@vpe/proto'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { ensureDemoImage } from '../../../deploy/src/demo-image.ts'
import { AgentProcess } from './testing/agent-process.ts'
import { TestLab, until } from './testing/lab.ts'
import { markedPool } from './testing/marked-pool.ts'

interface Host {
  readonly lab: TestLab
  agent: AgentProcess
}

const BOOT_MS = 240_000
const COUNTING = '#!/bin/sh\ni=0; while :; do i=$((i+1)); echo "count $i."; usleep 50000; done\n'

const work = mkdtempSync(join(tmpdir(), 'vpe-migrate-'))
const pool = DiskPoolSpec.fromPartial({ kind: 'dir', systemDisks: SystemDiskKind.OVERLAY })
const image = { uuid: randomUUID(), url: '', sha256: '' }
let a: Host
let b: Host

beforeAll(async () => {
  const path = await ensureDemoImage(process.env.VPE_CACHE ?? join(work, 'cache'))
  image.url = `file://${path}`
  Object.assign(pool, markedPool(join(work, 'pool')))
  ;[a, b] = await Promise.all([startHost(), startHost()])
})
afterAll(async () => {
  for (const { agent, lab } of [a, b]) {
    await agent.end('SIGTERM')
    await lab[Symbol.asyncDispose]()
  }
  rmSync(work, { recursive: true, force: true })
})
afterEach(async () => {
  for (const { lab } of [a, b]) {
    for (const name of (await lab.virsh('list', '--all', '--name')).split('\n').filter(Boolean)) {
      await lab.virsh('destroy', name).catch(() => '')
      await lab.virsh('undefine', name).catch(() => '')
    }
  }
})

async function startHost(): Promise<Host> {
  const lab = await TestLab.start({ isReached: true })
  return { lab, agent: await startAgent(lab) }
}

function startAgent(lab: TestLab): Promise<AgentProcess> {
  return new AgentProcess({
    VPE_AGENT_STATE_DIR: lab.folder('agent'),
    VPE_LIBVIRT_URI: lab.libvirtUri,
    VPE_NATS_URL: 'nats://127.0.0.1:1',
    VPE_AGENT_IMAGE_DIRS: dirname(image.url.slice('file://'.length)),
    VPE_AGENT_MIGRATION_URI: lab.migrationUri,
  }).ready()
}

function makeSpec(changes: Partial<InstanceSpec> = {}): InstanceSpec {
  return {
    uuid: randomUUID(),
    name: 'counter',
    generation: 1,
    power: Power.ON,
    ha: true,
    vcpus: 1,
    memoryMib: 192,
    diskBytes: 0,
    image,
    diskPool: pool,
    disks: [],
    stopGraceMs: 1_000,
    rebootGeneration: 0,
    rebootKind: RebootKind.UNSPECIFIED,
    diskGeneration: 0,
    seed: { hostname: 'counter', sshKeys: [], userData: COUNTING },
    hasDisk: false,
    ownership: undefined,
    diskSnapshotUuid: '',
    diskSource: undefined,
    ...changes,
  }
}

/** The words of a guest on its serial line, kept also when its host forgets them. */
class SerialLog {
  text = ''
  readonly #path: string
  #fd: number | null = null

  constructor({ lab }: Host, { uuid }: InstanceSpec) {
    this.#path = join(lab.folder('agent'), 'console', `${uuid}.log`)
  }

  read(): string {
    if (this.#fd === null && existsSync(this.#path)) this.#fd = openSync(this.#path, 'r')
    const buffer = Buffer.alloc(65_536)
    while (this.#fd !== null) {
      const length = readSync(this.#fd, buffer)
      if (length === 0) break
      this.text += buffer.toString('latin1', 0, length)
    }
    return this.text
  }

  close(): void {
    if (this.#fd !== null) closeSync(this.#fd)
  }
}

const counts = (text: string) => [...text.matchAll(/count (\d+)\./g)].map(([, number]) => Number(number))

async function counting(host: Host, changes: Partial<InstanceSpec> = {}) {
  const spec = makeSpec(changes)
  await host.agent.apply(spec)
  const log = new SerialLog(host, spec)
  await until('the guest counts', () => counts(log.read()).length > 5, BOOT_MS)
  return { spec, log, next: { ...spec, generation: 2, hasDisk: true } }
}

async function prepare(
  { agent }: Host,
  spec: InstanceSpec,
  wish: { copies?: readonly DiskCopy[]; postCopy?: boolean } = {},
): Promise<MigrationTarget> {
  const { copies = [], postCopy = false } = wish
  const { target } = await agent.client.prepareMigration({ epoch: 1, spec, copies: [...copies], postCopy })
  if (!target) throw new Error('an answer without a target')
  return target
}

/** Migrates, and returns what is said at the end. */
async function migrate(
  from: Host,
  { uuid, generation }: InstanceSpec,
  target: MigrationTarget,
  { bandwidthMibS = 0, copyTargets = [] as string[], postCopy = false, onStep = (_step: string) => {} } = {},
): Promise<DepartureReport> {
  const limits = { bandwidthMibS, downtimeMs: 0, copyTargets, postCopy }
  const order = { epoch: 1, uuid, generation, target, ...limits }
  for await (const { update } of from.agent.client.migrateDomain(order)) {
    if (update?.$case === 'step') onStep(update.value)
    if (update?.$case === 'report') return update.value
  }
  throw new Error('no report')
}

const runs = async ({ lab }: Host, { uuid }: InstanceSpec) =>
  (await lab.virsh('list', '--uuid', '--state-running')).includes(uuid)

test('goes on at the other side, with nothing lost, and belongs there', async () => {
  const { spec, log, next } = await counting(a)
  const steps: string[] = []
  const arrived = new SerialLog(b, spec)
  const target = await prepare(b, next)
  let [gapMs, lastMs, last] = [0, performance.now(), 0]
  let isWatched = true
  const watching = until('the watch is over', () => {
    const count = counts(log.read() + arrived.read()).at(-1) ?? 0
    if (count > last) {
      gapMs = Math.max(gapMs, performance.now() - lastMs)
      ;[lastMs, last] = [performance.now(), count]
    }
    return !isWatched
  })
  const report = await migrate(a, next, target, { onStep: (step) => steps.push(step) })
  expect(report).toMatchObject({ departure: Departure.GONE, fault: '' })
  expect(await runs(b, spec)).toBe(true)
  expect(await a.lab.virsh('list', '--all', '--uuid')).not.toContain(spec.uuid)
  await until('it goes on counting', () => counts(arrived.read()).length > 10)
  isWatched = false
  await watching
  const numbers = counts(log.text + arrived.text)
  expect(numbers).toEqual(numbers.map((_, index) => index + 1))
  expect(steps.join()).toContain('whether it can take the guest')
  const figures = { longestGapMs: Math.round(gapMs), downtimeMs: report.downtimeMs }
  process.stdout.write(`migrated: ${JSON.stringify(figures)}\n`)

  const { report: settled, steps: none } = await b.agent.apply(next)
  expect([settled, none]).toEqual([expect.objectContaining({ generation: 2, power: Power.ON }), []])
  expect(await b.lab.virsh('dumpxml', '--inactive', spec.uuid)).toContain(b.lab.folder('agent'))
  expect(await b.lab.virsh('dumpxml', spec.uuid)).not.toContain(a.lab.folder('agent'))
  expect(existsSync(join(b.lab.folder('agent'), 'console', `${spec.uuid}.sock`))).toBe(true)
  // Asked again, or late: it is said again, and nothing comes back.
  expect(await migrate(a, next, target)).toMatchObject({ departure: Departure.GONE })
  const late = await a.agent.apply(spec).then(null, (error: unknown) => fromClientError(error))
  expect(late).toMatchObject({ code: 'STALE_GENERATION' })
  log.close()
  arrived.close()
})

/** So slow that there is time for anything; says when copying has begun. */
function slowly(next: InstanceSpec, target: MigrationTarget) {
  const copying = Promise.withResolvers<void>()
  const onStep = (step: string) => {
    if (step.startsWith('copied')) copying.resolve()
  }
  const report = migrate(a, next, target, { bandwidthMibS: 1, onStep })
  report.catch(copying.reject)
  return { copying: copying.promise, report }
}

async function expectStillOnA(spec: InstanceSpec, log: SerialLog): Promise<void> {
  expect(await runs(a, spec)).toBe(true)
  await until('nothing of it is on b', async () => {
    return !(await b.lab.virsh('list', '--all', '--uuid')).includes(spec.uuid)
  })
  const before = counts(log.read()).length
  await until('it goes on counting', () => counts(log.read()).length > before + 5)
  const numbers = counts(log.read())
  expect(numbers).toEqual(numbers.map((_, index) => index + 1))
  log.close()
}

const end = ({ agent }: Host, { uuid }: InstanceSpec, generation: number) =>
  agent.client.endMigration({ epoch: 1, uuid, generation })

test('called off on the way it stays, is kept on by its host again, and can migrate anew', async () => {
  const { spec, log, next } = await counting(a)
  const slow = slowly(next, await prepare(b, next))
  slow.report.catch(() => {})
  await slow.copying
  expect(await end(a, spec, 3)).toMatchObject({ report: { departure: Departure.RUNNING } })
  expect(await a.lab.virsh('metadata', spec.uuid, '--uri', 'https://vpe.dev/xmlns/instance/1')).toContain(
    'power="on"',
  )
  const { arrived } = await b.agent.client.abandonMigration({
    ...{ epoch: 1, uuid: spec.uuid, generation: 3, since: 2 },
  })
  expect(arrived).toBe(false)
  // Late, and without effect.
  expect(await migrate(a, next, await prepare(b, { ...next, generation: 9 }))).toMatchObject({
    departure: Departure.RUNNING,
  })
  await expectStillOnA(spec, log)
})

test('while it is received, the other host says what else it has, its agent starts, and it is sent there again', async () => {
  const { log, next, spec } = await counting(a)
  const target = await prepare(b, next)
  const slow = slowly(next, target)
  slow.report.catch(() => {})
  await slow.copying
  const inventory = () => b.agent.client.getInventory({})
  expect((await inventory()).instances).toMatchObject([{ uuid: spec.uuid, generation: 2, power: Power.ON }])
  await b.agent.end('SIGKILL')
  b.agent = await startAgent(b.lab)
  expect((await inventory()).instances).toMatchObject([{ uuid: spec.uuid, generation: 2, power: Power.ON }])
  expect(await prepare(b, next)).toEqual(target)
  await a.lab.virsh('migrate-setspeed', spec.uuid, '10000')
  expect(await slow.report).toMatchObject({ departure: Departure.GONE })
  const asked = { epoch: 1, uuid: spec.uuid, generation: 3, since: 2 }
  expect(await b.agent.client.abandonMigration(asked)).toMatchObject({ arrived: true })
  expect(await runs(b, spec)).toBe(true)
  log.close()
})

test('given up there while it is received, nothing of it is left there', async () => {
  const { log, next, spec } = await counting(a)
  const slow = slowly(next, await prepare(b, next))
  await slow.copying
  const asked = { epoch: 1, uuid: spec.uuid, generation: 3, since: 2 }
  expect(await b.agent.client.abandonMigration(asked)).toMatchObject({ arrived: false })
  expect(await slow.report).toMatchObject({ departure: Departure.RUNNING })
  await expectStillOnA(spec, log)
})

test.each(['its libvirtd', 'the QEMU that receives'])(
  'when %s dies there, the guest runs on here',
  async (what) => {
    const { spec, log, next } = await counting(a)
    const slow = slowly(next, await prepare(b, next))
    await slow.copying
    if (what === 'its libvirtd') await b.lab.killLibvirtd()
    else process.kill(b.lab.qemuPid(`vpe-${spec.uuid}`), 'SIGKILL')
    const report = await slow.report
    await b.lab.startDaemons()
    expect(report).toMatchObject({ departure: Departure.RUNNING, fault: expect.stringMatching(/\w/) })
    await expectStillOnA(spec, log)
  },
)

test('when the agent here dies, the next one takes up what is under way', async () => {
  const { spec, log, next } = await counting(a)
  const target = await prepare(b, next)
  const slow = slowly(next, target)
  slow.report.catch(() => {})
  await slow.copying
  await a.agent.end('SIGKILL')
  a.agent = await startAgent(a.lab)
  const steps: string[] = []
  const again = migrate(a, next, target, { onStep: (step) => steps.push(step) })
  await until('it is followed', () => steps.some((step) => step.startsWith('copied')))
  await a.lab.virsh('migrate-setspeed', spec.uuid, '10000')
  expect(await again).toMatchObject({ departure: Departure.GONE })
  expect(await runs(b, spec)).toBe(true)
  log.close()
})

test('when libvirtd here dies, the guest runs on here, and migrates when it is asked again', async () => {
  const { spec, log, next } = await counting(a)
  const target = await prepare(b, next)
  const slow = slowly(next, target)
  await slow.copying
  await a.lab.killLibvirtd()
  const answer = await slow.report.then(
    () => 'an answer',
    (error: unknown) => fromClientError(error).code,
  )
  expect(answer).toBe('UNAVAILABLE')
  await a.lab.startDaemons()
  let last: DepartureReport | undefined
  await until('it can be asked again', async () => {
    last = await migrate(a, next, target).catch(() => undefined)
    return last !== undefined
  })
  expect([last?.departure, await runs(a, spec), await runs(b, spec)]).toEqual(
    last?.departure === Departure.GONE ? [Departure.GONE, false, true] : [Departure.RUNNING, true, false],
  )
  log.close()
})

test('is refused, untouched, where the other libvirtd cannot be reached, or the disk is not there', async () => {
  const { spec, log, next } = await counting(a)
  const target = await prepare(b, next)
  const wrong = { ...target, libvirtUri: 'qemu+tcp://127.0.0.1:1/system' }
  expect(await migrate(a, next, wrong)).toMatchObject({
    departure: Departure.RUNNING,
    refused: true,
    fault: expect.stringContaining('cannot be reached from here'),
  })
  const elsewhere = { ...pool, ...markedPool(join(work, 'another')) }
  const refused = await prepare(b, { ...next, diskPool: elsewhere }).then(null, (error: unknown) =>
    fromClientError(error),
  )
  expect(refused).toMatchObject({ code: 'DISK_POOL_FAILED', message: expect.stringContaining('is mounted') })
  await expectStillOnA(spec, log)
})

/** Of its own on the other host: another folder, since the two are on one machine. */
async function copying(wish: Partial<InstanceSpec> = {}) {
  const guest = await counting(a, wish)
  const there = { ...guest.next, diskPool: { ...pool, ...markedPool(join(work, `own-${randomUUID()}`)) } }
  const request = { uuid: guest.spec.uuid, diskPool: pool, disks: [] }
  const { copies } = await a.agent.client.describeDisks(request)
  const target = await prepare(b, there, { copies })
  return { ...guest, there, copies, target, copyTargets: copies.map(({ target }) => target) }
}

const fileIn = ({ path = '' }: Partial<DiskPoolSpec> = {}, { uuid }: InstanceSpec) =>
  join(path, `instance-${uuid}.qcow2`)

test('a disk of its own goes along, and what is left here goes when it is told to, not while its guest runs', async () => {
  const { spec, log, there, copies, target, copyTargets } = await copying()
  expect(copies).toMatchObject([{ target: 'vda', imageUuid: image.uuid }])
  const arrived = new SerialLog(b, spec)
  const sweep = (host: Host, of: InstanceSpec, generation: number) => {
    const request = { epoch: 1, uuid: of.uuid, generation, disks: [] }
    return host.agent.client.removeCopies({ ...request, diskPool: of.diskPool })
  }
  await expect(sweep(a, spec, 3)).rejects.toThrow(/runs on this host/)
  expect(await migrate(a, there, target, { copyTargets })).toMatchObject({ departure: Departure.GONE })
  await until('it goes on counting', () => counts(arrived.read()).length > 10)
  const numbers = counts(log.read() + arrived.text)
  expect(numbers).toEqual(numbers.map((_, index) => index + 1))
  expect(await b.lab.virsh('domblklist', spec.uuid)).toContain(fileIn(there.diskPool, spec))
  const { report } = await b.agent.apply({ ...there, generation: 3 })
  expect(report).toMatchObject({ generation: 3, power: Power.ON })
  await sweep(a, spec, 4)
  expect([existsSync(fileIn(pool, spec)), existsSync(fileIn(there.diskPool, spec))]).toEqual([false, true])
  await expect(sweep(b, there, 4)).rejects.toThrow(/runs on this host/)
  log.close()
  arrived.close()
})

test('one that has come with its disks, and was not let go on, is let go on by its new host', async () => {
  const { spec, log, there, target, copyTargets } = await copying()
  const { libvirtUri } = target
  // As where the old host's agent dies in between: its libvirt hands it over, and nobody says more.
  const uri = new URL(libvirtUri)
  expect(uri.hostname).toBe('127.0.0.1')
  const disks = copyTargets.flatMap((each) => ['--migrate-disks', each])
  const flags = ['--live', '--p2p', '--persistent', '--undefinesource', '--unsafe', '--suspend']
  writeFileSync(join(work, 'there.xml'), target.definitionXml)
  await a.agent.end('SIGKILL')
  const xml = (await a.lab.virsh('dumpxml', '--migratable', '--security-info', spec.uuid))
    .replaceAll(pool.path, there.diskPool?.path ?? '')
    .replaceAll(a.lab.folder('agent'), b.lab.folder('agent'))
  writeFileSync(join(work, 'live.xml'), xml)
  await a.lab.virsh(
    ...['migrate', ...flags, '--copy-storage-inc', ...disks],
    ...['--xml', join(work, 'live.xml'), '--persistent-xml', join(work, 'there.xml'), spec.uuid, libvirtUri],
  )
  expect(await b.lab.virsh('domstate', spec.uuid)).toBe('paused')
  const { report } = await b.agent.apply({ ...there, generation: 3 })
  expect(report).toMatchObject({ generation: 3, power: Power.ON })
  expect(await runs(b, spec)).toBe(true)
  a.agent = await startAgent(a.lab)
  log.close()
})

test('called off while its disk is copied, nothing of it is left there', async () => {
  const { spec, log, there, target, copyTargets } = await copying()
  const begun = Promise.withResolvers<void>()
  const onStep = (step: string) => step.startsWith('copied') && begun.resolve()
  const report = migrate(a, there, target, { copyTargets, bandwidthMibS: 1, onStep })
  report.catch(begun.reject)
  await begun.promise
  expect(await end(a, spec, 3)).toMatchObject({ report: { departure: Departure.RUNNING } })
  await b.agent.client.removeCopies({
    epoch: 1,
    uuid: spec.uuid,
    generation: 4,
    diskPool: there.diskPool,
    disks: [],
  })
  expect([existsSync(fileIn(pool, spec)), existsSync(fileIn(there.diskPool, spec))]).toEqual([true, false])
  await expectStillOnA(spec, log)
})

test('post-copy is refused with its cure where the kernel keeps QEMU from it; elsewhere its guest goes on there', async () => {
  const { spec, log, next } = await counting(a)
  const isAllowed = readFileSync('/proc/sys/vm/unprivileged_userfaultfd', 'utf8').trim() === '1'
  const prepared = prepare(b, next, { postCopy: true })
  if (!isAllowed) {
    await expect(prepared).rejects.toThrow(/set sysctl vm.unprivileged_userfaultfd=1 there/)
    return expectStillOnA(spec, log)
  }
  const arrived = new SerialLog(b, spec)
  const report = await migrate(a, next, await prepared, { postCopy: true, bandwidthMibS: 50 })
  expect(report).toMatchObject({ departure: Departure.GONE, fault: '' })
  await until('it goes on counting', () => counts(arrived.read()).length > 10)
  const numbers = counts(log.read() + arrived.text)
  expect(numbers).toEqual(numbers.map((_, index) => index + 1))
  log.close()
  arrived.close()
})
