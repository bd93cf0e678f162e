// A connection to a hypervisor, and the calls that start from one. Opening, loss and reconnection are in
// link.ts; here they become events.

import { EventEmitter, on } from 'node:events'
import { Domain } from './domain.ts'
import type { DomainEvents } from './domain-events.ts'
import {
  type DefineFlags,
  type DomainFilter,
  defineFlags,
  domainFilter,
  type StartFlags,
  startFlags,
} from './domain-flags.ts'
import {
  type DomainStats,
  type DomainStatsOptions,
  readStatsRecord,
  statsFlags,
  statsTypes,
} from './domain-stats.ts'
import { type FlagsOf, flagBits } from './flags.ts'
import {
  baselineFlags,
  type CpuComparison,
  cpuComparison,
  type DomainCapabilitiesQuery,
  type NodeInfo,
  nodeInfoBytes,
  readNodeInfo,
  versionText,
} from './host.ts'
import { domainIdentity, poolIdentity, takeIdentities, takeIdentity } from './identity.ts'
import { callLocal } from './library.ts'
import { Link } from './link.ts'
import {
  freeMemory,
  newStringArray,
  readPointer,
  readPointers,
  readUnsignedLong,
  takeStrings,
  withMemory,
} from './memory.ts'
import type { Pointer } from './native-functions.ts'
import type { Call, CloseReason } from './session.ts'
import { type PoolFilter, type PoolStartFlags, poolFilter, poolStartFlags } from './storage-flags.ts'
import { StoragePool } from './storage-pool.ts'
import { takeVolume, type Volume } from './volume.ts'

export interface ConnectOptions {
  /** Open read-only: calls that change anything fail with OPERATION_DENIED. */
  readonly readOnly?: boolean
  /**
   * Ask the daemon for a sign of life every so many seconds, give it up after so many unanswered. Default
   * 5 seconds, 3 times. Of no effect for drivers without a daemon.
   */
  readonly keepAlive?: { readonly intervalSeconds?: number; readonly count?: number }
  /**
   * How to come back after a loss: the first attempt after `initialDelayMs` (200), the wait doubling up to
   * `maxDelayMs` (5000), without end. false: never.
   */
  readonly reconnect?: false | { readonly initialDelayMs?: number; readonly maxDelayMs?: number }
  /**
   * How many calls run at once, the others wait their turn. Default 4: libvirtd serves 5 per connection
   * (max_client_requests), and at 5 it stops reading, keep-alive included. A migration holds one all along.
   */
  readonly maxConcurrentCalls?: number
}

/** What a Connection emits, each with one argument. */
export interface ConnectionEventPayloads extends DomainEvents {
  /** The connection is back. Events may have been missed: look at everything again. */
  readonly connected: Record<string, never>
  readonly disconnected: { readonly reason: CloseReason }
  /** close() is done, nothing follows. */
  readonly closed: Record<string, never>
}
export type ConnectionEventName = keyof ConnectionEventPayloads
type EmittedEvents = { [N in ConnectionEventName]: [event: ConnectionEventPayloads[N]] }

/**
 * Connects to a hypervisor, for instance `qemu:///system`. Rejects with a LibvirtError when it cannot; only
 * connections once established are re-established. The process stays alive until `close()`.
 */
export async function connect(uri: string, options: ConnectOptions = {}): Promise<Connection> {
  return Connection.open(uri, options)
}

/** A connection. Its methods reject with a LibvirtError; NO_CONNECT while the connection is lost. */
export class Connection extends EventEmitter<EmittedEvents> {
  readonly #link: Link
  #closed: Promise<void> | undefined

  private constructor(link: Link) {
    super()
    this.#link = link
  }

  /** See `connect`. */
  static async open(uri: string, options: ConnectOptions): Promise<Connection> {
    const { reconnect = {} } = options
    // Nobody can listen before the connection is handed out, so what happens until then goes nowhere.
    let connection: Connection | undefined
    const link = await Link.open({
      uri,
      isReadOnly: options.readOnly === true,
      keepAlive: { intervalSeconds: 5, count: 3, ...options.keepAlive },
      reconnect: reconnect === false ? undefined : { initialDelayMs: 200, maxDelayMs: 5000, ...reconnect },
      maxConcurrentCalls: options.maxConcurrentCalls ?? 4,
      onConnected: () => announce(connection, 'connected', {}),
      onDisconnected: (reason) => announce(connection, 'disconnected', { reason }),
      onEvent: (name, event) => announce(connection, name, event),
    })
    connection = new Connection(link)
    return connection
  }

  get uri(): string {
    return this.#link.uri
  }

  /** Whether calls have a chance at the moment. */
  get isConnected(): boolean {
    return this.#link.isConnected
  }

  /** Refuses further calls, waits for those under way, closes. Harmless when repeated. */
  close(): Promise<void> {
    this.#closed ??= this.#link.close().then(() => announce(this, 'closed', {}))
    return this.#closed
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /**
   * The events of one kind from now on, to be read with `for await`. Ends when the connection is closed;
   * aborting `signal` makes the loop throw an AbortError. Unread events wait in memory.
   */
  events<N extends ConnectionEventName>(
    name: N,
    options: { readonly signal?: AbortSignal } = {},
  ): AsyncIterable<ConnectionEventPayloads[N]> & AsyncDisposable {
    // Subscribed here, not in the generator, which would start listening at its first step only.
    const batches = on(this, name, { ...options, close: ['closed'] })
    const payloads = firstOfEach<ConnectionEventPayloads[N]>(batches)
    return {
      [Symbol.asyncIterator]: () => payloads,
      [Symbol.asyncDispose]: async () => {
        await batches.return?.()
      },
    }
  }

  // ---- domains

  /** Defines a persistent domain, or changes the definition of the one with the same uuid and name. */
  defineDomain(xml: string, flags?: DefineFlags): Promise<Domain> {
    return this.#domain((call, connection) =>
      call('virDomainDefineXMLFlags', connection, xml, flagBits(defineFlags, flags)),
    )
  }

  /** Starts a transient domain, one that is forgotten when it stops. */
  createDomain(xml: string, flags?: StartFlags): Promise<Domain> {
    return this.#domain((call, connection) =>
      call('virDomainCreateXML', connection, xml, flagBits(startFlags, flags)),
    )
  }

  /** Rejects with NO_DOMAIN when there is none; so do the other two. */
  lookupDomainByUuid(uuid: string): Promise<Domain> {
    return this.#domain((call, connection) => call('virDomainLookupByUUIDString', connection, uuid))
  }

  lookupDomainByName(name: string): Promise<Domain> {
    return this.#domain((call, connection) => call('virDomainLookupByName', connection, name))
  }

  /** Looks up a running domain by its number on the host. */
  lookupDomainById(id: number): Promise<Domain> {
    return this.#domain((call, connection) => call('virDomainLookupByID', connection, id))
  }

  /** All domains, or those that pass the filter. */
  listDomains(filter?: DomainFilter): Promise<Domain[]> {
    return this.#link.use((call, connection) =>
      withMemory(8, async (list) => {
        const count = await call('virConnectListAllDomains', connection, list, flagBits(domainFilter, filter))
        const identities = takeIdentities(list, count, domainIdentity, 'virDomainFree')
        return identities.map((identity) => new Domain(this.#link, identity))
      }),
    )
  }

  /**
   * A handle to a domain whose uuid is known, without asking whether it exists: the first call on it will
   * tell. `name` is only what the handle answers to.
   */
  domain(uuid: string, name = ''): Domain {
    return new Domain(this.#link, { uuid, name })
  }

  /** Statistics of all domains, or those the options select, in one request. */
  allDomainStats({ types = [], ...flags }: DomainStatsOptions = {}): Promise<DomainStats[]> {
    const typeBits = types.reduce((bits, type) => bits | statsTypes[type], 0)
    return this.#link.use((call, connection) =>
      withMemory(8, async (list) => {
        const count = await call(
          'virConnectGetAllDomainStats',
          connection,
          typeBits,
          list,
          flagBits(statsFlags, flags),
        )
        const records = readPointer(list)
        if (records === null) return []
        try {
          return readPointers(records, count).map(readStatsRecord)
        } finally {
          callLocal('virDomainStatsRecordListFree', records)
        }
      }),
    )
  }

  // ---- the host

  nodeInfo(): Promise<NodeInfo> {
    return this.#link.use((call, connection) =>
      withMemory(nodeInfoBytes, async (memory) => {
        await call('virNodeGetInfo', connection, memory)
        return readNodeInfo(memory)
      }),
    )
  }

  /** The host's capabilities as XML. */
  capabilities(): Promise<string> {
    return this.#link.use((call, connection) => call('virConnectGetCapabilities', connection))
  }

  /** What a kind of virtual machine can have here, as XML. */
  domainCapabilities({ emulator, arch, machine, virtType }: DomainCapabilitiesQuery = {}): Promise<string> {
    return this.#link.use((call, connection) =>
      call(
        'virConnectGetDomainCapabilities',
        connection,
        emulator ?? null,
        arch ?? null,
        machine ?? null,
        virtType ?? null,
        0,
      ),
    )
  }

  hostname(): Promise<string> {
    return this.#link.use((call, connection) => call('virConnectGetHostname', connection))
  }

  /** The version of the libvirt that serves the connection, `9.0.0`. */
  libVersion(): Promise<string> {
    return this.#version('virConnectGetLibVersion')
  }

  /** The version of the hypervisor, for instance of QEMU. */
  hypervisorVersion(): Promise<string> {
    return this.#version('virConnectGetVersion')
  }

  /** Free memory of the host in bytes. */
  async freeMemory(): Promise<number> {
    return this.#link.use(async (call, connection) => Number(await call('virNodeGetFreeMemory', connection)))
  }

  /** The CPU models libvirt knows for an architecture. */
  cpuModels(arch: string): Promise<string[]> {
    return this.#link.use((call, connection) =>
      withMemory(8, async (list) =>
        takeStrings(list, await call('virConnectGetCPUModelNames', connection, arch, list, 0)),
      ),
    )
  }

  /**
   * The CPU that all given ones can provide, as XML. Takes `<cpu>` elements or whole capabilities; with a
   * query, also what the hypervisor can do counts (virConnectBaselineHypervisorCPU).
   */
  baselineCpu(
    cpus: readonly string[],
    options: FlagsOf<typeof baselineFlags> & { readonly query?: DomainCapabilitiesQuery } = {},
  ): Promise<string> {
    const { query, ...flags } = options
    const bits = flagBits(baselineFlags, flags)
    return this.#link.use(async (call, connection) => {
      const list = newStringArray(cpus)
      try {
        if (query === undefined)
          return await call('virConnectBaselineCPU', connection, list, cpus.length, bits)
        const { emulator = null, arch = null, machine = null, virtType = null } = query
        return await call(
          'virConnectBaselineHypervisorCPU',
          connection,
          emulator,
          arch,
          machine,
          virtType,
          list,
          cpus.length,
          bits,
        )
      } finally {
        freeMemory(list)
      }
    })
  }

  /** Whether the hypervisor here can provide a CPU, given as a `<cpu>` element. */
  compareCpu(cpu: string, query: DomainCapabilitiesQuery = {}): Promise<CpuComparison> {
    const { emulator = null, arch = null, machine = null, virtType = null } = query
    return this.#link.use(async (call, connection) =>
      cpuComparison(
        await call('virConnectCompareHypervisorCPU', connection, emulator, arch, machine, virtType, cpu, 0),
      ),
    )
  }

  // ---- storage

  /** Defines a persistent pool, or changes the definition of the one with the same uuid and name. */
  defineStoragePool(xml: string): Promise<StoragePool> {
    return this.#pool((call, connection) => call('virStoragePoolDefineXML', connection, xml, 0))
  }

  /** Starts a transient pool, one that is forgotten when it stops. */
  createStoragePool(xml: string, flags?: PoolStartFlags): Promise<StoragePool> {
    return this.#pool((call, connection) =>
      call('virStoragePoolCreateXML', connection, xml, flagBits(poolStartFlags, flags)),
    )
  }

  /** Rejects with NO_STORAGE_POOL when there is none; so do the other two. */
  lookupStoragePoolByUuid(uuid: string): Promise<StoragePool> {
    return this.#pool((call, connection) => call('virStoragePoolLookupByUUIDString', connection, uuid))
  }

  lookupStoragePoolByName(name: string): Promise<StoragePool> {
    return this.#pool((call, connection) => call('virStoragePoolLookupByName', connection, name))
  }

  lookupStoragePoolByTargetPath(path: string): Promise<StoragePool> {
    return this.#pool((call, connection) => call('virStoragePoolLookupByTargetPath', connection, path))
  }

  /** All pools, or those that pass the filter. */
  listStoragePools(filter?: PoolFilter): Promise<StoragePool[]> {
    return this.#link.use((call, connection) =>
      withMemory(8, async (list) => {
        const count = await call(
          'virConnectListAllStoragePools',
          connection,
          list,
          flagBits(poolFilter, filter),
        )
        const identities = takeIdentities(list, count, poolIdentity, 'virStoragePoolFree')
        return identities.map((identity) => new StoragePool(this.#link, identity))
      }),
    )
  }

  /** Looks in all active pools. Rejects with NO_STORAGE_VOL when none has the volume. */
  lookupVolumeByPath(path: string): Promise<Volume> {
    return this.#link.use(async (call, connection) =>
      takeVolume(this.#link, call, await call('virStorageVolLookupByPath', connection, path)),
    )
  }

  lookupVolumeByKey(key: string): Promise<Volume> {
    return this.#link.use(async (call, connection) =>
      takeVolume(this.#link, call, await call('virStorageVolLookupByKey', connection, key)),
    )
  }

  #domain(find: (call: Call, connection: Pointer) => Promise<Pointer>): Promise<Domain> {
    return this.#link.use(async (call, connection) => {
      const identity = takeIdentity(await find(call, connection), domainIdentity, 'virDomainFree')
      return new Domain(this.#link, identity)
    })
  }

  #pool(find: (call: Call, connection: Pointer) => Promise<Pointer>): Promise<StoragePool> {
    return this.#link.use(async (call, connection) => {
      const identity = takeIdentity(await find(call, connection), poolIdentity, 'virStoragePoolFree')
      return new StoragePool(this.#link, identity)
    })
  }

  #version(name: 'virConnectGetLibVersion' | 'virConnectGetVersion'): Promise<string> {
    return this.#link.use((call, connection) =>
      withMemory(8, async (memory) => {
        await call(name, connection, memory)
        return versionText(readUnsignedLong(memory))
      }),
    )
  }
}

function announce(
  connection: Connection | undefined,
  name: ConnectionEventName,
  event: ConnectionEventPayloads[ConnectionEventName],
): void {
  // EventEmitter's own types cannot pair a name with its event.
  const emitter: EventEmitter | undefined = connection
  emitter?.emit(name, event)
}

async function* firstOfEach<T>(batches: AsyncIterable<unknown[]>): AsyncGenerator<T, void, undefined> {
  for await (const [first] of batches) yield first as T
}
