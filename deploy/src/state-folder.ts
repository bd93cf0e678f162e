/**
 * The one folder that holds all of a cluster's state: `.vpe` in the checkout, or VPE_HOME.
 *
 * A marker file with an id is written when the folder is made. Without it the folder is somebody else's:
 * nothing is put into it, and `down --purge` removes nothing from it. Beside the marker, settings.json
 * remembers what a later run must not choose again (ports, which libvirtd, the first instance).
 */
import { randomUUID } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join, resolve } from 'node:path'
import { lockFile } from './kernel-lock.ts'
import type { Ports } from './ports.ts'
import { Trouble } from './trouble.ts'

export interface StateFolder {
  /** Absolute. */
  readonly path: string
  /** Tells this cluster from any other on the machine, for ever. */
  readonly id: string
}

/** `private`: our own libvirtd under the state folder. `system`: the one that the machine runs. */
export type LibvirtChoice = 'private' | 'system'

export interface Settings {
  readonly ports?: Ports
  readonly libvirt?: LibvirtChoice
  /** The first instance, once it was active: from then on it is the user's to delete or to stop. */
  readonly firstInstance?: string
  /** Idempotency keys of POSTs whose answer has not been seen yet. */
  readonly pendingKeys?: Readonly<Record<string, string>>
}

const markerName = 'vpe-state.json'

/** All that vpe puts into the folder, and so all that a purge takes out of it. The marker goes last. */
const contents = [
  'agent',
  'cache',
  'controller',
  'disks',
  'env',
  'libvirt',
  'log',
  'nats',
  'run',
  'settings.json',
  'lock',
  markerName,
] as const

/** Where the state lies: VPE_HOME, else `.vpe` in the checkout. */
export function stateFolderPath(root: string, env: NodeJS.ProcessEnv = process.env): string {
  return env.VPE_HOME ? resolve(env.VPE_HOME) : join(root, '.vpe')
}

/** The folder, made when it is not there. */
export function openStateFolder(path: string): StateFolder {
  const existing = findStateFolder(path)
  if (existing) return existing
  if (existsSync(path) && readdirSync(path).length > 0) {
    throw new Trouble(
      `${path} holds files, but was not made by vpe (no ${markerName} in it)`,
      'set VPE_HOME to a folder that is empty or does not exist',
    )
  }
  const id = randomUUID()
  try {
    mkdirSync(path, { recursive: true, mode: 0o755 })
    writeAtomically(join(path, markerName), json({ id, madeBy: 'vpe deploy/quickstart' }))
  } catch (cause) {
    throw new Trouble(`cannot write to ${path}: ${(cause as Error).message}`, undefined, { cause })
  }
  return { path, id }
}

/** The folder if it is there and ours. */
export function findStateFolder(path: string): StateFolder | undefined {
  const marker = readJson(join(path, markerName))
  return typeof marker?.id === 'string' ? { path, id: marker.id } : undefined
}

/** A folder inside, made when it is not there. */
export function inside(folder: StateFolder, ...names: string[]): string {
  const path = join(folder.path, ...names)
  mkdirSync(path, { recursive: true })
  return path
}

export function pidFile(folder: StateFolder, service: string): string {
  return join(inside(folder, 'run'), `${service}.json`)
}

export function logFile(folder: StateFolder, service: string): string {
  return join(inside(folder, 'log'), `${service}.log`)
}

export function cacheFolder(folder: StateFolder, env: NodeJS.ProcessEnv = process.env): string {
  const path = env.VPE_CACHE ? resolve(env.VPE_CACHE) : join(folder.path, 'cache')
  mkdirSync(path, { recursive: true })
  return path
}

export function readSettings(folder: StateFolder): Settings {
  return (readJson(join(folder.path, 'settings.json')) as Settings | undefined) ?? {}
}

export function changeSettings(
  folder: StateFolder,
  change: { [K in keyof Settings]?: Settings[K] | undefined },
): Settings {
  const settings = { ...readSettings(folder), ...change } as Settings
  writeAtomically(join(folder.path, 'settings.json'), json(settings))
  return settings
}

/** `.vpe/env`: to be sourced by scripts and people, who find the cluster by it. */
export function writeEnvFile(folder: StateFolder, variables: Readonly<Record<string, string>>): void {
  writeAtomically(join(folder.path, 'env'), formatEnvFile(variables))
}

export function removeEnvFile(folder: StateFolder): void {
  rmSync(join(folder.path, 'env'), { force: true })
}

export function formatEnvFile(variables: Readonly<Record<string, string>>): string {
  const quoted = (value: string) => `'${value.replaceAll("'", `'\\''`)}'`
  return Object.entries(variables)
    .map(([name, value]) => `export ${name}=${quoted(value)}\n`)
    .join('')
}

/** Removes what vpe put there, and the folder when nothing else is left. Says what it left alone. */
export function purgeStateFolder(folder: StateFolder, alsoOurs: readonly string[] = []): readonly string[] {
  if (findStateFolder(folder.path)?.id !== folder.id) throw new Trouble(`${folder.path} was not made by vpe`)
  for (const name of [...alsoOurs, ...contents])
    rmSync(join(folder.path, name), { recursive: true, force: true })
  const foreign = readdirSync(folder.path)
  if (foreign.length === 0) rmdirSync(folder.path)
  return foreign
}

/** One quickstart at a time in a folder; or one `test/lab`. */
export async function lockStateFolder(folder: StateFolder, who = 'deploy/quickstart'): Promise<Disposable> {
  const lock = await lockFile(join(folder.path, 'lock'), { waitSeconds: 0 })
  if (lock) return lock
  throw new Trouble(`another ${who} is at work in ${folder.path}`, 'wait until it has ended, or stop it')
}

function writeAtomically(path: string, text: string): void {
  writeFileSync(`${path}.new`, text)
  renameSync(`${path}.new`, path)
}

function readJson(path: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new Trouble(`cannot read ${path}: ${(error as Error).message}`, undefined, { cause: error })
  }
}

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`
}
