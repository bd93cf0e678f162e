/** What a lab remembers: what was chosen once and must not be chosen again. `lab.json` in its state folder. */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { HA_PROFILES } from '@vpe/core/ha'
import type { StateFolder } from '../state-folder.ts'
import { Trouble } from '../trouble.ts'

export interface LabSettings {
  /** The first three bytes of the management network's addresses. */
  readonly subnet: string
  readonly apiPort: number
  readonly hosts: readonly { readonly name: string; readonly machineUuid: string }[]
  /** The timings of HA (docs/ha.md), for guards, agents and the controller alike. */
  readonly haProfile: string
  /** Hosts have a watchdog, which resets them. */
  readonly hasWatchdog: boolean
  /** The controller may have the shared storage shut a host out. What it shuts out are locks, so it needs them. */
  readonly canRevoke: boolean
  /** Locks of the shared storage exclude hosts from each other. */
  readonly hasLocks: boolean
}

/** What is chosen once for a lab, by the environment or the command line. */
export type LabChoices = Pick<LabSettings, 'haProfile' | 'hasWatchdog' | 'canRevoke' | 'hasLocks'>

/** All that a lab has in its folder beside what every cluster has there. */
export const labContents = [
  'hosts',
  'shared',
  'api',
  'names',
  'watcher.creds',
  'revoke',
  'lab.json',
  'lab.json.new',
] as const

/** Where the lab lies: VPE_LAB_HOME, else `.vpe-lab` in the checkout. */
export function labFolderPath(root: string, env: NodeJS.ProcessEnv = process.env): string {
  return env.VPE_LAB_HOME ? resolve(env.VPE_LAB_HOME) : join(root, '.vpe-lab')
}

/**
 * VPE_LAB_HA_PROFILE, VPE_LAB_WATCHDOG, VPE_LAB_REVOKE and VPE_LAB_LOCKS, over what the lab has; without either, `default`, off, on, on.
 *
 * @throws Trouble when the lab is there and has others: its processes run by them
 */
export function chooseLab(env: NodeJS.ProcessEnv, before: LabChoices | undefined): LabChoices {
  const isOn = (name: string) => {
    const value = env[name] || undefined
    if (value !== undefined && value !== 'on' && value !== 'off')
      throw new Trouble(`${name} is on or off, not ${value}`)
    return value && value === 'on'
  }
  const wanted = {
    haProfile: env.VPE_LAB_HA_PROFILE || undefined,
    hasWatchdog: isOn('VPE_LAB_WATCHDOG'),
    canRevoke: isOn('VPE_LAB_REVOKE'),
    hasLocks: isOn('VPE_LAB_LOCKS'),
  }
  const others = { haProfile: 'default', hasWatchdog: false, canRevoke: true, hasLocks: true, ...before }
  if (wanted.haProfile !== undefined && !(wanted.haProfile in HA_PROFILES))
    throw new Trouble(
      `VPE_LAB_HA_PROFILE is one of ${Object.keys(HA_PROFILES).join(', ')}, not ${wanted.haProfile}`,
    )
  const hasLocks = wanted.hasLocks ?? others.hasLocks
  if (wanted.canRevoke && !hasLocks)
    throw new Trouble('a storage without locks shuts nobody out: VPE_LAB_REVOKE=on needs VPE_LAB_LOCKS=on')
  const chosen = {
    haProfile: wanted.haProfile ?? others.haProfile,
    hasWatchdog: wanted.hasWatchdog ?? others.hasWatchdog,
    canRevoke: wanted.canRevoke ?? (others.canRevoke && hasLocks),
    hasLocks,
  }
  const keys = Object.keys(chosen) as (keyof LabChoices)[]
  const changed = before ? keys.filter((key) => chosen[key] !== others[key]) : []
  if (changed.length > 0)
    throw new Trouble(
      `this lab has another ${changed.join(', ')}, by which its processes run`,
      'test/lab down',
    )
  return chosen
}

export function readLabSettings(folder: StateFolder): LabSettings | undefined {
  const file = join(folder.path, 'lab.json')
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : undefined
}

export function writeLabSettings(folder: StateFolder, settings: LabSettings): void {
  const file = join(folder.path, 'lab.json')
  writeFileSync(`${file}.new`, `${JSON.stringify(settings, null, 2)}\n`)
  renameSync(`${file}.new`, file)
}
