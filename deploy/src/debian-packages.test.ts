import { describe, expect, it } from 'vitest'
import { missingPackages, parseInstalled } from './debian-packages.ts'

describe('what is missing', () => {
  it('is what dpkg does not call installed', () => {
    const installed = parseInstalled(
      'nats-server installed\nqemu-utils config-files\nlibvirt-clients installed\n',
    )
    expect(missingPackages(['nats-server', 'qemu-utils', 'libvirt-clients', 'syslinux'], installed)).toEqual([
      'qemu-utils',
      'syslinux',
    ])
  })

  it('is nothing when all is there, and all when dpkg knows nothing', () => {
    expect(missingPackages(['a'], parseInstalled('a installed\n'))).toEqual([])
    expect(missingPackages(['a'], parseInstalled(''))).toEqual(['a'])
  })
})
