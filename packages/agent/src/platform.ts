// What kind of machine this host is. libvirt says what guests QEMU offers; whether KVM really works it
// does not: /dev/kvm can be there, and even make a virtual machine, on a CPU without virtualisation.

import { open, readFile, readlink } from 'node:fs/promises'
import type { Platform } from './domain-xml.ts'
import { parseXml } from './xml.ts'

export interface KvmState {
  readonly hasVirtualisation: boolean
  /** Why /dev/kvm does not open; null when it does. */
  readonly device: string | null
}

export async function readKvm(): Promise<KvmState> {
  const cpuinfo = await readFile('/proc/cpuinfo', 'utf8')
  return { hasVirtualisation: hasVirtualisation(cpuinfo), device: await openFault('/dev/kvm') }
}

/** Whether guests can run on the CPU itself. */
export async function detectKvm(): Promise<boolean> {
  const { hasVirtualisation, device } = await readKvm()
  return hasVirtualisation && device === null
}

/** Only x86 lists flags; elsewhere /dev/kvm alone decides. */
export function hasVirtualisation(cpuinfo: string): boolean {
  const flags = cpuFlags(cpuinfo)
  if (flags === undefined) return !/^vendor_id/m.test(cpuinfo)
  return flags.includes('vmx') || flags.includes('svm')
}

function cpuFlags(cpuinfo: string): readonly string[] | undefined {
  return /^flags\s*:(.*)$/m.exec(cpuinfo)?.[1]?.split(' ')
}

/**
 * The kind of domain to define.
 * @param capabilities what virConnectGetCapabilities says
 * @throws when this libvirt cannot run guests of the host's own architecture
 */
export function choosePlatform(capabilities: string, isKvmUsable: boolean): Platform {
  const root = asNode(parseXml(capabilities).capabilities)
  const arch = text(asNode(asNode(root.host).cpu).arch)
  const guests = list(root.guest).map(asNode)
  const types = (guest: Record<string, unknown>) =>
    list(asNode(guest.arch).domain).map((domain) => text(asNode(domain)['@type']))
  const guest = guests.find(
    (each) =>
      text(each.os_type) === 'hvm' && (asNode(each.arch)['@name'] === arch || types(each).includes('test')),
  )
  if (!guest) throw new Error(`libvirt offers no guests of type hvm for ${arch || 'this host'}`)
  const guestArch = text(asNode(guest.arch)['@name'])
  if (types(guest).includes('test')) {
    return { domainType: 'test', arch: guestArch, machine: undefined, cpu: undefined }
  }
  const isKvm = isKvmUsable && types(guest).includes('kvm')
  const machines = list(asNode(guest.arch).machine).map((machine) =>
    typeof machine === 'string' ? machine : text(asNode(machine)['#text']),
  )
  return {
    domainType: isKvm ? 'kvm' : 'qemu',
    arch: guestArch,
    machine: machines.includes('q35') ? 'q35' : undefined,
    // host-model can be named, and so compared and migrated; emulation has no host to take after.
    cpu: isKvm ? 'host-model' : 'maximum',
  }
}

const USERFAULTFD = '/proc/sys/vm/unprivileged_userfaultfd'

/** Why QEMU, which libvirt starts without privileges, cannot fetch memory when its guest misses it; null where it can. */
export async function readPostCopyFault(): Promise<string | null> {
  try {
    if ((await readFile(USERFAULTFD, 'utf8')).trim() === '1') return null
    return 'its kernel lets only privileged processes wait for memory (userfaultfd); set sysctl vm.unprivileged_userfaultfd=1 there'
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    return 'its kernel has no userfaultfd (CONFIG_USERFAULTFD)'
  }
}

/**
 * Why this host may stand still and wake later, without having booted: what is on its way to storage then is written late, and no
 * watchdog has noticed. Empty where nothing shows that it may.
 */
export async function readPausable(): Promise<string> {
  const [cpuinfo, sleepStates, sleepTarget] = await Promise.all([
    readFile('/proc/cpuinfo', 'utf8'),
    readFile('/sys/power/state', 'utf8').catch(absent),
    readlink('/etc/systemd/system/sleep.target').catch(absent),
  ])
  return whyPausable({ cpuinfo, sleepStates, isSleepMasked: sleepTarget === '/dev/null' })
}

export function whyPausable(machine: {
  readonly cpuinfo: string
  /** What the kernel offers, as /sys/power/state has it; empty for nothing. */
  readonly sleepStates: string
  readonly isSleepMasked: boolean
}): string {
  if (cpuFlags(machine.cpuinfo)?.includes('hypervisor'))
    return 'it is a virtual machine; VPE_AGENT_NEVER_PAUSED=true says that nobody pauses it'
  if (machine.sleepStates.trim() !== '' && !machine.isSleepMasked)
    return 'it can suspend; systemctl mask sleep.target keeps it from that'
  return ''
}

function absent(error: NodeJS.ErrnoException): string {
  // EINVAL: it is there, and no link.
  if (error.code === 'ENOENT' || error.code === 'EINVAL') return ''
  throw error
}

async function openFault(path: string): Promise<string | null> {
  try {
    const file = await open(path, 'r+')
    await file.close()
    return null
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error)
  }
}

function asNode(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}

function list(value: unknown): readonly unknown[] {
  return value === undefined ? [] : Array.isArray(value) ? value : [value]
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : ''
}
