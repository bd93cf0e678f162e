// What can be read of the machine itself, without libvirt.

import { access, mkdir, readdir, rm, statfs, writeFile } from 'node:fs/promises'
import { cpus, hostname, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { type KvmState, readKvm } from '../platform.ts'

/** What the agent starts. */
const PROGRAMS = ['qemu-img', 'genisoimage'] as const

export interface Machine {
  readonly hostname: string
  readonly memoryMib: number
  /** As the CPU calls itself. */
  readonly cpuName: string
  readonly kernel: string
  /** Sorted. */
  readonly bridges: readonly string[]
  readonly kvm: KvmState
  readonly missingPrograms: readonly string[]
  readonly stateFolder: { readonly availableBytes: number } | { readonly fault: string }
}

export async function readMachine(stateDir: string): Promise<Machine> {
  const [bridges, kvm, missing, stateFolder] = await Promise.all([
    readBridges(),
    readKvm(),
    Promise.all(PROGRAMS.map(async (program) => ((await canStart(program)) ? [] : [program]))),
    tryFolder(stateDir),
  ])
  return {
    hostname: hostname(),
    memoryMib: Math.floor(totalmem() / 1024 ** 2),
    cpuName: cpus()[0]?.model.trim() ?? '',
    kernel: release(),
    bridges,
    kvm,
    missingPrograms: missing.flat(),
    stateFolder,
  }
}

async function readBridges(): Promise<readonly string[]> {
  const names = await readdir('/sys/class/net')
  // An interface may go while it is looked at.
  const isBridge = (name: string) =>
    access(join('/sys/class/net', name, 'bridge')).then(
      () => true,
      () => false,
    )
  const found = await Promise.all(names.map(async (name) => ((await isBridge(name)) ? [name] : [])))
  return found.flat().sort()
}

async function canStart(program: string): Promise<boolean> {
  const { failed } = await execa(program, ['--version'], {
    reject: false,
    stdio: 'ignore',
    timeout: 5_000,
  })
  return !failed
}

async function tryFolder(path: string): Promise<Machine['stateFolder']> {
  const file = join(path, `.preflight.${process.pid}`)
  try {
    await mkdir(path, { recursive: true })
    await writeFile(file, 'a', { flush: true })
    await rm(file)
    const { bsize, bavail } = await statfs(path)
    return { availableBytes: bsize * bavail }
  } catch (error) {
    return { fault: (error as Error).message }
  }
}
