// An agent for tests: the real protocol over real gRPC, with a pretended hypervisor behind it that
// remembers what it was told, and knobs for what can go wrong. For breadth; the proof is in test/e2e.

import { createHash, randomUUID } from 'node:crypto'
import { VpeError } from '@vpe/core'
import {
  AgentServiceDefinition,
  type AgentServiceImplementation,
  createRpcServer,
  Departure,
  type DepartureReport,
  DiskFormat,
  HoldUp,
  type HostCondition,
  type HostFacts,
  type InstanceReport,
  type InstanceSpec,
  type PeerPort,
  type PoolFile,
  Power,
  refuseOtherHosts,
  StopCause,
} from '@vpe/proto'
import type { FakeGuard } from './fake-guard.ts'
import { type FakePoolGuard, given } from './fake-pool-guard.ts'

const IMPORTED = {
  sha256: 'ab'.repeat(32),
  format: DiskFormat.QCOW2,
  sizeBytes: 1e6,
  virtualSizeBytes: 1e7,
}

const RUNNING = {
  power: Power.ON,
  stopCause: StopCause.UNSPECIFIED,
  fault: '',
  converging: false,
  restarts: 0,
  holdUp: HoldUp.UNSPECIFIED,
}

export class FakeAgent {
  readonly hostId = randomUUID()
  readonly domains = new Map<string, { spec: InstanceSpec; report: InstanceReport }>()
  /** Of guests, by uuid. */
  readonly addresses = new Map<string, string[]>()
  readonly images = new Set<string>()
  /** What has been uploaded, by image. */
  readonly parts = new Map<string, Buffer>()
  onWrite: () => Promise<void> = async () => {}
  onCapture: (signal: AbortSignal) => Promise<void> = async () => {}
  /** What the markers of pools say; several agents may be given one map, as several hosts share a folder. */
  markers = new Map<string, string>()
  /** Paths that are this host's own, whatever it shares. */
  ownPaths: readonly string[] = ['/pool', '/local']
  readonly #ownMarkers = new Map<string, string>()
  readonly proposals: string[] = []
  usage = { capacityBytes: 1e15, availableBytes: 1e15 }
  poolFiles: PoolFile[] = []
  /** Called before a pool is looked at. */
  onPool: (uuid: string) => Promise<void> = async () => {}
  onForgetPool: (uuid: string) => Promise<void> = async () => {}
  /** Pools that it was asked to forget, and has. */
  readonly forgotten: string[] = []
  onPoolFile: (name: string, checkOnly: boolean) => Promise<void> = async () => {}
  /** Sizes of data disks. */
  readonly disks = new Map<string, number>()
  /** Uuids in the order in which their domains were started. */
  readonly starts: string[] = []
  /** Uuids in the order in which their guests were rebooted, or their disks made anew. */
  readonly reboots: string[] = []
  readonly rebuilds: string[] = []
  /** The snapshots that disks were reverted to, in order; and those that there are. */
  readonly reverts: string[] = []
  readonly snapshots = new Set<string>()
  /** Facts that differ from the usual ones. */
  facts: Partial<HostFacts> = {}
  /** What its next look finds; a `look` makes it known. */
  findings: Omit<HostCondition, 'sinceMs' | 'checkedAtMs'>[] = []
  clockOffsetMs = 0
  /** How often it was asked what it is. */
  descriptions = 0
  #looks = 0
  bootId = randomUUID()
  isListening = false
  /** What guards it, if anything does. */
  guard: FakeGuard | null = null
  address = '127.0.0.1:0'
  /** Called before an apply is carried out; what it throws or waits for is what the caller sees. */
  onApply: (spec: InstanceSpec, signal: AbortSignal) => Promise<void> = async () => {}
  onRemove: (uuid: string) => Promise<void> = async () => {}
  /** Called before a disk is made, grown or removed. */
  onDisk: (what: 'make' | 'grow' | 'remove', uuid: string) => Promise<void> = async () => {}
  /** Called before an instance is let go of. */
  onRelease: (uuid: string) => Promise<void> = async () => {}
  /** Called before the answer that it has been. */
  onReleased: (uuid: string) => Promise<void> = async () => {}
  /** Called before it says how a running instance is sent to it; what it throws is why it is not. */
  onPrepare: (uuid: string) => Promise<void> = async () => {
    throw new VpeError('CONFLICT', 'this host receives no running guests')
  }
  /** Says what is left here of an instance that is handed over. */
  onMigrate: (uuid: string) => Promise<Departure> = async () => Departure.GONE
  /** Called before that is answered. */
  onMigrated: (uuid: string) => Promise<void> = async () => {}
  onEndMigration: (uuid: string) => Promise<Departure> = async (uuid) =>
    this.domains.has(uuid) ? Departure.RUNNING : Departure.GONE
  /** Those that guests can be sent to. */
  peers: readonly FakeAgent[] = []
  readonly #prepared = new Map<string, InstanceSpec>()
  readonly #departureReports = new Map<string, { generation: number; report: DepartureReport }>()
  /** How it is dialled by hosts that send it guests. */
  peerPort: PeerPort | undefined
  /** Says what does not work when it dials another. */
  onTryPeer: (libvirtUri: string) => string[] = () => []
  /** Files of disks that were copied, or are to be: by the uuid of the disk, the system disk's by its instance. */
  readonly diskFiles = new Map<string, Buffer>()
  /** Called before a disk is written, or copies are removed. */
  onWriteDisk: (name: string) => Promise<void> = async () => {}
  onRemoveCopies: (uuid: string) => Promise<void> = async () => {}
  onSnapshot: (change: 'make' | 'remove', uuid: string) => Promise<void> = async () => {}
  onImport: () => Promise<void> = async () => {}
  /** Told after each change of what it would report. */
  onChange: () => void = () => {}
  /** What it says of pools; without one, it can guard none. */
  poolGuard: FakePoolGuard | null = null
  /** How often it was asked for its inventory. */
  inventoriesRead = 0
  /** The generations at which instances have left. */
  readonly #departures = new Map<string, number>()
  readonly #size: { readonly cpus: number; readonly memoryMib: number }
  #highestEpoch = 0
  #server: { forceShutdown(): void } | null = null

  private constructor(size: { readonly cpus: number; readonly memoryMib: number }) {
    this.#size = size
  }

  /**
   * @param size of the pretended machine
   * @param listen where it listens; port 0 takes a free one
   */
  static async start(size = { cpus: 8, memoryMib: 16_384 }, listen = '127.0.0.1:0'): Promise<FakeAgent> {
    const agent = new FakeAgent(size)
    agent.address = listen
    await agent.listen()
    return agent
  }

  /** Listens, again on the same port after a `stop`. */
  async listen(): Promise<void> {
    const server = createRpcServer(() => {}).use(refuseOtherHosts(this.hostId))
    server.add(AgentServiceDefinition, this.#service())
    this.#server = server
    const port = await server.listen(this.address)
    this.isListening = true
    this.address = this.address.replace(/\d+$/, String(port))
  }

  /** Breaks every connection, as a crash does. What it runs, runs on. */
  stop(): void {
    this.isListening = false
    this.#server?.forceShutdown()
  }

  /** The guest of a domain ends at once. */
  pull(uuid: string): void {
    const domain = this.domains.get(uuid)
    if (domain) domain.report = { ...domain.report, power: Power.OFF, stopCause: StopCause.UNSPECIFIED }
  }

  /** Another boot of its host: guests are gone, definitions stay. */
  reboot(): void {
    this.bootId = randomUUID()
    for (const uuid of this.domains.keys()) this.pull(uuid)
    this.guard?.reboot()
  }

  /** Looks at itself, which makes for another digest. */
  look(): void {
    this.#looks++
  }

  get digest(): string {
    return `look ${this.#looks}`
  }

  /** Something happens to a domain without anybody having asked for it. */
  disturb(uuid: string, change: Partial<InstanceReport>): void {
    const domain = this.domains.get(uuid)
    if (!domain) throw new Error(`no domain ${uuid}`)
    domain.report = { ...domain.report, ...change }
    this.onChange()
  }

  /** Of what it would report, as heartbeats carry it. */
  inventoryDigest(): string {
    const reports = [...this.domains.values()].map(({ report }) => report)
    return createHash('sha256')
      .update(JSON.stringify([reports, ...this.addresses]))
      .digest('hex')
  }

  #service(): AgentServiceImplementation {
    const agent = this
    return {
      async describeHost({ refresh }) {
        agent.descriptions++
        if (refresh) agent.look()
        const findings = agent.findings.map((finding) => ({ ...finding, sinceMs: 0, checkedAtMs: 1 }))
        return {
          hostId: agent.hostId,
          facts: agent.#facts(),
          agentVersion: '0',
          findings,
          digest: agent.digest,
          clockMs: Date.now() + agent.clockOffsetMs,
        }
      },
      async ensureDiskPool({ epoch, diskPool, proposedMarker }) {
        agent.#assertEpoch(epoch)
        const uuid = diskPool?.uuid ?? ''
        agent.proposals.push(proposedMarker)
        await agent.onPool(uuid)
        // As the marker of a folder does: what was written first stays.
        const markers = agent.#markersAt(diskPool?.path ?? '')
        const folder = markers.get(uuid) ?? proposedMarker
        if (folder === '' || (diskPool?.marker && diskPool.marker !== folder))
          throw new VpeError('DISK_POOL_FAILED', 'it is not the pool that was set up')
        markers.set(uuid, folder)
        return { ...agent.usage, marker: folder }
      },
      async removeDiskPool({ uuid, diskPool, removeMarker }) {
        await agent.onForgetPool(uuid)
        agent.forgotten.push(uuid)
        if (removeMarker) agent.#markersAt(diskPool?.path ?? '').delete(uuid)
        return {}
      },
      async listPoolFiles({ diskPool }) {
        await agent.onPool(diskPool?.uuid ?? '')
        return { files: agent.poolFiles, foreign: 1 }
      },
      async removePoolFile({ epoch, name, checkOnly }) {
        agent.#assertEpoch(epoch)
        await agent.onPoolFile(name, checkOnly)
        if (!checkOnly)
          agent.poolFiles.splice(0, Infinity, ...agent.poolFiles.filter((it) => it.name !== name))
        return {}
      },
      async *importImage({ image }) {
        yield { update: { $case: 'progressPercent', value: 50 } }
        await agent.onImport()
        agent.images.add(image?.uuid ?? '')
        yield { update: { $case: 'imported', value: IMPORTED } }
      },
      async writeImagePart({ epoch, imageUuid, offset, data }) {
        agent.#assertEpoch(epoch)
        await agent.onWrite()
        const part = offset === 0 ? Buffer.alloc(0) : (agent.parts.get(imageUuid) ?? Buffer.alloc(0))
        if (part.length !== offset) throw new VpeError('CONFLICT', `${part.length} bytes are here`)
        agent.parts.set(imageUuid, Buffer.concat([part, data]))
        return {}
      },
      async *captureImage({ imageUuid }, { signal }) {
        yield { update: { $case: 'progressPercent', value: 50 } }
        await agent.onCapture(signal)
        agent.images.add(imageUuid)
        yield { update: { $case: 'imported', value: IMPORTED } }
      },
      async findImage({ imageUuid }) {
        const image = agent.images.has(imageUuid) ? IMPORTED : undefined
        return { image, partBytes: agent.parts.get(imageUuid)?.length ?? 0 }
      },
      async removeImage({ imageUuid }) {
        agent.images.delete(imageUuid)
        agent.parts.delete(imageUuid)
        return {}
      },
      async ensureDisk({ epoch, disk }) {
        agent.#assertEpoch(epoch)
        await agent.onDisk('make', disk?.uuid ?? '')
        if (disk && !agent.disks.has(disk.uuid)) agent.disks.set(disk.uuid, disk.sizeBytes)
        return {}
      },
      async growDisk({ epoch, disk }) {
        agent.#assertEpoch(epoch)
        await agent.onDisk('grow', disk?.uuid ?? '')
        if (disk) agent.disks.set(disk.uuid, disk.sizeBytes)
        return {}
      },
      async removeDisk({ epoch, disk }) {
        agent.#assertEpoch(epoch)
        const uuid = disk?.uuid ?? ''
        await agent.onDisk('remove', uuid)
        const domains = [...agent.domains.values()]
        if (domains.some(({ spec }) => spec.disks.some((each) => each.disk?.uuid === uuid)))
          throw new VpeError('IN_USE', `disk ${uuid} is in a domain`)
        agent.disks.delete(uuid)
        return {}
      },
      async *applyInstance({ epoch, spec }, { signal }) {
        agent.#assertEpoch(epoch)
        if (!spec) throw new VpeError('INVALID_ARGUMENT', 'no spec')
        const before = agent.domains.get(spec.uuid)
        if (before && before.spec.generation > spec.generation)
          throw new VpeError('STALE_GENERATION', 'an older spec')
        if ((agent.#departures.get(spec.uuid) ?? 0) >= spec.generation)
          throw new VpeError('STALE_GENERATION', 'it has left')
        yield { update: { $case: 'step', value: 'making the domain' } }
        await agent.onApply(spec, signal)
        // As the mark of a domain does: each number is caught up with once.
        if (before && spec.rebootGeneration > before.spec.rebootGeneration) agent.reboots.push(spec.uuid)
        if (before && spec.diskGeneration > before.spec.diskGeneration) {
          if (spec.diskSnapshotUuid) agent.reverts.push(spec.diskSnapshotUuid)
          else agent.rebuilds.push(spec.uuid)
        }
        const isUp = before && before.report.power !== Power.OFF
        if (spec.power === Power.ON && !isUp) agent.starts.push(spec.uuid)
        const report: InstanceReport = {
          uuid: spec.uuid,
          generation: spec.generation,
          power: spec.power,
          stopCause: spec.power === Power.OFF ? StopCause.REQUESTED : StopCause.UNSPECIFIED,
          fault: '',
          converging: false,
          restarts: 0,
          holdUp: HoldUp.UNSPECIFIED,
        }
        agent.guard?.apply(spec.uuid, spec.power !== Power.OFF, spec.ownership)
        agent.domains.set(spec.uuid, { spec, report })
        agent.onChange()
        yield { update: { $case: 'report', value: report } }
      },
      async removeInstance({ epoch, uuid }) {
        agent.#assertEpoch(epoch)
        await agent.onRemove(uuid)
        agent.guard?.leave(uuid)
        agent.domains.delete(uuid)
        agent.onChange()
        return {}
      },
      async releaseInstance({ epoch, uuid, generation }) {
        agent.#assertEpoch(epoch)
        await agent.onRelease(uuid)
        const domain = agent.domains.get(uuid)
        if (domain && domain.spec.generation >= generation)
          throw new VpeError('STALE_GENERATION', 'it has come back')
        agent.guard?.leave(uuid)
        agent.domains.delete(uuid)
        agent.#departures.set(uuid, generation)
        agent.onChange()
        await agent.onReleased(uuid)
        return {}
      },
      async openMigrationPort() {
        if (!agent.peerPort) throw new VpeError('CONFLICT', 'this host receives no running guests')
        return { port: agent.peerPort }
      },
      async tryPeer({ port }) {
        return { faults: agent.onTryPeer(port?.libvirtUri ?? '') }
      },
      async describeDisks({ diskPool, disks }) {
        const nothing = { diskUuid: '', sizeBytes: 1024, allocatedBytes: 512, imageUuid: '' }
        return {
          copies: [
            ...(diskPool ? [{ ...nothing, target: 'vda' }] : []),
            ...disks.map(({ disk, target }) => ({ ...nothing, target, diskUuid: disk?.uuid ?? '' })),
          ],
        }
      },
      async *readDisk({ file }) {
        const data = agent.diskFiles.get(file?.diskUuid || file?.instanceUuid || '')
        if (!data) throw new VpeError('NOT_FOUND', 'there is no such file')
        yield { message: { $case: 'fileBytes', value: data.length } }
        yield { message: { $case: 'part', value: { offset: 0, data } } }
      },
      async writeDisk(requests) {
        let name = ''
        let written = Buffer.alloc(0)
        for await (const { message } of requests) {
          if (message?.$case === 'file') {
            agent.#assertEpoch(message.value.epoch)
            name = message.value.file?.diskUuid || message.value.file?.instanceUuid || ''
            await agent.onWriteDisk(name)
          } else if (message?.$case === 'part') written = Buffer.concat([written, message.value.data])
        }
        agent.diskFiles.set(name, written)
        return {}
      },
      async removeCopies({ epoch, uuid, diskPool, disks }) {
        agent.#assertEpoch(epoch)
        await agent.onRemoveCopies(uuid)
        if (agent.domains.has(uuid)) throw new VpeError('CONFLICT', 'it runs here')
        if (diskPool) agent.diskFiles.delete(uuid)
        for (const disk of disks) agent.diskFiles.delete(disk.uuid)
        return {}
      },
      async prepareMigration({ epoch, spec, copies }) {
        agent.#assertEpoch(epoch)
        await agent.onPrepare(spec?.uuid ?? '')
        for (const { diskUuid } of copies) agent.diskFiles.set(diskUuid || (spec?.uuid ?? ''), Buffer.of(1))
        const target = { libvirtUri: agent.hostId, memoryUri: '', listenAddress: '', definitionXml: 'x' }
        if (spec) agent.#prepared.set(spec.uuid, spec)
        if (spec) agent.guard?.expect(spec.uuid, spec.ownership)
        return { target }
      },
      async *migrateDomain({ epoch, uuid, generation, target }) {
        agent.#assertEpoch(epoch)
        const known = agent.#departureReports.get(uuid)
        if (known && known.generation >= generation) {
          yield { update: { $case: 'report', value: known.report } }
          return
        }
        const domain = agent.domains.get(uuid)
        if (domain && domain.spec.generation >= generation)
          throw new VpeError('STALE_GENERATION', 'it has come back')
        yield { update: { $case: 'step', value: 'copied 61 %, 118 MiB/s, 12 MiB remain' } }
        const there = agent.peers.find(({ hostId }) => hostId === target?.libvirtUri)
        const departure = await agent.onMigrate(uuid)
        if (departure === Departure.GONE) {
          agent.guard?.leave(uuid)
          if (there) there.receive(uuid)
          agent.domains.delete(uuid)
        }
        const fault = departure === Departure.GONE ? '' : 'the link broke'
        const report = { departure, fault, refused: false, downtimeMs: 40, stopCause: StopCause.UNSPECIFIED }
        agent.#departureReports.set(uuid, { generation, report })
        await agent.onMigrated(uuid)
        yield { update: { $case: 'report', value: report } }
      },
      async endMigration({ epoch, uuid, generation }) {
        agent.#assertEpoch(epoch)
        const departure = await agent.onEndMigration(uuid)
        const report = { departure, fault: '', refused: false, stopCause: StopCause.UNSPECIFIED }
        agent.#departureReports.set(uuid, { generation, report })
        return { report }
      },
      async abandonMigration({ epoch, uuid, since }) {
        agent.#assertEpoch(epoch)
        return { arrived: (agent.domains.get(uuid)?.spec.generation ?? 0) >= since }
      },
      async ensureSnapshot({ epoch, snapshotUuid }) {
        agent.#assertEpoch(epoch)
        await agent.onSnapshot('make', snapshotUuid)
        agent.snapshots.add(snapshotUuid)
        return {}
      },
      async removeSnapshot({ epoch, snapshotUuid }) {
        agent.#assertEpoch(epoch)
        await agent.onSnapshot('remove', snapshotUuid)
        agent.snapshots.delete(snapshotUuid)
        return {}
      },
      async *attachConsole(requests) {
        // A console that repeats what it is told, with its name before it.
        let name = ''
        for await (const { message } of requests) {
          if (message?.$case === 'target') {
            name = `${message.value.kind} of ${message.value.uuid}: `
            yield { message: { $case: 'opened', value: {} } }
          } else if (message?.$case === 'data') {
            const text = name + new TextDecoder().decode(message.value)
            yield { message: { $case: 'data', value: new TextEncoder().encode(text) } }
          }
        }
      },
      async getInventory() {
        const instances = [...agent.domains.values()].map(({ report }) => report)
        const addresses = [...agent.addresses].map(([uuid, values]) => ({ uuid, addresses: values }))
        agent.inventoriesRead++
        return {
          hostId: agent.hostId,
          bootId: agent.bootId,
          instances,
          addresses,
          digest: agent.inventoryDigest(),
        }
      },
      async setLeases(request) {
        if (agent.guard) return {}
        return given(agent.poolGuard).setLeases(request)
      },
      async getHaReport() {
        return agent.poolGuard ? agent.poolGuard.report(agent.bootId) : agent.#guard().report()
      },
      async orderHa(request) {
        agent.#assertEpoch(request.epoch)
        agent.#guard().order(request)
        agent.onChange()
        return {}
      },
      async sightLease({ poolUuid, hostUuid }) {
        return agent.poolGuard
          ? agent.poolGuard.sightLease(poolUuid, hostUuid)
          : agent.#guard().sight(hostUuid)
      },
      async sendPill(request) {
        return agent.poolGuard ? agent.poolGuard.sendPill(request) : { failure: '' }
      },
      async tryPoolLock(request) {
        return given(agent.poolGuard).tryPoolLock(request)
      },
      async getMetrics({ uuid, sinceMs, stepMs }) {
        const totals = { atMs: sinceMs + stepMs, vcpus: 1, cpuSeconds: 7, disks: [], nics: [] }
        return { metrics: { intervalMs: 5_000, ...(agent.domains.has(uuid) && { totals }), series: [] } }
      },
    }
  }

  /** A guest that it has prepared for goes on here. */
  receive(uuid: string): void {
    const spec = this.#prepared.get(uuid)
    if (!spec) throw new Error('nothing was prepared')
    const report = { ...RUNNING, uuid: spec.uuid, generation: spec.generation }
    this.guard?.arrive(spec.uuid)
    this.domains.set(spec.uuid, { spec, report })
  }

  #guard(): FakeGuard {
    if (!this.guard) throw new VpeError('UNAVAILABLE', 'this agent has no guard')
    return this.guard
  }

  #facts() {
    return {
      hostname: 'fake',
      ...this.#size,
      cpuModel: 'fake',
      arch: 'x86_64',
      domainType: 'qemu',
      libvirtVersion: '9.0.0',
      hypervisorVersion: '7.2.0',
      agentVersion: '0',
      kernel: '6.1.0',
      cpuFeatures: ['aes'],
      bridges: [],
      bootId: this.bootId,
      ...this.facts,
    }
  }

  #markersAt(path: string): Map<string, string> {
    return this.ownPaths.includes(path) ? this.#ownMarkers : this.markers
  }

  #assertEpoch(epoch: number): void {
    if (epoch < this.#highestEpoch)
      throw new VpeError('STALE_EPOCH', `epoch ${epoch} is below ${this.#highestEpoch}`)
    this.#highestEpoch = epoch
  }
}
