import { describe, expect, test } from 'vitest'
import { choosePlatform, hasVirtualisation, whyPausable } from './platform.ts'

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

test.each([
  [
    'a virtual machine',
    'flags\t\t: fpu hypervisor sse',
    '',
    false,
    /virtual machine; VPE_AGENT_NEVER_PAUSED=true/,
  ],
  ['one that can suspend', 'flags\t\t: fpu sse', 'freeze mem disk\n', false, /mask sleep\.target/],
  ['one that is kept from suspending', 'flags\t\t: fpu sse', 'freeze mem disk\n', true, /^$/],
  ['one that cannot suspend', 'flags\t\t: fpu sse', '\n', false, /^$/],
  ['one whose CPU lists no flags', 'Features\t: fp asimd', '', false, /^$/],
])('whether %s may be paused', (_what, cpuinfo, sleepStates, isSleepMasked, why) => {
  expect(whyPausable({ cpuinfo, sleepStates, isSleepMasked })).toMatch(why)
})
