/**
 * Starts processes that outlive us, finds them again, and stops them.
 *
 * A process is known by its pid AND its start time AND the machine's boot id, as written down in its
 * pid file: after a crash or a reboot the kernel gives the same pid to somebody else, and somebody else
 * must never be signalled. A zombie counts as gone: where pid 1 reaps slowly, a killed process stays
 * one for seconds.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { Trouble } from './trouble.ts'
import { waitUntil } from './wait-until.ts'

export interface ProcessIdentity {
  readonly pid: number
  /** Clock ticks from boot to the start of the process (field 22 of /proc/<pid>/stat). */
  readonly startTime: string
  readonly bootId: string
}

export interface ProcessSpec {
  readonly command: string
  readonly args: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  readonly logFile: string
  readonly pidFile: string
}

const logBytesMax = 16 * 1024 * 1024

/** The running process that the pid file speaks of, or undefined: none, ended, or somebody else's by now. */
export function runningProcess(pidFile: string): ProcessIdentity | undefined {
  const written = readPidFile(pidFile)
  return written && isRunning(written) ? written : undefined
}

export function isRunning(identity: ProcessIdentity): boolean {
  const current = identify(identity.pid)
  return current?.startTime === identity.startTime && current.bootId === identity.bootId
}

/** Who is behind this pid now? Undefined when nobody is, or a zombie. */
export function identify(pid: number): ProcessIdentity | undefined {
  try {
    const startTime = parseStat(readFileSync(`/proc/${pid}/stat`, 'utf8'))
    return startTime === undefined ? undefined : { pid, startTime, bootId: bootId() }
  } catch {
    return undefined
  }
}

/** The start time from a line of /proc/<pid>/stat; undefined for a zombie or a dead process. */
export function parseStat(line: string): string | undefined {
  // The second field is the program's name in parentheses, and may itself hold spaces and parentheses.
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ')
  const state = fields[0]
  return state === 'Z' || state === 'X' ? undefined : fields[19]
}

export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
}

/** Starts a process in a session of its own: neither our end nor Ctrl-C in our terminal reaches it. */
export async function startProcess(spec: ProcessSpec): Promise<ProcessIdentity> {
  rotateLog(spec.logFile)
  const log = openSync(spec.logFile, 'a')
  try {
    const child = spawn(spec.command, [...spec.args], {
      detached: true,
      stdio: ['ignore', log, log],
      env: { ...process.env, ...spec.env },
      ...(spec.cwd === undefined ? {} : { cwd: spec.cwd }),
    })
    if (child.pid === undefined) {
      const [cause] = await once(child, 'error')
      throw new Trouble(`cannot start ${spec.command}: ${cause.message}`, undefined, { cause })
    }
    // No await between the spawn and the pid file: nothing of ours runs that we do not know of.
    const identity = identify(child.pid) ?? { pid: child.pid, startTime: 'ended at once', bootId: bootId() }
    writePidFile(spec.pidFile, identity)
    child.on('error', () => {})
    child.unref()
    return identity
  } finally {
    closeSync(log)
  }
}

/** SIGTERM, then SIGKILL after the grace time. Says whether there was anything to stop. */
export async function stopProcess(pidFile: string, graceMs: number): Promise<boolean> {
  const identity = runningProcess(pidFile)
  if (identity) {
    signalProcess(identity, 'SIGTERM')
    const ended = await hasEnded(identity, graceMs)
    if (!ended) {
      signalProcess(identity, 'SIGKILL')
      if (!(await hasEnded(identity, 10_000))) {
        throw new Trouble(`process ${identity.pid} does not end, not even by SIGKILL`)
      }
    }
  }
  rmSync(pidFile, { force: true })
  return identity !== undefined
}

/** The end of a log, for an error message. */
export function lastLines(file: string, count: number): string {
  try {
    return readFileSync(file, 'utf8').trimEnd().split('\n').slice(-count).join('\n')
  } catch {
    return '(no log)'
  }
}

function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): void {
  if (!isRunning(identity)) return
  try {
    process.kill(identity.pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

async function hasEnded(identity: ProcessIdentity, timeoutMs: number): Promise<boolean> {
  try {
    await waitUntil(() => (isRunning(identity) ? 'still runs' : undefined), {
      what: 'the end of a process',
      timeoutMs,
      everyMs: 20,
    })
    return true
  } catch (error) {
    if (error instanceof Trouble) return false
    throw error
  }
}

function readPidFile(pidFile: string): ProcessIdentity | undefined {
  try {
    const { pid, startTime, bootId } = JSON.parse(readFileSync(pidFile, 'utf8'))
    return Number.isInteger(pid) && pid > 1 ? { pid, startTime, bootId } : undefined
  } catch {
    return undefined
  }
}

function writePidFile(pidFile: string, identity: ProcessIdentity): void {
  writeFileSync(`${pidFile}.new`, `${JSON.stringify(identity)}\n`)
  renameSync(`${pidFile}.new`, pidFile)
}

function rotateLog(logFile: string): void {
  const size = statSync(logFile, { throwIfNoEntry: false })?.size ?? 0
  if (size > logBytesMax) renameSync(logFile, `${logFile}.1`)
}
