import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type DomainDefinition, domainXml, macAddress } from './domain-xml.ts'
import { attributesOf, parseXml, printable } from './xml.ts'

const definition: DomainDefinition = {
  mark: {
    uuid: '0a1b2c3d-0000-4000-8000-000000000001',
    hostId: '0a1b2c3d-0000-4000-8000-00000000000a',
    generation: 7,
    epoch: 2,
    name: 'R&D <"web">',
    power: 'on',
    ha: true,
    vcpus: 2,
    memoryMib: 512,
    imageUuid: '0a1b2c3d-0000-4000-8000-00000000000b',
    diskPoolUuid: '0a1b2c3d-0000-4000-8000-00000000000c',
    diskPoolPath: '/pool',
    seedSha256: '',
    dataDisks: [],
    bootId: '0a1b2c3d-0000-4000-8000-00000000000d',
    stopCause: null,
    fault: '',
    restarts: 0,
    ownership: 0,
    isGuarded: false,
    rebootGeneration: 3,
    diskGeneration: 5,
    diskBytes: 1024,
  },
  platform: { domainType: 'kvm', arch: 'x86_64', machine: 'q35', cpu: 'host-model' },
  seedPath: undefined,
  systemDiskPath: '/pool/instance-0a1b2c3d-0000-4000-8000-000000000001.qcow2',
  consoleLogPath: '/state/console/0a1b2c3d-0000-4000-8000-000000000001.log',
  serialSocketPath: '/state/console/0a1b2c3d-0000-4000-8000-000000000001.sock',
  bridge: undefined,
}

interface Parsed {
  domain: {
    title?: string
    metadata: { instance: unknown }
    devices: Record<string, Record<string, unknown>>
  }
}
const parse = (xml: string) => parseXml(xml) as unknown as Parsed

describe('the definition of a domain', () => {
  test('is this', () => {
    expect(domainXml(definition)).toMatchInlineSnapshot(`
      "<domain type="kvm">
        <name>vpe-0a1b2c3d-0000-4000-8000-000000000001</name>
        <uuid>0a1b2c3d-0000-4000-8000-000000000001</uuid>
        <title>R&amp;D &lt;&quot;web&quot;&gt;</title>
        <metadata>
          <vpe:instance xmlns:vpe="https://vpe.dev/xmlns/instance/1" uuid="0a1b2c3d-0000-4000-8000-000000000001" host="0a1b2c3d-0000-4000-8000-00000000000a" generation="7" epoch="2" name="R&amp;D &lt;&quot;web&quot;&gt;" power="on" ha="yes" vcpus="2" memory-mib="512" image="0a1b2c3d-0000-4000-8000-00000000000b" pool="0a1b2c3d-0000-4000-8000-00000000000c" pool-path="/pool" seed="" boot="0a1b2c3d-0000-4000-8000-00000000000d" stop-cause="" fault="" restarts="0" ownership="0" guarded="no" reboot-generation="3" disk-generation="5" disk-bytes="1024"/>
        </metadata>
        <memory unit="MiB">512</memory>
        <vcpu>2</vcpu>
        <os>
          <type arch="x86_64" machine="q35">hvm</type>
          <boot dev="hd"/>
        </os>
        <features>
          <acpi/>
          <apic/>
        </features>
        <cpu mode="host-model"/>
        <clock offset="utc"/>
        <on_poweroff>destroy</on_poweroff>
        <on_reboot>restart</on_reboot>
        <on_crash>destroy</on_crash>
        <devices>
          <controller type="pci" index="0" model="pcie-root"/>
          <controller type="pci" model="pcie-root-port"/>
          <controller type="pci" model="pcie-root-port"/>
          <controller type="pci" model="pcie-root-port"/>
          <controller type="pci" model="pcie-root-port"/>
          <controller type="pci" model="pcie-root-port"/>
          <controller type="pci" model="pcie-root-port"/>
          <controller type="pci" model="pcie-root-port"/>
          <controller type="pci" model="pcie-root-port"/>
          <controller type="pci" model="pcie-root-port"/>
          <controller type="pci" model="pcie-root-port"/>
          <controller type="pci" model="pcie-root-port"/>
          <controller type="pci" model="pcie-root-port"/>
          <controller type="pci" model="pcie-root-port"/>
          <controller type="pci" model="pcie-root-port"/>
          <controller type="pci" model="pcie-root-port"/>
          <controller type="pci" model="pcie-root-port"/>
          <controller type="pci" model="pcie-root-port"/>
          <controller type="pci" model="pcie-root-port"/>
          <controller type="pci" model="pcie-root-port"/>
          <controller type="pci" model="pcie-root-port"/>
          <controller type="pci" model="pcie-root-port"/>
          <controller type="pci" model="pcie-root-port"/>
          <controller type="pci" model="pcie-root-port"/>
          <disk type="file" device="disk">
            <driver name="qemu" type="qcow2" cache="none" io="threads" discard="unmap"/>
            <source file="/pool/instance-0a1b2c3d-0000-4000-8000-000000000001.qcow2"/>
            <target dev="vda" bus="virtio"/>
          </disk>
          <interface type="user">
            <mac address="52:54:1f:cf:3b:14"/>
            <model type="virtio"/>
          </interface>
          <serial type="unix">
            <source mode="bind" path="/state/console/0a1b2c3d-0000-4000-8000-000000000001.sock"/>
            <log file="/state/console/0a1b2c3d-0000-4000-8000-000000000001.log" append="on"/>
            <target port="0"/>
          </serial>
          <graphics type="vnc">
            <listen type="socket"/>
          </graphics>
          <video>
            <model type="vga"/>
          </video>
          <rng model="virtio">
            <backend model="random">/dev/urandom</backend>
          </rng>
          <memballoon model="virtio">
            <stats period="10"/>
          </memballoon>
          <panic model="isa"/>
          <watchdog model="i6300esb" action="reset"/>
        </devices>
      </domain>
      "
    `)
  })

  test('uses a bridge where there is one', () => {
    const { devices } = parse(domainXml({ ...definition, bridge: 'br0' })).domain
    expect(devices.interface).toMatchObject({ '@type': 'bridge', source: { '@bridge': 'br0' } })
  })

  test('has a CD-ROM drive where the guest is told something, and a controller that cloud kernels know', () => {
    const { devices } = parse(domainXml({ ...definition, seedPath: '/pool/seed.iso' })).domain
    expect(devices.disk).toMatchObject([
      { target: { '@dev': 'vda' } },
      { '@device': 'cdrom', source: { '@file': '/pool/seed.iso' }, target: { '@bus': 'scsi' }, readonly: '' },
    ])
    expect(devices.controller).toContainEqual(
      expect.objectContaining({ '@type': 'scsi', '@model': 'virtio-scsi' }),
    )
  })

  test('of an owned instance stands still at an I/O error', () => {
    const mark = { ...definition.mark, ownership: 3 }
    const { devices } = parse(domainXml({ ...definition, mark })).domain
    expect(devices.disk).toMatchObject({ driver: { '@error_policy': 'stop', '@rerror_policy': 'stop' } })
  })

  test('leaves to libvirt what it need not say', () => {
    const platform = { domainType: 'qemu', arch: 'aarch64', machine: undefined, cpu: undefined } as const
    const xml = domainXml({ ...definition, platform })
    expect(xml).not.toContain('undefined')
    expect(xml).not.toContain('isa')
  })

  test('is well-formed for any name, and keeps it', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 300 }), (name) => {
        const { domain } = parse(domainXml({ ...definition, mark: { ...definition.mark, name } }))
        expect(domain.title ?? '').toBe(printable(name))
        expect(attributesOf(domain.metadata.instance).name).toBe(printable(name))
      }),
    )
  })

  test('never lets a display or console out on a network', () => {
    const { devices } = parse(domainXml(definition)).domain
    expect(devices.graphics).toMatchObject({ '@type': 'vnc', listen: { '@type': 'socket' } })
    expect(devices.serial).toMatchObject({ '@type': 'unix', source: { '@mode': 'bind' } })
  })
})

describe('the MAC address', () => {
  test('is always the same for an instance, and unicast in QEMU’s range', () => {
    fc.assert(
      fc.property(fc.uuid(), (uuid) => {
        expect(macAddress(uuid)).toMatch(/^52:54(:[0-9a-f]{2}){4}$/)
        expect(macAddress(uuid)).toBe(macAddress(uuid))
      }),
    )
  })
})
