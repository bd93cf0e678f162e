// A hypervisor in memory, with the manners of libvirt as far as the agent relies on them. For breadth:
// tables, races, simulation and scale. What it proves about the agent it does not prove about libvirt;
// the contract tests hold both to the same shape.

import { type Duplex, duplexPair } from 'node:stream'
import {
  type GuestSample,
  type GuestState,
  isUp,
  type MigrationJob,
  type OffReason,
  VpeError,
} from '@vpe/core'
import { MARK_NAMESPACE, MARK_PREFIX } from '../instance-mark.ts'
import { attributes, attributesOf, buildXml, childrenOf, parseXml } from '../xml.ts'
import type {
  DomainList,
  GuestCpu,
  GuestDisk,
  Hypervisor,
  HypervisorDomain,
  HypervisorEvent,
  HypervisorFacts,
  MigrationProgress,
  MigrationTarget,
} from './hypervisor.ts'

const MIB = 1024 ** 2

/** How the world misbehaves; change them at any time. */
export interface FakeKnobs {
  /** Guests do nothing when their power button is pressed. */
  ignoresPowerButton: boolean
  /** Guests do not let go of disks. */
  holdsDisks: boolean
  /** Calls fail as if libvirtd were away. */
  isAway: boolean
  /** Nothing can be read of these domains. */
  readonly unreadable: Set<string>
  /** The next calls of these names fail with these words, once each. */
  readonly failures: { readonly call: string; readonly words: string }[]
  /** Called when the memory of a guest that migrates is copied; it then goes on elsewhere. May wait, or fail. */
  beforeSwitch: (uuid: string) => Promise<void>
  /** Called before each call takes effect; may wait. */
  beforeCall: (call: string, uuid: string) => Promise<void> | void
}

interface FakeDomain {
  readonly uuid: string
  readonly name: string
  xml: string
  markXml: string | null
  guest: GuestState
  /** While it runs. */
  disks: readonly GuestDisk[]
}

const CAPABILITIES =
  "<capabilities><host><cpu><arch>x86_64</arch></cpu></host><guest><os_type>hvm</os_type><arch name='x86_64'><machine>q35</machine><domain type='qemu'/></arch></guest></capabilities>"

const NOTHING_COUNTED = {
  vcpus: 1,
  cpuTimeNs: null,
  vcpuTimeNs: null,
  memory: { assignedBytes: null, usedBytes: null, residentBytes: null },
  disks: [],
  nics: [],
} as const satisfies Omit<GuestSample, 'uuid'>

export class FakeHypervisor implements Hypervisor {
  readonly knobs: FakeKnobs = {
    ignoresPowerButton: false,
    holdsDisks: false,
    isAway: false,
    unreadable: new Set(),
    failures: [],
    beforeSwitch: async () => {},
    beforeCall: () => {},
  }
  /** Hypervisors of other hosts, by the URI that they are dialled at. */
  readonly peers = new Map<string, FakeHypervisor>()
  /** What was called with effect, in order: `start <uuid>`. */
  readonly calls: string[] = []
  readonly pools = new Map<string, string>()
  /** QEMU's ends of the screens that were opened, oldest first. */
  readonly screens: Duplex[] = []
  /** What is counted of guests; of a running one that is not here, nothing is. */
  readonly samples = new Map<string, Partial<GuestSample>>()
  /** What guests are reached at. */
  readonly addresses = new Map<string, readonly string[]>()
  /** Names of the snapshots that were made of guests that were up, by guest. */
  readonly snapshots = new Map<string, Set<string>>()
  readonly #domains = new Map<string, FakeDomain>()
  readonly #jobs = new Map<string, MigrationJob>()
  readonly #cancels = new Map<string, () => void>()
  readonly #listeners = new Set<(event: HypervisorEvent) => void>()

  async facts(): Promise<HypervisorFacts> {
    await this.#enter('facts', '')
    const versions = { libvirtVersion: '9.0.0', hypervisorVersion: '7.2.0' }
    return { cpus: 4, ...versions, capabilities: CAPABILITIES }
  }

  async guestCpu(): Promise<GuestCpu> {
    await this.#enter('facts', '')
    return { model: 'EPYC', features: ['aes', 'avx2'] }
  }

  async listDomains(): Promise<DomainList> {
    await this.#enter('list', '')
    const all = [...this.#domains.values()]
    const { unreadable } = this.knobs
    return {
      domains: all.filter(({ uuid }) => !unreadable.has(uuid)).map(snapshot),
      unread: all
        .filter(({ uuid }) => unreadable.has(uuid))
        .map(({ uuid, name }) => ({ uuid, name, why: 'cannot acquire state change lock' })),
    }
  }

  async findDomain(uuid: string): Promise<HypervisorDomain | null> {
    await this.#enter('find', uuid)
    if (this.knobs.unreadable.has(uuid))
      throw new VpeError('HYPERVISOR_FAILED', 'libvirt: cannot acquire state change lock')
    const domain = this.#domains.get(uuid)
    return domain ? snapshot(domain) : null
  }

  async defineDomain(xml: string): Promise<void> {
    const { domain } = parseXml(xml) as {
      domain: { name: string; uuid: string; metadata?: { instance?: object } }
    }
    await this.#enter('define', domain.uuid)
    const mark = domain.metadata?.instance
    const markXml = mark ? buildXml({ instance: { ...mark } }) : null
    const known = this.#domains.get(domain.uuid)
    if (known) Object.assign(known, { xml, markXml })
    else {
      const guest = { power: 'off', reason: 'unknown' } as const
      this.#domains.set(domain.uuid, { uuid: domain.uuid, name: domain.name, xml, markXml, guest, disks: [] })
    }
    this.#tell({ kind: 'domain', uuid: domain.uuid })
  }

  async writeMark(uuid: string, markXml: string): Promise<void> {
    await this.#enter('mark', uuid)
    this.#domain(uuid).markXml = markXml
  }

  async startDomain(uuid: string): Promise<void> {
    const domain = this.#domain(uuid)
    try {
      await this.#enter('start', uuid)
    } catch (error) {
      if (domain.guest.power === 'off') domain.guest = { power: 'off', reason: 'start-failed' }
      throw error
    }
    const { domain: defined } = parseXml(domain.xml) as { domain: { devices?: unknown } }
    domain.disks = childrenOf(defined.devices, 'disk').map(guestDisk)
    this.#setGuest(uuid, { power: 'on' })
  }

  async pauseDomain(uuid: string): Promise<void> {
    await this.#enter('pause', uuid)
    this.#assertUp(uuid)
    this.standStill(uuid, 'asked')
  }

  async resumeDomain(uuid: string): Promise<void> {
    await this.#enter('resume', uuid)
    this.#assertUp(uuid)
    if (this.#domain(uuid).guest.power === 'paused') this.#setGuest(uuid, { power: 'on' })
  }

  async guestDisks(uuid: string): Promise<readonly GuestDisk[]> {
    await this.#enter('disks', uuid)
    const domain = this.#domains.get(uuid)
    return domain && domain.guest.power !== 'off' ? domain.disks : []
  }

  async attachDisk(uuid: string, diskXml: string): Promise<void> {
    await this.#enter('attach', uuid)
    const domain = this.#domain(uuid)
    const disk = guestDisk(parseXml(diskXml).disk)
    domain.disks = [...domain.disks.filter(({ target }) => target !== disk.target), disk]
  }

  async detachDisk(uuid: string, target: string): Promise<void> {
    await this.#enter('detach', uuid)
    if (!this.knobs.holdsDisks) this.releaseDisk(uuid, target)
  }

  async growDisk(uuid: string, target: string, sizeBytes: number): Promise<void> {
    await this.#enter(`grow ${target} ${sizeBytes}`, uuid)
  }

  async updateDevice(uuid: string, deviceXml: string): Promise<void> {
    const state = /<link state="(\w+)"/.exec(deviceXml)?.[1]
    await this.#enter(`link-${state}`, uuid)
    this.#assertUp(uuid)
  }

  async shutdownDomain(uuid: string): Promise<void> {
    await this.#enter('shutdown', uuid)
    const runs = this.#domain(uuid).guest.power === 'on'
    if (runs && !this.knobs.ignoresPowerButton) this.goOff(uuid, 'guest-shutdown')
  }

  async destroyDomain(uuid: string): Promise<void> {
    await this.#enter('destroy', uuid)
    this.goOff(uuid, 'destroyed')
  }

  async undefineDomain(uuid: string): Promise<void> {
    await this.#enter('undefine', uuid)
    this.#domains.delete(uuid)
    this.#tell({ kind: 'domain', uuid })
  }

  async snapshotSystemDisk(uuid: string, name: string): Promise<void> {
    await this.#enter('snapshot', uuid)
    this.#assertUp(uuid)
    this.snapshots.set(uuid, (this.snapshots.get(uuid) ?? new Set()).add(name))
  }

  async removeSystemDiskSnapshot(uuid: string, name: string): Promise<void> {
    await this.#enter('remove-snapshot', uuid)
    this.#assertUp(uuid)
    this.snapshots.get(uuid)?.delete(name)
  }

  async migrationJob(uuid: string): Promise<MigrationJob> {
    await this.#enter('job', uuid)
    return this.#jobs.get(uuid) ?? null
  }

  async migrationProgress(uuid: string): Promise<MigrationProgress | null> {
    await this.#enter('progress', uuid)
    if (this.#jobs.get(uuid) !== 'out') return null
    return {
      what: 'memory',
      passes: 1,
      totalBytes: 100 * MIB,
      remainingBytes: 39 * MIB,
      bytesPerSecond: 7 * MIB,
    }
  }

  async reach(libvirtUri: string): Promise<void> {
    await this.#enter('reach', libvirtUri)
    if (!this.peers.has(libvirtUri)) throw new VpeError('CONFLICT', `${libvirtUri} cannot be reached`)
  }

  async checkMigration(uuid: string, { libvirtUri }: MigrationTarget): Promise<void> {
    await this.#enter('check-migration', uuid)
    if (!this.peers.has(libvirtUri)) throw new VpeError('CONFLICT', `${libvirtUri} cannot be reached`)
  }

  /** Copies at once, and waits for `knobs.beforeSwitch`; then the guest runs there. */
  async migrateDomain(uuid: string, target: MigrationTarget): Promise<{ downtimeMs: number | null }> {
    await this.#enter('migrate', uuid)
    this.#assertUp(uuid)
    const there = this.peers.get(target.libvirtUri)
    if (!there) throw new VpeError('HYPERVISOR_FAILED', 'libvirt: connection refused')
    const cancelled = Promise.withResolvers<void>()
    this.#jobs.set(uuid, 'out')
    this.#cancels.set(uuid, () => cancelled.reject(new VpeError('HYPERVISOR_FAILED', 'libvirt: cancelled')))
    try {
      await Promise.race([cancelled.promise, this.knobs.beforeSwitch(uuid)])
      await there.defineDomain(target.definitionXml)
      there.#setGuest(uuid, { power: 'on' })
      this.#domains.delete(uuid)
      this.#tell({ kind: 'domain', uuid })
    } finally {
      this.#jobs.delete(uuid)
      this.#cancels.delete(uuid)
    }
    return { downtimeMs: 40 }
  }

  async startPostCopy(uuid: string): Promise<void> {
    await this.#enter('post-copy', uuid)
  }

  async abortMigration(uuid: string): Promise<void> {
    await this.#enter('abort', uuid)
    this.#cancels.get(uuid)?.()
  }

  async ensurePool(uuid: string, path: string): Promise<void> {
    await this.#enter('ensure-pool', uuid)
    this.pools.set(uuid, path)
  }

  async forgetPool(uuid: string): Promise<void> {
    await this.#enter('forget-pool', uuid)
    this.pools.delete(uuid)
  }

  async openScreen(uuid: string): Promise<Duplex> {
    await this.#enter('screen', uuid)
    const [ours, theirs] = duplexPair()
    this.screens.push(theirs)
    return ours
  }

  async sampleGuests(): Promise<readonly GuestSample[]> {
    await this.#enter('sample', '')
    const running = [...this.#domains.values()].filter(({ guest }) => isUp(guest))
    return running.map(({ uuid }) => ({ ...NOTHING_COUNTED, uuid, ...this.samples.get(uuid) }))
  }

  async guestAddresses(uuid: string): Promise<readonly string[]> {
    await this.#enter('addresses', uuid)
    return this.addresses.get(uuid) ?? []
  }

  onEvent(listener: (event: HypervisorEvent) => void): void {
    this.#listeners.add(listener)
  }

  async close(): Promise<void> {
    this.#listeners.clear()
  }

  /** A guest goes off, whoever did it. */
  goOff(uuid: string, reason: OffReason): void {
    const domain = this.#domains.get(uuid)
    if (domain && domain.guest.power !== 'off') this.#setGuest(uuid, { power: 'off', reason })
  }

  /** A guest is paused, whoever did it. */
  standStill(uuid: string, reason: 'asked' | 'io-error' | 'full' | 'fault'): void {
    if (this.#domain(uuid).guest.power === 'on') this.#setGuest(uuid, { power: 'paused', reason })
  }

  /** A guest lets go of a disk. */
  releaseDisk(uuid: string, target: string): void {
    const domain = this.#domain(uuid)
    domain.disks = domain.disks.filter((disk) => disk.target !== target)
    this.#tell({ kind: 'domain', uuid })
  }

  /** As `goOff`, but nobody is told: events are hints. */
  goOffSilently(uuid: string, reason: OffReason): void {
    this.#domain(uuid).guest = { power: 'off', reason }
  }

  /** libvirtd goes away, or comes back. */
  setAway(isAway: boolean): void {
    this.knobs.isAway = isAway
    this.#tell(isAway ? { kind: 'disconnected', why: 'the fake is away' } : { kind: 'connected' })
  }

  /** A domain that vpe has not made. */
  addForeign(uuid: string, markXml: string | null = null): void {
    this.#domains.set(uuid, {
      uuid,
      name: `foreign-${uuid}`,
      xml: '',
      markXml,
      guest: { power: 'on' },
      disks: [],
    })
  }

  domainXml(uuid: string): string {
    return this.#domain(uuid).xml
  }

  async #enter(call: string, uuid: string): Promise<void> {
    await this.knobs.beforeCall(call, uuid)
    if (this.knobs.isAway) throw new VpeError('UNAVAILABLE', 'libvirt does not answer: the fake is away')
    const index = this.knobs.failures.findIndex((failure) => failure.call === call)
    const [failure] = index < 0 ? [] : this.knobs.failures.splice(index, 1)
    if (failure) throw new VpeError('HYPERVISOR_FAILED', `libvirt: ${failure.words}`)
    if (!['facts', 'list', 'find', 'sample', 'disks', 'job', 'progress'].includes(call))
      this.calls.push(`${call} ${uuid}`)
  }

  #setGuest(uuid: string, guest: GuestState): void {
    this.#domain(uuid).guest = guest
    this.#tell({ kind: 'domain', uuid })
  }

  #assertUp(uuid: string): void {
    if (!isUp(this.#domain(uuid).guest))
      throw new VpeError('HYPERVISOR_FAILED', 'libvirt: domain is not running')
  }

  #domain(uuid: string): FakeDomain {
    const domain = this.#domains.get(uuid)
    if (!domain) throw new VpeError('HYPERVISOR_FAILED', `libvirt: no domain with matching uuid '${uuid}'`)
    return domain
  }

  #tell(event: HypervisorEvent): void {
    for (const listener of this.#listeners) queueMicrotask(() => listener(event))
  }
}

/** The mark element of a foreign domain, for tests. */
export function markElement(record: Readonly<Record<string, string>>): string {
  return buildXml({
    [`${MARK_PREFIX}:instance`]: { [`@xmlns:${MARK_PREFIX}`]: MARK_NAMESPACE, ...attributes(record) },
  })
}

function guestDisk(node: unknown): GuestDisk {
  const attribute = (element: string, name: string) =>
    String(attributesOf(childrenOf(node, element)[0])[name] ?? '')
  return { target: attribute('target', 'dev'), path: attribute('source', 'file') }
}

function snapshot({ uuid, name, guest, markXml }: FakeDomain): HypervisorDomain {
  return { uuid, name, guest, markXml }
}
