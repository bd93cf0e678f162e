// Bulk statistics of all domains in one request: virConnectGetAllDomainStats of <libvirt/libvirt-domain.h>.
// libvirt answers with flat names (`block.0.rd.bytes`); here they become nested objects. What the typed part
// does not name stays reachable under `raw`.

import { type DomainState, domainState } from './domain-state.ts'
import type { FlagsOf } from './flags.ts'
import { type DomainIdentity, domainIdentity } from './identity.ts'
import { readStruct } from './memory.ts'
import type { Pointer } from './native-functions.ts'
import { readTypedParameters, type TypedValue } from './typed-parameters.ts'

/** virDomainStatsTypes: what to ask for. None: everything the hypervisor has. */
export const statsTypes = {
  state: 1 << 0,
  cpu: 1 << 1,
  balloon: 1 << 2,
  vcpu: 1 << 3,
  net: 1 << 4,
  block: 1 << 5,
  perf: 1 << 6,
  iothread: 1 << 7,
  memory: 1 << 8,
  dirtyRate: 1 << 9,
  vm: 1 << 10,
} as const

/**
 * Which domains (see DomainFilter) and how. `noWait`: skip what would wait for a stuck hypervisor process.
 * `backing`: list backing files as disks of their own. `enforce`: fail when a requested type is unsupported.
 */
export const statsFlags = {
  active: 1 << 0,
  inactive: 1 << 1,
  persistent: 1 << 2,
  transient: 1 << 3,
  running: 1 << 4,
  paused: 1 << 5,
  shutoff: 1 << 6,
  otherState: 1 << 7,
  noWait: 1 << 29,
  backing: 1 << 30,
  enforce: 2 ** 31,
} as const

export interface DomainStatsOptions extends FlagsOf<typeof statsFlags> {
  readonly types?: readonly (keyof typeof statsTypes)[]
}

export interface CpuStats {
  readonly timeNs: number | undefined
  readonly userNs: number | undefined
  readonly systemNs: number | undefined
}

/** In KiB as libvirt counts them. All but the first two need the guest's balloon driver. */
export interface BalloonStats {
  readonly currentKib: number | undefined
  readonly maximumKib: number | undefined
  readonly swapInKib: number | undefined
  readonly swapOutKib: number | undefined
  readonly majorFaults: number | undefined
  readonly minorFaults: number | undefined
  readonly unusedKib: number | undefined
  readonly availableKib: number | undefined
  readonly usableKib: number | undefined
  readonly rssKib: number | undefined
  readonly diskCachesKib: number | undefined
  readonly lastUpdateSeconds: number | undefined
}

const vcpuStates = ['offline', 'running', 'blocked'] as const

export interface VcpuStats {
  readonly number: number
  readonly state: (typeof vcpuStates)[number] | 'unknown'
  readonly timeNs: number | undefined
  readonly waitNs: number | undefined
  readonly delayNs: number | undefined
  readonly isHalted: boolean | undefined
}

export interface VcpusStats {
  readonly current: number | undefined
  readonly maximum: number | undefined
  readonly vcpus: readonly VcpuStats[]
}

export interface TrafficStats {
  readonly bytes: number | undefined
  readonly packets: number | undefined
  readonly errors: number | undefined
  readonly drops: number | undefined
}

export interface NetStats {
  readonly name: string
  readonly received: TrafficStats
  readonly transmitted: TrafficStats
}

export interface BlockIoStats {
  readonly requests: number | undefined
  readonly bytes: number | undefined
  readonly timesNs: number | undefined
}

export interface BlockStats {
  readonly name: string
  readonly path: string | undefined
  /** The place in a backing chain, with `backing`. */
  readonly backingIndex: number | undefined
  readonly read: BlockIoStats
  readonly write: BlockIoStats
  readonly flush: Omit<BlockIoStats, 'bytes'>
  readonly allocationBytes: number | undefined
  readonly capacityBytes: number | undefined
  readonly physicalBytes: number | undefined
}

/** A part is undefined when libvirt reported nothing of it, a number when it did not report that number. */
export interface DomainStats {
  readonly domain: DomainIdentity
  readonly state: DomainState | undefined
  readonly cpu: CpuStats | undefined
  readonly balloon: BalloonStats | undefined
  readonly vcpu: VcpusStats | undefined
  readonly net: readonly NetStats[] | undefined
  readonly block: readonly BlockStats[] | undefined
  /** Every value libvirt reported, under libvirt's own names. */
  readonly raw: Readonly<Record<string, TypedValue>>
}

/** Reads one virDomainStatsRecord: { virDomainPtr dom; virTypedParameterPtr params; int nparams }. */
export function readStatsRecord(record: Pointer): DomainStats {
  const fields = readStruct(record, 24)
  const domain = domainIdentity(fields.getBigUint64(0, true))
  return domainStats(
    domain,
    readTypedParameters(fields.getBigUint64(8, true) || null, fields.getInt32(16, true)),
  )
}

/** Arranges libvirt's flat names. */
export function domainStats(domain: DomainIdentity, values: ReadonlyMap<string, TypedValue>): DomainStats {
  const reader = new StatsReader(values)
  const state = reader.numeric('state.state')
  return {
    domain,
    state: state === undefined ? undefined : domainState(state, reader.numeric('state.reason') ?? 0),
    cpu: reader.has('cpu.') ? cpuStats(reader) : undefined,
    balloon: reader.has('balloon.') ? balloonStats(reader) : undefined,
    vcpu: reader.has('vcpu.') ? vcpusStats(reader) : undefined,
    net: reader.has('net.')
      ? reader.indices('net').map((index) => netStats(reader, `net.${index}`))
      : undefined,
    block: reader.has('block.')
      ? reader.indices('block').map((index) => blockStats(reader, `block.${index}`))
      : undefined,
    raw: Object.fromEntries(values),
  }
}

class StatsReader {
  readonly #values: ReadonlyMap<string, TypedValue>

  constructor(values: ReadonlyMap<string, TypedValue>) {
    this.#values = values
  }

  has(prefix: string): boolean {
    for (const name of this.#values.keys()) if (name.startsWith(prefix)) return true
    return false
  }

  numeric(name: string): number | undefined {
    const value = this.#values.get(name)
    return typeof value === 'number' ? value : undefined
  }

  text(name: string): string | undefined {
    const value = this.#values.get(name)
    return typeof value === 'string' ? value : undefined
  }

  /** The numbers in use below a name. Virtual CPUs that are offline leave gaps. */
  indices(name: string): number[] {
    const found = new Set<number>()
    for (const key of this.#values.keys()) {
      const index = key.startsWith(`${name}.`) ? Number(key.split('.')[1]) : Number.NaN
      if (Number.isInteger(index)) found.add(index)
    }
    return [...found].sort((a, b) => a - b)
  }
}

function cpuStats(reader: StatsReader): CpuStats {
  return {
    timeNs: reader.numeric('cpu.time'),
    userNs: reader.numeric('cpu.user'),
    systemNs: reader.numeric('cpu.system'),
  }
}

function balloonStats(reader: StatsReader): BalloonStats {
  return {
    currentKib: reader.numeric('balloon.current'),
    maximumKib: reader.numeric('balloon.maximum'),
    swapInKib: reader.numeric('balloon.swap_in'),
    swapOutKib: reader.numeric('balloon.swap_out'),
    majorFaults: reader.numeric('balloon.major_fault'),
    minorFaults: reader.numeric('balloon.minor_fault'),
    unusedKib: reader.numeric('balloon.unused'),
    availableKib: reader.numeric('balloon.available'),
    usableKib: reader.numeric('balloon.usable'),
    rssKib: reader.numeric('balloon.rss'),
    diskCachesKib: reader.numeric('balloon.disk_caches'),
    lastUpdateSeconds: reader.numeric('balloon.last-update'),
  }
}

function vcpusStats(reader: StatsReader): VcpusStats {
  return {
    current: reader.numeric('vcpu.current'),
    maximum: reader.numeric('vcpu.maximum'),
    vcpus: reader.indices('vcpu').map((number) => {
      const halted = reader.text(`vcpu.${number}.halted`)
      return {
        number,
        state: vcpuStates[reader.numeric(`vcpu.${number}.state`) ?? -1] ?? 'unknown',
        timeNs: reader.numeric(`vcpu.${number}.time`),
        waitNs: reader.numeric(`vcpu.${number}.wait`),
        delayNs: reader.numeric(`vcpu.${number}.delay`),
        isHalted: halted === undefined ? undefined : halted === 'yes',
      }
    }),
  }
}

function netStats(reader: StatsReader, prefix: string): NetStats {
  const traffic = (direction: string): TrafficStats => ({
    bytes: reader.numeric(`${prefix}.${direction}.bytes`),
    packets: reader.numeric(`${prefix}.${direction}.pkts`),
    errors: reader.numeric(`${prefix}.${direction}.errs`),
    drops: reader.numeric(`${prefix}.${direction}.drop`),
  })
  return { name: reader.text(`${prefix}.name`) ?? '', received: traffic('rx'), transmitted: traffic('tx') }
}

function blockStats(reader: StatsReader, prefix: string): BlockStats {
  const requests = (kind: string) => reader.numeric(`${prefix}.${kind}.reqs`)
  const bytes = (kind: string) => reader.numeric(`${prefix}.${kind}.bytes`)
  const timesNs = (kind: string) => reader.numeric(`${prefix}.${kind}.times`)
  return {
    name: reader.text(`${prefix}.name`) ?? '',
    path: reader.text(`${prefix}.path`),
    backingIndex: reader.numeric(`${prefix}.backingIndex`),
    read: { requests: requests('rd'), bytes: bytes('rd'), timesNs: timesNs('rd') },
    write: { requests: requests('wr'), bytes: bytes('wr'), timesNs: timesNs('wr') },
    flush: { requests: requests('fl'), timesNs: timesNs('fl') },
    allocationBytes: reader.numeric(`${prefix}.allocation`),
    capacityBytes: reader.numeric(`${prefix}.capacity`),
    physicalBytes: reader.numeric(`${prefix}.physical`),
  }
}
