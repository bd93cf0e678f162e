// The agent, whole and without sockets: everything it needs comes by argument. It looks at all domains
// at its start and every few seconds, at one of them when an event says so, keeps guests as they are
// wanted, and tells the bus that something changed or that it lives.

import { freemem, loadavg } from 'node:os'
import { changedSubject, encodeHeartbeat, HEARTBEAT_INTERVAL_MS, heartbeatSubject } from '@vpe/bus'
import {
  type DepartureReport,
  type DesiredDisk,
  type DesiredDiskPool,
  type DesiredImage,
  type DesiredInstance,
  type DiskCopy,
  type InstanceRelease,
  type InstanceReport,
  isUp,
  type MigrationTlsSetup,
  type ObservedDomain,
  reportOf,
  VpeError,
} from '@vpe/core'
import type { AgentRecord } from '@vpe/core/ha'
import type { Logger } from 'pino'
import type { Clock } from './clock.ts'
import { removeConsoleLeftovers } from './console-leftovers.ts'
import { converge, type HostParts, releaseInstance, removeInstance } from './converge.ts'
import type { HostSettings } from './definition.ts'
import {
  assertNoGuest,
  type CopiedDisks,
  type DiskFile,
  describeDisks,
  readDisk,
  writeDisk,
} from './disk-copies.ts'
import { DiskPools } from './disk-pools.ts'
import { ADDRESSES_INTERVAL_MS, GuestAddresses } from './guest-addresses.ts'
import type { GuardPort } from './ha/guard-port.ts'
import { HaAgent } from './ha/ha-agent.ts'
import { Hints } from './hints.ts'
import type { Hypervisor, MigrationTarget, UnreadDomain } from './hypervisor/hypervisor.ts'
import { InstanceTurns, type Job } from './instance-turns.ts'
import { digestOf, Inventory } from './inventory.ts'
import { GuestMetrics, METRICS_INTERVAL_MS } from './metrics/guest-metrics.ts'
import {
  type ArrivalWish,
  abandonMigration,
  endMigration,
  type MigrationOrder,
  migrateInstance,
  prepareMigration,
} from './migration.ts'
import type { Neighbours } from './neighbours.ts'
import { type PeerFaults, type PeerPort, PeerPorts } from './peer-ports.ts'
import { classifyFile } from './pool/pool-files.ts'
import type { PoolArguments, PoolImage, PoolResult } from './pool/pool-protocol.ts'
import type { PoolFiles, PoolRef } from './pool/pool-workers.ts'
import { HostCheck, type HostState } from './preflight/host-check.ts'
import type { Machine } from './preflight/machine.ts'
import type { BusProbe } from './preflight/run-preflight.ts'
import { Progress, type Running } from './progress.ts'
import { Slots } from './slots.ts'
import { Upkeep } from './upkeep.ts'
import { notHere, whileOff } from './while-off.ts'

/** Events are hints; this pass finds what they missed. */
const PASS_INTERVAL_MS = 10_000

/** How much is done at once, over all instances. */
const SLOTS = 8

/** Instances that have left and are remembered, so that a call that comes late does not bring one back. */
const DEPARTURES_MAX = 10_000

/** Where the agent publishes; what cannot be delivered is dropped, since nobody relies on it. */
export interface Publisher {
  publish(subject: string, payload: string): void
}

export interface AgentDeps {
  readonly hostId: string
  readonly bootId: string
  readonly version: string
  readonly hypervisor: Hypervisor
  readonly files: PoolFiles
  readonly publisher: Publisher
  readonly settings: HostSettings
  readonly stateDir: string
  /** The highest controller epoch obeyed so far. */
  readonly epoch: () => number
  readonly readMachine: () => Promise<Machine>
  readonly bus: BusProbe
  /** How guests on their way are encrypted; null where they are not. */
  readonly migrationTls: () => Promise<MigrationTlsSetup | null>
  /** Null on a host that has none. */
  readonly guard: GuardPort | null
  /** What this host has let go of. */
  readonly haRecord: AgentRecord
  /** Time since this host was started, in ms: BOOTTIME. */
  readonly upMs: () => number
  /** The host's ARP table. */
  readonly neighbours: () => Promise<Neighbours>
  /** Why QEMU cannot fetch a guest's memory when it is missed; null where it can. */
  readonly postCopyFault: () => Promise<string | null>
  /** Why this host may stand still and wake later; empty where it never does. */
  readonly pausable: string
  readonly clock: Clock
  readonly log: Logger
}

export interface Removal {
  readonly uuid: string
  readonly generation: number
  /** Where the system disk is, in case no domain tells. */
  readonly diskPool: DesiredDiskPool
}

export interface SnapshotOf {
  readonly instanceUuid: string
  readonly snapshotUuid: string
}

export class Agent {
  readonly diskPools: DiskPools
  readonly metrics: GuestMetrics
  readonly check: HostCheck
  readonly ha: HaAgent
  readonly #deps: AgentDeps
  readonly #host: HostParts
  readonly #inventory: Inventory
  readonly #addresses: GuestAddresses
  readonly #peerPorts: PeerPorts
  readonly #upkeep: Upkeep
  readonly #turns: InstanceTurns
  readonly #hints = new Hints()
  /** The generations at which instances were removed, or left for another host. */
  readonly #departures = new Map<string, number>()
  /** How handing instances over has ended, at which generation. */
  readonly #departureReports = new Map<
    string,
    { readonly generation: number; readonly report: DepartureReport }
  >()
  /** Instances that are being looked at because of an event; true when another came meanwhile. */
  readonly #looks = new Map<string, boolean>()
  readonly #stopping = new AbortController()
  readonly #loops: Promise<void>[] = []

  constructor(deps: AgentDeps) {
    this.#deps = deps
    const { hostId, bootId, hypervisor, files, settings, neighbours, postCopyFault, clock, log } = deps
    this.#peerPorts = new PeerPorts(settings.migration, hypervisor, clock, this.#stopping.signal)
    const pools = () => this.diskPools.known()
    this.check = new HostCheck({ ...deps, pools, signal: this.#stopping.signal })
    this.diskPools = new DiskPools({ hypervisor, files, log, onNew: () => this.check.lookSoon() })
    // While somebody was at work, reports said so and counted for little: now they count.
    this.#turns = new InstanceTurns(() => this.#publish(changedSubject(hostId), ''))
    this.#inventory = new Inventory({
      hostId,
      bootId,
      hypervisor,
      log,
      onChange: (uuid, domain) => {
        this.#publish(changedSubject(hostId), '')
        this.#upkeep.consider(uuid, domain)
      },
    })
    const slots = new Slots(SLOTS)
    const onChange = () => this.#publish(changedSubject(hostId), '')
    this.ha = new HaAgent({
      ...deps,
      record: deps.haRecord,
      inventory: this.#inventory,
      turns: this.#turns,
      slots,
      bridge: settings.bridge,
      isAnyoneReachable: () => isReached(deps.bus),
      onChange,
    })
    this.#host = {
      ha: this.ha,
      hostId,
      bootId,
      hypervisor,
      diskPools: this.diskPools,
      files,
      inventory: this.#inventory,
      turns: this.#turns,
      settings,
      hints: this.#hints,
      slots,
      postCopyFault,
      clock,
      log,
    }
    this.#upkeep = new Upkeep(this.#host, this.#turns)
    const domains = () => this.#inventory.domains()
    this.metrics = new GuestMetrics({ hypervisor, clock, log, domains })
    this.#addresses = new GuestAddresses({ hypervisor, neighbours, log, domains, onChange })
  }

  /** Looks at everything once, warms what will be needed, then keeps going until `stop`. */
  async start(): Promise<void> {
    const { hypervisor, log } = this.#deps
    hypervisor.onEvent((event) => {
      if (this.#stopping.signal.aborted) return
      switch (event.kind) {
        case 'domain':
          this.#hints.give(event.uuid)
          void this.#lookSoon(event.uuid)
          return
        case 'disconnected':
          log.warn({ why: event.why }, 'libvirt is away; guests run on')
          this.check.lookSoon()
          return
        case 'connected':
          log.info('libvirt is back')
          this.check.lookSoon()
          void this.#pass()
      }
    })
    const { domains } = await this.#inventory.lookAtAll()
    log.info(
      { instances: domains.length, running: domains.filter(({ guest }) => isUp(guest)).length },
      'instances found',
    )
    for (const pool of poolsOf(domains.map(({ mark }) => mark))) this.#deps.files.warm(pool)
    for (const domain of domains) this.#upkeep.consider(domain.mark.uuid, domain)
    this.#loops.push(
      this.#every(PASS_INTERVAL_MS, () => this.#pass()),
      this.#every(HEARTBEAT_INTERVAL_MS, () => this.#beat()),
      this.#every(METRICS_INTERVAL_MS, () => this.metrics.sample()),
      this.#every(ADDRESSES_INTERVAL_MS, () => this.#addresses.look()),
      this.#every(PASS_INTERVAL_MS, () => this.#removeConsoleLeftovers()),
      this.ha.run(this.#stopping.signal),
      this.check.run(),
    )
  }

  /** Ends all work at its next safe point. Guests run on. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    this.#upkeep.stop()
    await this.#turns.stop()
    await Promise.all(this.#loops)
  }

  /** Makes an instance match, or joins who is at it. */
  apply(desired: DesiredInstance): Running<InstanceReport> {
    const { uuid, generation } = desired
    this.#assertNotDeparted(uuid, generation)
    return this.#run(uuid, { kind: 'apply', generation }, (signal, progress) =>
      converge(desired, this.#host, signal, progress),
    )
  }

  /** Removes an instance, or joins who is at it. */
  remove(removal: Removal): Running<void> {
    const { uuid, generation } = removal
    return this.#run(uuid, { kind: 'remove', generation }, async (signal, progress) => {
      await removeInstance(removal, this.#host, signal, progress)
      this.#rememberDeparture(uuid, generation)
    })
  }

  /** Lets go of an instance that moves to another host, or joins who is at it. */
  release(release: InstanceRelease): Running<void> {
    const { uuid, generation } = release
    return this.#run(uuid, { kind: 'release', generation }, async (signal, progress) => {
      await releaseInstance(release, this.#host, signal, progress)
      this.#rememberDeparture(uuid, generation)
    })
  }

  /** Hands an instance over to another host, or joins who is at it. */
  migrate(order: MigrationOrder): Running<DepartureReport> {
    const { uuid, generation } = order
    const known = this.#departureReports.get(uuid)
    // What has been answered once stands: asked late, it would hand over what is wanted here again.
    if (known && known.generation >= generation) {
      return { result: Promise.resolve(known.report), progress: new Progress() }
    }
    // Whatever comes of it: what was wanted here before makes nothing anew.
    this.#rememberDeparture(uuid, generation - 1)
    return this.#run(uuid, { kind: 'migrate', generation }, async (signal, progress) => {
      const report = await migrateInstance(order, this.#host, signal, progress)
      return this.#rememberReport(uuid, generation, report)
    })
  }

  /** Hands an instance over no more. */
  endMigration(uuid: string, generation: number): Running<DepartureReport> {
    return this.#run(uuid, { kind: 'end-migration', generation }, async (signal, progress) => {
      const report = await endMigration(uuid, generation, this.#host, signal, progress)
      return this.#rememberReport(uuid, generation, report)
    })
  }

  /**
   * Says how an instance is sent here as it runs, and makes files for the disks that it brings along.
   * @throws VpeError that says what is in its way
   */
  prepareMigration(desired: DesiredInstance, wish: ArrivalWish): Promise<MigrationTarget> {
    const { uuid, generation } = desired
    this.#assertNotDeparted(uuid, generation)
    const never = new AbortController().signal
    if (wish.copies.length === 0) return prepareMigration(desired, wish, this.#host, freemem(), never)
    // Files are made: whoever removes such files, or asks for the same, waits for its end, or ends it.
    return this.#run(uuid, { kind: 'receive', generation }, (signal) =>
      prepareMigration(desired, wish, this.#host, freemem(), signal),
    ).result
  }

  openMigrationPort(): Promise<PeerPort> {
    return this.#peerPorts.open()
  }

  tryPeer(port: PeerPort): Promise<PeerFaults> {
    return this.#peerPorts.dial(port)
  }

  describeDisks(disks: CopiedDisks): Promise<DiskCopy[]> {
    return describeDisks(disks, this.#host)
  }

  readDisk(file: DiskFile, signal: AbortSignal): ReturnType<typeof readDisk> {
    return readDisk(file, this.#host, signal)
  }

  writeDisk(file: DiskFile, fileBytes: number, parts: Parameters<typeof writeDisk>[2]): Promise<void> {
    return writeDisk(file, fileBytes, parts, this.#host)
  }

  /**
   * Removes what a move has left here of an instance's disks, and a domain that was never let go on.
   * @throws VpeError CONFLICT where a guest runs on them, IN_USE where another has one of them
   */
  removeCopies({ uuid, diskPool, disks }: CopiedDisks, generation: number): Running<void> {
    return this.#run(uuid, { kind: 'sweep', generation }, async (signal, progress) => {
      const left = await this.#inventory.look(uuid)
      assertNoGuest(left, generation)
      if (left) await this.#forget(left)
      if (diskPool) {
        await this.diskPools.ensure(diskPool)
        await removeInstance({ uuid, generation, diskPool }, this.#host, signal, progress)
      }
      await this.ha.letGo(uuid, left?.mark ?? null, signal)
      for (const disk of disks) await this.removeDisk(disk)
      this.#rememberDeparture(uuid, generation)
    })
  }

  /** Receives an instance no more, at this generation or a lower one; whether it has arrived before. */
  async abandonMigration(uuid: string, generation: number, since: number): Promise<{ arrived: boolean }> {
    const answer = await abandonMigration(uuid, since, this.#host)
    if (answer.arrived) return answer
    this.#rememberDeparture(uuid, generation)
    await this.ha.letGo(uuid, null, this.#stopping.signal)
    return answer
  }

  /**
   * Makes a snapshot of an instance's system disk be there, or not: by way of QEMU while that has the disk.
   * @throws VpeError UNAVAILABLE while somebody else is at work on the instance
   */
  async changeSnapshot(
    change: 'make' | 'remove',
    snapshot: SnapshotOf,
    pool: DesiredDiskPool,
  ): Promise<void> {
    const { instanceUuid, snapshotUuid } = snapshot
    const { hypervisor, files } = this.#deps
    const live = { make: 'snapshotSystemDisk', remove: 'removeSystemDiskSnapshot' } as const
    await this.#run(instanceUuid, { kind: 'snapshot' }, async () => {
      const domain = await this.#inventory.look(instanceUuid)
      if (!domain) throw notHere(instanceUuid)
      await this.#host.slots.run(async () => {
        if (domain.guest.power !== 'off') return hypervisor[live[change]](instanceUuid, snapshotUuid)
        await this.diskPools.ensure(pool)
        await files.request(pool, `${change}-snapshot`, snapshot)
      })
      this.#deps.log.info({ instance: instanceUuid, snapshot: snapshotUuid, change }, 'snapshot changed')
    }).result
  }

  /** Without a word to its guest, which is not to go on. */
  async #forget({ mark: { uuid }, guest }: ObservedDomain): Promise<void> {
    const { hypervisor, log } = this.#deps
    if (guest.power !== 'off') await hypervisor.destroyDomain(uuid)
    await hypervisor.undefineDomain(uuid)
    await this.#inventory.look(uuid)
    log.info({ instance: uuid, guest: guest.power }, 'what a move has left is undefined')
  }

  async importImage(
    pool: DesiredDiskPool,
    image: DesiredImage,
    onProgress: (percent: number) => void,
    signal: AbortSignal,
  ): Promise<PoolImage> {
    await this.diskPools.ensure(pool)
    return this.#deps.files.request(pool, 'import-image', { ...image }, { onProgress, signal })
  }

  writeImagePart(pool: DesiredDiskPool, part: PoolArguments<'write-image-part'>): Promise<object> {
    return this.#deps.files.request(pool, 'write-image-part', part)
  }

  async findImage(pool: DesiredDiskPool, uuid: string): Promise<PoolResult<'find-image'>> {
    await this.diskPools.ensure(pool)
    return this.#deps.files.request(pool, 'find-image', { uuid })
  }

  /**
   * Makes an image of the system disk of an instance that is off; nobody starts it meanwhile.
   * @throws VpeError CONFLICT when its guest runs, UNAVAILABLE while somebody is at work on it
   */
  captureImage(
    pool: DesiredDiskPool,
    uuid: string,
    instanceUuid: string,
    onProgress: (percent: number) => void,
    signal: AbortSignal,
  ): Promise<PoolImage> {
    return whileOff(this.#host, instanceUuid, signal, async (work) => {
      await this.diskPools.ensure(pool)
      return this.#deps.files.request(
        pool,
        'capture-image',
        { uuid, instanceUuid },
        { onProgress, signal: work },
      )
    })
  }

  async removeImage(pool: DesiredDiskPool, uuid: string): Promise<void> {
    await this.#deps.files.request(pool, 'remove-image', { uuid })
  }

  /** Makes a data disk, empty. */
  async makeDisk({ uuid, diskPool, sizeBytes }: DesiredDisk): Promise<void> {
    await this.diskPools.ensure(diskPool)
    await this.#deps.files.request(diskPool, 'make-data-disk', { diskUuid: uuid, sizeBytes })
  }

  /** Makes a data disk larger that no domain has. */
  async growDisk({ uuid, diskPool, sizeBytes }: DesiredDisk): Promise<void> {
    await this.diskPools.ensure(diskPool)
    await this.#deps.files.request(diskPool, 'grow-data-disk', { diskUuid: uuid, sizeBytes })
  }

  /** @throws VpeError IN_USE while a domain of this host has it */
  async removeDisk({
    uuid,
    diskPool,
  }: Pick<CopiedDisks['disks'][number], 'uuid' | 'diskPool'>): Promise<void> {
    const { domains, unread } = await this.#inventory.lookAtAll()
    const holder = domains.find(({ mark }) => mark.dataDisks.some((disk) => disk.uuid === uuid))
    if (holder) throw new VpeError('IN_USE', `disk ${uuid} is in the domain of instance ${holder.mark.uuid}`)
    if (unread[0]) throw unreadFault(unread[0], `disk ${uuid}`)
    await this.diskPools.ensure(diskPool)
    await this.#deps.files.request(diskPool, 'remove-data-disk', { diskUuid: uuid })
  }

  async listPoolFiles(pool: DesiredDiskPool): Promise<PoolResult<'list-files'>> {
    await this.diskPools.ensure(pool)
    return this.#deps.files.request(pool, 'list-files', {})
  }

  /**
   * Deletes a file of a pool that no record owns; or only says whether something here uses it.
   * @throws VpeError IN_USE while a domain of this host, whoever made it, may need it, or a process has it open
   */
  async removePoolFile(pool: DesiredDiskPool, name: string, checkOnly: boolean): Promise<void> {
    const { hypervisor, files, log } = this.#deps
    const ownerUuid = classifyFile(name)?.ownerUuid ?? ''
    const { domains, unread } = await hypervisor.listDomains()
    // The uuid of a disk in a mark, or of the domain itself: in doubt it is needed.
    const user = domains.find(({ uuid, markXml }) => uuid === ownerUuid || markXml?.includes(ownerUuid))
    if (ownerUuid !== '' && user) {
      throw new VpeError('IN_USE', `domain ${user.name} needs ${name}; if it is not wanted, remove it first`)
    }
    if (ownerUuid !== '' && unread[0]) throw unreadFault(unread[0], name)
    await this.diskPools.ensure(pool)
    await files.request(pool, 'remove-file', { name, checkOnly })
    if (!checkOnly) log.info({ disk_pool: pool.uuid, file: name }, 'orphan removed')
  }

  /** @param isFresh look at everything anew first */
  async describe(isFresh: boolean): Promise<HostState & { hostId: string; clockMs: number }> {
    const state = await this.check.state(isFresh)
    return { ...state, hostId: this.#deps.hostId, clockMs: this.#deps.clock.dateMs() }
  }

  /** Everything, freshly looked at. */
  async inventory(): Promise<{
    hostId: string
    bootId: string
    reports: InstanceReport[]
    addresses: ReadonlyMap<string, readonly string[]>
    digest: string
  }> {
    const { hostId, bootId } = this.#deps
    const busyBefore = new Set(
      this.#inventory
        .domains()
        .map(({ mark }) => mark.uuid)
        .filter((uuid) => this.#turns.isBusy(uuid)),
    )
    const { domains, unread } = await this.#inventory.lookAtAll()
    const reports = domains.map((domain) => {
      const { uuid } = domain.mark
      return reportOf(domain, bootId, busyBefore.has(uuid) || this.#turns.isBusy(uuid))
    })
    const addresses = this.#addresses.all()
    const digest = digestOf(reports, addresses)
    return { hostId, bootId, reports: [...reports, ...unread.map(reportOfUnread)], addresses, digest }
  }

  #run<T>(
    uuid: string,
    job: Exclude<Job, { kind: 'upkeep' }>,
    work: Parameters<InstanceTurns['run']>[2] &
      ((...args: Parameters<Parameters<InstanceTurns['run']>[2]>) => Promise<T>),
  ): Running<T> {
    const running = this.#turns.run<T>(uuid, job, work)
    if (!running) throw new Error('only upkeep is ever skipped')
    // Whatever the end was, look what it left: a guest that should be on may need keeping.
    const look = () => void this.#lookSoon(uuid)
    running.result.then(look, look)
    return running
  }

  #assertNotDeparted(uuid: string, generation: number): void {
    const departed = this.#departures.get(uuid) ?? 0
    if (departed < generation) return
    throw new VpeError('STALE_GENERATION', `instance ${uuid} has left this host at generation ${departed}`)
  }

  #rememberReport(uuid: string, generation: number, report: DepartureReport): DepartureReport {
    this.#departureReports.delete(uuid)
    this.#departureReports.set(uuid, { generation, report })
    const oldest = this.#departureReports.keys().next().value
    if (this.#departureReports.size > DEPARTURES_MAX && oldest !== undefined)
      this.#departureReports.delete(oldest)
    if (report.departure === 'gone') this.#rememberDeparture(uuid, generation)
    return report
  }

  #rememberDeparture(uuid: string, generation: number): void {
    this.#departures.set(uuid, Math.max(generation, this.#departures.get(uuid) ?? 0))
    const oldest = this.#departures.keys().next().value
    if (this.#departures.size > DEPARTURES_MAX && oldest !== undefined) this.#departures.delete(oldest)
  }

  /** Looks at one instance now, and once more if asked to meanwhile. */
  async #lookSoon(uuid: string): Promise<void> {
    if (this.#looks.has(uuid)) {
      this.#looks.set(uuid, true)
      return
    }
    try {
      do {
        this.#looks.set(uuid, false)
        const domain = await this.#inventory.look(uuid)
        this.#upkeep.consider(uuid, domain)
      } while (this.#looks.get(uuid) && !this.#stopping.signal.aborted)
    } catch (error) {
      this.#ignoreIfExpected(error, uuid)
    } finally {
      this.#looks.delete(uuid)
    }
  }

  async #pass(): Promise<void> {
    try {
      for (const domain of (await this.#inventory.lookAtAll()).domains)
        this.#upkeep.consider(domain.mark.uuid, domain)
    } catch (error) {
      this.#ignoreIfExpected(error, null)
    }
  }

  async #removeConsoleLeftovers(): Promise<void> {
    const { settings, hypervisor, log } = this.#deps
    try {
      for (const uuid of await removeConsoleLeftovers(settings.consoleDir, hypervisor))
        log.info({ instance: uuid, why: 'it has no domain here' }, 'console removed')
    } catch (error) {
      this.#ignoreIfExpected(error, null)
    }
  }

  /** libvirt may be away, and domains may be somebody else's: neither is news here. */
  #ignoreIfExpected(error: unknown, uuid: string | null): void {
    if (error instanceof VpeError && (error.code === 'UNAVAILABLE' || error.code === 'CONFLICT')) return
    this.#deps.log.error(
      { instance: uuid ?? undefined, err: error },
      'a look failed; the next pass tries again',
    )
  }

  async #beat(): Promise<void> {
    const { hostId, bootId, epoch } = this.#deps
    const [load1 = 0] = loadavg()
    const heartbeat = {
      hostId,
      bootId,
      epoch: epoch(),
      digest: this.#inventory.digest(this.#addresses.all()),
      ...(this.check.digest && { hostDigest: this.check.digest }),
      ...(this.ha.digest && { haDigest: this.ha.digest }),
      load1,
    }
    this.#publish(heartbeatSubject(hostId), encodeHeartbeat(heartbeat))
  }

  async #every(intervalMs: number, work: () => Promise<void>): Promise<void> {
    const { signal } = this.#stopping
    while (!signal.aborted) {
      await work()
      await this.#deps.clock.sleep(intervalMs, signal).catch(() => {})
    }
  }

  #publish(subject: string, payload: string): void {
    this.#deps.publisher.publish(subject, payload)
  }
}

async function isReached({ roundTripMs }: BusProbe): Promise<boolean> {
  try {
    await roundTripMs()
    return true
  } catch {
    // Whatever kept it from answering: it is not reached.
    return false
  }
}

/** It is there, and what it does will be known later: nothing is to be made of it. */
function reportOfUnread({ uuid }: UnreadDomain): InstanceReport {
  return {
    uuid,
    generation: 0,
    power: 'off',
    stopCause: null,
    fault: '',
    converging: true,
    restarts: 0,
    holdUp: null,
  }
}

function unreadFault({ name, why }: UnreadDomain, what: string): VpeError {
  return new VpeError('UNAVAILABLE', `domain ${name} could not be read, and may need ${what}: ${why}`)
}

function poolsOf(marks: readonly { diskPoolUuid: string; diskPoolPath: string }[]): readonly PoolRef[] {
  return [
    ...new Map(
      marks.map((mark) => [mark.diskPoolUuid, { uuid: mark.diskPoolUuid, path: mark.diskPoolPath }]),
    ).values(),
  ]
}
