// qemu-img, as the worker of a pool uses it: no shell, a bound on what it may take, words of its own in
// the error, and no format guessed from contents that came from elsewhere.

import { access } from 'node:fs/promises'
import { type DiskFormat, VpeError } from '@vpe/core'
import { ExecaError, execa } from 'execa'
import { z } from 'zod'

/** A crafted image can make qemu-img take all memory or all time. */
const LIMITS = ['--as=1073741824', '--cpu=60', '--']
/** What copies an image takes as long as that is large. */
const COPY_LIMITS = ['--as=1073741824', '--']

const infoSchema = z.object({
  format: z.string(),
  'virtual-size': z.int().nonnegative(),
  'backing-filename': z.string().optional(),
  encrypted: z.boolean().optional(),
  'format-specific': z
    .object({
      data: z.object({ 'data-file': z.string().optional(), corrupt: z.boolean().optional() }).optional(),
    })
    .optional(),
})

/**
 * Says why an image is unfit, in qemu-img's view; null when it is fit and as large as expected. Only for
 * images whose header has been judged: qemu-img opens what a header names.
 */
export async function judgeByQemuImg(
  path: string,
  format: DiskFormat,
  virtualSizeBytes: number,
  signal: AbortSignal,
): Promise<string | null> {
  const { stdout, refused } = await examine(['info', '--output=json', '-f', format, path], signal)
  if (refused) return refused
  const info = infoSchema.parse(JSON.parse(stdout))
  const data = info['format-specific']?.data
  if (info['backing-filename'] !== undefined) return `it needs the backing file ${info['backing-filename']}`
  if (data?.['data-file'] !== undefined) return `it keeps its data in ${data['data-file']}`
  if (data?.corrupt) return 'it is marked as corrupt'
  if (info.encrypted) return 'it is encrypted'
  if (info['virtual-size'] !== virtualSizeBytes) {
    return `its header says ${virtualSizeBytes} bytes, qemu-img says ${info['virtual-size']}`
  }
  // One that was cut short has a good header all the same.
  if (format === 'raw') return null
  return (await examine(['check', '-q', '-f', format, path], signal)).refused
}

/** qemu-img check: only leaked clusters, which waste space and harm nothing. */
const ONLY_LEAKS = 3
/** prlimit, of the program that it was to run. */
const COMMAND_NOT_FOUND = 127

async function examine(
  args: readonly string[],
  signal: AbortSignal,
): Promise<{ stdout: string; refused: string | null }> {
  try {
    const options = { cancelSignal: signal, timeout: 120_000, stdin: 'ignore' } as const
    const { stdout } = await execa('prlimit', [...LIMITS, 'qemu-img', ...args], options)
    return { stdout, refused: null }
  } catch (error) {
    signal.throwIfAborted()
    if (!(error instanceof ExecaError)) throw error
    if (error.code === 'ENOENT') throw missingProgram('prlimit', error)
    if (error.exitCode === COMMAND_NOT_FOUND) throw missingProgram('qemu-img', error)
    if (args[0] === 'check' && error.exitCode === ONLY_LEAKS) return { stdout: '', refused: null }
    return { stdout: '', refused: `qemu-img ${args[0]} finds it damaged: ${lastWords(error)}` }
  }
}

/** Makes an empty qcow2 disk on top of an image in the same folder. */
export async function createOverlay(
  options: {
    folder: string
    path: string
    backingFile: string
    backingFormat: DiskFormat
    sizeBytes: number
  },
  signal: AbortSignal,
): Promise<void> {
  const { folder, path, backingFile, backingFormat, sizeBytes } = options
  // The backing file is named relative to the disk, so that the pool may be mounted elsewhere one day.
  const args = [
    'create',
    '-q',
    '-f',
    'qcow2',
    '-b',
    backingFile,
    '-F',
    backingFormat,
    path,
    String(sizeBytes),
  ]
  await run(args, folder, signal)
}

/** Makes an empty qcow2 disk that lies on nothing. */
export async function createDisk(
  path: string,
  sizeBytes: number,
  folder: string,
  signal: AbortSignal,
): Promise<void> {
  await run(['create', '-q', '-f', 'qcow2', path, String(sizeBytes)], folder, signal)
}

/**
 * Copies an image, or one of its snapshots, into a qcow2 disk of its own; or into one that lies on the same
 * backing file, an image of vpe, and holds what differs from that.
 */
export async function convertToDisk(
  options: {
    folder: string
    path: string
    source: string
    sourceFormat: DiskFormat
    snapshot?: string | null
    backingFile?: string | null
  },
  onProgress: (percent: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const { folder, path, source, sourceFormat, snapshot, backingFile } = options
  const args = [
    ...['qemu-img', 'convert', '-p', '-f', sourceFormat, '-O', 'qcow2'],
    ...(snapshot ? ['-l', `snapshot.name=${snapshot}`] : []),
    ...(backingFile ? ['-B', backingFile, '-F', backingFile.endsWith('.raw') ? 'raw' : 'qcow2'] : []),
    ...[source, path],
  ]
  const child = execa('prlimit', [...COPY_LIMITS, ...args], {
    cwd: folder,
    stdin: 'ignore',
    cancelSignal: signal,
  })
  child.stdout.on('data', (chunk: Buffer) => {
    const percent = parseProgress(chunk.toString('latin1'))
    if (percent !== null) onProgress(percent)
  })
  await describeFailure('convert', child, signal)
}

export async function resizeDisk(
  path: string,
  sizeBytes: number,
  folder: string,
  signal: AbortSignal,
): Promise<void> {
  await run(['resize', '-q', '-f', 'qcow2', path, String(sizeBytes)], folder, signal)
}

const SNAPSHOT_OPTIONS = { create: '-c', apply: '-a', delete: '-d' } as const

/** Changes the internal snapshots of a disk. Never aborted: it is quick, and half of it helps nobody. */
export async function changeSnapshot(
  verb: keyof typeof SNAPSHOT_OPTIONS,
  path: string,
  name: string,
  folder: string,
): Promise<void> {
  await run(['snapshot', SNAPSHOT_OPTIONS[verb], name, path], folder, new AbortController().signal)
}

const snapshotsSchema = z.object({ snapshots: z.array(z.object({ name: z.string() })).default([]) })

/** The names of the internal snapshots of a disk of vpe's own. @throws VpeError NOT_FOUND when there is no such disk */
export async function listSnapshots(path: string, folder: string): Promise<string[]> {
  await access(path).catch((error: NodeJS.ErrnoException) => {
    throw error.code === 'ENOENT'
      ? new VpeError('NOT_FOUND', `there is no disk ${path}`, { cause: error })
      : error
  })
  const args = ['info', '--output=json', '-f', 'qcow2', path]
  const child = execa('qemu-img', args, { cwd: folder, stdin: 'ignore' })
  await describeFailure('info', child, new AbortController().signal)
  const { stdout } = await child
  return snapshotsSchema.parse(JSON.parse(stdout)).snapshots.map(({ name }) => name)
}

/** The last percentage in a piece of what `qemu-img convert -p` prints: `    (12.34/100%)\r`. */
export function parseProgress(output: string): number | null {
  const last = [...output.matchAll(/\((\d+(?:\.\d+)?)\/100%\)/g)].at(-1)?.[1]
  return last === undefined ? null : Math.min(100, Number(last))
}

async function run(args: readonly string[], folder: string, signal: AbortSignal): Promise<void> {
  const child = execa('qemu-img', args, { cwd: folder, stdin: 'ignore', cancelSignal: signal })
  await describeFailure(args[0] ?? '', child, signal)
}

async function describeFailure(
  verb: string,
  child: PromiseLike<unknown>,
  signal: AbortSignal,
): Promise<void> {
  try {
    await child
  } catch (error) {
    signal.throwIfAborted()
    if (error instanceof ExecaError && error.code === 'ENOENT') {
      throw missingProgram(verb === 'convert' ? 'prlimit' : 'qemu-img', error)
    }
    if (error instanceof ExecaError && error.exitCode === COMMAND_NOT_FOUND)
      throw missingProgram('qemu-img', error)
    const words = lastWords(error)
    const code = /No space left|Disk quota exceeded/i.test(words) ? 'DISK_POOL_FULL' : 'DISK_POOL_FAILED'
    throw new VpeError(code, `qemu-img ${verb} failed: ${words}`, { cause: error })
  }
}

function missingProgram(name: 'qemu-img' | 'prlimit', cause: unknown): VpeError {
  const debianPackage = { 'qemu-img': 'qemu-utils', prlimit: 'util-linux' }[name]
  return new VpeError(
    'DISK_POOL_FAILED',
    `${name} is not installed; install it: apt-get install ${debianPackage}`,
    {
      cause,
    },
  )
}

function lastWords(error: unknown): string {
  if (!(error instanceof ExecaError)) return String(error)
  const words = String(error.stderr || error.stdout || '')
    .trim()
    .split('\n')
    .at(-1)
  return words || error.shortMessage
}
