// From a mark and what is fixed for this host to a domain's definition.

import type { InstanceMark } from '@vpe/core'
import { consoleLogPath } from './console-log.ts'
import { domainXml, type Platform } from './domain-xml.ts'
import type { MigrationTarget } from './hypervisor/hypervisor.ts'
import { seedPath, systemDiskPath } from './pool/pool-files.ts'
import { serialSocketPath } from './serial-socket.ts'

export interface MigrationSettings {
  /** How running guests are sent here; undefined where none are received. */
  readonly receive: Omit<MigrationTarget, 'definitionXml'> | undefined
  /** Those that leave are encrypted on their way. */
  readonly tls: boolean
  /** QEMU receives memory and disks on them: those of qemu.conf. */
  readonly ports: { readonly from: number; readonly to: number }
}

export interface HostSettings {
  readonly platform: Platform
  readonly consoleDir: string
  readonly bridge: string | undefined
  readonly migration: MigrationSettings
}

export function definitionXml(mark: InstanceMark, settings: HostSettings): string {
  return domainXml({
    mark,
    platform: settings.platform,
    systemDiskPath: systemDiskPath(mark.diskPoolPath, mark.uuid),
    seedPath: mark.seedSha256 ? seedPath(mark.diskPoolPath, mark.uuid) : undefined,
    consoleLogPath: consoleLogPath(settings.consoleDir, mark.uuid),
    serialSocketPath: serialSocketPath(settings.consoleDir, mark.uuid),
    bridge: settings.bridge,
  })
}
