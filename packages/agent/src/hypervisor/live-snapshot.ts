// Internal snapshots of the system disk of a running guest. libvirt makes them only together with the
// guest's memory, so QEMU itself is asked: it does so between two requests of the guest, in an instant, and
// the disk keeps its file (docs/adr/0015). libvirt notes that somebody talked to its QEMU (taint
// custom-monitor), and is not otherwise concerned.

import { VpeError } from '@vpe/core'
import type { Domain } from '@vpe/node-libvirt'
import { z } from 'zod'
import { SYSTEM_DISK_TARGET } from '../domain-xml.ts'
import { parseXml } from '../xml.ts'

const blockDevicesSchema = z.array(
  z.object({
    qdev: z.string().optional(),
    inserted: z
      .object({
        'node-name': z.string(),
        image: z.object({ snapshots: z.array(z.object({ name: z.string() })).default([]) }),
      })
      .optional(),
  }),
)

export async function makeLiveSnapshot(domain: Domain, name: string): Promise<void> {
  const { node, snapshots } = await systemDiskOf(domain)
  // QEMU would make a second one of the same name.
  if (!snapshots.includes(name))
    await domain.qemuMonitorCommand('blockdev-snapshot-internal-sync', { device: node, name })
}

export async function removeLiveSnapshot(domain: Domain, name: string): Promise<void> {
  const { node, snapshots } = await systemDiskOf(domain)
  if (snapshots.includes(name))
    await domain.qemuMonitorCommand('blockdev-snapshot-delete-internal-sync', { device: node, name })
}

/** The name that QEMU has for the disk, and its snapshots. */
async function systemDiskOf(domain: Domain): Promise<{ node: string; snapshots: string[] }> {
  const alias = aliasOf(await domain.xml(), SYSTEM_DISK_TARGET)
  const devices = blockDevicesSchema.parse(await domain.qemuMonitorCommand('query-block'))
  const disk = devices.find(({ qdev }) => alias !== null && qdev?.split('/').includes(alias))?.inserted
  if (!disk) {
    throw new VpeError(
      'HYPERVISOR_FAILED',
      `QEMU of domain ${domain.name} shows no disk ${SYSTEM_DISK_TARGET}`,
    )
  }
  return { node: disk['node-name'], snapshots: disk.image.snapshots.map(({ name }) => name) }
}

const target = z.object({ '@dev': z.string() })
const diskSchema = z.object({ target, alias: z.object({ '@name': z.string() }).optional() })

/** What libvirt calls a disk of a running guest; null where there is no such disk. */
export function aliasOf(xml: string, device: string): string | null {
  const { domain } = parseXml(xml) as { domain?: { devices?: { disk?: unknown } } }
  const disks = z.array(diskSchema).parse([domain?.devices?.disk ?? []].flat())
  return disks.find((disk) => disk.target['@dev'] === device)?.alias?.['@name'] ?? null
}
