// A host in memory: fake hypervisor, fake pools, time that a test moves. The agents on it are real.

import { randomUUID } from 'node:crypto'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { DesiredInstance, InstanceReport } from '@vpe/core'
import { pino } from 'pino'
import { Agent } from '../agent.ts'
import type { MigrationSettings } from '../definition.ts'
import type { GuardPort } from '../ha/guard-port.ts'
import { loadHaRecord } from '../ha/ha-record.ts'
import { FakeHypervisor } from '../hypervisor/fake.ts'
import type { Machine } from '../preflight/machine.ts'
import { FakePoolFiles } from './fake-pool-files.ts'
import { ManualClock } from './manual-clock.ts'

export const FAKE_MACHINE: Machine = {
  hostname: 'fake',
  memoryMib: 16_384,
  cpuName: 'Fake CPU',
  kernel: '6.1.0',
  bridges: ['br0'],
  kvm: { hasVirtualisation: false, device: 'ENOENT' },
  missingPrograms: [],
  stateFolder: { availableBytes: 1e12 },
}

export class FakeHost {
  readonly hostId = randomUUID()
  bootId: string = randomUUID()
  readonly clock = new ManualClock()
  readonly hypervisor = new FakeHypervisor()
  readonly files = new FakePoolFiles()
  readonly published: { subject: string; payload: string }[] = []
  natsRoundTrip = async () => 1
  /** How running guests are sent to its agents, from the next on. */
  receive: MigrationSettings['receive']
  machine = FAKE_MACHINE
  /** Of its agents, from the next on. */
  guard: GuardPort | null = null
  /** Made when something is first written there. */
  stateDir = join(tmpdir(), `vpe-agent-fake-state-${this.hostId}`)
  postCopyFault: string | null = null
  /** Of its agents, from the next on. */
  pausable = ''
  readonly logs: Record<string, unknown>[] = []

  /** A new agent, as after a restart of its process; the one before must be stopped. */
  async startAgent(): Promise<Agent> {
    const agent = new Agent({
      hostId: this.hostId,
      bootId: this.bootId,
      version: '0.0.0',
      hypervisor: this.hypervisor,
      files: this.files,
      publisher: { publish: (subject, payload) => this.published.push({ subject, payload }) },
      settings: {
        platform: { domainType: 'qemu', arch: 'x86_64', machine: 'q35', cpu: 'maximum' },
        consoleDir: join(tmpdir(), `vpe-agent-fake-${this.hostId}`),
        bridge: undefined,
        migration: { receive: this.receive, tls: false, ports: { from: 49_152, to: 49_215 } },
      },
      stateDir: this.stateDir,
      epoch: () => 1,
      readMachine: async () => this.machine,
      bus: { url: 'nats://fake', roundTripMs: () => this.natsRoundTrip() },
      guard: this.guard,
      haRecord: await loadHaRecord(this.stateDir),
      upMs: () => 1_000 + this.clock.nowMs(),
      neighbours: async () => new Map(),
      migrationTls: async () => null,
      postCopyFault: async () => this.postCopyFault,
      pausable: this.pausable,
      clock: this.clock,
      log: pino({ level: 'debug' }, { write: (line) => this.logs.push(JSON.parse(line)) }),
    })
    await agent.start()
    return agent
  }
}

/** A wish, with what a test does not care about filled in. */
export function desiredInstance(changes: Partial<DesiredInstance> = {}): DesiredInstance {
  return {
    uuid: randomUUID(),
    name: 'web',
    generation: 1,
    epoch: 1,
    power: 'on',
    ha: false,
    vcpus: 1,
    memoryMib: 128,
    diskBytes: 0,
    image: { uuid: '0a1b2c3d-0000-4000-8000-00000000000b', url: 'file:///images/a', sha256: '' },
    diskPool: {
      uuid: '0a1b2c3d-0000-4000-8000-00000000000c',
      kind: 'dir',
      path: '/pool',
      systemDisks: 'overlay',
    },
    dataDisks: [],
    stopGraceMs: 30_000,
    rebootGeneration: 0,
    rebootKind: 'soft',
    diskGeneration: 0,
    seed: null,
    hasDisk: false,
    diskSnapshotUuid: null,
    diskSource: null,
    ownership: null,
    ...changes,
  }
}

/** What an agent reports of one instance. */
export async function reportFrom(agent: Agent, uuid: string): Promise<InstanceReport | undefined> {
  const { reports } = await agent.inventory()
  return reports.find((report) => report.uuid === uuid)
}
