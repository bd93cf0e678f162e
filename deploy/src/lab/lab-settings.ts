/** What a lab remembers: what was chosen once and must not be chosen again. `lab.json` in its state folder. */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { StateFolder } from '../state-folder.ts'

export interface LabSettings {
  /** The first three bytes of the management network's addresses. */
  readonly subnet: string
  readonly apiPort: number
  readonly hosts: readonly { readonly name: string; readonly machineUuid: string }[]
}

/** All that a lab has in its folder beside what every cluster has there. */
export const labContents = [
  'hosts',
  'shared',
  'api',
  'names',
  'watcher.creds',
  'lab.json',
  'lab.json.new',
] as const

/** Where the lab lies: VPE_LAB_HOME, else `.vpe-lab` in the checkout. */
export function labFolderPath(root: string, env: NodeJS.ProcessEnv = process.env): string {
  return env.VPE_LAB_HOME ? resolve(env.VPE_LAB_HOME) : join(root, '.vpe-lab')
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
