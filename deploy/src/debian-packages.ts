/**
 * The Debian packages that a hypervisor host and its tests need, and how they get there.
 * Only what is missing is installed; `apt-get update` runs only when something is.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { ExecaError, execa } from 'execa'
import { Trouble } from './trouble.ts'

export const systemPackages = [
  'nats-server',
  'libvirt-daemon-system',
  'libvirt-clients',
  'libvirt-daemon-driver-qemu',
  'qemu-system-x86',
  'qemu-utils',
  'genisoimage',
  'tini',
] as const

/** What only tests need on top: a browser for the console pages, a font that it can draw with, bridges, closed ports, schemas. */
export const testPackages = [
  'chromium',
  'fonts-dejavu-core',
  'iproute2',
  'libxml2-utils',
  'nftables',
] as const

export type Say = (line: string) => void

/** Installs what is missing of the system packages, or of those given; says what it does. */
export async function ensureSystemPackages(
  say: Say,
  signal?: AbortSignal,
  wanted: readonly string[] = systemPackages,
): Promise<readonly string[]> {
  const missing = missingPackages(wanted, await installedPackages(wanted))
  if (missing.length === 0) return missing
  if (process.getuid?.() !== 0) {
    throw new Trouble(
      `Debian packages are missing (${missing.join(', ')}), and installing them needs root`,
      `sudo apt-get install ${missing.join(' ')}`,
    )
  }
  say('apt-get update')
  await updateLists(signal)
  say(`installing ${missing.join(', ')}`)
  await apt(
    ['install', '-y', '--no-install-recommends', ...missing],
    `apt-get could not install ${missing.join(', ')}`,
    `apt-get install ${missing.join(' ')}`,
    { signal, say },
  )
  return missing
}

/** Downloads packages as .deb files into a folder, without installing them; needs no root. */
export async function downloadPackages(names: readonly string[], folder: string, signal?: AbortSignal) {
  const download = () =>
    execa('apt-get', ['download', '-q', ...names], { cwd: folder, ...cancelledBy(signal) })
  try {
    await download()
  } catch (error) {
    signal?.throwIfAborted()
    // A bare machine has no package lists yet, an old one has lists that name files long gone.
    if (process.getuid?.() === 0) await updateLists(signal)
    await download().catch((cause) => {
      throw new Trouble(
        `apt-get could not download ${names.join(', ')}: ${lastWords(cause ?? error)}`,
        'apt-get update, and check /etc/apt/sources.list and the network',
        { cause },
      )
    })
  }
}

/** The concrete package that a meta package stands for, such as the current kernel. */
export async function resolveMetaPackage(
  name: string,
  pattern: RegExp,
  signal?: AbortSignal,
): Promise<string> {
  const look = async () => {
    const { stdout } = await execa('apt-cache', ['depends', '--important', name], {
      ...cancelledBy(signal),
      reject: false,
    })
    return stdout
      .split('\n')
      .map((line) => line.replace(/^\s*\|?Depends:\s*/, '').trim())
      .find((dep) => pattern.test(dep))
  }
  const known = await look()
  if (known) return known
  if (process.getuid?.() === 0) await updateLists(signal)
  const found = await look()
  if (!found) throw new Trouble(`Debian's package lists know no ${name}`, 'apt-get update')
  return found
}

export function missingPackages(wanted: readonly string[], installed: ReadonlySet<string>): string[] {
  return wanted.filter((name) => !installed.has(name))
}

/** From `dpkg-query -W -f '${Package} ${db:Status-Status}\n'` to the names of what is really installed. */
export function parseInstalled(output: string): Set<string> {
  const lines = output.split('\n').map((line) => line.split(' '))
  return new Set(lines.flatMap(([name, status]) => (name && status === 'installed' ? [name] : [])))
}

async function installedPackages(names: readonly string[]): Promise<Set<string>> {
  try {
    // Exits 1 when it does not know one of the names, and prints the others all the same.
    // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own format
    const { stdout } = await execa('dpkg-query', ['-W', '-f', '${Package} ${db:Status-Status}\n', ...names], {
      reject: false,
    })
    return parseInstalled(stdout)
  } catch (cause) {
    throw new Trouble('this machine has no dpkg: vpe installs itself on Debian 12 only', undefined, { cause })
  }
}

function cancelledBy(signal: AbortSignal | undefined) {
  return signal ? { cancelSignal: signal } : {}
}

async function updateLists(signal: AbortSignal | undefined): Promise<void> {
  const failure = 'apt-get update failed'
  const mend = 'check /etc/apt/sources.list and the network'
  // The lists have a lock of their own, for which apt does not wait.
  for (let attempt = 1; ; attempt++) {
    try {
      return await apt(['update', '-q'], failure, mend, { signal })
    } catch (error) {
      if (attempt === 30 || !/Could not get lock/.test(String(error))) throw error
      await sleep(1000, undefined, signal ? { signal } : {})
    }
  }
}

async function apt(
  args: readonly string[],
  failure: string,
  mend: string,
  { signal, say }: { signal?: AbortSignal | undefined; say?: Say } = {},
): Promise<void> {
  // Another apt may be at work (unattended upgrades, a second quickstart): wait for its lock.
  const child = execa('apt-get', ['-o', 'DPkg::Lock::Timeout=300', ...args], {
    env: { DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' },
    stdin: 'ignore',
    all: true,
    ...cancelledBy(signal),
  })
  try {
    // Hundreds of lines: one every now and then tells that it goes on.
    let saidAt = 0
    for await (const line of child.iterable({ from: 'all' })) {
      if (!/^(Get:|Unpacking|Setting up)/.test(line) || performance.now() - saidAt < 2000) continue
      say?.(line)
      saidAt = performance.now()
    }
    await child
  } catch (cause) {
    signal?.throwIfAborted()
    throw new Trouble(`${failure}: ${lastWords(cause)}`, mend, { cause })
  }
}

function lastWords(error: unknown): string {
  if (!(error instanceof ExecaError)) return String(error)
  const text = String(error.all ?? error.stderr ?? '') || error.shortMessage
  const lines = text.trim().split('\n')
  return (
    lines
      .filter((line) => /^E:|error/i.test(line))
      .slice(-3)
      .join('; ') ||
    (lines.at(-1) ?? '')
  )
}
