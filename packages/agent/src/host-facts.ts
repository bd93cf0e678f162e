// What this host is and can do, for the controller's table of hosts.

import { cpus, hostname, totalmem } from 'node:os'
import type { HostFacts } from '@vpe/core'
import type { Platform } from './domain-xml.ts'
import type { HypervisorFacts } from './hypervisor/hypervisor.ts'

export function hostFacts(hypervisor: HypervisorFacts, platform: Platform, bootId: string): HostFacts {
  return {
    hostname: hostname(),
    cpus: hypervisor.cpus,
    // libvirt's figure is that of the first NUMA node where memory is plugged in later.
    memoryMib: Math.floor(totalmem() / 1024 ** 2),
    cpuModel: cpus()[0]?.model.trim() ?? '',
    arch: platform.arch,
    domainType: platform.domainType,
    libvirtVersion: hypervisor.libvirtVersion,
    hypervisorVersion: hypervisor.hypervisorVersion,
    bootId,
  }
}
