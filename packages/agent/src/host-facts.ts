// What this host is and can do, for the controller's table of hosts.

import type { HostFacts } from '@vpe/core'
import type { Platform } from './domain-xml.ts'
import type { GuestCpu, HypervisorFacts } from './hypervisor/hypervisor.ts'
import type { Machine } from './preflight/machine.ts'

export interface FactSources {
  readonly hypervisor: HypervisorFacts
  readonly guestCpu: GuestCpu
  readonly machine: Machine
  readonly platform: Platform
  readonly bootId: string
  readonly version: string
}

export function hostFacts({
  hypervisor,
  guestCpu,
  machine,
  platform,
  bootId,
  version,
}: FactSources): HostFacts {
  return {
    hostname: machine.hostname,
    cpus: hypervisor.cpus,
    // libvirt's figure is that of the first NUMA node where memory is plugged in later.
    memoryMib: machine.memoryMib,
    cpuModel: guestCpu.model || machine.cpuName,
    cpuFeatures: guestCpu.features,
    arch: platform.arch,
    domainType: platform.domainType,
    libvirtVersion: hypervisor.libvirtVersion,
    hypervisorVersion: hypervisor.hypervisorVersion,
    agentVersion: version,
    kernel: machine.kernel,
    bridges: machine.bridges,
    bootId,
  }
}
