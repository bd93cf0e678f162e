// A process of vpe as a child: its main.ts with the probe in it, what it takes of CPU and memory, and its end.

import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { nodeFlags } from '@vpe/deploy/node-flags'

export interface ProbeQuestion {
  readonly id: number
  /** `start` begins CPU profiles of all threads; a file ends them, and they are written beside it. */
  readonly profile?: string
}

export interface ProbeAnswer {
  readonly id: number
  readonly heapBytes: number
  /** How late the event loop was since the last question. */
  readonly loopDelayMs: { readonly p50: number; readonly p99: number; readonly max: number }
}

const PACKAGES = join(import.meta.dirname, '../../packages')
const TICKS_PER_SECOND = 100

export class ProbedProcess {
  readonly #child: ChildProcess
  readonly #waiting = new Map<number, (answer: ProbeAnswer) => void>()
  #lastId = 0

  /** @param logFile what it says goes there, after what is there already */
  constructor(name: 'controller' | 'api', env: Record<string, string>, logFile: string) {
    const output = openSync(logFile, 'a')
    this.#child = fork(join(PACKAGES, name, 'src/main.ts'), [], {
      env: { ...process.env, ...env },
      execArgv: [...nodeFlags(name), '--import', join(import.meta.dirname, 'probe.ts')],
      stdio: ['ignore', output, output, 'ipc'],
    })
    closeSync(output)
    this.#child.on('message', (answer: ProbeAnswer) => {
      this.#waiting.get(answer.id)?.(answer)
      this.#waiting.delete(answer.id)
    })
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  get isRunning(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null
  }

  ask(profile?: string): Promise<ProbeAnswer> {
    const id = ++this.#lastId
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, resolve)
      this.#child.send({ id, ...(profile && { profile }) } satisfies ProbeQuestion, (error) => {
        if (error) reject(error)
      })
    })
  }

  async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    if (!this.isRunning) return
    const ended = once(this.#child, 'exit')
    this.#child.kill(signal)
    await ended
  }
}

/** Seconds of CPU that a process has had, all its threads together, and its main thread alone. */
export function cpuSeconds(pid: number): { readonly all: number; readonly main: number } {
  return { all: cpuOf(`/proc/${pid}/stat`), main: cpuOf(`/proc/${pid}/task/${pid}/stat`) }
}

/** Seconds of CPU that all of this machine has had, and those that its hypervisor gave to other machines meanwhile. */
export function machineSeconds(): { readonly machine: number; readonly stolen: number } {
  const [, ...fields] = readFileSync('/proc/stat', 'utf8').split('\n', 1)[0]?.split(/ +/) ?? []
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = fields.map(Number)
  return {
    machine: (user + nice + system + irq + softirq) / TICKS_PER_SECOND,
    stolen: steal / TICKS_PER_SECOND,
  }
}

function cpuOf(file: string): number {
  // The name of the program is in brackets, and may hold anything.
  const fields = readFileSync(file, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}

/** Resident memory of a process. */
export function residentBytes(pid: number): number {
  const [, kib = '0'] = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
  return Number(kib) * 1024
}
