// The one door to the hypervisor. Narrow on purpose: what the agent needs, in the agent's words, so
// that libvirt and the stateful fake are two fillings of the same shape and a contract test can hold
// both to it.

import type { Duplex } from 'node:stream'
import type { GuestSample, GuestState, MigrationJob } from '@vpe/core'
import type { Platform } from '../domain-xml.ts'

/** A domain, whoever made it. */
export interface HypervisorDomain {
  readonly uuid: string
  readonly name: string
  readonly guest: GuestState
  /** The element that vpe has put into its metadata; null for domains of others. */
  readonly markXml: string | null
}

/** What there is at one moment. */
export interface DomainList {
  readonly domains: readonly HypervisorDomain[]
  /** There, too, but nothing more of them could be read this time. */
  readonly unread: readonly UnreadDomain[]
}

export interface UnreadDomain extends Pick<HypervisorDomain, 'uuid' | 'name'> {
  readonly why: string
}

export interface HypervisorFacts {
  readonly cpus: number
  readonly libvirtVersion: string
  readonly hypervisorVersion: string
  /** What virConnectGetCapabilities says. */
  readonly capabilities: string
}

/** What guests of this host can have for a CPU, in libvirt's names. */
export interface GuestCpu {
  /** Empty where libvirt names none. */
  readonly model: string
  readonly features: readonly string[]
}

/** A disk that a running guest has. */
export interface GuestDisk {
  /** Name of the device: "vda". */
  readonly target: string
  readonly path: string
}

/** Where a running domain is sent, and as what. */
export interface MigrationTarget {
  /** Of the hypervisor there, as this host's dials it. */
  readonly libvirtUri: string
  /** Where the memory goes. */
  readonly memoryUri: string
  /** The address that it is received at; undefined for every one. */
  readonly listenAddress: string | undefined
  /** The domain as that host would define it. */
  readonly definitionXml: string
}

export interface MigrationLimits {
  /** In MiB/s; 0 for no bound. */
  readonly bandwidthMibS: number
  /** How long the guest may stand still at the end; 0 leaves it to the hypervisor. */
  readonly downtimeMaxMs: number
  /** The memory is encrypted on its way, and with it the disks that are copied. */
  readonly tls: boolean
  /**
   * Devices of the disks that are copied along, into files that are there: "vda". Its guest then stands still there until
   * nothing of it is left here: no lock on a shared disk would keep it from running twice.
   */
  readonly copyTargets: readonly string[]
  /** `startPostCopy` may have its guest go on there before all of its memory is there. */
  readonly postCopy: boolean
}

/** How far the copying of a guest is: first of its disks, if any are, then of its memory. */
export interface MigrationProgress {
  readonly what: 'disks' | 'memory'
  /** Over its memory: that under way counts. */
  readonly passes: number
  readonly totalBytes: number
  readonly remainingBytes: number
  readonly bytesPerSecond: number
}

/** Events are hints to look again: they may be missed, come late or come twice. */
export type HypervisorEvent =
  | { readonly kind: 'domain'; readonly uuid: string }
  | { readonly kind: 'connected' }
  | { readonly kind: 'disconnected'; readonly why: string }

/**
 * Methods reject with VpeError: UNAVAILABLE while the hypervisor does not answer (whether the call took
 * effect is then unknown), DISK_POOL_FAILED for pools, HYPERVISOR_FAILED otherwise. What is asked for
 * and is so already is success.
 */
export interface Hypervisor {
  facts(): Promise<HypervisorFacts>
  /** What a guest of a kind can have for a CPU here. */
  guestCpu(platform: Pick<Platform, 'domainType' | 'arch'>): Promise<GuestCpu>
  listDomains(): Promise<DomainList>
  findDomain(uuid: string): Promise<HypervisorDomain | null>
  /** Defines a domain or changes its definition; a running guest keeps its own until it stops. */
  defineDomain(xml: string): Promise<void>
  /** Writes the mark, of a running guest as well as of the definition. */
  writeMark(uuid: string, markXml: string): Promise<void>
  /** Resolves when the guest runs. */
  startDomain(uuid: string): Promise<void>
  /** Stops the CPUs of a guest that runs, and keeps its state. Resolves when they stand still. */
  pauseDomain(uuid: string): Promise<void>
  /** Lets a paused guest go on. Resolves when it does. */
  resumeDomain(uuid: string): Promise<void>
  /** Presses the power button; whether the guest obeys, the events tell. */
  shutdownDomain(uuid: string): Promise<void>
  /** Pulls the plug. Resolves when the guest is gone. */
  destroyDomain(uuid: string): Promise<void>
  /** The disks of a guest that is not off; none of one that is, or is not there. */
  guestDisks(uuid: string): Promise<readonly GuestDisk[]>
  /** Gives a running guest a disk, which its definition need not have. */
  attachDisk(uuid: string, diskXml: string): Promise<void>
  /** Asks a running guest to let go of a disk; whether it does, events and `guestDisks` tell. */
  detachDisk(uuid: string, target: string): Promise<void>
  /** Changes a device of a running guest, and not of its definition: the link of its network card. */
  updateDevice(uuid: string, deviceXml: string): Promise<void>
  /** Makes a disk of a running guest larger, and tells the guest; one that is as large already is left so. */
  growDisk(uuid: string, target: string, sizeBytes: number): Promise<void>
  /** Removes the definition of a guest that is off, and what libvirt keeps beside it. */
  undefineDomain(uuid: string): Promise<void>
  /** Gives the system disk of a guest that is up an internal snapshot of that name; one that is there stays as it is. */
  snapshotSystemDisk(uuid: string, name: string): Promise<void>
  /** Takes it away again, while the guest is up. */
  removeSystemDiskSnapshot(uuid: string, name: string): Promise<void>
  /** What is being done about a domain; null also where there is none. */
  migrationJob(uuid: string): Promise<MigrationJob>
  /** Null while nothing is copied. */
  migrationProgress(uuid: string): Promise<MigrationProgress | null>
  /** Rejects with the reason where another hypervisor does not answer this host. */
  reach(libvirtUri: string): Promise<void>
  /** Rejects with the reason where another hypervisor cannot be reached from here, or cannot offer the guest's CPU. */
  checkMigration(uuid: string, target: MigrationTarget): Promise<void>
  /**
   * Hands a running domain over, and resolves to how long its guest stood still, if that is known, when nothing of
   * it is left here. Where it rejects, only a look tells what is.
   */
  migrateDomain(
    uuid: string,
    target: MigrationTarget,
    limits: MigrationLimits,
  ): Promise<{ readonly downtimeMs: number | null }>
  /** Has the guest of a migration that was begun so go on there, and fetch what is not there yet. */
  startPostCopy(uuid: string): Promise<void>
  /** Ends the handing over or the receiving of a domain, unless that is past its end already. */
  abortMigration(uuid: string): Promise<void>
  /** Makes a folder into a started storage pool. */
  ensurePool(uuid: string, path: string): Promise<void>
  /** Stops and forgets a pool; files stay. */
  forgetPool(uuid: string): Promise<void>
  /** A connection to the screen of a guest that runs, in the VNC protocol; whoever gets it closes it. */
  openScreen(uuid: string): Promise<Duplex>
  /** What is counted of every running guest, whoever made it, in one call. */
  sampleGuests(): Promise<readonly GuestSample[]>
  /** The addresses that the hypervisor's own networks have leased to a guest that is up. */
  guestAddresses(uuid: string): Promise<readonly string[]>
  onEvent(listener: (event: HypervisorEvent) => void): void
  close(): Promise<void>
}
