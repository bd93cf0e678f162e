// libvirt's statistics of one domain as a sample. Pure. What libvirt does not tell is null, or, of a
// device, not there: an empty drive counts nothing, and a user-mode network has no end on the host where
// anything could be counted.

import type { GuestSample } from '@vpe/core'
import type { BalloonStats, DomainStats } from '@vpe/node-libvirt'

export function guestSample({ domain, cpu, balloon, vcpu, block, net }: DomainStats): GuestSample {
  const vcpuTimes = vcpu?.vcpus.flatMap(({ timeNs }) => timeNs ?? []) ?? []
  return {
    uuid: domain.uuid,
    vcpus: vcpu?.current ?? 0,
    cpuTimeNs: cpu?.timeNs ?? null,
    vcpuTimeNs: vcpuTimes.length === 0 ? null : vcpuTimes.reduce((sum, ns) => sum + ns, 0),
    memory: {
      assignedBytes: bytes(balloon?.currentKib),
      usedBytes: bytes(usedKib(balloon)),
      residentBytes: bytes(balloon?.rssKib),
    },
    disks: (block ?? []).flatMap(({ name, read, write }) =>
      read.bytes === undefined || write.bytes === undefined
        ? []
        : {
            name,
            readBytes: read.bytes,
            readRequests: read.requests ?? 0,
            writeBytes: write.bytes,
            writeRequests: write.requests ?? 0,
          },
    ),
    nics: (net ?? []).flatMap(({ name, received, transmitted }) =>
      received.bytes === undefined || transmitted.bytes === undefined
        ? []
        : {
            name,
            rxBytes: received.bytes,
            rxPackets: received.packets ?? 0,
            txBytes: transmitted.bytes,
            txPackets: transmitted.packets ?? 0,
          },
    ),
  }
}

/** As `free` shows it: what is neither free nor could be had by dropping caches, where the guest tells that. */
function usedKib(balloon: BalloonStats | undefined): number | undefined {
  const free = balloon?.usableKib ?? balloon?.unusedKib
  if (balloon?.availableKib === undefined || free === undefined) return undefined
  return Math.max(0, balloon.availableKib - free)
}

function bytes(kib: number | undefined): number | null {
  return kib === undefined ? null : kib * 1024
}
