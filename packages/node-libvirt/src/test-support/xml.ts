// XML of small domains and pools for tests.

import { randomUUID } from 'node:crypto'

/** A domain of the test driver. */
export function testDomainXml(name: string, uuid: string = randomUUID()): string {
  return `<domain type='test'><name>${name}</name><uuid>${uuid}</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu>
    <os><type>hvm</type></os></domain>`
}

/** A guest without a system: QEMU in software emulation, stopped at the BIOS. `devices` are more XML elements. */
export function qemuDomainXml(name: string, devices = ''): string {
  return `<domain type='qemu'><name>${name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
    <os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>
    <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/><memballoon model='virtio'/>${devices}</devices></domain>`
}

export function dirPoolXml(name: string, path: string): string {
  return `<pool type='dir'><name>${name}</name><target><path>${path}</path></target></pool>`
}

export function volumeXml(name: string, capacityBytes: number, format = 'raw'): string {
  return `<volume><name>${name}</name><capacity>${capacityBytes}</capacity><allocation>0</allocation>
    <target><format type='${format}'/></target></volume>`
}
