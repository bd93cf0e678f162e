// What a connection knows of its host: virNodeInfo and the options of the CPU calls, from <libvirt/libvirt-host.h>.

import { readStruct } from './memory.ts'
import type { Pointer } from './native-functions.ts'

export interface NodeInfo {
  /** The CPU architecture, for instance `x86_64`. */
  readonly model: string
  readonly memoryKib: number
  /** Active CPUs. */
  readonly cpus: number
  readonly mhz: number
  readonly numaNodes: number
  readonly socketsPerNode: number
  readonly coresPerSocket: number
  readonly threadsPerCore: number
}

/** Which virtual machine to ask about; what is left out takes the host's default. */
export interface DomainCapabilitiesQuery {
  readonly emulator?: string
  readonly arch?: string
  readonly machine?: string
  /** `kvm`, `qemu`… */
  readonly virtType?: string
}

/** virConnectBaselineCPUFlags. */
export const baselineFlags = { expandFeatures: 1 << 0, migratable: 1 << 1 } as const

const comparisons = ['incompatible', 'identical', 'superset'] as const
/** How the host compares to a CPU: `superset` is a host that has all of it and more. */
export type CpuComparison = (typeof comparisons)[number]

/** sizeof(virNodeInfo). */
export const nodeInfoBytes = 72

export function readNodeInfo(address: Pointer): NodeInfo {
  const info = readStruct(address, nodeInfoBytes)
  const model = Buffer.from(info.buffer, info.byteOffset, 32)
  return {
    model: model.toString('utf8', 0, model.indexOf(0)),
    memoryKib: Number(info.getBigUint64(32, true)),
    cpus: info.getUint32(40, true),
    mhz: info.getUint32(44, true),
    numaNodes: info.getUint32(48, true),
    socketsPerNode: info.getUint32(52, true),
    coresPerSocket: info.getUint32(56, true),
    threadsPerCore: info.getUint32(60, true),
  }
}

/** A libvirt version number, 9000000, as text, `9.0.0`. */
export function versionText(version: number): string {
  return `${Math.floor(version / 1_000_000)}.${Math.floor(version / 1000) % 1000}.${version % 1000}`
}

/** Names a virCPUCompareResult. */
export function cpuComparison(result: number): CpuComparison {
  return comparisons[result] ?? 'incompatible'
}
