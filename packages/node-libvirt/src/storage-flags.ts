// The flags of storage calls by option name; the enums are those of <libvirt/libvirt-storage.h>.

import type { FlagsOf } from './flags.ts'

/** virConnectListAllStoragePoolsFlags, without the types of pool. Works like DomainFilter. */
export const poolFilter = {
  inactive: 1 << 0,
  active: 1 << 1,
  persistent: 1 << 2,
  transient: 1 << 3,
  autostart: 1 << 4,
  noAutostart: 1 << 5,
  dir: 1 << 6,
  fs: 1 << 7,
  netfs: 1 << 8,
  logical: 1 << 9,
  disk: 1 << 10,
  iscsi: 1 << 11,
  rbd: 1 << 14,
  zfs: 1 << 17,
} as const
export type PoolFilter = FlagsOf<typeof poolFilter>

/** virStoragePoolBuildFlags. */
export const poolBuildFlags = {
  repair: 1 << 0,
  resize: 1 << 1,
  noOverwrite: 1 << 2,
  overwrite: 1 << 3,
} as const
export type PoolBuildFlags = FlagsOf<typeof poolBuildFlags>

/** virStoragePoolCreateFlags: whether to build before starting. */
export const poolStartFlags = { build: 1 << 0, buildOverwrite: 1 << 1, buildNoOverwrite: 1 << 2 } as const
export type PoolStartFlags = FlagsOf<typeof poolStartFlags>

/** virStorageVolCreateFlags. `reflink` shares blocks with the original, for clones. */
export const volumeCreateFlags = { preallocateMetadata: 1 << 0, reflink: 1 << 1, validate: 1 << 2 } as const
export type VolumeCreateFlags = FlagsOf<typeof volumeCreateFlags>

/** virStorageVolResizeFlags. `delta`: the size is an amount to add. */
export const volumeResizeFlags = { allocate: 1 << 0, delta: 1 << 1, shrink: 1 << 2 } as const
export type VolumeResizeFlags = FlagsOf<typeof volumeResizeFlags>

/** virStorageVolDeleteFlags. */
export const volumeDeleteFlags = { zeroed: 1 << 0, withSnapshots: 1 << 1 } as const
export type VolumeDeleteFlags = FlagsOf<typeof volumeDeleteFlags>
