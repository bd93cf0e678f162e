// From a mark and what is fixed for this host to a domain's definition, and to the places on this host
// that belong to it.

import { join } from 'node:path'
import type { InstanceMark } from '@vpe/core'
import { domainXml, type Platform } from './domain-xml.ts'
import { systemDiskPath } from './pool/pool-files.ts'

export interface HostSettings {
  readonly platform: Platform
  readonly consoleDir: string
  readonly bridge: string | undefined
}

export function definitionXml(mark: InstanceMark, settings: HostSettings): string {
  return domainXml({
    mark,
    platform: settings.platform,
    systemDiskPath: systemDiskPath(mark.diskPoolPath, mark.uuid),
    consoleLogPath: consoleLogPath(settings, mark.uuid),
    bridge: settings.bridge,
  })
}

/** Where the words of a guest's serial line are kept. */
export function consoleLogPath(settings: Pick<HostSettings, 'consoleDir'>, uuid: string): string {
  return join(settings.consoleDir, `${uuid}.log`)
}
