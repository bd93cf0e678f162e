// The definition of an instance's domain. Pure: the same instance on the same kind of host gives the
// same text, so that a change of it shows in a test.

import { createHash } from 'node:crypto'
import { type AttachedDisk, DISKS_PER_INSTANCE_MAX, diskSerial, type InstanceMark } from '@vpe/core'
import { MARK_NAMESPACE, MARK_PREFIX, markContent } from './instance-mark.ts'
import { dataDiskPath } from './pool/pool-files.ts'
import { buildXml, printable, type XmlNode } from './xml.ts'

/** What of the host goes into every definition. */
export interface Platform {
  /** `kvm`, `qemu` where only software emulation works, `test` for libvirt's mock driver. */
  readonly domainType: 'kvm' | 'qemu' | 'test'
  readonly arch: string
  /** Undefined leaves the choice to libvirt. */
  readonly machine: string | undefined
  readonly cpu: 'host-model' | 'host-passthrough' | 'maximum' | undefined
}

export interface DomainDefinition {
  readonly mark: InstanceMark
  readonly platform: Platform
  readonly systemDiskPath: string
  /** What the guest is told at its first boot; undefined for nothing. */
  readonly seedPath: string | undefined
  /** What the guest says on its serial line is appended here. */
  readonly consoleLogPath: string
  /** Where the serial line is served to one reader at a time; undefined for a line that is only logged. */
  readonly serialSocketPath: string | undefined
  /** Undefined for user-mode networking: the guest reaches out, nobody reaches in. */
  readonly bridge: string | undefined
}

/**
 * Only a PCIe root port takes a device while the guest runs, and each takes one: there are enough for all
 * data disks, and for what else of a guest is a PCI device of its own.
 */
const PCIE_CONTROLLERS: readonly XmlNode[] = [
  { '@type': 'pci', '@index': '0', '@model': 'pcie-root' },
  ...Array.from({ length: DISKS_PER_INSTANCE_MAX + 7 }, () => ({
    '@type': 'pci',
    '@model': 'pcie-root-port',
  })),
]

/** The guest's first disk. */
export const SYSTEM_DISK_TARGET = 'vda'

export function domainName(uuid: string): string {
  return `vpe-${uuid}`
}

/** The text for virDomainDefineXML. */
export function domainXml({ mark, platform, ...host }: DomainDefinition): string {
  const isX86 = platform.arch === 'x86_64'
  const isOwned = mark.ownership > 0
  return buildXml({
    domain: {
      '@type': platform.domainType,
      name: domainName(mark.uuid),
      uuid: mark.uuid,
      title: printable(mark.name) || undefined,
      metadata: {
        [`${MARK_PREFIX}:instance`]: {
          [`@xmlns:${MARK_PREFIX}`]: MARK_NAMESPACE,
          ...markContent(mark),
        },
      },
      memory: { '@unit': 'MiB', '#text': mark.memoryMib },
      vcpu: mark.vcpus,
      os: {
        type: { '@arch': platform.arch, '@machine': platform.machine, '#text': 'hvm' },
        boot: { '@dev': 'hd' },
      },
      features: isX86 ? { acpi: {}, apic: {} } : { acpi: {} },
      cpu: platform.cpu && { '@mode': platform.cpu },
      clock: { '@offset': 'utc' },
      // Off is off: vpe decides what comes after, not QEMU.
      on_poweroff: 'destroy',
      on_reboot: 'restart',
      on_crash: 'destroy',
      devices: {
        controller: [
          ...(platform.machine === 'q35' ? PCIE_CONTROLLERS : []),
          ...(host.seedPath ? [{ '@type': 'scsi', '@index': '0', '@model': 'virtio-scsi' }] : []),
        ],
        disk: [
          diskNode({ format: 'qcow2', path: host.systemDiskPath, target: SYSTEM_DISK_TARGET, isOwned }),
          ...mark.dataDisks.map((disk) => dataDiskNode(disk, isOwned)),
          ...seedDrive(host.seedPath),
        ],
        interface: networkInterface(mark.uuid, host.bridge),
        serial: {
          // A socket of ours rather than a pty: its name belongs to this guest alone, while the number of a
          // pty that is free again may be somebody else's terminal the next moment.
          ...serialSource(host.serialSocketPath),
          log: { '@file': host.consoleLogPath, '@append': 'on' },
          target: { '@port': '0' },
        },
        // A unix socket in a folder of libvirt's choice: never on a network.
        graphics: { '@type': 'vnc', listen: { '@type': 'socket' } },
        // What every boot loader and kernel can draw on without a driver.
        video: { model: { '@type': isX86 ? 'vga' : 'virtio' } },
        rng: { '@model': 'virtio', backend: { '@model': 'random', '#text': '/dev/urandom' } },
        // The guest tells every so many seconds how much memory it uses.
        memballoon: { '@model': 'virtio', stats: { '@period': '10' } },
        ...(isX86 ? { panic: { '@model': 'isa' } } : {}),
        // A guest that hangs, and has a driver for it, is reset.
        ...(mark.ha && platform.machine === 'q35'
          ? { watchdog: { '@model': 'i6300esb', '@action': 'reset' } }
          : {}),
      },
    },
  })
}

/** The network card of a running guest, with its link up or down, as the element that changes it. */
export function networkXml(uuid: string, bridge: string | undefined, isUp: boolean): string {
  return buildXml({
    interface: { ...networkInterface(uuid, bridge), link: { '@state': isUp ? 'up' : 'down' } },
  })
}

/** A data disk as the element that attaches it to a running guest, or detaches it. */
export function dataDiskXml(disk: AttachedDisk, isOwned: boolean): string {
  return buildXml({ disk: dataDiskNode(disk, isOwned) })
}

function dataDiskNode({ uuid, diskPoolPath, target }: AttachedDisk, isOwned: boolean): XmlNode {
  const node = diskNode({ format: 'raw', path: dataDiskPath(diskPoolPath, uuid), target, isOwned })
  return { ...node, serial: diskSerial(uuid) }
}

interface DiskFile {
  readonly format: string
  readonly path: string
  readonly target: string
  /** Its guest stands still at an I/O error, and goes on when it is clear that its disk is still its own. */
  readonly isOwned: boolean
}

function diskNode({ format, path, target, isOwned }: DiskFile): XmlNode {
  const driver = {
    '@name': 'qemu',
    '@type': format,
    '@cache': 'none',
    ...(isOwned && { '@error_policy': 'stop', '@rerror_policy': 'stop' }),
    '@io': 'threads',
    '@discard': 'unmap',
  }
  return {
    '@type': 'file',
    '@device': 'disk',
    // cache=none: a disk that may move to another host must leave nothing in this one's page cache.
    driver,
    source: { '@file': path },
    target: { '@dev': target, '@bus': 'virtio' },
  }
}

/** The same address for the same instance, wherever it runs. */
export function macAddress(uuid: string): string {
  const hash = createHash('sha256').update(uuid).digest()
  const tail = [...hash.subarray(0, 4)].map((byte) => byte.toString(16).padStart(2, '0'))
  return ['52', '54', ...tail].join(':')
}

/**
 * A CD-ROM on virtio-scsi: cloud-init looks there, it takes none of the names that data disks have, and the
 * kernels of cloud images, Debian's among them, have no driver for SATA.
 */
function seedDrive(path: string | undefined): XmlNode[] {
  if (!path) return []
  return [
    {
      '@type': 'file',
      '@device': 'cdrom',
      driver: { '@name': 'qemu', '@type': 'raw' },
      source: { '@file': path },
      target: { '@dev': 'sda', '@bus': 'scsi' },
      readonly: {},
    },
  ]
}

function serialSource(path: string | undefined): XmlNode {
  return path ? { '@type': 'unix', source: { '@mode': 'bind', '@path': path } } : { '@type': 'pty' }
}

function networkInterface(uuid: string, bridge: string | undefined): XmlNode {
  return {
    '@type': bridge ? 'bridge' : 'user',
    mac: { '@address': macAddress(uuid) },
    ...(bridge ? { source: { '@bridge': bridge } } : {}),
    model: { '@type': 'virtio' },
  }
}
