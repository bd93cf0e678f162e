// The mark of an instance, as XML: the element that makes a libvirt domain one of vpe's, and all that
// this host remembers of it. Attributes, and one child for each data disk, so that any tool can read it:
//
//   virsh metadata vpe-<uuid> --uri https://vpe.dev/xmlns/instance/1
//
// What is read back was written by some version of this file or by a person with an editor, so it is
// checked like any input; a mark that does not hold is no mark, and its domain is left alone.

import type { AttachedDisk, InstanceMark } from '@vpe/core'
import { z } from 'zod'
import { attributes, attributesOf, buildXml, childrenOf, parseXml, printable, type XmlNode } from './xml.ts'

export const MARK_NAMESPACE = 'https://vpe.dev/xmlns/instance/1'
export const MARK_PREFIX = 'vpe'

const flag = z.enum(['yes', 'no']).transform((text) => text === 'yes')
const count = z
  .string()
  .regex(/^\d{1,15}$/)
  .transform(Number)

const markSchema = z.object({
  uuid: z.uuid(),
  host: z.uuid(),
  generation: count,
  epoch: count,
  name: z.string(),
  power: z.enum(['on', 'off', 'paused']),
  ha: flag,
  vcpus: count,
  'memory-mib': count,
  image: z.uuid(),
  pool: z.uuid(),
  'pool-path': z.string().startsWith('/'),
  seed: z
    .string()
    .regex(/^([0-9a-f]{64})?$/)
    .default(''),
  boot: z.string(),
  'stop-cause': z
    .enum(['', 'requested', 'guest', 'crash'])
    .transform((cause) => (cause === '' ? null : cause)),
  fault: z.string(),
  restarts: count.default(0),
  // Marks of before know of none.
  ownership: count.default(0),
  guarded: flag.default(false),
  'reboot-generation': count.default(0),
  'disk-generation': count.default(0),
  'disk-bytes': count.default(0),
  disks: z.array(
    z.object({
      uuid: z.uuid(),
      pool: z.uuid(),
      'pool-path': z.string().startsWith('/'),
      target: z.string().regex(/^vd[b-z]$/),
      'size-bytes': count,
    }),
  ),
})

/** The mark without the name of its element, for whoever builds XML around it. */
export function markContent(mark: InstanceMark): XmlNode {
  return { ...attributes(markAttributes(mark)), disk: mark.dataDisks.map(diskNode) }
}

function diskNode(disk: AttachedDisk): XmlNode {
  return attributes({
    uuid: disk.uuid,
    pool: disk.diskPoolUuid,
    'pool-path': disk.diskPoolPath,
    target: disk.target,
    'size-bytes': String(disk.sizeBytes),
  })
}

function markAttributes(
  mark: InstanceMark,
): Record<Exclude<keyof z.output<typeof markSchema>, 'disks'>, string> {
  return {
    uuid: mark.uuid,
    host: mark.hostId,
    generation: String(mark.generation),
    epoch: String(mark.epoch),
    name: printable(mark.name),
    power: mark.power,
    ha: mark.ha ? 'yes' : 'no',
    vcpus: String(mark.vcpus),
    'memory-mib': String(mark.memoryMib),
    image: mark.imageUuid,
    pool: mark.diskPoolUuid,
    'pool-path': mark.diskPoolPath,
    seed: mark.seedSha256,
    boot: mark.bootId,
    'stop-cause': mark.stopCause ?? '',
    fault: printable(mark.fault),
    restarts: String(mark.restarts),
    ownership: String(mark.ownership),
    guarded: mark.isGuarded ? 'yes' : 'no',
    'reboot-generation': String(mark.rebootGeneration),
    'disk-generation': String(mark.diskGeneration),
    'disk-bytes': String(mark.diskBytes),
  }
}

/** The element on its own. libvirt adds namespace and prefix when it stores it. */
export function formatMark(mark: InstanceMark): string {
  return buildXml({ instance: markContent(mark) })
}

/** The mark in an element, or why it is none. */
export function parseMark(xml: string): { mark: InstanceMark } | { refused: string } {
  let root: unknown
  try {
    const { instance } = parseXml(xml)
    root = { ...attributesOf(instance), disks: childrenOf(instance, 'disk').map(attributesOf) }
  } catch (error) {
    return { refused: `not XML: ${error instanceof Error ? error.message : error}` }
  }
  const parsed = markSchema.safeParse(root)
  if (!parsed.success)
    return {
      refused: parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; '),
    }
  const { data } = parsed
  return {
    mark: {
      uuid: data.uuid,
      hostId: data.host,
      generation: data.generation,
      epoch: data.epoch,
      name: data.name,
      power: data.power,
      ha: data.ha,
      vcpus: data.vcpus,
      memoryMib: data['memory-mib'],
      imageUuid: data.image,
      diskPoolUuid: data.pool,
      diskPoolPath: data['pool-path'],
      seedSha256: data.seed,
      dataDisks: data.disks.map((disk) => ({
        uuid: disk.uuid,
        diskPoolUuid: disk.pool,
        diskPoolPath: disk['pool-path'],
        target: disk.target,
        sizeBytes: disk['size-bytes'],
      })),
      bootId: data.boot,
      stopCause: data['stop-cause'],
      fault: data.fault,
      restarts: data.restarts,
      ownership: data.ownership,
      isGuarded: data.guarded,
      rebootGeneration: data['reboot-generation'],
      diskGeneration: data['disk-generation'],
      diskBytes: data['disk-bytes'],
    },
  }
}
