// The exports that pools of kind nfs lie on, mounted where the pool's path says. mount and umount are programs of
// their own with a deadline, since against a server that does not answer they hang; and nothing here touches a
// mounted folder, which would hang the agent with it. What is mounted, the kernel's own list says.

import { mkdir, readFile } from 'node:fs/promises'
import { type Mounted, mountedAt, type NfsSource, VpeError } from '@vpe/core'
import { ExecaError, execa } from 'execa'

/** Less than what a controller waits for a pool. */
const DEADLINE_MS = 20_000

export interface MountTools {
  /** The text of /proc/self/mountinfo. */
  readonly readMounts: () => Promise<string>
  /** Runs a program to its end. */
  readonly run: (program: string, args: readonly string[]) => Promise<void>
  readonly makeFolder: (path: string) => Promise<void>
}

export const systemMountTools: MountTools = {
  readMounts: () => readFile('/proc/self/mountinfo', 'utf8'),
  run: (program, args) => runProgram(program, args, DEADLINE_MS),
  makeFolder: async (path) => {
    await mkdir(path, { recursive: true, mode: 0o755 })
  },
}

/** How mount and the kernel write an export. */
export function nfsDevice({ server, export: folder }: NfsSource): string {
  const host = server.includes(':') ? `[${server}]` : server
  return `${host}:${folder}`
}

/**
 * Mounts an export, unless it is.
 * @throws VpeError DISK_POOL_FAILED
 */
export async function mountNfs(
  source: NfsSource,
  path: string,
  mountDir: string,
  tools: MountTools,
): Promise<void> {
  if (!path.startsWith(`${mountDir}/`)) {
    const cure = `choose a path below ${mountDir}, the folder of VPE_AGENT_MOUNT_DIR`
    throw new VpeError('DISK_POOL_FAILED', `nothing is mounted at ${path}: ${cure}`)
  }
  const device = nfsDevice(source)
  if (isMounted(mountedAt(await tools.readMounts(), path), device, path)) return
  await tools.makeFolder(path)
  const options = ['nosuid', 'nodev', 'retry=0', source.options].filter(Boolean).join(',')
  try {
    await tools.run('mount', ['-t', 'nfs', '-o', options, device, path])
  } catch (cause) {
    // Another try may have been late, and has mounted it meanwhile.
    if (isMounted(mountedAt(await tools.readMounts(), path), device, path)) return
    throw mountFailed(device, path, cause)
  }
  if (isMounted(mountedAt(await tools.readMounts(), path), device, path)) return
  throw new VpeError('DISK_POOL_FAILED', `mount has ended without a fault, but ${device} is not at ${path}`)
}

/** Unmounts an export; what else may be mounted there stays. */
export async function unmountNfs(source: NfsSource, path: string, tools: MountTools): Promise<void> {
  const mounted = mountedAt(await tools.readMounts(), path)
  if (!mounted || !isThis(mounted, nfsDevice(source))) return
  try {
    await tools.run('umount', [path])
  } catch (cause) {
    const message = `${path} cannot be unmounted: ${words(cause)}; see what uses it: fuser -vm ${path}`
    throw new VpeError('DISK_POOL_FAILED', message, { cause })
  }
}

/** @throws VpeError DISK_POOL_FAILED when something else is mounted there */
function isMounted(mounted: Mounted | null, device: string, path: string): boolean {
  if (!mounted) return false
  if (isThis(mounted, device)) return true
  const what = `${mounted.source} (${mounted.type}) is mounted at ${path}, not ${device}`
  throw new VpeError('DISK_POOL_FAILED', `${what}; unmount it: umount ${path}`)
}

function isThis({ root, type, source }: Mounted, device: string): boolean {
  const plain = (text: string) => text.replace(/(?<=.)\/+$/, '')
  return /^nfs4?$/.test(type) && root === '/' && plain(source) === plain(device)
}

function mountFailed(device: string, path: string, cause: unknown): VpeError {
  const isMissing =
    cause instanceof ExecaError && /unknown filesystem type|bad option|helper program/.test(words(cause))
  const cure = isMissing
    ? 'install the NFS client: apt-get install nfs-common'
    : 'check that the server is up, exports it to this host, and that the options are right'
  return new VpeError(
    'DISK_POOL_FAILED',
    `${device} cannot be mounted at ${path}: ${words(cause)}; ${cure}`,
    {
      cause,
    },
  )
}

function words(error: unknown): string {
  if (error instanceof ExecaError) {
    const last = String(error.stderr || '')
      .trim()
      .split('\n')
      .at(-1)
    return last || error.shortMessage
  }
  return error instanceof Error ? error.message : String(error)
}

/** @throws Error when it fails, or takes longer: it is then killed, and its end is not waited for */
export async function runProgram(
  program: string,
  args: readonly string[],
  deadlineMs: number,
): Promise<void> {
  // A group of its own: mount leaves the work to a program that it starts.
  const child = execa(program, args, { stdin: 'ignore', cleanup: false, detached: true })
  const { promise, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => {
    // In a file call that hangs, even that may not end it.
    if (child.pid !== undefined) killGroup(child.pid)
    reject(new Error(`${program} has not ended within ${deadlineMs / 1000} s`))
  }, deadlineMs)
  // Once it is given up, its end is nobody's concern.
  child.catch(() => {})
  try {
    await Promise.race([child, promise])
  } finally {
    clearTimeout(timer)
  }
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}
