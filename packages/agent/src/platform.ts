// What kind of guests this host can run. libvirt says what QEMU offers; whether KVM really works it
// does not: /dev/kvm can be there, and even make a virtual machine, on a CPU without virtualisation.

import { open, readFile } from 'node:fs/promises'
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
  const flags = /^flags\s*:(.*)$/m.exec(cpuinfo)?.[1]
  if (flags === undefined) return !/^vendor_id/m.test(cpuinfo)
  return /\b(vmx|svm)\b/.test(flags)
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
