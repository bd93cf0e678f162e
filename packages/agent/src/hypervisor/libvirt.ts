// The hypervisor by way of libvirt.
//
// Three connections, because calls on one share few places: looking (and events) must not wait behind
// a guest that takes a minute to die, and nothing must wait behind a storage pool that hangs.

import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { GuestSample, GuestState, MigrationJob, OffReason } from '@vpe/core'
import { VpeError } from '@vpe/core'
import {
  type Connection,
  connect,
  type Domain,
  type DomainState,
  isLibvirtError,
  LibvirtError,
  type StoragePool,
} from '@vpe/node-libvirt'
import type { Platform } from '../domain-xml.ts'
import { MARK_NAMESPACE, MARK_PREFIX } from '../instance-mark.ts'
import { attributesOf, buildXml, childrenOf, parseXml } from '../xml.ts'
import { guestCpuOf, hostModelOf } from './guest-cpu.ts'
import { guestSample } from './guest-sample.ts'
import type {
  DomainList,
  GuestCpu,
  GuestDisk,
  Hypervisor,
  HypervisorDomain,
  HypervisorEvent,
  HypervisorFacts,
  MigrationLimits,
  MigrationProgress,
  MigrationTarget,
  UnreadDomain,
} from './hypervisor.ts'
import {
  abortMigration,
  checkTarget,
  isHeldByMigration,
  migrate,
  migrationJob,
  migrationProgress,
  reachTarget,
} from './live-migration.ts'
import { makeLiveSnapshot, removeLiveSnapshot } from './live-snapshot.ts'

const PAUSE_REASONS: Readonly<Record<string, 'asked' | 'io-error'>> = {
  user: 'asked',
  'io-error': 'io-error',
}

const SHUTOFF_REASONS: Readonly<Record<string, OffReason>> = {
  shutdown: 'guest-shutdown',
  crashed: 'crashed',
  // libvirtd came back and found its process gone.
  daemon: 'crashed',
  destroyed: 'destroyed',
  failed: 'start-failed',
}

/** libvirtd does not answer. */
const AWAY = ['NO_CONNECT', 'INVALID_CONN'] as const

/** Those that libvirt makes for work of its own, and ends by itself. */
const PASSING_PAUSES: ReadonlySet<string> = new Set([
  'migration',
  'save',
  'dump',
  'snapshot',
  'starting-up',
  'shutting-down',
  'postcopy',
  'postcopy-failed',
])

/** Connects. Rejects with VpeError UNAVAILABLE when libvirt does not answer. */
export async function openLibvirt(uri: string): Promise<Hypervisor> {
  const opened: Connection[] = []
  try {
    for (let index = 0; index < 3; index++) opened.push(await connect(uri))
    const [look, work, storage] = opened
    if (!look || !work || !storage) throw new Error('three connections were just opened')
    return new LibvirtHypervisor(look, work, storage)
  } catch (error) {
    await Promise.all(opened.map((connection) => connection.close()))
    throw isLibvirtError(error)
      ? new VpeError('UNAVAILABLE', `libvirt at ${uri} does not answer: ${error.message}`, { cause: error })
      : error
  }
}

class LibvirtHypervisor implements Hypervisor {
  readonly #look: Connection
  readonly #work: Connection
  readonly #storage: Connection
  readonly #listeners = new Set<(event: HypervisorEvent) => void>()
  /** Guests whose process was told to end by a signal from the host: no will of the guest's. */
  readonly #endedByHost = new Set<string>()
  /**
   * Guests whose last I/O error was for want of room, the one that says nothing of whose the disk is, and lasts until somebody makes room.
   * One that was not heard goes the way of all others: its guard lets the guest go on, which fails again at once, and is heard then.
   */
  readonly #lacksRoom = new Set<string>()
  #isConnected = true
  #isShapeValidated = false

  constructor(look: Connection, work: Connection, storage: Connection) {
    this.#look = look
    this.#work = work
    this.#storage = storage
    look.on('lifecycle', ({ domain, event, detail }) => {
      if (event === 'shutdown' && detail === 'host') this.#endedByHost.add(domain.uuid)
      if (event === 'started' || event === 'undefined') {
        this.#endedByHost.delete(domain.uuid)
        this.#lacksRoom.delete(domain.uuid)
      }
      this.#tell({ kind: 'domain', uuid: domain.uuid })
    })
    look.on('ioError', ({ domain, reason }) => {
      if (reason === 'enospc') this.#lacksRoom.add(domain.uuid)
      else this.#lacksRoom.delete(domain.uuid)
    })
    look.on('disconnected', () => this.#lacksRoom.clear())
    look.on('deviceRemoved', ({ domain }) => this.#tell({ kind: 'domain', uuid: domain.uuid }))
    for (const connection of this.#connections()) {
      connection.on('disconnected', ({ reason }) => this.#disconnected(reason))
      connection.on('connected', () => this.#connected())
    }
  }

  facts(): Promise<HypervisorFacts> {
    return translate(async () => {
      const [node, libvirtVersion, hypervisorVersion, capabilities] = await Promise.all([
        this.#look.nodeInfo(),
        this.#look.libVersion(),
        this.#look.hypervisorVersion(),
        this.#look.capabilities(),
      ])
      return { cpus: node.cpus, libvirtVersion, hypervisorVersion, capabilities }
    })
  }

  guestCpu({ domainType, arch }: Pick<Platform, 'domainType' | 'arch'>): Promise<GuestCpu> {
    return translate(async () => {
      const query = { virtType: domainType, arch }
      const hostModel = await unlessUnsupported(
        this.#look.domainCapabilities(query).then((capabilities) => hostModelOf(capabilities)),
      )
      if (!hostModel) return { model: '', features: [] }
      const expanded = await unlessUnsupported(
        this.#look.baselineCpu([hostModel], { expandFeatures: true, query }),
      )
      return guestCpuOf(expanded ?? hostModel)
    })
  }

  listDomains(): Promise<DomainList> {
    return translate(async () => {
      const unread: UnreadDomain[] = []
      const read = async (domain: Domain) => {
        try {
          return await unlessGone(this.#read(domain))
        } catch (error) {
          // One of which libvirt says nothing, such as one that something else holds, hides no other.
          if (isLibvirtError(error, ...AWAY) || !isLibvirtError(error)) throw error
          unread.push({ uuid: domain.uuid, name: domain.name, why: error.message })
          return null
        }
      }
      const seen = await Promise.all((await this.#look.listDomains()).map(read))
      return { domains: seen.filter((domain) => domain !== null), unread }
    })
  }

  findDomain(uuid: string): Promise<HypervisorDomain | null> {
    return translate(() =>
      unlessGone(this.#look.lookupDomainByUuid(uuid).then((domain) => this.#read(domain))),
    )
  }

  defineDomain(xml: string): Promise<void> {
    return translate(async () => {
      // Definitions differ in values, not in shape: what libvirt's schema has passed once it passes again,
      // and each check costs 50 ms, as long as all the rest of making a guest ready.
      await this.#work.defineDomain(xml, { validate: !this.#isShapeValidated })
      this.#isShapeValidated = true
    })
  }

  writeMark(uuid: string, markXml: string): Promise<void> {
    const element = { uri: MARK_NAMESPACE, key: MARK_PREFIX, xml: markXml }
    const domain = this.#work.domain(uuid)
    return translate(async () => {
      if (await domain.isActive()) {
        try {
          await domain.setMetadata({ ...element, live: true, config: true })
          return
        } catch (error) {
          // It went off in between.
          if (!isLibvirtError(error, 'OPERATION_INVALID')) throw error
        }
      }
      await domain.setMetadata({ ...element, config: true })
    })
  }

  startDomain(uuid: string): Promise<void> {
    return translate(async () => {
      const domain = this.#work.domain(uuid)
      await unlessSo(domain.start(), () => domain.isActive())
    })
  }

  pauseDomain(uuid: string): Promise<void> {
    const domain = this.#work.domain(uuid)
    return translate(() => unlessSo(domain.suspend(), async () => (await domain.state()).state === 'paused'))
  }

  resumeDomain(uuid: string): Promise<void> {
    const domain = this.#work.domain(uuid)
    return translate(() => unlessSo(domain.resume(), async () => (await domain.state()).state === 'running'))
  }

  shutdownDomain(uuid: string): Promise<void> {
    const domain = this.#work.domain(uuid)
    return translate(() => unlessSo(domain.shutdown(), () => isOff(domain)))
  }

  destroyDomain(uuid: string): Promise<void> {
    const domain = this.#work.domain(uuid)
    return translate(() => unlessSo(domain.destroy(), () => isOff(domain)))
  }

  guestDisks(uuid: string): Promise<readonly GuestDisk[]> {
    return translate(async () => this.#guestDisks(this.#look.domain(uuid)))
  }

  attachDisk(uuid: string, diskXml: string): Promise<void> {
    const domain = this.#work.domain(uuid)
    const target = attributesOf(childrenOf(parseXml(diskXml).disk, 'target')[0]).dev
    return translate(() =>
      unlessSo(domain.attachDevice(diskXml, { live: true }), async () =>
        (await this.#guestDisks(domain)).some((disk) => disk.target === target),
      ),
    )
  }

  detachDisk(uuid: string, target: string): Promise<void> {
    const domain = this.#work.domain(uuid)
    return translate(async () => {
      const find = async () => (await this.#guestDisks(domain)).find((disk) => disk.target === target)
      const known = await find()
      if (!known) return
      try {
        // By its alias, libvirt does not wait for the guest's answer.
        await domain.detachDeviceAlias(known.alias, { live: true })
      } catch (error) {
        const isAskedAlready = isLibvirtError(error) && /process of unplug/.test(error.message)
        if (!isAskedAlready && (await find())) throw error
      }
    })
  }

  growDisk(uuid: string, target: string, sizeBytes: number): Promise<void> {
    const domain = this.#work.domain(uuid)
    return translate(async () => {
      const { capacityBytes } = await domain.blockInfo(target)
      if (capacityBytes < sizeBytes) await domain.blockResize(target, sizeBytes)
    })
  }

  updateDevice(uuid: string, deviceXml: string): Promise<void> {
    return translate(() => this.#work.domain(uuid).updateDevice(deviceXml, { live: true }))
  }

  undefineDomain(uuid: string): Promise<void> {
    return translate(async () => {
      const domain = this.#work.domain(uuid)
      const flags = { managedSave: true, snapshotsMetadata: true }
      try {
        await unlessGone(domain.undefine({ ...flags, checkpointsMetadata: true, nvram: true }))
      } catch (error) {
        // Not every driver knows every flag.
        if (!isLibvirtError(error, 'INVALID_ARG')) throw error
        await unlessGone(domain.undefine(flags))
      }
    })
  }

  snapshotSystemDisk(uuid: string, name: string): Promise<void> {
    return translate(() => makeLiveSnapshot(this.#work.domain(uuid), name))
  }

  removeSystemDiskSnapshot(uuid: string, name: string): Promise<void> {
    return translate(() => removeLiveSnapshot(this.#work.domain(uuid), name))
  }

  migrationJob(uuid: string): Promise<MigrationJob> {
    return translate(() => migrationJob(this.#look.domain(uuid)))
  }

  migrationProgress(uuid: string): Promise<MigrationProgress | null> {
    return translate(() => migrationProgress(this.#look.domain(uuid)))
  }

  reach(libvirtUri: string): Promise<void> {
    return translate(() => reachTarget(libvirtUri))
  }

  checkMigration(uuid: string, target: MigrationTarget): Promise<void> {
    return translate(() => checkTarget(this.#look.domain(uuid), target))
  }

  migrateDomain(uuid: string, target: MigrationTarget, limits: MigrationLimits) {
    return translate(() => migrate(this.#look.uri, uuid, target, limits))
  }

  startPostCopy(uuid: string): Promise<void> {
    return translate(() => this.#look.domain(uuid).startPostCopy())
  }

  abortMigration(uuid: string): Promise<void> {
    return translate(() => abortMigration(this.#work.domain(uuid)))
  }

  ensurePool(uuid: string, path: string): Promise<void> {
    return translate(
      async () => {
        let known = await this.#findPool(uuid)
        if (known && targetPath(await known.xml()) !== path) {
          await this.#forget(known)
          known = null
        }
        // Defining it anew changes nothing, and tells of another pool on the same folder.
        const pool = await this.#storage.defineStoragePool(poolXml(uuid, path))
        await pool.setAutostart(false)
        if (await pool.isActive()) return
        try {
          await pool.build()
          await pool.start()
        } catch (error) {
          // One that never worked is not worth keeping; why it did not is what the caller wants to know.
          if (!known) await pool.undefine().catch(() => {})
          throw error
        }
      },
      (error) => poolFault(error, path),
    )
  }

  forgetPool(uuid: string): Promise<void> {
    return translate(
      async () => {
        const pool = await this.#findPool(uuid)
        if (pool) await this.#forget(pool)
      },
      (error) => poolFault(error, uuid),
    )
  }

  openScreen(uuid: string): Promise<Duplex> {
    return translate(async () => {
      // libvirt passes one end of a socket pair whose other end QEMU serves: no address that anybody else
      // could connect to is involved, nor a path that must be visible to this process.
      const fd = await this.#work.domain(uuid).openGraphicsFd(0, { skipAuth: true })
      return new Socket({ fd, readable: true, writable: true })
    }, screenFault)
  }

  sampleGuests(): Promise<readonly GuestSample[]> {
    return translate(async () => {
      const types = ['cpu', 'balloon', 'vcpu', 'net', 'block'] as const
      // What a guest that hangs does not tell is left out, rather than waited for.
      const statistics = await this.#look.allDomainStats({ types, active: true, noWait: true })
      return statistics.map(guestSample)
    })
  }

  guestAddresses(uuid: string): Promise<readonly string[]> {
    return translate(async () => {
      try {
        const leases = await this.#look.domain(uuid).interfaceAddresses('lease')
        return leases.flatMap(({ addresses }) => addresses.map(({ address }) => address))
      } catch (error) {
        // It went off meanwhile.
        if (isLibvirtError(error, 'NO_DOMAIN', 'OPERATION_INVALID')) return []
        throw error
      }
    })
  }

  onEvent(listener: (event: HypervisorEvent) => void): void {
    this.#listeners.add(listener)
  }

  async close(): Promise<void> {
    this.#listeners.clear()
    await Promise.all(this.#connections().map((connection) => connection.close()))
  }

  async #read(domain: Domain): Promise<HypervisorDomain> {
    const [seen, markXml] = await Promise.all([domain.state(), this.#readMark(domain)])
    // A pause for a migration passes with it; where none is under way any more, that has broken at its end.
    const isLeft =
      isHeldByMigration(seen) && !(await migrationJob(domain)) && isHeldByMigration(await domain.state())
    const guest = isLeft
      ? ({ power: 'paused', reason: 'migration' } as const)
      : this.#guestState(domain.uuid, seen)
    return { uuid: domain.uuid, name: domain.name, guest, markXml }
  }

  async #guestDisks(domain: Domain): Promise<readonly (GuestDisk & { alias: string })[]> {
    const xml = await unlessGone(domain.xml())
    const root = xml === null ? null : parseXml(xml).domain
    // Only a domain that runs has an id; one that does not shows its definition.
    if (attributesOf(root).id === undefined) return []
    const [devices] = childrenOf(root, 'devices')
    return childrenOf(devices, 'disk').map((node) => {
      const attribute = (element: string, name: string) =>
        String(attributesOf(childrenOf(node, element)[0])[name] ?? '')
      return {
        target: attribute('target', 'dev'),
        path: attribute('source', 'file'),
        alias: attribute('alias', 'name'),
      }
    })
  }

  /** The definition's mark, which is never older than the running guest's. */
  async #readMark(domain: Domain): Promise<string | null> {
    try {
      return (await domain.metadata(MARK_NAMESPACE, { config: true })) ?? null
    } catch (error) {
      // Somebody undefined it while it runs: it is not ours to keep any more, but it is there.
      if (!isLibvirtError(error, 'OPERATION_INVALID')) throw error
      return (await domain.metadata(MARK_NAMESPACE)) ?? null
    }
  }

  #guestState(uuid: string, { state, reason }: DomainState): GuestState {
    if (state === 'crashed') return { power: 'panicked' }
    if (state === 'paused' && PASSING_PAUSES.has(reason)) return { power: 'on' }
    if (state === 'paused' && reason === 'io-error' && this.#lacksRoom.has(uuid))
      return { power: 'paused', reason: 'full' }
    if (state === 'paused') return { power: 'paused', reason: PAUSE_REASONS[reason] ?? 'fault' }
    if (state !== 'shutoff') return { power: 'on' }
    const known = SHUTOFF_REASONS[reason] ?? 'unknown'
    return {
      power: 'off',
      reason: known === 'guest-shutdown' && this.#endedByHost.has(uuid) ? 'destroyed' : known,
    }
  }

  async #findPool(uuid: string): Promise<StoragePool | null> {
    try {
      const pool = await this.#storage.lookupStoragePoolByUuid(uuid)
      if (pool.name === poolName(uuid)) return pool
      throw new VpeError(
        'DISK_POOL_FAILED',
        `libvirt has a storage pool ${pool.name} of that id which is not vpe's`,
      )
    } catch (error) {
      if (isLibvirtError(error, 'NO_STORAGE_POOL')) return null
      throw error
    }
  }

  async #forget(pool: StoragePool): Promise<void> {
    if (await pool.isActive()) await pool.destroy()
    await pool.undefine()
  }

  #connections(): readonly Connection[] {
    return [this.#look, this.#work, this.#storage]
  }

  #disconnected(why: string): void {
    if (!this.#isConnected) return
    this.#isConnected = false
    this.#tell({ kind: 'disconnected', why })
  }

  #connected(): void {
    if (this.#isConnected || !this.#connections().every((connection) => connection.isConnected)) return
    this.#isConnected = true
    this.#tell({ kind: 'connected' })
  }

  #tell(event: HypervisorEvent): void {
    for (const listener of this.#listeners) listener(event)
  }
}

function poolName(uuid: string): string {
  return `vpe-${uuid}`
}

function poolXml(uuid: string, path: string): string {
  return buildXml({ pool: { '@type': 'dir', name: poolName(uuid), uuid, target: { path } } })
}

function targetPath(xml: string): unknown {
  const { pool } = parseXml(xml) as { pool?: { target?: { path?: unknown } } }
  return pool?.target?.path
}

/** Drivers and architectures of which libvirt knows no CPUs. */
async function unlessUnsupported<T>(call: Promise<T>): Promise<T | null> {
  try {
    return await call
  } catch (error) {
    if (isLibvirtError(error, 'NO_SUPPORT', 'CONFIG_UNSUPPORTED', 'OPERATION_UNSUPPORTED', 'INVALID_ARG'))
      return null
    throw error
  }
}

async function unlessGone<T>(call: Promise<T>): Promise<T | null> {
  try {
    return await call
  } catch (error) {
    if (isLibvirtError(error, 'NO_DOMAIN')) return null
    throw error
  }
}

/** Drivers differ in what they answer when all is so already: what counts is whether it is. */
async function unlessSo(call: Promise<void>, isSo: () => Promise<boolean>): Promise<void> {
  try {
    await call
  } catch (error) {
    if (!isLibvirtError(error) || !(await isSo().catch(() => false))) throw error
  }
}

async function isOff(domain: Domain): Promise<boolean> {
  return !(await unlessGone(domain.isActive()))
}

async function translate<T>(
  work: () => Promise<T>,
  explain: (error: LibvirtError) => VpeError = hypervisorFault,
): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof LibvirtError)) throw error
    if (isLibvirtError(error, ...AWAY)) {
      throw new VpeError('UNAVAILABLE', `libvirt does not answer: ${error.message}`, { cause: error })
    }
    throw explain(error)
  }
}

/** What is known to help, by what libvirt says. */
const MENDS: readonly (readonly [RegExp, string])[] = [
  [/Failed to get "write" lock/, 'its disk is in use by another process, perhaps on another host'],
  [/Permission denied/, 'let the user that QEMU runs as reach the file (qemu.conf: user, dynamic_ownership)'],
  [
    /cannot set up guest memory|Cannot allocate memory/,
    'free some memory on the host, or choose a smaller flavor',
  ],
  [/does not support O_DIRECT/, 'move the disk pool to a folder on ext4, xfs or NFS'],
  [/Device '.*' could not be initialized|could not find.*\.rom/, 'install qemu-system with all its parts'],
  [/No more available PCI/, 'stop the instance and start it: it then has room for more devices'],
  [/virtlogd|Failed to connect socket to .*virtlog/, 'start virtlogd'],
  [/authentication|access denied/i, 'let the user of the agent manage libvirt (group libvirt)'],
]

function hypervisorFault(error: LibvirtError): VpeError {
  const mend = MENDS.find(([words]) => words.test(error.message))?.[1]
  return new VpeError('HYPERVISOR_FAILED', `libvirt: ${error.message}${mend ? `; ${mend}` : ''}`, {
    cause: error,
  })
}

function screenFault(error: LibvirtError): VpeError {
  return isLibvirtError(error, 'NO_DOMAIN', 'OPERATION_INVALID')
    ? new VpeError('CONFLICT', `the guest is off: ${error.message}`, { cause: error })
    : hypervisorFault(error)
}

function poolFault(error: LibvirtError, path: string): VpeError {
  const conflict = /conflict with pool: '(.*)'/.exec(error.message)?.[1]
  const mend = conflict
    ? `the folder belongs to libvirt's storage pool ${conflict}: choose another folder, or give that pool up with virsh pool-destroy ${conflict} and pool-undefine ${conflict}`
    : 'choose a folder that libvirtd can make and write'
  return new VpeError('DISK_POOL_FAILED', `disk pool ${path}: ${error.message}; ${mend}`, { cause: error })
}
