// The flags of domain calls by option name; the enums are those of <libvirt/libvirt-domain.h>.

import type { FlagsOf } from './flags.ts'

/** virDomainDefineFlags. `validate` checks the XML against libvirt's schema. */
export const defineFlags = { validate: 1 << 0 } as const
export type DefineFlags = FlagsOf<typeof defineFlags>

/** virDomainCreateFlags. `autodestroy`: the domain dies with this connection. */
export const startFlags = {
  paused: 1 << 0,
  autodestroy: 1 << 1,
  bypassCache: 1 << 2,
  forceBoot: 1 << 3,
  validate: 1 << 4,
  resetNvram: 1 << 5,
} as const
export type StartFlags = FlagsOf<typeof startFlags>

/** virDomainShutdownFlagValues and virDomainRebootFlagValues. None: the hypervisor chooses. */
export const shutdownFlags = {
  acpiPowerButton: 1 << 0,
  guestAgent: 1 << 1,
  initctl: 1 << 2,
  signal: 1 << 3,
  paravirt: 1 << 4,
} as const
export type ShutdownFlags = FlagsOf<typeof shutdownFlags>

/** virDomainDestroyFlagsValues. `graceful`: SIGTERM only, and fail rather than SIGKILL. */
export const destroyFlags = { graceful: 1 << 0, removeLogs: 1 << 1 } as const
export type DestroyFlags = FlagsOf<typeof destroyFlags>

/** virDomainUndefineFlagsValues. */
export const undefineFlags = {
  managedSave: 1 << 0,
  snapshotsMetadata: 1 << 1,
  nvram: 1 << 2,
  keepNvram: 1 << 3,
  checkpointsMetadata: 1 << 4,
  tpm: 1 << 5,
  keepTpm: 1 << 6,
} as const
export type UndefineFlags = FlagsOf<typeof undefineFlags>

/** virDomainXMLFlags. `inactive`: the definition for the next start. `secure` needs a read-write connection. */
export const domainXmlFlags = {
  secure: 1 << 0,
  inactive: 1 << 1,
  updateCpu: 1 << 2,
  migratable: 1 << 3,
} as const
export type DomainXmlFlags = FlagsOf<typeof domainXmlFlags>

/** virDomainModificationImpact. Neither: the running domain if it runs, else the definition. */
export const impactFlags = { live: 1 << 0, config: 1 << 1 } as const
export type ImpactFlags = FlagsOf<typeof impactFlags>

/** virDomainDeviceModifyFlags. `force`: eject a locked CD-ROM. */
export const deviceFlags = { ...impactFlags, force: 1 << 2 } as const
export type DeviceFlags = FlagsOf<typeof deviceFlags>

/** virDomainMemoryModFlags and virDomainVcpuFlags. `maximum`: the ceiling instead of the current value. */
export const resizeFlags = { ...impactFlags, maximum: 1 << 2 } as const
export type ResizeFlags = FlagsOf<typeof resizeFlags>

/** virDomainVcpuFlags. `guest`: through the guest agent. */
export const vcpuFlags = { ...resizeFlags, guest: 1 << 3, hotpluggable: 1 << 4 } as const
export type VcpuFlags = FlagsOf<typeof vcpuFlags>

/** virDomainSaveRestoreFlags, of a managed save. */
export const saveFlags = { bypassCache: 1 << 0, running: 1 << 1, paused: 1 << 2 } as const
export type SaveFlags = FlagsOf<typeof saveFlags>

/**
 * virConnectListAllDomainsFlags. Within a group of opposites (active and inactive, persistent and transient,
 * the states…) none or all of them filter nothing; groups are and-ed.
 */
export const domainFilter = {
  active: 1 << 0,
  inactive: 1 << 1,
  persistent: 1 << 2,
  transient: 1 << 3,
  running: 1 << 4,
  paused: 1 << 5,
  shutoff: 1 << 6,
  otherState: 1 << 7,
  managedSave: 1 << 8,
  noManagedSave: 1 << 9,
  autostart: 1 << 10,
  noAutostart: 1 << 11,
  hasSnapshot: 1 << 12,
  noSnapshot: 1 << 13,
  hasCheckpoint: 1 << 14,
  noCheckpoint: 1 << 15,
} as const
export type DomainFilter = FlagsOf<typeof domainFilter>

/** virKeycodeSet, in order. */
export const keycodeSets = [
  'linux',
  'xt',
  'atset1',
  'atset2',
  'atset3',
  'osx',
  'xt-kbd',
  'usb',
  'win32',
  'qnum',
] as const
export type KeycodeSet = (typeof keycodeSets)[number]
