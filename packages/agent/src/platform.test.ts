import { describe, expect, test } from 'vitest'
import { choosePlatform, hasVirtualisation } from './platform.ts'

const guest = (arch: string, domains: readonly string[], machines: readonly string[] = ['pc', 'q35']) =>
  `<guest><os_type>hvm</os_type><arch name='${arch}'><wordsize>64</wordsize>${machines
    .map((machine) => `<machine canonical='x' maxCpus='255'>${machine}</machine>`)
    .join('')}${domains.map((type) => `<domain type='${type}'/>`).join('')}</arch></guest>`

const capabilities = (...guests: readonly string[]) =>
  `<capabilities><host><cpu><arch>x86_64</arch></cpu></host>${guests.join('')}</capabilities>`

describe('choosePlatform', () => {
  test('takes KVM where it works', () => {
    expect(
      choosePlatform(capabilities(guest('i686', ['qemu']), guest('x86_64', ['qemu', 'kvm'])), true),
    ).toEqual({
      domainType: 'kvm',
      arch: 'x86_64',
      machine: 'q35',
      cpu: 'host-model',
    })
  })

  test('emulates where it does not, whatever libvirt offers', () => {
    expect(choosePlatform(capabilities(guest('x86_64', ['qemu', 'kvm'])), false)).toMatchObject({
      domainType: 'qemu',
      cpu: 'maximum',
    })
  })

  test('leaves the machine to libvirt where there is no q35', () => {
    expect(choosePlatform(capabilities(guest('x86_64', ['qemu'], ['pc'])), false).machine).toBeUndefined()
  })

  test('says so when no guest can run', () => {
    expect(() => choosePlatform(capabilities(guest('s390x', ['qemu'])), false)).toThrow('x86_64')
  })
})

describe('hasVirtualisation', () => {
  test.each([
    ['vendor_id\t: GenuineIntel\nflags\t\t: fpu vmx sse\n', true],
    ['vendor_id\t: AuthenticAMD\nflags\t\t: fpu svm\n', true],
    ['vendor_id\t: GenuineIntel\nflags\t\t: fpu hypervisor svm_lock\n', false],
    ['processor\t: 0\nFeatures\t: fp asimd\n', true],
  ])('%j: %s', (cpuinfo, expected) => expect(hasVirtualisation(cpuinfo)).toBe(expected))
})
