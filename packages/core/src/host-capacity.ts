// How much of a host may be promised to instances.

import type { OvercommitPolicy } from './placement/index.ts'
import type { HostFacts } from './resources.ts'

export interface Allocatable {
  readonly vcpus: number
  readonly memoryMib: number
}

/** The whole of it, whatever is used already. */
export function allocatableOf(
  { cpus, memoryMib }: Pick<HostFacts, 'cpus' | 'memoryMib'>,
  { vcpuRatio, memoryRatio, hostReservedMib }: OvercommitPolicy,
): Allocatable {
  return {
    vcpus: Math.floor(cpus * vcpuRatio),
    memoryMib: Math.max(0, Math.floor((memoryMib - hostReservedMib) * memoryRatio)),
  }
}
