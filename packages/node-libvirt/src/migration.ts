// Live migration: virDomainMigrateFlags and VIR_MIGRATE_PARAM_* of <libvirt/libvirt-domain.h>.

import { type FlagsOf, flagBits } from './flags.ts'
import type { TypedInput } from './typed-parameters.ts'

const migrateFlags = {
  live: 1 << 0,
  peerToPeer: 1 << 1,
  tunnelled: 1 << 2,
  persistDestination: 1 << 3,
  undefineSource: 1 << 4,
  paused: 1 << 5,
  nonSharedDisk: 1 << 6,
  nonSharedIncremental: 1 << 7,
  changeProtection: 1 << 8,
  unsafe: 1 << 9,
  offline: 1 << 10,
  compressed: 1 << 11,
  abortOnError: 1 << 12,
  autoConverge: 1 << 13,
  rdmaPinAll: 1 << 14,
  postCopy: 1 << 15,
  tls: 1 << 16,
  parallel: 1 << 17,
  nonSharedSynchronousWrites: 1 << 18,
  postCopyResume: 1 << 19,
  zeroCopy: 1 << 20,
} as const

/** How to migrate. Without `peerToPeer` the destination must be a URI the hypervisor itself understands. */
export interface MigrateOptions extends FlagsOf<typeof migrateFlags> {
  /** Where the memory goes, for instance `tcp://10.0.0.2`; by default the destination decides. */
  readonly migrateUri?: string
  readonly destinationName?: string
  /** The domain XML for the destination; may differ only in host-side details. */
  readonly destinationXml?: string
  /** The definition to keep at the destination, with `persistDestination`. */
  readonly persistentXml?: string
  /** The bandwidth limit in MiB/s. */
  readonly bandwidthMibPerSecond?: number
  readonly postCopyBandwidthMibPerSecond?: number
  readonly graphicsUri?: string
  /** The address the destination's hypervisor listens on. */
  readonly listenAddress?: string
  /** Targets (`vda`) of the disks to copy with `nonSharedDisk`; by default all that are not shared or read-only. */
  readonly disks?: readonly string[]
  readonly disksPort?: number
  readonly disksUri?: string
  readonly compressionMethods?: readonly string[]
  readonly autoConvergeInitialPercent?: number
  readonly autoConvergeIncrementPercent?: number
  /** With `parallel`. */
  readonly parallelConnections?: number
  /** The name the destination's TLS certificate must carry. */
  readonly tlsDestination?: string
}

export function migrateFlagBits(options: MigrateOptions): number {
  return flagBits(migrateFlags, options)
}

/** The parameters of virDomainMigrateToURI3 that the options ask for. */
export function migrateParameters(options: MigrateOptions): TypedInput[] {
  const inputs: TypedInput[] = []
  const add = (name: string, type: TypedInput['type'], value: string | number | undefined): void => {
    if (value !== undefined) inputs.push({ name, type, value } as TypedInput)
  }
  add('migrate_uri', 'string', options.migrateUri)
  add('destination_name', 'string', options.destinationName)
  add('destination_xml', 'string', options.destinationXml)
  add('persistent_xml', 'string', options.persistentXml)
  add('bandwidth', 'ullong', options.bandwidthMibPerSecond)
  add('bandwidth.postcopy', 'ullong', options.postCopyBandwidthMibPerSecond)
  add('graphics_uri', 'string', options.graphicsUri)
  add('listen_address', 'string', options.listenAddress)
  for (const disk of options.disks ?? []) add('migrate_disks', 'string', disk)
  add('disks_port', 'int', options.disksPort)
  add('disks_uri', 'string', options.disksUri)
  for (const method of options.compressionMethods ?? []) add('compression', 'string', method)
  add('auto_converge.initial', 'int', options.autoConvergeInitialPercent)
  add('auto_converge.increment', 'int', options.autoConvergeIncrementPercent)
  add('parallel.connections', 'int', options.parallelConnections)
  add('tls.destination', 'string', options.tlsDestination)
  return inputs
}
