// Runs a program of the operator's to its end, with a deadline: what hangs is killed.

import { spawn } from 'node:child_process'

export interface ProgramEnd {
  /** Null where it was killed, or could not be run. */
  readonly exitCode: number | null
  /** The end of what it wrote, of both streams; why it could not be run. */
  readonly output: string
}

const OUTPUT_MAX = 4_000

export interface ProgramInput {
  /** Written to its stdin. */
  readonly text?: string
  readonly environment?: Readonly<Record<string, string>>
}

/**
 * Runs a program without a shell. Of this process's environment it gets nothing but PATH. Never throws.
 * @param signal kills it, with all that it has started, which is in a process group of its own
 */
export function runProgram(
  file: string,
  args: readonly string[],
  { text = '', environment = {} }: ProgramInput,
  signal: AbortSignal,
): Promise<ProgramEnd> {
  if (signal.aborted) return Promise.resolve({ exitCode: null, output: 'there was no time left for it' })
  const { promise, resolve } = Promise.withResolvers<ProgramEnd>()
  const child = spawn(file, args, {
    env: { ...environment, PATH: process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin' },
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  let output = ''
  const hear = (chunk: Buffer) => {
    output = `${output}${chunk.toString()}`.slice(-OUTPUT_MAX)
  }
  child.stdout.on('data', hear)
  child.stderr.on('data', hear)
  // One that ends without reading what it is told is none the worse for it.
  child.stdin.on('error', () => {})
  child.stdin.end(text)
  const end = (exitCode: number | null, why: string) => {
    signal.removeEventListener('abort', kill)
    resolve({ exitCode, output: [output.trim(), why].filter((part) => part !== '').join('; ') })
  }
  const kill = () => {
    killGroup(child.pid)
    // What has left the group may hold the streams open: nobody waits for that.
    end(null, 'it was killed at its deadline')
  }
  signal.addEventListener('abort', kill, { once: true })
  child.on('error', (error) => end(null, error.message))
  child.on('close', (code, killedBy) => end(code, killedBy ? `it was ended by ${killedBy}` : ''))
  return promise
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch (error) {
    // It has ended meanwhile.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}
