/**
 * All processes of a host, as the kernel keeps them together: a cgroup (version 2). They are killed all at once, and
 * frozen all at once, however many there are and whatever they are about to start.
 */
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { Trouble } from '../trouble.ts'
import { waitUntil } from '../wait-until.ts'

/** Where the machine's cgroups of version 2 are. */
export function cgroupRoot(mounts = readFileSync('/proc/mounts', 'utf8')): string {
  const root = mounts
    .split('\n')
    .map((line) => line.split(' '))
    .find(([, , type]) => type === 'cgroup2')?.[1]
  if (!root) {
    throw new Trouble(
      'this machine has no cgroups of version 2, which keep the processes of a host together',
      'mount -t cgroup2 none /sys/fs/cgroup',
    )
  }
  try {
    accessSync(root, constants.W_OK)
  } catch {
    throw new Trouble(
      `${root} cannot be written to: this looks like a container`,
      'run the lab on a machine, or in a privileged container',
    )
  }
  return root
}

/** For a new boot: what the last one had in it, and left without a process, is removed. */
export function makeGroup(path: string): void {
  mkdirSync(path, { recursive: true })
  for (const group of groupsBelow(path).slice(1).toReversed()) rmdirSync(group)
}

/** Those in groups below it are among them. */
export function processesOf(path: string): number[] {
  if (!existsSync(path)) return []
  return groupsBelow(path).flatMap((group) => {
    const pids = unlessGone(() => readFileSync(join(group, 'cgroup.procs'), 'utf8'))
    return pids?.split('\n').filter(Boolean).map(Number) ?? []
  })
}

/** Everything in it is told to end, whether frozen or not: now, without waiting. */
export function signalGroup(path: string): void {
  if (existsSync(path)) writeFileSync(join(path, 'cgroup.kill'), '1')
}

/** Everything in it ends: now, and whether frozen or not. Returns when it has. */
export async function killGroup(path: string): Promise<void> {
  if (!existsSync(path)) return
  signalGroup(path)
  const check = () => (isSet(path, 'populated') ? 'they still run' : undefined)
  await waitUntil(check, { what: `the end of the processes in ${path}`, timeoutMs: 30_000, everyMs: 5 })
  // A new boot begins unfrozen.
  writeFileSync(join(path, 'cgroup.freeze'), '0')
}

export async function freezeGroup(path: string, isFrozen: boolean): Promise<void> {
  writeFileSync(join(path, 'cgroup.freeze'), isFrozen ? '1' : '0')
  const check = () => (isSet(path, 'frozen') === isFrozen ? undefined : `${path} is on its way`)
  await waitUntil(check, { what: isFrozen ? 'freezing' : 'thawing', timeoutMs: 30_000, everyMs: 5 })
}

export function isFrozen(path: string): boolean {
  return existsSync(path) && isSet(path, 'frozen')
}

/** Removes a group with all that are in it; none of them has a process. */
export function removeGroups(path: string): void {
  if (!existsSync(path)) return
  for (const group of groupsBelow(path).toReversed()) rmdirSync(group)
}

/** The group and all below it, outer ones before those in them. */
function groupsBelow(path: string): string[] {
  const inner = unlessGone(() => readdirSync(path, { withFileTypes: true })) ?? []
  const folders = inner.filter((entry) => entry.isDirectory()).map(({ name }) => join(path, name))
  return [path, ...folders.flatMap(groupsBelow)]
}

/** Undefined for the group of a guest that has ended meanwhile. */
function unlessGone<Result>(call: () => Result): Result | undefined {
  try {
    return call()
  } catch (error) {
    if (['ENOENT', 'ENODEV'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined
    throw error
  }
}

function isSet(path: string, key: 'populated' | 'frozen'): boolean {
  return new RegExp(`^${key} 1$`, 'm').test(readFileSync(join(path, 'cgroup.events'), 'utf8'))
}
