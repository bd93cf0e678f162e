// A handle to a domain: a connection and a uuid, nothing native. Every call looks the domain up first, so a
// handle survives the loss of its connection and need not be freed, for the price of one short request.

import {
  type DestroyFlags,
  type DeviceFlags,
  type DomainXmlFlags,
  destroyFlags,
  deviceFlags,
  domainXmlFlags,
  type ImpactFlags,
  impactFlags,
  type KeycodeSet,
  keycodeSets,
  type ResizeFlags,
  resizeFlags,
  type SaveFlags,
  type ShutdownFlags,
  type StartFlags,
  saveFlags,
  shutdownFlags,
  startFlags,
  type UndefineFlags,
  undefineFlags,
  type VcpuFlags,
  vcpuFlags,
} from './domain-flags.ts'
import { type DomainState, type DomainStateName, domainState, domainStateName } from './domain-state.ts'
import { isLibvirtError, ownError } from './error.ts'
import { flagBits } from './flags.ts'
import type { DomainIdentity } from './identity.ts'
import { type InterfaceAddresses, readInterfaces } from './interface-addresses.ts'
import { type JobStats, jobStats, jobTypeName } from './job-stats.ts'
import { callLocal } from './library.ts'
import type { Link } from './link.ts'
import {
  freeMemory,
  readInt,
  readPointer,
  readString,
  readStruct,
  readUnsignedLong,
  takeStrings,
  withMemory,
  writeUnsignedInts,
} from './memory.ts'
import { type MigrateOptions, migrateFlagBits, migrateParameters } from './migration.ts'
import type { Pointer } from './native-functions.ts'
import type { Call } from './session.ts'
import { readTypedParameters, withTypedParameters } from './typed-parameters.ts'

export interface DomainInfo {
  readonly state: DomainStateName
  readonly maxMemoryKib: number
  readonly memoryKib: number
  readonly vcpus: number
  /** CPU time used since start, rounded above 2^53 ns, 104 days. */
  readonly cpuTimeNs: number
}

/** Sizes of a disk in bytes: what the guest sees, what is allocated, how long the file or device is. */
export interface BlockInfo {
  readonly capacityBytes: number
  readonly allocationBytes: number
  readonly physicalBytes: number
}

const memoryStatNames = [
  'swapInKib',
  'swapOutKib',
  'majorFaults',
  'minorFaults',
  'unusedKib',
  'availableKib',
  'actualBalloonKib',
  'rssKib',
  'usableKib',
  'lastUpdateSeconds',
  'diskCachesKib',
  'hugetlbAllocations',
  'hugetlbFailures',
] as const
/** virDomainMemoryStatTags; most need a balloon driver in the guest and a stats period. */
export type MemoryStats = { readonly [K in (typeof memoryStatNames)[number]]?: number }

export interface SetMetadata extends ImpactFlags {
  /** The namespace that identifies the element; a domain has at most one element per namespace. */
  readonly uri: string
  /** The namespace prefix libvirt writes, without the colon. */
  readonly key: string
  /** One XML element; undefined removes it. */
  readonly xml: string | undefined
}

const interfaceSources = ['lease', 'agent', 'arp'] as const
export type InterfaceAddressSource = (typeof interfaceSources)[number]

/**
 * A domain. All methods reject with a LibvirtError: NO_DOMAIN when the domain is gone, OPERATION_INVALID when
 * its state forbids the call, NO_CONNECT while there is no connection.
 */
export class Domain {
  readonly uuid: string
  /** The name when the handle was made; `rename` does not change it. */
  readonly name: string
  readonly #link: Link

  /** Handles come from a Connection. */
  constructor(link: Link, identity: DomainIdentity) {
    this.#link = link
    this.uuid = identity.uuid
    this.name = identity.name
  }

  /** Starts a defined domain. */
  start(flags?: StartFlags): Promise<void> {
    return this.#do((call, domain) => call('virDomainCreateWithFlags', domain, flagBits(startFlags, flags)))
  }

  /** Asks the guest to shut down. Resolves when it has been asked; whether it obeys, the events tell. */
  shutdown(flags?: ShutdownFlags): Promise<void> {
    return this.#do((call, domain) => call('virDomainShutdownFlags', domain, flagBits(shutdownFlags, flags)))
  }

  /** Asks the guest to reboot. */
  reboot(flags?: ShutdownFlags): Promise<void> {
    return this.#do((call, domain) => call('virDomainReboot', domain, flagBits(shutdownFlags, flags)))
  }

  /** Presses the reset button. */
  reset(): Promise<void> {
    return this.#do((call, domain) => call('virDomainReset', domain, 0))
  }

  /** Pulls the plug. */
  destroy(flags?: DestroyFlags): Promise<void> {
    return this.#do((call, domain) => call('virDomainDestroyFlags', domain, flagBits(destroyFlags, flags)))
  }

  /** Stops the virtual CPUs; memory stays. */
  suspend(): Promise<void> {
    return this.#do((call, domain) => call('virDomainSuspend', domain))
  }

  resume(): Promise<void> {
    return this.#do((call, domain) => call('virDomainResume', domain))
  }

  /** Saves memory to a file of libvirt's choice and stops; the next start restores it. */
  managedSave(flags?: SaveFlags): Promise<void> {
    return this.#do((call, domain) => call('virDomainManagedSave', domain, flagBits(saveFlags, flags)))
  }

  removeManagedSave(): Promise<void> {
    return this.#do((call, domain) => call('virDomainManagedSaveRemove', domain, 0))
  }

  hasManagedSave(): Promise<boolean> {
    return this.#with(async (call, domain) => (await call('virDomainHasManagedSaveImage', domain, 0)) === 1)
  }

  /** Removes the definition; a running domain goes on as a transient one. */
  undefine(flags?: UndefineFlags): Promise<void> {
    return this.#do((call, domain) => call('virDomainUndefineFlags', domain, flagBits(undefineFlags, flags)))
  }

  /** Renames a stopped domain. */
  rename(name: string): Promise<void> {
    return this.#do((call, domain) => call('virDomainRename', domain, name, 0))
  }

  state(): Promise<DomainState> {
    return this.#with((call, domain) =>
      withMemory(8, async (memory) => {
        await call('virDomainGetState', domain, memory, memory + 4n, 0)
        return domainState(readInt(memory), readInt(memory + 4n))
      }),
    )
  }

  isActive(): Promise<boolean> {
    return this.#with(async (call, domain) => (await call('virDomainIsActive', domain)) === 1)
  }

  /** True when the domain has a definition that outlives its run. */
  isPersistent(): Promise<boolean> {
    return this.#with(async (call, domain) => (await call('virDomainIsPersistent', domain)) === 1)
  }

  /** The number of the running domain on its host, undefined when it does not run. */
  id(): Promise<number | undefined> {
    return this.#with(async (_call, domain) => {
      const id = callLocal('virDomainGetID', domain)
      return id === 0xffffffff ? undefined : id
    })
  }

  info(): Promise<DomainInfo> {
    return this.#with((call, domain) =>
      withMemory(40, async (memory) => {
        await call('virDomainGetInfo', domain, memory)
        const info = readStruct(memory, 40)
        return {
          state: domainStateName(info.getUint8(0)),
          maxMemoryKib: Number(info.getBigUint64(8, true)),
          memoryKib: Number(info.getBigUint64(16, true)),
          vcpus: info.getUint16(24, true),
          cpuTimeNs: Number(info.getBigUint64(32, true)),
        }
      }),
    )
  }

  xml(flags?: DomainXmlFlags): Promise<string> {
    return this.#with((call, domain) => call('virDomainGetXMLDesc', domain, flagBits(domainXmlFlags, flags)))
  }

  /** Warnings libvirt attached to the domain: tainting, deprecation. */
  messages(): Promise<string[]> {
    return this.#with((call, domain) =>
      withMemory(8, async (memory) => {
        const count = await call('virDomainGetMessages', domain, memory, 0)
        return takeStrings(memory, count)
      }),
    )
  }

  /**
   * The metadata element of a namespace, or undefined when there is none. libvirt writes it anew: expect the
   * same XML, not the same text (`ü` comes back as `&#xFC;`).
   */
  metadata(uri: string, flags?: ImpactFlags): Promise<string | undefined> {
    return this.#readMetadata(2, uri, flags)
  }

  /** Sets or removes a metadata element. */
  setMetadata({ uri, key, xml, ...flags }: SetMetadata): Promise<void> {
    return this.#do((call, domain) =>
      call('virDomainSetMetadata', domain, 2, xml ?? null, key, uri, flagBits(impactFlags, flags)),
    )
  }

  /**
   * Has the QEMU of a running guest carry out a QMP command, past libvirt, and resolves to what it returned.
   * libvirt taints the guest for it. Rejects with the QEMU error class and words where QEMU refuses.
   */
  qemuMonitorCommand(execute: string, args?: Readonly<Record<string, unknown>>): Promise<unknown> {
    const command = JSON.stringify({ execute, ...(args && { arguments: args }) })
    return this.#with((call, domain) =>
      withMemory(8, async (result) => {
        await call('virDomainQemuMonitorCommand', domain, command, result, 0)
        const text = readPointer(result)
        try {
          return monitorAnswer(execute, text === null ? '' : readString(text))
        } finally {
          freeMemory(text)
        }
      }),
    )
  }

  title(flags?: ImpactFlags): Promise<string | undefined> {
    return this.#readMetadata(1, null, flags)
  }

  setTitle(title: string | undefined, flags?: ImpactFlags): Promise<void> {
    return this.#do((call, domain) =>
      call('virDomainSetMetadata', domain, 1, title ?? null, null, null, flagBits(impactFlags, flags)),
    )
  }

  description(flags?: ImpactFlags): Promise<string | undefined> {
    return this.#readMetadata(0, null, flags)
  }

  setDescription(description: string | undefined, flags?: ImpactFlags): Promise<void> {
    return this.#do((call, domain) =>
      call('virDomainSetMetadata', domain, 0, description ?? null, null, null, flagBits(impactFlags, flags)),
    )
  }

  /** Whether libvirtd starts the domain when it starts itself. */
  autostart(): Promise<boolean> {
    return this.#readFlag('virDomainGetAutostart')
  }

  setAutostart(autostart: boolean): Promise<void> {
    return this.#do((call, domain) => call('virDomainSetAutostart', domain, autostart ? 1 : 0))
  }

  /** Whether the domain starts with the host's next boot only. Since libvirt 11.2; NO_SUPPORT before. */
  autostartOnce(): Promise<boolean> {
    return this.#readFlag('virDomainGetAutostartOnce')
  }

  /** Since libvirt 11.2; NO_SUPPORT before. */
  setAutostartOnce(autostart: boolean): Promise<void> {
    return this.#do((call, domain) => call('virDomainSetAutostartOnce', domain, autostart ? 1 : 0))
  }

  /** Sets the balloon target, or with `maximum` the ceiling. */
  setMemoryKib(memoryKib: number, flags?: ResizeFlags): Promise<void> {
    return this.#do((call, domain) =>
      call('virDomainSetMemoryFlags', domain, memoryKib, flagBits(resizeFlags, flags)),
    )
  }

  /** How often the balloon driver reports memory statistics; 0 turns it off. */
  setMemoryStatsPeriod(seconds: number, flags?: ImpactFlags): Promise<void> {
    return this.#do((call, domain) =>
      call('virDomainSetMemoryStatsPeriod', domain, seconds, flagBits(impactFlags, flags)),
    )
  }

  vcpuCount(flags?: VcpuFlags): Promise<number> {
    return this.#with((call, domain) => call('virDomainGetVcpusFlags', domain, flagBits(vcpuFlags, flags)))
  }

  setVcpuCount(count: number, flags?: VcpuFlags): Promise<void> {
    return this.#do((call, domain) =>
      call('virDomainSetVcpusFlags', domain, count, flagBits(vcpuFlags, flags)),
    )
  }

  /** Adds a device, described by its XML element. */
  attachDevice(xml: string, flags?: DeviceFlags): Promise<void> {
    return this.#do((call, domain) =>
      call('virDomainAttachDeviceFlags', domain, xml, flagBits(deviceFlags, flags)),
    )
  }

  /** Removes a device. The guest may take its time: wait for `deviceRemoved` or `deviceRemovalFailed`. */
  detachDevice(xml: string, flags?: DeviceFlags): Promise<void> {
    return this.#do((call, domain) =>
      call('virDomainDetachDeviceFlags', domain, xml, flagBits(deviceFlags, flags)),
    )
  }

  /** `detachDevice` by the alias libvirt gave the device. */
  detachDeviceAlias(alias: string, flags?: ImpactFlags): Promise<void> {
    return this.#do((call, domain) =>
      call('virDomainDetachDeviceAlias', domain, alias, flagBits(impactFlags, flags)),
    )
  }

  /** Changes a device in place, for instance the medium of a CD-ROM. */
  updateDevice(xml: string, flags?: DeviceFlags): Promise<void> {
    return this.#do((call, domain) =>
      call('virDomainUpdateDeviceFlags', domain, xml, flagBits(deviceFlags, flags)),
    )
  }

  /** The sizes of a disk, named by its target (`vda`) or source path. */
  blockInfo(disk: string): Promise<BlockInfo> {
    return this.#with((call, domain) =>
      withMemory(24, async (memory) => {
        await call('virDomainGetBlockInfo', domain, disk, memory, 0)
        return {
          capacityBytes: readUnsignedLong(memory),
          allocationBytes: readUnsignedLong(memory + 8n),
          physicalBytes: readUnsignedLong(memory + 16n),
        }
      }),
    )
  }

  /** Resizes a disk of the running domain. */
  blockResize(disk: string, sizeBytes: number): Promise<void> {
    const inBytes = 1
    return this.#do((call, domain) => call('virDomainBlockResize', domain, disk, sizeBytes, inBytes))
  }

  memoryStats(): Promise<MemoryStats> {
    // int tag; unsigned long long value. Room for tags of later versions, which are skipped.
    const [capacity, entryBytes] = [64, 16]
    return this.#with((call, domain) =>
      withMemory(capacity * entryBytes, async (memory) => {
        const count = await call('virDomainMemoryStats', domain, memory, capacity, 0)
        const entries = readStruct(memory, capacity * entryBytes)
        const stats: Record<string, number> = {}
        for (let offset = 0; offset < count * entryBytes; offset += entryBytes) {
          const name = memoryStatNames[entries.getInt32(offset, true)]
          if (name !== undefined) stats[name] = Number(entries.getBigUint64(offset + 8, true))
        }
        return stats
      }),
    )
  }

  /** The guest's interfaces and IP addresses, from DHCP leases, the guest agent or the host's ARP table. */
  interfaceAddresses(source: InterfaceAddressSource): Promise<InterfaceAddresses[]> {
    return this.#with((call, domain) =>
      withMemory(8, async (memory) => {
        const number = interfaceSources.indexOf(source)
        const count = await call('virDomainInterfaceAddresses', domain, memory, number, 0)
        return readInterfaces(readPointer(memory), count)
      }),
    )
  }

  /** Presses up to 16 keys together. */
  sendKey(
    keycodes: readonly number[],
    options: { codeset?: KeycodeSet; holdMs?: number } = {},
  ): Promise<void> {
    const codeset = keycodeSets.indexOf(options.codeset ?? 'linux')
    return this.#do((call, domain) =>
      withMemory(Math.max(1, keycodes.length) * 4, (memory) => {
        writeUnsignedInts(memory, keycodes)
        return call('virDomainSendKey', domain, codeset, options.holdMs ?? 0, memory, keycodes.length, 0)
      }),
    )
  }

  /**
   * Connects to a graphics display and resolves to the file descriptor of the socket, which the caller closes.
   * Only over a local socket to libvirtd.
   */
  openGraphicsFd(index = 0, flags: { skipAuth?: boolean } = {}): Promise<number> {
    return this.#with((call, domain) =>
      call('virDomainOpenGraphicsFD', domain, index, flags.skipAuth === true ? 1 : 0),
    )
  }

  /**
   * Migrates to another libvirtd and resolves when the domain runs there. Holds one of the connection's
   * concurrent calls for the whole time.
   */
  migrate(destinationUri: string, options: MigrateOptions = {}): Promise<void> {
    return this.#do((call, domain) =>
      withTypedParameters(migrateParameters(options), (parameters, count) =>
        call('virDomainMigrateToURI3', domain, destinationUri, parameters, count, migrateFlagBits(options)),
      ),
    )
  }

  /** How long the guest may stand still at the end of a live migration. */
  setMigrateMaxDowntimeMs(downtimeMs: number): Promise<void> {
    return this.#do((call, domain) => call('virDomainMigrateSetMaxDowntime', domain, downtimeMs, 0))
  }

  migrateMaxDowntimeMs(): Promise<number> {
    return this.#with((call, domain) =>
      withMemory(8, async (memory) => {
        await call('virDomainMigrateGetMaxDowntime', domain, memory, 0)
        return readUnsignedLong(memory)
      }),
    )
  }

  setMigrateMaxSpeedMibPerSecond(speed: number): Promise<void> {
    return this.#do((call, domain) => call('virDomainMigrateSetMaxSpeed', domain, speed, 0))
  }

  migrateMaxSpeedMibPerSecond(): Promise<number> {
    return this.#with((call, domain) =>
      withMemory(8, async (memory) => {
        await call('virDomainMigrateGetMaxSpeed', domain, memory, 0)
        return readUnsignedLong(memory)
      }),
    )
  }

  /** Switches a running migration, started with `postCopy`, to post-copy. */
  startPostCopy(): Promise<void> {
    return this.#do((call, domain) => call('virDomainMigrateStartPostCopy', domain, 0))
  }

  /** The running job's progress, or with `completed` the figures of the last job, which are then forgotten. */
  jobStats(flags: { completed?: boolean; keepCompleted?: boolean } = {}): Promise<JobStats> {
    const bits = (flags.completed === true ? 1 : 0) | (flags.keepCompleted === true ? 2 : 0)
    return this.#with((call, domain) =>
      withMemory(16, async (memory) => {
        const [type, count] = [memory + 8n, memory + 12n]
        await call('virDomainGetJobStats', domain, type, memory, count, bits)
        const parameters = readPointer(memory)
        try {
          return jobStats(jobTypeName(readInt(type)), readTypedParameters(parameters, readInt(count)))
        } finally {
          callLocal('virTypedParamsFree', parameters, readInt(count))
        }
      }),
    )
  }

  /** Aborts the running job, for instance a migration. */
  abortJob(): Promise<void> {
    return this.#do((call, domain) => call('virDomainAbortJob', domain))
  }

  #with<T>(work: (call: Call, domain: Pointer) => Promise<T>): Promise<T> {
    return this.#link.use(async (call, connection) => {
      const domain = await call('virDomainLookupByUUIDString', connection, this.uuid)
      try {
        return await work(call, domain)
      } finally {
        callLocal('virDomainFree', domain)
      }
    })
  }

  async #do(work: (call: Call, domain: Pointer) => Promise<unknown>): Promise<void> {
    await this.#with(work)
  }

  #readFlag(name: 'virDomainGetAutostart' | 'virDomainGetAutostartOnce'): Promise<boolean> {
    return this.#with((call, domain) =>
      withMemory(4, async (memory) => {
        await call(name, domain, memory)
        return readInt(memory) === 1
      }),
    )
  }

  async #readMetadata(type: number, uri: string | null, flags?: ImpactFlags): Promise<string | undefined> {
    try {
      return await this.#with((call, domain) =>
        call('virDomainGetMetadata', domain, type, uri, flagBits(impactFlags, flags)),
      )
    } catch (error) {
      if (isLibvirtError(error, 'NO_DOMAIN_METADATA')) return undefined
      throw error
    }
  }
}

/** What QEMU returned: libvirt passes its refusals on like any other answer. */
function monitorAnswer(command: string, text: string): unknown {
  const answer = JSON.parse(text || 'null') as {
    readonly return?: unknown
    readonly error?: { readonly class: string; readonly desc: string }
  } | null
  if (answer?.error) {
    const { class: kind, desc } = answer.error
    throw ownError(
      'OPERATION_FAILED',
      `QEMU refuses ${command}: ${desc} (${kind})`,
      'virDomainQemuMonitorCommand',
    )
  }
  return answer?.return
}
